// The slots of one swap area: a word each, in page frames of 512.
//
//     63      57 56    55          32 31                    0
//     ┌─────────┬─────┬──────────────┬───────────────────────┐
//     │    0    │busy │  references  │ frame in swap cache   │     0: the slot is free
//     └─────────┴─────┴──────────────┴───────────────────────┘
//
// References are the page-table entries and object pages that name the slot. A frame stands here while the page is in
// memory as well: that is the *swap cache*. Busy: the page is being read or written; nobody else touches it.
//
// SAFETY: `chunks` holds the addresses of frames that the area allocated for itself, which live as long as the area. Every slot
// number is checked against `pageCount`. SwapSpace's lock protects everything.

import LinuxABI
import PhysicalMemory

/// What is known about a slot.
struct SwapSlot {
  fileprivate(set) var word: UInt64

  init() { word = 0 }
  fileprivate init(word: UInt64) { self.word = word }

  private static var busyBit: UInt64 { 1 << 56 }
  private static var countMask: UInt64 { (1 << 24 - 1) << 32 }

  var isFree: Bool { word == 0 }
  var references: Int {
    get { Int(truncatingIfNeeded: (word & Self.countMask) >> 32) }
    set { word = word & ~Self.countMask | UInt64(newValue) << 32 }
  }
  var isBusy: Bool {
    get { word & Self.busyBit != 0 }
    set { word = newValue ? word | Self.busyBit : word & ~Self.busyBit }
  }
  var frame: PageFrameNumber? {
    get {
      let number = word & 0xffff_ffff
      return number == 0 ? nil : PageFrameNumber(number)
    }
    set { word = word & ~0xffff_ffff | (newValue?.rawValue ?? 0) }
  }
}

/// A swap area in use.
final class SwapArea {
  let device: any SwapDevice
  let priority: Int
  let pageCount: Int
  /// Slots that can hold a page: all but the header.
  var capacity: Int { pageCount - 1 }
  private(set) var freeSlots: Int
  /// swapoff has begun: no more pages go there.
  var isClosing = false
  private var chunks: [PageFrameNumber] = []
  /// Where the search for free slots goes on: pages that leave memory together lie together.
  private var cursor = 1

  private static var slotsPerChunk: Int { 512 }

  /// - Throws: ENOMEM; EINVAL for an area with no room for a page.
  init(device: any SwapDevice, priority: Int) throws(Errno) {
    self.device = device
    self.priority = priority
    pageCount = min(device.swapPageCount, SwapEntry.maximumSlots)
    guard pageCount > 1 else { throw .EINVAL }
    freeSlots = pageCount - 1
    let chunkCount = (pageCount + Self.slotsPerChunk - 1) / Self.slotsPerChunk
    chunks.reserveCapacity(chunkCount)
    do throws(Errno) {
      for _ in 0..<chunkCount { chunks.append(try FrameAllocator.allocate(options: [.zeroed, .mayReclaim])) }
    } catch {
      for chunk in chunks { Frames.release(chunk) }
      chunks = []
      throw error
    }
  }

  deinit { for chunk in chunks { Frames.release(chunk) } }

  /// Whether the area has the slot; the header is none.
  func hasSlot(_ slot: Int) -> Bool { slot > 0 && slot < pageCount }

  private func place(_ slot: Int) -> UnsafeMutablePointer<UInt64> {
    precondition(hasSlot(slot))
    let chunk = unsafe Frames.pointer(chunks[slot / Self.slotsPerChunk]).assumingMemoryBound(to: UInt64.self)
    return unsafe chunk + slot % Self.slotsPerChunk
  }

  subscript(slot: Int) -> SwapSlot {
    get { unsafe SwapSlot(word: place(slot).pointee) }
    set {
      let place = unsafe place(slot)
      if unsafe place.pointee == 0, newValue.word != 0 { freeSlots -= 1 }
      if unsafe place.pointee != 0, newValue.word == 0 { freeSlots += 1 }
      unsafe place.pointee = newValue.word
    }
  }

  /// The next free slots: the first of them, and how many lie there in a row, at most `wanted`.
  func findFree(wanted: Int) -> (slot: Int, count: Int)? {
    guard freeSlots > 0 else { return nil }
    var slot = cursor
    for _ in 0..<pageCount {
      if slot >= pageCount { slot = 1 }
      if self[slot].isFree {
        var count = 1
        while count < wanted, slot + count < pageCount, self[slot + count].isFree { count += 1 }
        cursor = slot + count
        return (slot, count)
      }
      slot += 1
    }
    return nil
  }

  /// The next slot in use at or after `slot`.
  func nextUsed(from slot: Int) -> Int? {
    var slot = max(1, slot)
    while slot < pageCount {
      if !self[slot].isFree { return slot }
      slot += 1
    }
    return nil
  }
}
