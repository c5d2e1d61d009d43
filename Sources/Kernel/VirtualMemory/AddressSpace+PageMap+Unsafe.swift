// What /proc/PID/pagemap tells of pages: whether they are in memory, where, and whether others have them.
//
// SAFETY: slots are read under the lock of the tables that they are in.

import KernelCore
import LinuxABI
import PhysicalMemory

/// The bits of a page's word (admin-guide/mm/pagemap of the Linux documentation).
private enum PageMapBits {
  /// Only one page table holds the page.
  static var exclusive: UInt64 { 1 << 56 }
  /// It belongs to a file, or to shared memory.
  static var object: UInt64 { 1 << 61 }
  static var swapped: UInt64 { 1 << 62 }
  static var present: UInt64 { 1 << 63 }
}

extension AddressSpace {
  /// Pages that a program's addresses can name.
  public static var userPages: UInt64 {
    @export(interface) get { userLimit / pageSize }
  }

  /// The words of `pages`, by number, as bytes in the processor's order. What lies in a table that others may have too, as after
  /// fork(2), is never exclusive.
  ///
  /// - Parameter showsFrames: whether frame numbers are shown.
  @export(interface)
  public func pageMap(_ pages: Range<UInt64>, showsFrames: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: pages.count * 8)
    tables.withLock { tables in
      unsafe tables.forEachPlace(pages.lowerBound &* pageSize, pages.upperBound &* pageSize) {
        address, slot, place in
        let entry = unsafe PageTableEntry(word: slot.pointee)
        guard !entry.isEmpty else { return }
        let word = Self.word(entry, isInCommon: place.isInCommon, showsFrames: showsFrames)
        let start = Int(address / pageSize &- pages.lowerBound) * 8
        for byte in 0..<8 { bytes[start + byte] = UInt8(truncatingIfNeeded: word >> UInt64(byte * 8)) }
      }
    }
    return bytes
  }

  private static func word(_ entry: PageTableEntry, isInCommon: Bool, showsFrames: Bool) -> UInt64 {
    if entry.isSwapped {
      let place = entry.swapEntry
      return PageMapBits.swapped | UInt64(place.area) | UInt64(place.slot) << 5
    }
    var word = PageMapBits.present
    if showsFrames { word |= entry.frame.rawValue }
    if entry.isObjectPage { word |= PageMapBits.object }
    // The object of a page holds it, too.
    if !isInCommon, entry.isCounted, Frames.users(entry.frame) == (entry.isObjectPage ? 2 : 1) {
      word |= PageMapBits.exclusive
    }
    return word
  }
}
