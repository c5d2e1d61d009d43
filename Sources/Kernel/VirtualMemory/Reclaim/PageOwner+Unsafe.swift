// What reclaim keeps in a frame's descriptor: who can find the page-table entries that show the frame, and the page's
// name on a swap area.
//
//     owner    a number in the table of owners (ReverseMap): a family of address spaces, or a memory object
//     index    63                35 34                 0
//              ┌───────────────────┬────────────────────┐      anonymous memory: the page's address / 4096
//              │ swap entry or 0   │ page               │      object pages: the page within the object
//              └───────────────────┴────────────────────┘
//
// SAFETY: the owner field holds a small number in the place of a pointer; nobody follows it.

import PhysicalMemory

extension FrameFlags {
  /// On one of reclaim's lists.
  static var listed: FrameFlags { FrameFlags(rawValue: FrameAllocator.listedFlag) }
  /// Has a slot on a swap area: the swap cache has a reference to it.
  static var swapCached: FrameFlags { FrameFlags(rawValue: 1 << 17) }
  /// Reclaim came by while the page was dirty: it is taken as soon as it is clean.
  static var wantedClean: FrameFlags { FrameFlags(rawValue: 1 << 19) }
  /// Can leave memory only to a swap area: anonymous memory, and pages of objects without a store.
  static var swapBacked: FrameFlags { FrameFlags(rawValue: 1 << 18) }
}

enum PageOwner {
  private static var pageBits: UInt64 { 35 }
  private static var pageMask: UInt64 { 1 << 35 - 1 }

  /// Notes who shows the frame and where. Keeps the swap entry.
  @inline(__always)
  static func set(_ frame: PageFrameNumber, owner: OwnerNumber, page: UInt64) {
    let frame = frame.frame
    let index = frame.index & ~pageMask | page & pageMask
    unsafe frame.setOwner(UnsafeRawPointer(bitPattern: UInt(owner.rawValue)), index: index)
  }

  static func owner(_ frame: PageFrameNumber) -> OwnerNumber {
    unsafe OwnerNumber(rawValue: UInt32(truncatingIfNeeded: UInt(bitPattern: frame.frame.owner)))
  }

  static func page(_ frame: PageFrameNumber) -> UInt64 { frame.frame.index & pageMask }

  /// Without SwapSpace's lock the page may leave the cache meanwhile: then the entry names no slot, or another page's.
  static func swapEntry(_ frame: PageFrameNumber) -> SwapEntry? {
    guard frame.frame.flags.contains(.swapCached) else { return nil }
    return SwapEntry(rawValue: frame.frame.index >> pageBits)
  }

  /// Under SwapSpace's lock.
  static func setSwapEntry(_ entry: SwapEntry?, of frame: PageFrameNumber) {
    let frame = frame.frame
    unsafe frame.setOwner(frame.owner, index: frame.index & pageMask | (entry?.rawValue ?? 0) << pageBits)
    if entry != nil { frame.set(.swapCached) } else { frame.clear([.swapCached, .dirty]) }
  }
}

/// A place in the table of owners; 0 is nobody.
struct OwnerNumber: Equatable {
  var rawValue: UInt32
  static var none: OwnerNumber { OwnerNumber(rawValue: 0) }
}
