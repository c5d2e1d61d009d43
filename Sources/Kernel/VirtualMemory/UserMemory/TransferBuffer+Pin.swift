// Direct input and output: instead of copying, a transfer pins the user pages that are next and gives their frames to a
// device.

import KernelCore
import LinuxABI
import PhysicalMemory

/// Frames that are held for a device.
public struct PinnedMemory {
  fileprivate(set) var runs: [PinnedRun] = []
  /// Bytes of the buffer that they stand for.
  public fileprivate(set) var byteCount = 0

  /// Ends the pin. Once, when the device has finished.
  @export(interface)
  public func release() { AddressSpace.unpin(runs) }
}

extension TransferBuffer {
  /// Pins pages from the front of the buffer on and adds their memory to `list`, as far as both limits allow. The buffer does
  /// not advance: `consume` does, when the device has moved the data.
  ///
  /// - Parameter access: `.write` if the device is going to write.
  /// - Throws: EFAULT, ENOMEM, each only when nothing was pinned.
  @export(interface)
  public func pin(
    into list: inout SegmentList, segments: Int, bytes: Int, for access: Access
  ) throws(Errno) -> PinnedMemory {
    var pinned = PinnedMemory()
    try forEachUserPiece { space, address, count throws(Errno) in
      let wanted = min(count, bytes - list.byteCount)
      var walked = 0
      do throws(Errno) {
        walked = try space.pinPages(address, wanted, for: access) { page in
          let start = page.frame.physicalAddress + UInt64(page.offset)
          if list.count >= segments, list.needsSegment(for: start, length: page.count) { return false }
          list.append(start, length: page.count)
          if page.isPinned { pinned.runs.appendPage(page.frame) }
          return true
        }
      } catch {
        if pinned.byteCount == 0 { throw error }
      }
      pinned.byteCount += walked
      return walked == count
    }
    return pinned
  }

  /// The pinned part of the buffer is done.
  @export(interface)
  public mutating func consume(_ pinned: PinnedMemory) { consume(pinned, count: pinned.byteCount) }

  /// The first `count` bytes of the pinned part are done.
  @export(interface)
  public mutating func consume(_ pinned: PinnedMemory, count: Int) {
    precondition(count >= 0 && count <= pinned.byteCount)
    // Nothing can fail: the bytes are there, and none is touched.
    do throws(Errno) { try skip(count) } catch { panic("more was pinned than a buffer has") }
  }
}
