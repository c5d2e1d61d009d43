// What the benchmarks share. A benchmark makes what it measures once, and gives a figure for each of several operations. It
// runs in a process of its own, so that none finds the heap as another one left it:
//
//     RadixTreeBenchmarks            prints the names of all
//     RadixTreeBenchmarks NAME…      runs these; a line for each figure: its name, a tab, the least value
//
// A figure's name is "operation, benchmark".

import Glibc

/// A benchmark.
public struct Benchmark {
  let name: String
  let body: (Figures) -> Void

  public init(_ name: String, _ body: @escaping (Figures) -> Void) {
    self.name = name
    self.body = body
  }

  /// Does what the program's arguments say.
  public static func main(_ benchmarks: [Benchmark]) {
    let wanted = CommandLine.arguments.dropFirst()
    for benchmark in benchmarks {
      if wanted.isEmpty { print(benchmark.name) }
      if wanted.contains(benchmark.name) { benchmark.body(Figures(name: benchmark.name)) }
    }
  }
}

/// Takes a benchmark's figures.
public struct Figures {
  fileprivate let name: String

  /// Prints a figure.
  public func note(_ operation: String, _ value: Double) { print("\(operation), \(name)\t\(value)") }

  /// Times `body` again and again, with `before` and `after` while the clock stands, and prints the least time of one of
  /// the operations that `body` answers the number of, in nanoseconds.
  public func time(
    _ operation: String, rounds: Int = 300, milliseconds: UInt64 = 200, before: () -> Void = {}, after: () -> Void = {},
    _ body: () -> Int
  ) {
    let end = now() + milliseconds * 1_000_000
    var least = Double.infinity
    for round in 0..<rounds {
      before()
      let start = now()
      let count = body()
      let took = now() - start
      after()
      if count > 0 { least = min(least, Double(took) / Double(count)) }
      if start > end, round > 1 { break }
    }
    if least.isFinite { note(operation, least) }
  }
}

/// The monotonic clock, in nanoseconds.
public func now() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Uses a value, so that what it is computed from is not left out.
@_optimize(none) public func use(_ value: UInt) {}
