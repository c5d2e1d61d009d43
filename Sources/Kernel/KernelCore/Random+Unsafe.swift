// Random numbers from the machine: the host's getrandom(2), or RDRAND.

import Machine

/// The kernel's source of random bytes, fit for keys.
public enum Random {
  /// Fills `buffer` with random bytes.
  @export(interface)
  public static func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    // SAFETY: the machine writes `count` bytes into the buffer.
    if let base = buffer.baseAddress { unsafe machine_random(base, UInt64(buffer.count)) }
  }

  /// Makes `bytes` an array of `count` random bytes, in the place that it has.
  @export(interface)
  public static func fill(_ bytes: inout [UInt8], count: Int) {
    if bytes.count > count { bytes.removeLast(bytes.count - count) }
    while bytes.count < count { bytes.append(0) }
    // SAFETY: the buffer is filled inside the closure.
    unsafe bytes.withUnsafeMutableBytes { unsafe fill($0) }
  }

  @export(interface)
  public static func next() -> UInt64 {
    var value: UInt64 = 0
    unsafe withUnsafeMutableBytes(of: &value) { unsafe fill($0) }
    return value
  }
}
