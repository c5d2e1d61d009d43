// The symbol table is read from a file that may be damaged: it names functions, or nothing.
import TestSupport
import Testing

@testable import Monitor

@Suite(.serialized) struct SymbolTableTests {
  /// The bytes of this test's own executable, which has a symbol table.
  private func mapped() throws -> UnsafeRawBufferPointer {
    SymbolTable.map(path: "/proc/self/exe")
    return try #require(unsafe SymbolTable.mapped)
  }

  @Test func `a function is named with the distance from its start`() throws {
    let table = try #require(unsafe SymbolTable(mapped()))
    var named = 0
    for address in stride(from: UInt64(0x1000), to: 0x40_0000, by: 0x1001) {
      if let name = table.name(of: address) {
        #expect(name.contains(" + 0x"))
        named += 1
      }
    }
    #expect(named > 0)
    #expect(table.name(of: .max) == nil)
  }

  @Test func `places and returns are looked up in functions of Swift and of assembly`() throws {
    try TestImage().bytes.withUnsafeBytes { bytes in
      let table = try #require(unsafe SymbolTable(bytes))
      #expect(table.name(of: 0x1040) == "first + 0x0")
      #expect(table.name(of: 0x104f) == "first + 0xf")
      #expect(table.name(of: 0x1050) == "FileSystem.OpenFile.close() -> () + 0x0")
      // The call before it was the last instruction of `first`.
      #expect(table.name(of: 0x1050, isReturn: true) == "first + 0x10")
      #expect(table.name(of: 0x1064) == "assembly + 0x4")
      #expect(table.name(of: 0x103f) == nil)
      #expect(table.name(of: 0, isReturn: true) == nil)
    }
  }

  @Test func `damaged section headers and symbols give no table or a harmless one`() throws {
    var random = SeededGenerator("damaged symbols")
    let values: [UInt64] = [0, 1, 0x2800, UInt64(Int64.max), UInt64(Int64.max) - 24, 1 << 63, .max, .max - 63]
    for _ in 0..<SeededGenerator.steps(5_000) {
      var image = TestImage()
      for _ in 0...random.below(3) {
        let place = random.below(8) == 0 ? 40 : 0x2200 + 8 * random.below(0x280 / 8)
        image.set(place, values[random.below(values.count)])
      }
      if random.below(4) == 0 { image.bytes.removeSubrange(random.below(image.bytes.count)...) }
      image.bytes.withUnsafeBytes { bytes in
        let table = unsafe SymbolTable(bytes)
        for address in [0, 0x1044, 0x1050, UInt64.max] {
          #expect(table?.name(of: address, isReturn: true) != "", "seed \(random.seed)")
        }
      }
    }
  }

  @Test func `lines without an address stay as they are`() throws {
    _ = try mapped()
    #expect(SymbolTable.annotated("nothing here\n") == "nothing here\n")
    #expect(SymbolTable.annotated("  at image+0x\n") == "  at image+0x\n")
    #expect(SymbolTable.annotated("  at image+0xffffffffffffffffff\n") == "  at image+0xffffffffffffffffff\n")
  }

  @Test func `damaged files give no table or a harmless one`() throws {
    var random = SeededGenerator("damaged files")
    let whole = try unsafe Array(mapped().prefix(4096))
    for _ in 0..<SeededGenerator.steps(2_000) {
      var bytes = Array(whole.prefix(random.below(4096)))
      for _ in 0..<4 where !bytes.isEmpty {
        bytes[random.below(min(bytes.count, 80))] = UInt8(truncatingIfNeeded: random.next())
      }
      bytes.withUnsafeBytes { buffer in
        let table = unsafe SymbolTable(buffer)
        #expect(table?.name(of: random.next() >> 33) != "", "seed \(random.seed)")
      }
    }
  }
}
