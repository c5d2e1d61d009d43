// The first page of swap space, as mkswap(8) writes it (Linux: union swap_header): 1024 bytes for a boot block, then the
// description, and at the end of the page the signature.

import KernelCore
import LinuxABI
import PhysicalMemory

/// What the header of a swap area says, checked against the device.
struct SwapHeader {
  /// Pages of the area, the header among them.
  let pageCount: UInt64

  private enum Place {
    static var version: Int { 1024 }
    static var lastPage: Int { 1028 }
    static var badPages: Int { 1032 }
    static var signature: Int { 4086 }
  }

  /// Reads a header that lies in `page`.
  ///
  /// - Throws: EINVAL when it is none, of another version or byte order, describes more than the device has, or lists
  ///   pages that are bad.
  init(_ page: PageFrameNumber, deviceSize: UInt64) throws(Errno) {
    // SAFETY: the caller holds the frame; all places lie within a page.
    let bytes = unsafe UnsafeRawBufferPointer(start: DirectMap.pointer(to: page), count: PhysicalMemory.pageSize)
    guard unsafe bytes[Place.signature...].elementsEqual("SWAPSPACE2".utf8) else { throw .EINVAL }
    func word(_ place: Int) -> UInt32 { unsafe bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self) }
    pageCount = UInt64(word(Place.lastPage)) + 1
    guard word(Place.version) == 1, pageCount > 1, word(Place.badPages) == 0,
      pageCount <= deviceSize / UInt64(PhysicalMemory.pageSize)
    else { throw .EINVAL }
  }
}
