// Terminals process bytes one by one, so they copy small pieces of user buffers into arrays of their own.

import LinuxABI
import VirtualMemory

extension TransferBuffer {
  /// Takes up to `limit` bytes from the front.
  ///
  /// - Throws: EFAULT.
  mutating func takeBytes(limit: Int) throws(Errno) -> [UInt8] {
    let count = min(limit, remaining)
    var failure: Errno?
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { storage, initialized in
      initialized = 0
      guard count > 0, let base = storage.baseAddress else { return }
      do throws(Errno) {
        // SAFETY: the array provides `count` bytes, which copyIn fills before it returns.
        try unsafe copyIn(UnsafeMutableRawPointer(base), count: count)
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }
}
