// The first page of swap space, as mkswap(8) writes it (Linux: union swap_header): 1024 bytes for a boot block, then the
// description, and at the end of the page the signature.

import KernelCore
import LinuxABI
import PhysicalMemory

/// What the header of a swap area says, checked against the device.
struct SwapHeader {
  /// Pages of the area, the header among them.
  let pageCount: UInt64
  /// Pages that cannot be used.
  let badPages: [UInt64]

  private enum Place {
    static var version: Int { 1024 }
    static var lastPage: Int { 1028 }
    static var badCount: Int { 1032 }
    static var badPages: Int { 1536 }
    static var signature: Int { 4086 }
  }
  /// As many as there is room for.
  private static var mostBadPages: Int { (Place.signature - Place.badPages) / 4 }

  /// Reads a header that lies in `page`.
  ///
  /// - Throws: EINVAL when it is none, of another version or byte order, or describes more than the device has.
  init(_ page: PageFrameNumber, deviceSize: UInt64) throws(Errno) {
    // SAFETY: the caller holds the frame; all places lie within a page.
    let bytes = unsafe UnsafeRawBufferPointer(start: DirectMap.pointer(to: page), count: PhysicalMemory.pageSize)
    guard unsafe bytes[Place.signature...].elementsEqual("SWAPSPACE2".utf8) else { throw .EINVAL }
    func word(_ place: Int) -> UInt32 { unsafe bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self) }
    let badCount = Int(word(Place.badCount))
    pageCount = UInt64(word(Place.lastPage)) + 1
    guard word(Place.version) == 1, pageCount > 1, badCount <= Self.mostBadPages,
      pageCount <= deviceSize / UInt64(PhysicalMemory.pageSize)
    else { throw .EINVAL }
    badPages = (0..<badCount).map { UInt64(word(Place.badPages + 4 * $0)) }
    guard badPages.allSatisfy({ (1..<pageCount).contains($0) }) else { throw .EINVAL }
  }
}
