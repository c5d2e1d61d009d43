// Copies of small structures between user memory and byte arrays, for ioctl(2).

import KernelCore
import LinuxABI
import VirtualMemory

enum UserBytes {
  /// Copies `count` bytes in.
  ///
  /// - Throws: EFAULT.
  static func read(from address: UInt64, count: Int) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try unsafe bytes.withUnsafeMutableBufferPointer { memory throws(Errno) in
      guard let base = memory.baseAddress else { return }
      // SAFETY: the array has `count` bytes.
      try unsafe UserMemory.copyIn(from: address, count: count, to: base)
    }
    return bytes
  }

  /// Copies all of `bytes` out.
  ///
  /// - Throws: EFAULT.
  static func write(_ bytes: [UInt8], to address: UInt64) throws(Errno) {
    try unsafe bytes.withUnsafeBufferPointer { memory throws(Errno) in
      guard let base = memory.baseAddress else { return }
      // SAFETY: reads the array's bytes.
      try unsafe UserMemory.copyOut(to: address, from: base, count: memory.count)
    }
  }
}
