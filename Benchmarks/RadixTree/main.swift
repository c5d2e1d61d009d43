// The radix tree beside what one would take instead: each on the same keys. Figures are for one of a thousand operations.

import Benchmark
import Figures

/// A tree of ten million sparse keys takes 1.5 GB.
let sizes = [1_000, 100_000, 10_000_000]
let batch = 1000

/// A table with its keys.
final class Filled<T: Table> {
  var table = T()
  let keys: Keys
  let ascending: [UInt64]
  let probes: [UInt64]
  private var position = 0
  var hasTags = false

  init(_ keys: Keys) {
    self.keys = keys
    ascending = keys.ascending
    for key in ascending { table.insert(UInt(key) | 1, at: key) }
    probes = keys.probes(ascending)
  }

  /// Where the next batch of probes starts.
  func nextBatch() -> Int {
    position = position + 2 * batch <= probes.count ? position + batch : 0
    return position
  }
  /// The next batch of probes.
  func nextProbes() -> ArraySlice<UInt64> { probes[nextBatch()...].prefix(batch) }

  // The table is a parameter: these loops check no accesses and count no references.

  func sum(_ table: borrowing T, _ keys: ArraySlice<UInt64>) -> UInt {
    var sum: UInt = 0
    for key in keys { sum &+= table.value(at: key) }
    return sum
  }
  func insert(_ table: inout T, _ keys: Range<UInt64>) { for key in keys { table.insert(7, at: key) } }
  func exchange(_ table: inout T, _ keys: ArraySlice<UInt64>) {
    for key in keys {
      table.remove(at: key)
      table.insert(7, at: key)
    }
  }

  /// A batch of items, thirty-two at a time.
  func gather(_ table: borrowing T, _ buffer: UnsafeMutableBufferPointer<UInt>, from start: Int) {
    var place = start
    var left = batch
    while left > 0 {
      unsafe left -= table.gather(from: probes[place], into: .init(rebasing: buffer.prefix(left)))
      place += 1
    }
  }
}

/// The table that was filled last: all benchmarks of a suite have it, and it leaves memory before the next one is filled.
nonisolated(unsafe) var last: AnyObject?

func filled<T: Table>(_ keys: Keys) -> Filled<T> {
  if let last = last as? Filled<T>, last.keys == keys { return last }
  last = nil
  let filled = Filled<T>(keys)
  last = filled
  return filled
}

func compare<T: Table>(_ type: T.Type, _ keys: Keys) -> BenchmarkSuite {
  let suite = BenchmarkSuite(name: "\(keys.shape), \(keys.count), \(T.name)", settings: Operations(batch))
  suite.benchmark("look-up") { state in
    let filled: Filled<T> = filled(keys)
    let probes = filled.nextProbes()
    try state.measure { use(filled.sum(filled.table, probes)) }
  }
  suite.benchmark("gather") { state in
    let filled: Filled<T> = filled(keys)
    let start = filled.nextBatch()
    try unsafe withUnsafeTemporaryAllocation(of: UInt.self, capacity: 32) { buffer in
      try state.measure { unsafe filled.gather(filled.table, buffer, from: start) }
    }
  }
  // Behind the last key, as a file grows; taken out again while the clock stands.
  suite.benchmark("insert at the end") { state in
    let filled: Filled<T> = filled(keys)
    let end = filled.ascending[filled.ascending.count - 1] + 1
    try state.measure { filled.insert(&filled.table, end..<end + UInt64(batch)) }
    for index in (end..<end + UInt64(batch)).reversed() { filled.table.remove(at: index) }
  }
  // The sorted array moves half of its items for each.
  if T.self == SortedArray.self, keys.count > 100_000 { return suite }
  suite.benchmark("remove and insert") { state in
    let filled: Filled<T> = filled(keys)
    let probes = filled.nextProbes()
    try state.measure { filled.exchange(&filled.table, probes) }
  }
  return suite
}

/// The same with a sweep over a batch of items, of which one in sixteen has a tag.
func compareTagged<T: TaggedTable>(_ type: T.Type, _ keys: Keys) -> BenchmarkSuite {
  let suite = compare(type, keys)
  suite.benchmark("tag sweep") { state in
    let filled: Filled<T> = filled(keys)
    let all = filled.ascending
    if !filled.hasTags {
      for place in stride(from: 0, to: all.count, by: 16) { filled.table.setTag(at: all[place]) }
      filled.hasTags = true
    }
    let start = Int(filled.probes[filled.nextBatch()] % UInt64(max(1, all.count - batch)))
    let first = all[start]
    let last = all[min(start + batch, all.count) - 1]
    try state.measure { use(UInt(filled.table.sweep(first, last))) }
  }
  return suite
}

time(
  Keys.Shape.allCases.flatMap { shape in
    sizes.flatMap { count in
      let keys = Keys(shape: shape, count: count)
      return [
        compareTagged(OurTree.self, keys), compareTagged(CTree.self, keys), compareTagged(SortedArray.self, keys),
        compare(HashTable.self, keys), compare(HashTrie.self, keys),
      ]
    }
  })
