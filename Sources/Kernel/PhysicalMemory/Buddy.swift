// The buddy method (Knowlton 1965) on a zone's frames.
//
// A block of order k is 2^k frames, aligned to its size. Two blocks of order k which differ only in bit k of their
// number are buddies; when both are free they become one block of order k + 1. The free blocks of each order and migrate
// type are linked through the descriptors of their first frames. A free block is in the list of the type of its page
// block; one that consists of several page blocks gives all of them its type.

import KernelCore
import Synchronization

/// The buddy method on a zone and the descriptors of its frames. Every operation needs the zone's lock.
@safe struct Buddy {
  let zone: UnsafeMutablePointer<Zone>
  let frames: UnsafeMutablePointer<FrameDescriptor>
  let pageBlocks: PageBlocks

  struct Block {
    var number: UInt64
    var isKnownZero: Bool
  }

  // SAFETY (of this type): numbers in the lists lie in [zone.first, zone.untouched) or [zone.setAside,
  // zone.untouchedSetAside), which are within the frame array; the zone's lock makes this code the only one that touches
  // the descriptors of free blocks. List numbers are below 44: orders are at most 10.

  // MARK: Taking

  /// Takes a block of this order for an allocation of this type: from the type's own lists, from frames that were never
  /// used, from another type's blocks. The reserve is for those who ask for it (`takeSetAside`).
  func take(order: Int, type: MigrateType) -> Block? {
    if let block = takeListed(order: order, type: type) { return block }
    while claimUntouched(type) {
      if let block = takeListed(order: order, type: type) { return block }
    }
    return steal(order: order, for: type)
  }

  /// Takes a block from those set aside.
  func takeSetAside(order: Int) -> Block? {
    while true {
      if let block = takeListed(order: order, type: .reserve) { return block }
      guard unsafe zone.pointee.untouchedSetAside < zone.pointee.end else { return nil }
      let start = unsafe zone.pointee.untouchedSetAside
      let end = unsafe min(start &+ pageBlocks.size, zone.pointee.end)
      unsafe zone.pointee.untouchedSetAside = end
      own(start, end, .reserve)
      count(-Int(end &- start), isSetAside: true)
      putRange(start, end, isKnownZero: true)
    }
  }

  /// Takes the smallest block of the type's lists that is large enough, split down to the order.
  @inline(__always)
  func takeListed(order: Int, type: MigrateType) -> Block? {
    var found = order
    while found <= PhysicalMemory.maximumOrder {
      let head = unsafe zone.pointee.heads[unchecked: Zone.list(found, type)]
      if head != 0 { return takeHead(UInt64(head), order: found, type: type, wanted: order) }
      found &+= 1
    }
    return nil
  }

  /// Takes the first `wanted` part of a listed block; the rest goes to the lists of this type.
  func takeHead(_ number: UInt64, order startOrder: Int, type: MigrateType, wanted: Int) -> Block {
    let isKnownZero = unsafe frames[Int(number)].isKnownZero
    unlink(number, order: startOrder, type: type)
    if isKnownZero, startOrder >= PhysicalMemory.extentOrder, wanted < PhysicalMemory.extentOrder, type == .movable {
      noteFreshExtent(number)
    }
    var order = startOrder
    while order > wanted {
      order &-= 1
      link(number | 1 << UInt64(order), order: order, type: type, isKnownZero: isKnownZero)
    }
    unsafe frames[Int(number)].kind = .unused
    count(-1 << wanted, isSetAside: type == .reserve)
    return Block(number: number, isKnownZero: isKnownZero)
  }

  /// The first extent of movable memory stays in small pages: little programs use but a part of it.
  private func noteFreshExtent(_ number: UInt64) {
    let blocks = unsafe Int(zone.pointee.blockCounts[Int(MigrateType.movable.rawValue)])
    if blocks << pageBlocks.order > 1 << PhysicalMemory.extentOrder { unsafe zone.pointee.freshExtent = number }
  }

  /// Gives a page block that was never used to a type: its frames become free blocks of that type.
  private func claimUntouched(_ type: MigrateType) -> Bool {
    let start = unsafe zone.pointee.untouched
    let limit = unsafe zone.pointee.setAside
    guard start < limit else { return false }
    let end = min((start &+ pageBlocks.size) & ~(pageBlocks.size &- 1), limit)
    unsafe zone.pointee.untouched = end
    own(start, end, type)
    count(-Int(end &- start), isSetAside: false)
    putRange(start, end, isKnownZero: true)
    return true
  }

  /// Takes `length` frames that were never used, at a multiple of `alignment` (a power of two), for good measure as
  /// whole page blocks; what is left of these goes to the lists.
  func carve(_ length: UInt64, alignment: UInt64) -> UInt64? {
    let untouched = unsafe zone.pointee.untouched
    let limit = unsafe zone.pointee.setAside
    let start = (untouched &+ alignment &- 1) & ~(alignment &- 1)
    guard start <= limit, length <= limit &- start else { return nil }
    let end = min((start &+ length &+ pageBlocks.size &- 1) & ~(pageBlocks.size &- 1), limit)
    unsafe zone.pointee.untouched = end
    own(untouched, end, .unmovable)
    count(-Int(end &- untouched), isSetAside: false)
    putRange(untouched, start, isKnownZero: true)
    putRange(start &+ length, end, isKnownZero: true)
    return start
  }

  /// Takes a run that is longer than the largest block: adjacent free blocks of the largest order. O(zone).
  func takeRun(_ length: UInt64, alignment: UInt64) -> UInt64? {
    if let number = carve(length, alignment: alignment) { return number }
    let largest = PhysicalMemory.maximumOrder
    let size = UInt64(1) << UInt64(largest)
    let step = max(size, alignment)
    let limit = unsafe zone.pointee.untouched
    var start = unsafe (zone.pointee.first &+ step &- 1) & ~(step &- 1)
    search: while start < limit, length <= limit &- start {
      var number = start
      while number < start &+ length {
        let descriptor = unsafe frames + Int(number)
        guard unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == largest else {
          start = (number &+ step) & ~(step &- 1)
          continue search
        }
        number &+= size
      }
      var isKnownZero = true
      number = start
      while number < start &+ length {
        isKnownZero = unsafe isKnownZero && frames[Int(number)].isKnownZero
        unlink(number, order: largest, type: pageBlocks.type(of: number))
        unsafe frames[Int(number)].kind = .unused
        count(-Int(size), isSetAside: false)
        number &+= size
      }
      convert(start, number, to: .unmovable)
      putRange(start &+ length, number, isKnownZero: isKnownZero)
      return start
    }
    return nil
  }

  // MARK: Giving back

  /// Gives back a block, which becomes one with its buddy as often as that is free too.
  func put(_ block: UInt64, order startOrder: Int, isKnownZero startZero: Bool) {
    var type = pageBlocks.type(of: block)
    var number = block
    var order = startOrder
    var isKnownZero = startZero
    count(1 << order, isSetAside: type == .reserve)
    while order < PhysicalMemory.maximumOrder {
      let size = UInt64(1) << UInt64(order)
      let buddy = number ^ size
      guard isListable(buddy, size) else { break }
      let descriptor = unsafe frames + Int(buddy)
      guard unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == order else { break }
      var buddyType = type
      if order >= pageBlocks.order {
        // Blocks that are free as a whole may change their type; those set aside stay what they are.
        buddyType = pageBlocks.type(of: buddy)
        if buddyType != type {
          if buddyType == .reserve || type == .reserve { break }
          convert(number, number &+ size, to: buddyType)
          type = buddyType
        }
      }
      unlink(buddy, order: order, type: buddyType)
      unsafe descriptor.pointee.kind = .unused
      unsafe frames[Int(number)].kind = .unused
      isKnownZero = unsafe isKnownZero && descriptor.pointee.isKnownZero
      number &= ~size
      order &+= 1
    }
    link(number, order: order, type: type, isKnownZero: isKnownZero)
  }

  /// Gives back any range of frames, as the largest aligned blocks that it consists of.
  func putRange(_ start: UInt64, _ end: UInt64, isKnownZero: Bool) {
    var number = start
    while number < end {
      var order = min(number.trailingZeroBitCount, PhysicalMemory.maximumOrder)
      while UInt64(1) << UInt64(order) > end &- number { order &-= 1 }
      // A range may consist of page blocks of several types: no block is longer than one of them at first.
      order = min(order, pageBlocks.order)
      put(number, order: order, isKnownZero: isKnownZero)
      number &+= 1 << UInt64(order)
    }
  }

  /// Whether all of a block's frames were used before: behind `untouched` nothing is in the lists, and reading the
  /// descriptor there would cost memory.
  @inline(__always) private func isListable(_ number: UInt64, _ size: UInt64) -> Bool {
    if unsafe number &+ size <= zone.pointee.untouched { return unsafe number >= zone.pointee.first }
    return unsafe number >= zone.pointee.setAside && number &+ size <= zone.pointee.untouchedSetAside
  }

  // MARK: Lists

  func link(_ number: UInt64, order: Int, type: MigrateType, isKnownZero: Bool) {
    let list = Zone.list(order, type)
    let descriptor = unsafe frames + Int(number)
    let head = unsafe zone.pointee.heads[unchecked: list]
    unsafe descriptor.pointee.kind = .free
    unsafe descriptor.pointee.order = UInt8(truncatingIfNeeded: order)
    unsafe descriptor.pointee.isKnownZero = isKnownZero
    unsafe descriptor.pointee.next = head
    unsafe descriptor.pointee.previous = 0
    if head != 0 { unsafe frames[Int(head)].previous = UInt32(truncatingIfNeeded: number) }
    unsafe zone.pointee.heads[unchecked: list] = UInt32(truncatingIfNeeded: number)
    unsafe zone.pointee.counts[unchecked: list] &+= 1
  }

  func unlink(_ number: UInt64, order: Int, type: MigrateType) {
    let list = Zone.list(order, type)
    let next = unsafe frames[Int(number)].next
    let previous = unsafe frames[Int(number)].previous
    if previous != 0 {
      unsafe frames[Int(previous)].next = next
    } else {
      unsafe zone.pointee.heads[unchecked: list] = next
    }
    if next != 0 { unsafe frames[Int(next)].previous = previous }
    unsafe zone.pointee.counts[unchecked: list] &-= 1
  }

  @inline(__always) func count(_ change: Int, isSetAside: Bool) {
    // Not a read-modify-write: only the holder of the lock writes.
    let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
    unsafe zone.pointee.freeFrames.store(free &+ change, ordering: .relaxed)
    if isSetAside {
      let setAside = unsafe zone.pointee.freeSetAside.load(ordering: .relaxed)
      unsafe zone.pointee.freeSetAside.store(setAside &+ change, ordering: .relaxed)
    }
  }

  // MARK: Page blocks

  /// Page blocks that were never used get their zone and type.
  private func own(_ start: UInt64, _ end: UInt64, _ type: MigrateType) {
    unsafe pageBlocks.set(type, zone: zone.pointee.index, from: start, to: end)
    // Only the zone's first block may begin before the range: with it.
    let first = start >> UInt64(pageBlocks.order)
    let blocks = ((end &- 1) >> UInt64(pageBlocks.order)) &- first &+ 1
    unsafe zone.pointee.blockCounts[Int(type.rawValue)] &+= UInt32(truncatingIfNeeded: blocks)
  }

  /// Page blocks in the range change their type.
  func convert(_ start: UInt64, _ end: UInt64, to type: MigrateType) {
    var number = start & ~(pageBlocks.size &- 1)
    while number < end {
      let old = pageBlocks.type(of: number)
      unsafe zone.pointee.blockCounts[Int(old.rawValue)] &-= 1
      unsafe zone.pointee.blockCounts[Int(type.rawValue)] &+= 1
      number &+= pageBlocks.size
    }
    unsafe pageBlocks.set(type, zone: zone.pointee.index, from: start, to: end)
  }
}
