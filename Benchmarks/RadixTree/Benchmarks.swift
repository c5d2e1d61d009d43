// The radix tree beside what one would take instead. Each iteration is a thousand operations on a table of `count` keys;
// names are "operation, shape, count, structure".

import Benchmark

/// Table sizes. Half a gigabyte of memory goes into the largest one.
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
    }
  }
}

/// A table with its keys, made before the clock runs.
private final class Filled<T: Table> {
  var table = T()
  let probes: [UInt64]
  var position = 0

  init(_ keys: Keys) {
    let ascending = keys.ascending
    for key in ascending { table.insert(UInt(key) | 1, at: key) }
    probes = keys.probes(ascending)
  }

  /// Where the next batch of probes starts.
  func nextBatch() -> Int {
    position = position + 2 * batch <= probes.count ? position + batch : 0
    return position
  }
}

private func register<T: Table>(_ type: T.Type, _ keys: Keys) {
  func benchmark(_ operation: String, _ body: @escaping @Sendable (Benchmark, Filled<T>) -> Void) {
    Benchmark(
      "\(operation), \(keys.shape), \(keys.count), \(T.name)",
      configuration: .init(
        metrics: [.wallClock, .throughput], warmupIterations: 20, scalingFactor: .kilo, maxDuration: .milliseconds(300),
        maxIterations: 2000)
    ) { benchmark, filled in
      body(benchmark, filled)
    } setup: {
      Filled<T>(keys)
    }
  }

  benchmark("look-up") { benchmark, filled in
    let start = filled.nextBatch()
    var sum: UInt = 0
    benchmark.startMeasurement()
    for place in start..<start + batch { sum &+= filled.table.value(at: filled.probes[place]) }
    benchmark.stopMeasurement()
    blackHole(sum)
  }
}
