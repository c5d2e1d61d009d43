// The keys of the benchmarks: how many there are, and how they lie in the space of indices.

import Figures

/// A set of keys, the same on each run.
struct Keys: Equatable, Sendable {
  enum Shape: String, CaseIterable, Sendable {
    /// 0, 1, 2 …: a file that was read from end to end.
    case dense
    /// One index in sixteen, at random: four items in a leaf of 64.
    case sparse
  }
  var shape: Shape
  var count: Int

  /// All keys in ascending order.
  var ascending: [UInt64] {
    switch shape {
    case .dense: return Array(0..<UInt64(count))
    case .sparse:
      var random = Generator(seed: 1)
      return (0..<UInt64(count)).map { $0 * 16 + random.next() % 16 }
    }
  }

  /// Some of the keys, at random.
  func probes(_ keys: [UInt64], count: Int = 1 << 16) -> [UInt64] {
    var random = Generator(seed: 2)
    return (0..<count).map { _ in keys[Int(random.next() % UInt64(keys.count))] }
  }
}
