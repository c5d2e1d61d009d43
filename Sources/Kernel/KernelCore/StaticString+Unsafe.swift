// Literals as bytes. A StaticString shows its text through a pointer; everything that the kernel does with it is here.

extension StaticString {
  /// The literal's bytes, copied.
  var bytes: [UInt8] {
    // SAFETY: a literal's bytes live as long as the image.
    withUTF8Buffer { unsafe Array($0) }
  }

  /// Whether these bytes are the literal's.
  func isEqual(to bytes: ArraySlice<UInt8>) -> Bool {
    // SAFETY: as above.
    withUTF8Buffer { unsafe bytes.elementsEqual($0) }
  }
}

extension [UInt8] {
  /// Appends the literal's bytes.
  @inline(__always)
  mutating func append(literal text: StaticString) {
    // SAFETY: a literal's bytes live as long as the image.
    text.withUTF8Buffer { unsafe append(contentsOf: $0) }
  }
}
