// Transfers between files and memory of the kernel: sendfile, splice, copy_file_range, reading a program's headers.

import KernelCore
import LinuxABI
import VirtualMemory

/// Kernel memory as the source or target of a transfer.
public enum KernelBuffer {
  /// Runs `body` with a transfer buffer that supplies `bytes` (for `write`).
  @export(interface)
  public static func withBytes(
    of bytes: [UInt8], _ body: (inout TransferBuffer) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    var copy = bytes
    return try unsafe copy.withUnsafeMutableBufferPointer { memory throws(Errno) in
      // SAFETY: the buffer is used inside the closure only.
      var buffer = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(memory))
      return try body(&buffer)
    }
  }

  /// Collects up to `count` bytes that `body` puts into a transfer buffer (for `read`); `body` returns how many.
  @export(interface)
  public static func collect(
    _ count: Int, _ body: (inout TransferBuffer) throws(Errno) -> Int
  ) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let filled = try unsafe bytes.withUnsafeMutableBufferPointer { memory throws(Errno) in
      // SAFETY: as above.
      var buffer = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(memory))
      return try body(&buffer)
    }
    if filled < count { bytes.removeLast(count - max(0, filled)) }
    return bytes
  }
}

extension OpenFile {
  /// Up to `count` bytes from `offset` on.
  @export(interface)
  public final func readBytes(at offset: UInt64?, count: Int) throws(Errno) -> [UInt8] {
    try KernelBuffer.collect(count) { buffer throws(Errno) in try read(&buffer, at: offset) }
  }

  /// Writes `bytes`, at `offset` or the position.
  /// - Returns: how many were written.
  @export(interface)
  public final func writeBytes(_ bytes: [UInt8], at offset: UInt64?) throws(Errno) -> Int {
    try KernelBuffer.withBytes(of: bytes) { buffer throws(Errno) in try write(&buffer, at: offset) }
  }
}
