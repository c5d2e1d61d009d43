import Testing

@testable import KernelCore

@Suite struct TextTests {
  private func text(_ build: (inout TextBuffer) -> Void) -> String {
    var buffer = TextBuffer()
    build(&buffer)
    return buffer.byteString.string
  }

  @Test func `numbers are padded on the left`() {
    #expect(text { $0.append(decimal: UInt64(42), width: 5) } == "   42")
    #expect(text { $0.append(hex: 0xbeef, width: 8) } == "0000beef")
    #expect(text { $0.append(octal: 0o755) } == "755")
    #expect(text { $0.append(signed: -7, width: 4) } == "  -7")
    #expect(text { $0.append(signed: .min) } == "-9223372036854775808")
    #expect(text { $0.append(decimal: UInt64.max) } == "18446744073709551615")
  }

  @Test func `text is padded on the right`() {
    #expect(text { $0.append(ByteString("ab"), leftAlignedIn: 4) } == "ab  ")
    #expect(text { $0.append(ByteString("abcde"), leftAlignedIn: 4) } == "abcde")
  }

  @Test func `decimal refuses everything that is not a number of 64 bits`() {
    #expect(ByteString("18446744073709551615").decimal() == .max)
    #expect(ByteString("18446744073709551616").decimal() == nil)
    #expect(ByteString("").decimal() == nil)
    #expect(ByteString("-1").decimal() == nil)
    #expect(ByteString("1 ").decimal() == nil)
  }

  @Test func `byte strings compare bytewise`() {
    #expect(ByteString("a") < ByteString("ab"))
    #expect(ByteString([0xff]) > ByteString("z"))
    #expect(ByteString("a/b//c").split(separator: 0x2f) == ["a", "b", "", "c"])
    #expect(ByteString("lib.so").hasSuffix(".so") && !ByteString("so").hasSuffix(".so"))
  }
}

@Suite struct InstantTests {
  @Test func `time arithmetic saturates`() {
    #expect(Instant(nanoseconds: .max - 1).advanced(byNanoseconds: 2) == .never)
    #expect(Instant(nanoseconds: 5).nanoseconds(since: Instant(nanoseconds: 9)) == 0)
    #expect(Clock.instant(realtime: Nanoseconds(0)) <= .now())
  }
}
