// A word out of a transfer buffer.

import LinuxABI
import VirtualMemory

extension TransferBuffer {
  /// The next eight bytes as a little-endian number.
  mutating func copyInWord() throws(Errno) -> UInt64 {
    var value: UInt64 = 0
    try unsafe withUnsafeMutableBytes(of: &value) { memory throws(Errno) in
      guard let base = memory.baseAddress else { return }
      // SAFETY: `base` points to eight bytes.
      try unsafe copyIn(base, count: 8)
    }
    return value
  }
}
