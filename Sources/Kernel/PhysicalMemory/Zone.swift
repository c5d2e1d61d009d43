// A zone: a range of page frames with its free blocks, by the buddy method (Knowlton 1965).
//
// A block of order k is 2^k frames, aligned to its size. Two blocks of order k which differ only in bit k of their
// number are buddies; when both are free they become one block of order k + 1. The free blocks of each order are
// linked through the descriptors of their first frames.
//
// Frames that were never used are not in the lists. They lie at the end of the zone, from `untouched` on, and are
// carved off when the lists have nothing that fits, lowest first. So starting takes no time per frame, neither frame
// nor descriptor costs the host memory before it is needed, and such frames are known to read as zero.

import KernelCore
import Synchronization

struct Zone: ~Copyable {
  let lock: AllocatorLock
  var name: StaticString
  var first: UInt64
  var end: UInt64
  /// Where the frames begin that were never used.
  var untouched: UInt64
  /// Frames in the lists and behind `untouched`; changed under the lock.
  let freeFrames: Atomic<Int>
  /// First block and number of blocks for each order.
  var heads: InlineArray<11, UInt32>
  var counts: InlineArray<11, UInt32>
  /// Ordinary allocations leave `minimum` frames; reclaim starts below `low` and stops at `high`.
  var minimum: Int
  var low: Int
  var high: Int

  init(name: StaticString, first: UInt64, end: UInt64) {
    lock = AllocatorLock()
    self.name = name
    self.first = first
    self.end = end
    untouched = first
    let frames = Int(truncatingIfNeeded: end &- first)
    freeFrames = Atomic(frames)
    heads = InlineArray(repeating: 0)
    counts = InlineArray(repeating: 0)
    // The reserve must hold what the kernel makes between two looks at the shortage, large arrays included: 8 MiB, but
    // no more than a sixteenth of a small machine.
    minimum = max(min(frames / 256, 16384), min(frames / 16, 2048))
    low = minimum &+ minimum / 4
    high = minimum &+ minimum / 2
  }
}

/// The buddy method on a zone and the descriptors of its frames. Every operation needs the zone's lock.
@safe struct Buddy {
  let zone: UnsafeMutablePointer<Zone>
  let frames: UnsafeMutablePointer<FrameDescriptor>

  struct Block {
    var number: UInt64
    var isKnownZero: Bool
  }

  // SAFETY (of this type): numbers in the lists lie between zone.first and zone.untouched, which is within the frame
  // array; the zone's lock makes this code the only one that touches the descriptors of free blocks.

  /// Takes a block of this order, the smallest that fits split down to it.
  func take(order: Int) -> Block? {
    var found = order
    while found <= PhysicalMemory.maximumOrder {
      let head = unsafe zone.pointee.heads[found]
      if head != 0 {
        let number = UInt64(head)
        let isKnownZero = unsafe frames[Int(head)].isKnownZero
        unlink(number, order: found)
        while found > order {
          found &-= 1
          link(number | 1 << UInt64(found), order: found, isKnownZero: isKnownZero)
        }
        unsafe frames[Int(head)].kind = .unused
        count(-1 << order)
        return Block(number: number, isKnownZero: isKnownZero)
      }
      found &+= 1
    }
    guard let number = carve(1 << UInt64(order), alignment: 1 << UInt64(order)) else { return nil }
    return Block(number: number, isKnownZero: true)
  }

  /// Takes `length` frames that were never used, at a multiple of `alignment` (a power of two); the frames in front of
  /// it go to the lists.
  func carve(_ length: UInt64, alignment: UInt64) -> UInt64? {
    let untouched = unsafe zone.pointee.untouched
    let start = (untouched &+ alignment &- 1) & ~(alignment &- 1)
    let end = unsafe zone.pointee.end
    guard start <= end, length <= end &- start else { return nil }
    unsafe zone.pointee.untouched = start &+ length
    if start > untouched {
      count(-Int(start &- untouched))
      putRange(untouched, start, isKnownZero: true)
    }
    count(-Int(length))
    return start
  }

  /// Gives back a block, which becomes one with its buddy as often as that is free too.
  func put(_ block: UInt64, order startOrder: Int, isKnownZero startZero: Bool) {
    var number = block
    var order = startOrder
    var isKnownZero = startZero
    count(1 << order)
    while order < PhysicalMemory.maximumOrder {
      let size = UInt64(1) << UInt64(order)
      let buddy = number ^ size
      // Behind `untouched` nothing is in the lists, and reading the descriptor there would cost memory.
      guard unsafe buddy >= zone.pointee.first && buddy &+ size <= zone.pointee.untouched else { break }
      let descriptor = unsafe frames + Int(buddy)
      guard unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == order else { break }
      unlink(buddy, order: order)
      unsafe descriptor.pointee.kind = .unused
      unsafe frames[Int(number)].kind = .unused
      isKnownZero = unsafe isKnownZero && descriptor.pointee.isKnownZero
      number &= ~size
      order &+= 1
    }
    link(number, order: order, isKnownZero: isKnownZero)
  }

  /// Gives back any range of frames, as the largest aligned blocks that it consists of.
  func putRange(_ start: UInt64, _ end: UInt64, isKnownZero: Bool) {
    var number = start
    while number < end {
      var order = min(number.trailingZeroBitCount, PhysicalMemory.maximumOrder)
      while UInt64(1) << UInt64(order) > end &- number { order &-= 1 }
      put(number, order: order, isKnownZero: isKnownZero)
      number &+= 1 << UInt64(order)
    }
  }

  /// Takes a run that is longer than the largest block: adjacent free blocks of the largest order. O(zone).
  func takeRun(_ length: UInt64, alignment: UInt64) -> UInt64? {
    if let number = carve(length, alignment: alignment) { return number }
    let size = UInt64(1) << UInt64(PhysicalMemory.maximumOrder)
    let step = max(size, alignment)
    let limit = unsafe zone.pointee.untouched
    var start = unsafe (zone.pointee.first &+ step &- 1) & ~(step &- 1)
    search: while start < limit, length <= limit &- start {
      var number = start
      while number < start &+ length {
        let descriptor = unsafe frames + Int(number)
        guard unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == PhysicalMemory.maximumOrder
        else {
          start = (number &+ step) & ~(step &- 1)
          continue search
        }
        number &+= size
      }
      var isKnownZero = true
      number = start
      while number < start &+ length {
        isKnownZero = unsafe isKnownZero && frames[Int(number)].isKnownZero
        unlink(number, order: PhysicalMemory.maximumOrder)
        unsafe frames[Int(number)].kind = .unused
        count(-Int(size))
        number &+= size
      }
      putRange(start &+ length, number, isKnownZero: isKnownZero)
      return start
    }
    return nil
  }

  private func link(_ number: UInt64, order: Int, isKnownZero: Bool) {
    let descriptor = unsafe frames + Int(number)
    let head = unsafe zone.pointee.heads[order]
    unsafe descriptor.pointee.kind = .free
    unsafe descriptor.pointee.order = UInt8(truncatingIfNeeded: order)
    unsafe descriptor.pointee.isKnownZero = isKnownZero
    unsafe descriptor.pointee.next = head
    unsafe descriptor.pointee.previous = 0
    if head != 0 { unsafe frames[Int(head)].previous = UInt32(truncatingIfNeeded: number) }
    unsafe zone.pointee.heads[order] = UInt32(truncatingIfNeeded: number)
    unsafe zone.pointee.counts[order] &+= 1
  }

  private func unlink(_ number: UInt64, order: Int) {
    let next = unsafe frames[Int(number)].next
    let previous = unsafe frames[Int(number)].previous
    if previous != 0 { unsafe frames[Int(previous)].next = next } else { unsafe zone.pointee.heads[order] = next }
    if next != 0 { unsafe frames[Int(next)].previous = previous }
    unsafe zone.pointee.counts[order] &-= 1
  }

  @inline(__always) private func count(_ change: Int) {
    // Not a read-modify-write: only the holder of the lock writes.
    let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
    unsafe zone.pointee.freeFrames.store(free &+ change, ordering: .relaxed)
  }
}
