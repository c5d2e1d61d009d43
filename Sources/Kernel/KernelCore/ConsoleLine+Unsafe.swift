// Lines for the machine's console that need no memory: a panic, an oops and the report of a stuck CPU are printed with locks
// of the heap or the log held, or when memory is gone. The text is built on the stack.

import Machine

/// A line for the console in a buffer of fixed size. What does not fit is cut off.
public struct ConsoleLine: ~Copyable {
  private var bytes = InlineArray<256, UInt8>(repeating: 0)
  private var count = 0

  @export(interface)
  public init(_ text: StaticString = "") { append(text) }

  @export(interface)
  public mutating func append(_ text: StaticString) {
    // SAFETY: a literal's bytes live as long as the image.
    text.withUTF8Buffer { literal in
      for index in 0..<literal.count { unsafe append(byte: literal[index]) }
    }
  }

  @export(interface)
  public mutating func append(decimal value: UInt64) { append(value, base: 10) }

  @export(interface)
  public mutating func append(decimal value: Int) {
    if value < 0 { append(byte: 0x2d) }
    append(UInt64(value.magnitude), base: 10)
  }

  @export(interface)
  public mutating func append(hex value: UInt64) { append(value, base: 16) }

  /// Writes the line and its end to the console at once.
  @export(interface)
  public consuming func print() {
    append(byte: 0x0a)
    bytes[count &- 1] = 0x0a
    // SAFETY: the machine reads `count` bytes of the buffer before it returns.
    unsafe withUnsafePointer(to: &bytes) { buffer in
      unsafe machine_console_write(UnsafeRawPointer(buffer).assumingMemoryBound(to: UInt8.self), UInt64(count))
    }
  }

  private mutating func append(byte: UInt8) {
    guard count < 256 else { return }
    bytes[count] = byte
    count &+= 1
  }

  private mutating func append(_ value: UInt64, base: UInt64) {
    var divisor: UInt64 = 1
    while value / divisor >= base { divisor &*= base }
    while divisor > 0 {
      let digit = UInt8(truncatingIfNeeded: value / divisor % base)
      append(byte: digit < 10 ? 0x30 &+ digit : 0x57 &+ digit)
      divisor /= base
    }
  }
}
