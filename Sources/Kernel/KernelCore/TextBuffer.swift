// Builds text byte by byte: /proc files, traces, log lines. Cheaper than string interpolation, and explicit about bases
// and widths.

/// A growing buffer of text.
public struct TextBuffer {
  public private(set) var bytes: [UInt8] = []

  public init() {}

  @export(interface)
  public init(reserving capacity: Int) { bytes.reserveCapacity(capacity) }

  public var count: Int { bytes.count }
  public var byteString: ByteString { ByteString(bytes) }

  @export(interface)
  public mutating func append(_ text: StaticString) {
    bytes.append(literal: text)
  }

  @export(interface) @_disfavoredOverload
  public mutating func append(_ text: ByteString) { bytes.append(contentsOf: text.bytes) }

  @export(interface)
  public mutating func append(byte: UInt8) { bytes.append(byte) }

  @export(interface)
  public mutating func append(bytes more: [UInt8]) { bytes.append(contentsOf: more) }

  /// Decimal digits, right-aligned in `width` columns filled with `fill`.
  @export(interface)
  public mutating func append(decimal value: UInt64, width: Int = 0, fill: UInt8 = 0x20) {
    append(digitsOf: value, base: 10, width: width, fill: fill)
  }

  @export(interface)
  public mutating func append(decimal value: Int, width: Int = 0) {
    append(signed: Int64(value), width: width)
  }

  /// The numbers of the bits of a mask as a list of ranges, as CPUs and nodes are listed: "0-3,5".
  @export(interface)
  public mutating func append(rangesOf mask: UInt64) {
    let begin = count
    var bit = 0
    while bit < 64 {
      guard mask & (1 << UInt64(bit)) != 0 else {
        bit += 1
        continue
      }
      var end = bit
      while end < 63, mask & (1 << UInt64(end + 1)) != 0 { end += 1 }
      if count > begin { append(",") }
      append(decimal: bit)
      if end > bit {
        append("-")
        append(decimal: end)
      }
      bit = end + 1
    }
  }

  @export(interface)
  public mutating func append(signed value: Int64, width: Int = 0) {
    guard value < 0 else { return append(decimal: UInt64(value), width: width) }
    var digits = TextBuffer()
    digits.append(byte: 0x2d)
    digits.append(decimal: value.magnitude)
    pad(width - digits.count, with: 0x20)
    bytes.append(contentsOf: digits.bytes)
  }

  /// Lower-case hexadecimal digits without a prefix, filled with zeros to `width`.
  @export(interface)
  public mutating func append(hex value: UInt64, width: Int = 0, fill: UInt8 = 0x30) {
    append(digitsOf: value, base: 16, width: width, fill: fill)
  }

  @export(interface)
  public mutating func append(octal value: UInt64, width: Int = 0, fill: UInt8 = 0x30) {
    append(digitsOf: value, base: 8, width: width, fill: fill)
  }

  /// The text, left-aligned in `width` columns.
  @export(interface)
  public mutating func append(_ text: ByteString, leftAlignedIn width: Int) {
    append(text)
    pad(width - text.count, with: 0x20)
  }

  @export(interface)
  public mutating func pad(_ count: Int, with fill: UInt8) {
    if count > 0 { bytes.append(contentsOf: repeatElement(fill, count: count)) }
  }

  private mutating func append(digitsOf value: UInt64, base: UInt64, width: Int, fill: UInt8) {
    var rest = value
    let start = bytes.count
    repeat {
      let digit = UInt8(truncatingIfNeeded: rest % base)
      bytes.append(digit < 10 ? 0x30 &+ digit : 0x57 &+ digit)
      rest /= base
    } while rest != 0
    let missing = width - (bytes.count - start)
    pad(missing, with: fill)
    bytes[start...].reverse()
  }
}
