// Integers in the answers of system calls.

extension [UInt8] {
  /// Appends the bytes of an integer, the lowest first.
  mutating func append<Number: FixedWidthInteger & BitwiseCopyable>(number: Number) {
    // SAFETY: the bytes are copied during the call.
    unsafe Swift.withUnsafeBytes(of: number.littleEndian) { unsafe append(contentsOf: $0) }
  }
}
