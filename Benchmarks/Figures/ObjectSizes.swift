/// Sizes of kernel objects as they are: /proc/slabinfo of Apus after `find /usr/lib` on one CPU, objects by size class.
public struct ObjectSizes {
  private static let recorded: [(size: Int, count: Int)] = [
    (32, 56889), (48, 132194), (64, 53664), (80, 51078), (96, 1053), (112, 32775), (128, 25504), (160, 1370),
    (224, 34578), (320, 49), (384, 2326), (576, 33), (640, 1371), (1280, 410), (2560, 104), (5120, 43),
  ]
  private let total = recorded.reduce(0) { $0 + $1.count }

  public init() {}

  /// A size: somewhere in its class.
  public func next(_ random: inout Generator) -> Int {
    var place = random.below(total)
    for (size, count) in Self.recorded {
      if place < count { return size - random.below(size < 512 ? 16 : size / 8) }
      place -= count
    }
    return 32
  }
}
