// What can be done about a frame that is in the way, and the page blocks that keep frames of one kind together.
//
// Memory ends up in pieces because frames that cannot be moved lie between frames that could be. So each page block, a
// few hundred frames, belongs to one migrate type, and allocations take frames of blocks of their own type as long as
// there are any. Where one type has used up its blocks it takes over another's: a block at a time when it can, so that
// few blocks are mixed (Gorman and Whitcroft, "The What, the Why and the Where To of Anti-Fragmentation", 2006).

import Synchronization

/// How the frames of an allocation can be got back.
public enum MigrateType: UInt8, CaseIterable, Sendable {
  /// Not at all before the owner frees them: objects of the kernel, page tables.
  case unmovable = 0
  /// Their contents can be copied elsewhere, or dropped: pages of user programs and files.
  case movable = 1
  /// The owner gives them up on request.
  case reclaimable = 2
  /// Set aside, for runs of frames that the kernel cannot do without and cannot wait for.
  case reserve = 3

  static var count: Int { 4 }

  /// Whose frames an allocation takes when those of its own type are used up, the first choice first.
  var fallbacks: (MigrateType, MigrateType) {
    switch self {
    case .unmovable, .reserve: (.reclaimable, .movable)
    case .movable: (.reclaimable, .unmovable)
    case .reclaimable: (.unmovable, .movable)
    }
  }
}

/// The table of page blocks: a byte for each, with the zone in which it lies and its type. The type is changed under the
/// zone's lock; a reader without it may see the one or the other.
@safe struct PageBlocks {
  let entries: UnsafeMutablePointer<Atomic<UInt8>>
  /// A page block is 2^order frames.
  let order: Int

  // SAFETY (of this type): there is an entry for every frame below the frame count.

  /// 2 MiB, the size of a huge page; half of it where memory is so small that whole blocks would soon be used up.
  static func order(frameCount: UInt64) -> Int { frameCount >= 1 << 16 ? 9 : 8 }

  var size: UInt64 { @inline(__always) get { 1 << UInt64(truncatingIfNeeded: order) } }

  @inline(__always) private func entry(_ number: UInt64) -> UInt8 {
    unsafe entries[Int(truncatingIfNeeded: number >> UInt64(truncatingIfNeeded: order))].load(ordering: .relaxed)
  }

  @inline(__always) func type(of number: UInt64) -> MigrateType {
    MigrateType(rawValue: entry(number) & 3).unsafelyUnwrapped
  }

  @inline(__always) func zone(of number: UInt64) -> Int { Int(truncatingIfNeeded: entry(number) >> 2) }

  /// Gives all blocks that the range touches to a zone and a type.
  func set(_ type: MigrateType, zone: Int, from start: UInt64, to end: UInt64) {
    var number = start & ~(size &- 1)
    while number < end {
      unsafe entries[Int(truncatingIfNeeded: number >> UInt64(truncatingIfNeeded: order))].store(
        UInt8(truncatingIfNeeded: zone << 2) | type.rawValue, ordering: .relaxed)
      number &+= size
    }
  }
}
