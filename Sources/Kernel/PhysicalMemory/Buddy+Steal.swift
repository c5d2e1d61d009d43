// When an allocation's own page blocks are used up: taking over another type's.

import KernelCore
import Synchronization

extension Buddy {
  // SAFETY (of this file): as in Buddy.

  /// Takes a block from another type's lists.
  ///
  /// Allocations that cannot be moved look for the largest block, and take over its page block if they can make it
  /// theirs: then what follows finds its place there too, and no second block becomes mixed. Movable ones do so where
  /// much is to be had, and else take the smallest piece: they can be moved out again.
  func steal(order: Int, for type: MigrateType) -> Block? {
    let (first, second) = type.fallbacks
    let threshold = type == .movable ? max(order, pageBlocks.order / 2) : order
    var size = PhysicalMemory.maximumOrder
    while size >= threshold {
      for place in 0..<2 {
        let other = place == 0 ? first : second
        let head = unsafe UInt64(zone.pointee.heads[Zone.list(size, other)])
        guard head != 0 else { continue }
        unsafe zone.pointee.fallbacks &+= 1
        if size >= pageBlocks.order {
          relist(head, order: size, from: other, to: type)
          convert(head, head &+ 1 << UInt64(size), to: type)
          return takeHead(head, order: size, type: type, wanted: order)
        }
        if takeOver(pageBlockOf: head, from: other, to: type) {
          return takeHead(head, order: size, type: type, wanted: order)
        }
        return takeHead(head, order: size, type: other, wanted: order)
      }
      size &-= 1
    }
    size = order
    while size < threshold {
      for place in 0..<2 {
        let other = place == 0 ? first : second
        let head = unsafe UInt64(zone.pointee.heads[Zone.list(size, other)])
        guard head != 0 else { continue }
        unsafe zone.pointee.fallbacks &+= 1
        return takeHead(head, order: size, type: other, wanted: order)
      }
      size &+= 1
    }
    return nil
  }

  private func relist(_ number: UInt64, order: Int, from old: MigrateType, to new: MigrateType) {
    let isKnownZero = unsafe frames[Int(number)].isKnownZero
    unlink(number, order: order, type: old)
    link(number, order: order, type: new, isKnownZero: isKnownZero)
  }

  /// Makes the page block around a free block one of another type, with all its free blocks, when at least half of it
  /// is free or suits that type.
  private func takeOver(pageBlockOf number: UInt64, from old: MigrateType, to new: MigrateType) -> Bool {
    let blockStart = number & ~(pageBlocks.size &- 1)
    let start = unsafe max(blockStart, zone.pointee.first)
    let end = unsafe min(blockStart &+ pageBlocks.size, zone.pointee.setAside)
    var suitable: UInt64 = 0
    var place = start
    while place < end {
      let descriptor = unsafe frames + Int(place)
      if unsafe descriptor.pointee.kind == .free {
        let size = unsafe UInt64(1) << UInt64(descriptor.pointee.order)
        suitable &+= size
        place &+= size
        continue
      }
      let flags = unsafe FrameFlags(rawValue: descriptor.pointee.flags.load(ordering: .relaxed))
      // Movable frames are single ones. Unmovable and reclaimable frames are taken to suit each other.
      let isUsed = unsafe descriptor.pointee.kind != .unused && descriptor.pointee.kind != .cached
      if isUsed && flags.contains(.movable) == (new == .movable) { suitable &+= 1 }
      place &+= 1
    }
    guard suitable &* 2 >= end &- start else { return false }
    place = start
    while place < end {
      let descriptor = unsafe frames + Int(place)
      guard unsafe descriptor.pointee.kind == .free else {
        place &+= 1
        continue
      }
      let order = unsafe Int(descriptor.pointee.order)
      relist(place, order: order, from: old, to: new)
      place &+= 1 << UInt64(order)
    }
    convert(blockStart, blockStart &+ 1, to: new)
    unsafe zone.pointee.conversions &+= 1
    return true
  }
}
