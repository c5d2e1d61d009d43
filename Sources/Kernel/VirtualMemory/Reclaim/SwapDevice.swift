// Where pages go that have no file of their own: what a device must offer to be a swap area, and how a page in it is named.

import KernelCore
import LinuxABI
import PhysicalMemory

/// A device that keeps pages. The room of block devices implements it; tests have one in memory.
///
/// Both transfers may sleep, and come from a thread that frees memory because there is none: an implementation allocates
/// from the reserve only (`AllocationOptions.reserved`), and takes no lock under which a thread waits for memory. The frames stay
/// where they are during the call, and nobody changes them.
public protocol SwapDevice: AnyObject {
  /// The path that /proc/swaps shows and that swapoff(2) is given.
  var swapName: ByteString { get }
  /// Pages that the area holds. Slot 0 is the header (mkswap(8)) and never used.
  var swapPageCount: Int { get }
  /// Whether the area is a file of a file system; otherwise it is a partition or a whole device.
  var isSwapFile: Bool { get }

  /// Reads the pages of neighbouring slots from `slot` on.
  func readSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno)
  /// Writes the pages of neighbouring slots from `slot` on; returns when they are on the device.
  func writeSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno)
}

/// The name of a page on a swap area: three bits for the area, 26 for the slot.
struct SwapEntry: Hashable {
  /// Never 0, since slot 0 is a header.
  let rawValue: UInt64

  static var slotBits: UInt64 { 26 }
  static var maximumAreas: Int { 8 }
  /// 256 GiB of pages each.
  static var maximumSlots: Int { 1 << 26 }

  @inline(__always)
  init(rawValue: UInt64) { self.rawValue = rawValue }
  @inline(__always)
  init(area: Int, slot: Int) { rawValue = UInt64(area) << Self.slotBits | UInt64(slot) }

  var area: Int { Int(truncatingIfNeeded: rawValue >> Self.slotBits) }
  var slot: Int { Int(truncatingIfNeeded: rawValue & (1 << Self.slotBits - 1)) }

  /// The entry `count` slots further on.
  func advanced(by count: Int) -> SwapEntry { SwapEntry(rawValue: rawValue &+ UInt64(bitPattern: Int64(count))) }
}
