// The bytes of a small write, as an array.

import FileSystem
import LinuxABI
import VirtualMemory

extension KernelBuffer {
  /// Takes `count` bytes, which the buffer has, from its front.
  ///
  /// - Throws: EFAULT.
  static func take(_ count: Int, from buffer: inout TransferBuffer) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try unsafe bytes.withUnsafeMutableBufferPointer { memory throws(Errno) in
      guard let base = memory.baseAddress else { return }
      // SAFETY: the array has `count` bytes.
      try unsafe buffer.copyIn(base, count: count)
    }
    return bytes
  }
}
