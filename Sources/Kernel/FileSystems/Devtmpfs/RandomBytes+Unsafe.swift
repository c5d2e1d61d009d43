// Random bytes in an array.

import KernelCore

enum RandomBytes {
  static func make(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    // SAFETY: the buffer is filled inside the closure.
    unsafe bytes.withUnsafeMutableBytes { unsafe Random.fill($0) }
    return bytes
  }
}
