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

  @export(interface)
  public static func next() -> UInt64 {
    var value: UInt64 = 0
    unsafe withUnsafeMutableBytes(of: &value) { unsafe fill($0) }
    return value
  }
}
