// What the benchmarks share. A figure's name is "suite.operation", where a suite is one alternative on one kind of data
// ("sparse, 1000, RadixTree"). Times are taken by swift-benchmark; what is counted is noted by a program of its own.

import Benchmark
import Glibc

/// How many operations an iteration of a benchmark has.
public struct Operations: BenchmarkSetting {
  let count: Int
  public init(_ count: Int) { self.count = count }
}

/// Measures what the program's arguments select. The column "each" has the least time of one operation.
public func time(_ suites: [BenchmarkSuite]) {
  BenchmarkColumn.register(
    BenchmarkColumn(
      name: "each",
      value: { ($0.measurements.min() ?? 0) / Double($0.settings[Operations.self]?.count ?? 1) }, unit: .time))
  Benchmark.main(
    suites, customDefaults: [MinTime(seconds: 0.15), Columns(["name", "each", "std", "iterations"])])
}

/// Prints a figure that is no time, in the form of those of swift-benchmark.
public func note(_ operation: String, of suite: String, _ value: Double) { print("\"\(suite).\(operation)\",\(value)") }

/// Uses a value, so that what it is computed from is not left out.
@_optimize(none) public func use(_ value: UInt) {}
