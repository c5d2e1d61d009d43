// The radix tree beside what one would take instead: each on the same keys. Figures are for one of a thousand operations.

import Figures

/// A tree of ten million sparse keys takes 1.5 GB.
let sizes = [1_000, 100_000, 10_000_000]
let batch = 1000

/// A table with its keys.
final class Filled<T: Table> {
  var table = T()
  let ascending: [UInt64]
  let probes: [UInt64]
  private var position = 0

  init(_ keys: Keys) {
    ascending = keys.ascending
    for key in ascending { table.insert(UInt(key) | 1, at: key) }
    probes = keys.probes(ascending)
  }

  /// Where the next batch of probes starts.
  func nextBatch() -> Int {
    position = position + 2 * batch <= probes.count ? position + batch : 0
    return position
  }

  func measure(_ figures: Figures) {
    figures.time("look-up") {
      use(sum(table, probes[nextBatch()...].prefix(batch)))
      return batch
    }

    // Thirty-two at a time; the figure is for one item.
    unsafe withUnsafeTemporaryAllocation(of: UInt.self, capacity: 32) { buffer in
      figures.time("gather") {
        let start = nextBatch()
        var found = 0
        for place in start..<start + batch / 32 { unsafe found += table.gather(from: probes[place], into: buffer) }
        return found
      }
    }

    // Behind the last key, as a file grows; taken out again while the clock stands.
    let end = ascending[ascending.count - 1] + 1
    figures.time(
      "insert at the end", after: { for index in (end..<end + UInt64(batch)).reversed() { table.remove(at: index) } }
    ) {
      insert(&table, end..<end + UInt64(batch))
      return batch
    }

    // The sorted array moves half of its items for each.
    if T.self == SortedArray.self, ascending.count > 100_000 { return }
    figures.time("remove and insert") {
      exchange(&table, probes[nextBatch()...].prefix(batch))
      return batch
    }
  }

  // The table is a parameter: these loops check no accesses and count no references.

  private func sum(_ table: borrowing T, _ keys: ArraySlice<UInt64>) -> UInt {
    var sum: UInt = 0
    for key in keys { sum &+= table.value(at: key) }
    return sum
  }
  private func insert(_ table: inout T, _ keys: Range<UInt64>) { for key in keys { table.insert(7, at: key) } }
  private func exchange(_ table: inout T, _ keys: ArraySlice<UInt64>) {
    for key in keys {
      table.remove(at: key)
      table.insert(7, at: key)
    }
  }
}

extension Filled where T: TaggedTable {
  /// One item in sixteen has a tag; a thousand items are swept over.
  func measureTags(_ figures: Figures) {
    for place in stride(from: 0, to: ascending.count, by: 16) { table.setTag(at: ascending[place]) }
    var range: (first: UInt64, last: UInt64) = (0, 0)
    figures.time(
      "tag sweep",
      before: {
        let start = Int(probes[nextBatch()] % UInt64(max(1, ascending.count - batch)))
        range = (ascending[start], ascending[min(start + batch, ascending.count) - 1])
      }
    ) {
      use(UInt(table.sweep(range.first, range.last)))
      return batch
    }
  }
}

func compare<T: Table>(_ type: T.Type, _ keys: Keys) -> Benchmark {
  Benchmark("\(keys.shape), \(keys.count), \(T.name)") { Filled<T>(keys).measure($0) }
}
func compareTagged<T: TaggedTable>(_ type: T.Type, _ keys: Keys) -> Benchmark {
  Benchmark("\(keys.shape), \(keys.count), \(T.name)") { figures in
    let filled = Filled<T>(keys)
    filled.measureTags(figures)
    filled.measure(figures)
  }
}

Benchmark.main(
  Keys.Shape.allCases.flatMap { shape in
    sizes.flatMap { count in
      let keys = Keys(shape: shape, count: count)
      return [
        compareTagged(OurTree.self, keys), compareTagged(CTree.self, keys), compareTagged(SortedArray.self, keys),
        compare(HashTable.self, keys), compare(HashTrie.self, keys),
      ]
    }
  })
