// Names, paths and text inside the kernel are bytes, as on Linux: no encoding is assumed, comparison is bytewise, and
// the Unicode tables of String stay out of hot paths.

/// A string of bytes.
public struct ByteString: Hashable, Comparable, ExpressibleByStringLiteral, Sendable {
  public var bytes: [UInt8]

  @inline(__always)
  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  @inline(__always)
  public init() { bytes = [] }

  @export(interface)
  public init(_ bytes: ArraySlice<UInt8>) { self.bytes = Array(bytes) }

  @export(interface)
  public init(_ text: StaticString) { bytes = text.bytes }

  @export(interface)
  public init(_ text: String) { bytes = Array(text.utf8) }

  @export(interface)
  public init(stringLiteral text: StaticString) { bytes = text.bytes }

  public var count: Int { bytes.count }
  public var isEmpty: Bool { bytes.isEmpty }
  /// For logs: the bytes as UTF-8, repaired.
  public var string: String { @export(interface) get { String(decoding: bytes, as: UTF8.self) } }

  @export(interface)
  public static func == (left: ByteString, right: ByteString) -> Bool { left.bytes == right.bytes }

  /// Bytewise order, shorter first when one is the other's beginning.
  @export(interface)
  public static func < (left: ByteString, right: ByteString) -> Bool {
    left.bytes.lexicographicallyPrecedes(right.bytes)
  }

  /// FNV-1a: names are short, and the hash needs no secret because tables that programs can fill are bounded.
  @export(interface)
  public func hash(into hasher: inout Hasher) {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    hasher.combine(hash)
  }

  @export(interface)
  public func hasPrefix(_ prefix: StaticString) -> Bool {
    guard bytes.count >= prefix.utf8CodeUnitCount else { return false }
    return prefix.isEqual(to: bytes.prefix(prefix.utf8CodeUnitCount))
  }

  @export(interface)
  public func hasSuffix(_ suffix: StaticString) -> Bool {
    guard bytes.count >= suffix.utf8CodeUnitCount else { return false }
    return suffix.isEqual(to: bytes.suffix(suffix.utf8CodeUnitCount))
  }

  @export(interface)
  public static func + (left: ByteString, right: ByteString) -> ByteString { ByteString(left.bytes + right.bytes) }

  @export(interface)
  public mutating func append(_ other: ByteString) { bytes.append(contentsOf: other.bytes) }

  /// The parts between separators; empty parts are kept.
  @export(interface)
  public func split(separator: UInt8) -> [ByteString] {
    bytes.split(separator: separator, omittingEmptySubsequences: false).map { ByteString($0) }
  }

  /// The bytes as a terminal or a log may show them: all but printable ASCII characters as `\xHH`, the backslash too. So a
  /// name can neither control the reader's terminal nor forge a line.
  public var printable: ByteString {
    @export(interface) get {
      func isPrintable(_ byte: UInt8) -> Bool { byte >= 0x20 && byte < 0x7f && byte != 0x5c }
      if bytes.allSatisfy(isPrintable) { return self }
      var text = TextBuffer(reserving: bytes.count + 16)
      for byte in bytes {
        if isPrintable(byte) {
          text.append(byte: byte)
        } else {
          text.append("\\x")
          text.append(hex: UInt64(byte), width: 2)
        }
      }
      return text.byteString
    }
  }

  /// The number that the bytes spell in decimal, nil for anything else or on overflow.
  @export(interface)
  public func decimal() -> UInt64? {
    guard !bytes.isEmpty else { return nil }
    var value: UInt64 = 0
    for byte in bytes {
      guard byte >= 0x30, byte <= 0x39 else { return nil }
      let (product, high) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(UInt64(byte &- 0x30))
      guard !high, !carry else { return nil }
      value = sum
    }
    return value
  }
}
