// The radix tree beside what one would take instead. Each iteration is a thousand operations on a table of `count` keys;
// names are "operation, shape, count, structure".

import Benchmark

/// Table sizes. A tree of the largest one takes 1.5 GB when it is sparse.
private let sizes = [1_000, 100_000, 10_000_000]
private let batch = 1000

let benchmarks: @Sendable () -> Void = {
  for shape in Keys.Shape.allCases {
    for count in sizes {
      let keys = Keys(shape: shape, count: count)
      register(OurTree.self, keys)
      register(CTree.self, keys)
      register(HashTable.self, keys)
      register(SortedArray.self, keys)
      register(HashTrie.self, keys)
      registerTags(OurTree.self, keys)
      registerTags(CTree.self, keys)
      registerTags(SortedArray.self, keys)
    }
  }
}

/// A table with its keys, made before the clock runs.
private final class Filled<T: Table> {
  var table = T()
  let ascending: [UInt64]
  let probes: [UInt64]
  var position = 0
  let buffer = UnsafeMutableBufferPointer<UInt>.allocate(capacity: 32)

  init(_ keys: Keys) {
    ascending = keys.ascending
    for key in ascending { table.insert(UInt(key) | 1, at: key) }
    probes = keys.probes(ascending)
  }
  deinit { buffer.deallocate() }

  /// Where the next batch of probes starts.
  func nextBatch() -> Int {
    position = position + 2 * batch <= probes.count ? position + batch : 0
    return position
  }
}

private func benchmark<T: Table>(
  _ operation: String, _ type: T.Type, _ keys: Keys, setup: @escaping @Sendable (Filled<T>) -> Void = { _ in },
  _ body: @escaping @Sendable (Benchmark, Filled<T>) -> Void
) {
  Benchmark(
    "\(operation), \(keys.shape), \(keys.count), \(T.name)",
    configuration: .init(
      metrics: [.wallClock, .throughput], warmupIterations: 20, scalingFactor: .kilo, maxDuration: .milliseconds(300),
      maxIterations: 2000)
  ) { benchmark, filled in
    body(benchmark, filled)
  } setup: {
    let filled = Filled<T>(keys)
    setup(filled)
    return filled
  }
}

private func register<T: Table>(_ type: T.Type, _ keys: Keys) {
  benchmark("look-up", type, keys) { benchmark, filled in
    let start = filled.nextBatch()
    var sum: UInt = 0
    benchmark.startMeasurement()
    for place in start..<start + batch { sum &+= filled.table.value(at: filled.probes[place]) }
    benchmark.stopMeasurement()
    blackHole(sum)
  }

  // Behind the last key, as a file grows; taken out again while the clock stands.
  benchmark("insert at the end", type, keys) { benchmark, filled in
    let end = filled.ascending[filled.ascending.count - 1] + 1
    benchmark.startMeasurement()
    for index in end..<end + UInt64(batch) { filled.table.insert(7, at: index) }
    benchmark.stopMeasurement()
    for index in (end..<end + UInt64(batch)).reversed() { filled.table.remove(at: index) }
  }

  // The sorted array moves half of its items for each.
  if !(type == SortedArray.self && keys.count > 100_000) {
    benchmark("remove and insert", type, keys) { benchmark, filled in
      let start = filled.nextBatch()
      benchmark.startMeasurement()
      for place in start..<start + batch {
        let key = filled.probes[place]
        filled.table.remove(at: key)
        filled.table.insert(7, at: key)
      }
      benchmark.stopMeasurement()
    }
  }

  // Thirty-two at a time; the figure is for one item.
  benchmark("gather", type, keys) { benchmark, filled in
    let start = filled.nextBatch()
    var found = 0
    benchmark.startMeasurement()
    for place in start..<start + batch / 32 {
      found += filled.table.gather(from: filled.probes[place], into: filled.buffer)
    }
    benchmark.stopMeasurement()
    blackHole(found)
  }
}

/// One item in sixteen has a tag; a thousand items are swept over.
private func registerTags<T: TaggedTable>(_ type: T.Type, _ keys: Keys) {
  benchmark("tag sweep", type, keys) { filled in
    for place in stride(from: 0, to: filled.ascending.count, by: 16) {
      filled.table.setTag(at: filled.ascending[place])
    }
  } _: { benchmark, filled in
    let start = Int(filled.probes[filled.nextBatch()] % UInt64(max(1, filled.ascending.count - batch)))
    let first = filled.ascending[start]
    let last = filled.ascending[min(start + batch, filled.ascending.count) - 1]
    benchmark.startMeasurement()
    let found = filled.table.sweep(first, last)
    benchmark.stopMeasurement()
    blackHole(found)
  }
}
