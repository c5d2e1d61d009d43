// A zone: a range of page frames of one node, with its free blocks and its watermarks.
//
// Frames that were never used are not in the lists. They lie from `untouched` on, up to the frames set aside, and are
// claimed a page block at a time when the lists have nothing that fits, lowest first. So starting takes no time per
// frame, neither frame nor descriptor costs the host memory before it is needed, and such frames are known to read as
// zero. The frames set aside lie at the zone's end and are claimed in the same way.
//
//     first            untouched            setAside    untouchedSetAside     end
//       │ lists, in use   │ never used          │ reserve       │ never used   │

import KernelCore
import Synchronization

/// How much of a zone has to be free.
public enum Watermark: Sendable {
  /// What ordinary allocations leave.
  case minimum
  /// Below it reclaim begins.
  case low
  /// At it reclaim rests.
  case high
}

struct Zone: ~Copyable {
  let lock: AllocatorLock
  var name: StaticString
  var index: Int
  var node: Int
  var first: UInt64
  var end: UInt64
  /// Where the frames begin that were never used.
  var untouched: UInt64
  /// Where the frames begin that are set aside, and of them those which were never used.
  var setAside: UInt64
  var untouchedSetAside: UInt64
  /// Free frames of all kinds; of these, those of blocks that are set aside. Changed under the lock.
  let freeFrames: Atomic<Int>
  let freeSetAside: Atomic<Int>
  /// First block and number of blocks for each order and migrate type.
  var heads: InlineArray<44, UInt32>
  var counts: InlineArray<44, UInt32>
  /// Page blocks of each type, those never used not among them.
  var blockCounts: InlineArray<4, UInt32>
  /// The last large extent that was broken up for movable memory and that nobody ever touched: the machine is to put one
  /// large page behind it. 0: none.
  var freshExtent: UInt64 = 0
  /// In frames: ordinary allocations leave `minimum`; reclaim starts below `low` and stops at `high`. Frames set aside
  /// do not count as free here.
  var minimum: Int
  var low: Int
  var high: Int
  /// Left for those who can use this zone only by those who prefer a higher one.
  var protection: Int
  /// Times that a block of another type was taken, and that a page block changed its type.
  var fallbacks: UInt64 = 0
  var conversions: UInt64 = 0

  init(name: StaticString, index: Int, node: Int, first: UInt64, end: UInt64, blockSize: UInt64) {
    lock = AllocatorLock(.zone)
    self.name = name
    self.index = index
    self.node = node
    self.first = first
    self.end = end
    untouched = first
    let frames = Int(truncatingIfNeeded: end &- first)
    // A thirty-second of the zone, but 8 MiB at most; at least a page block, if that leaves most of the zone.
    let wanted = max(UInt64(min(frames / 32, 2048)), blockSize)
    setAside = (end &- min(wanted, end &- first)) & ~(blockSize &- 1)
    if setAside <= first || Int(truncatingIfNeeded: end &- setAside) > frames / 4 { setAside = end }
    untouchedSetAside = setAside
    freeFrames = Atomic(frames)
    freeSetAside = Atomic(Int(truncatingIfNeeded: end &- setAside))
    heads = InlineArray(repeating: 0)
    counts = InlineArray(repeating: 0)
    blockCounts = InlineArray(repeating: 0)
    minimum = Self.defaultMinimum(frames: frames)
    low = minimum &+ minimum / 4
    high = minimum &+ minimum / 2
    protection = 0
  }

  /// The number of a list in `heads` and `counts`.
  @inline(__always) static func list(_ order: Int, _ type: MigrateType) -> Int {
    order &* MigrateType.count &+ Int(truncatingIfNeeded: type.rawValue)
  }

  /// The minimum at boot. Together with what is set aside it must hold what the kernel makes between two looks at the
  /// shortage.
  static func defaultMinimum(frames: Int) -> Int { max(min(frames / 256, 16384), min(frames / 32, 1024)) }

  var frameCount: Int { Int(truncatingIfNeeded: end &- first) }

  func level(_ mark: Watermark) -> Int {
    switch mark {
    case .minimum: minimum
    case .low: low
    case .high: high
    }
  }

  /// Free frames that ordinary allocations may have, down to the watermarks.
  var usable: Int {
    @inline(__always) get { freeFrames.load(ordering: .relaxed) &- freeSetAside.load(ordering: .relaxed) }
  }

  /// Whether an ordinary block of this order exists. Without the lock: a guess.
  func hasBlock(order: Int) -> Bool {
    if setAside &- untouched >= 1 << UInt64(truncatingIfNeeded: order) { return true }
    var list = order &* MigrateType.count
    while list < 44 {
      if counts[list] | counts[list &+ 1] | counts[list &+ 2] != 0 { return true }
      list &+= MigrateType.count
    }
    return false
  }

  /// Whether the zone has a block of this order and stays above the watermark when it is taken.
  func isOK(order: Int, mark: Watermark) -> Bool {
    guard usable &- (1 << order) >= level(mark) else { return false }
    return order == 0 || hasBlock(order: order)
  }
}
