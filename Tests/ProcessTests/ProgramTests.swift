import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import Process

@Suite struct ProgramTests {
  private static let limit: UInt64 = 0x7fff_ffff_f000

  /// A small, correct executable: two segments, an interpreter, a stack note.
  private static func sample() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64 + 4 * 56)
    func put(_ value: UInt64, _ size: Int, _ offset: Int) {
      for index in 0..<size { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    }
    put(0x464c_457f, 4, 0)
    (bytes[4], bytes[5], bytes[6]) = (2, 1, 1)
    put(3, 2, 16)
    put(62, 2, 18)
    put(1, 4, 20)
    put(0x1040, 8, 24)
    put(64, 8, 32)
    put(64, 2, 52)
    put(56, 2, 54)
    put(4, 2, 56)
    func header(
      _ index: Int, _ type: UInt64, _ flags: UInt64, _ offset: UInt64, _ address: UInt64, _ file: UInt64,
      _ memory: UInt64, _ alignment: UInt64
    ) {
      let base = 64 + index * 56
      put(type, 4, base)
      put(flags, 4, base + 4)
      for (place, value) in [(8, offset), (16, address), (24, address), (32, file), (40, memory), (48, alignment)] {
        put(value, 8, base + place)
      }
    }
    header(0, 3, 4, 0x200, 0x200, 28, 28, 1)
    header(1, 1, 5, 0, 0, 0x1800, 0x1800, 4096)
    header(2, 1, 6, 0x1e00, 0x2e00, 0x400, 0x900, 4096)
    header(3, 0x6474_e551, 6, 0, 0, 0, 0, 16)
    return bytes
  }

  private static func parse(_ bytes: [UInt8]) throws(Errno) -> ELFImage {
    let header = try ELFImage.header(bytes)
    let start = Int(clamping: header.tableOffset)
    guard start <= bytes.count, header.tableSize <= bytes.count - start else { throw .ENOEXEC }
    return try ELFImage.parse(header, table: Array(bytes[start..<(start + header.tableSize)]), userLimit: limit)
  }

  @Test func `a correct file is understood`() throws {
    let image = try Self.parse(Self.sample())
    #expect(image.isRelocatable && image.entry == 0x1040 && image.segments.count == 2)
    #expect(image.interpreter == 0x200..<0x21c)
    #expect(image.headersAddress == 64 && image.headerCount == 4)
    #expect(!image.needsExecutableStack)
    #expect(image.span == 0..<0x4000)
  }

  @Test func `headers that lie are refused`() {
    func refuses(_ change: (inout [UInt8]) -> Void) -> Bool {
      var bytes = Self.sample()
      change(&bytes)
      do throws(Errno) {
        _ = try Self.parse(bytes)
        return false
      } catch {
        return error == .ENOEXEC
      }
    }
    let second = 64 + 2 * 56
    // Class, byte order and version mean nothing beside the machine, on Linux either.
    #expect(!refuses { ($0[4], $0[5], $0[6]) = (1, 2, 0) })
    #expect(refuses { $0[0] = 0 })
    #expect(refuses { $0[18] = 3 })
    #expect(refuses { $0[16] = 1 })
    #expect(refuses { $0[56] = 0 })
    #expect(refuses { ($0[56], $0[57]) = (0xff, 0xff) })
    #expect(refuses { $0[54] = 57 })
    #expect(refuses { $0.removeLast(100) })
    // Memory smaller than the file's part; misaligned; beyond the limit; a size that wraps around.
    #expect(
      refuses {
        $0[second + 40] = 1; $0[second + 41] = 0
      })
    #expect(refuses { $0[second + 8] = 1 })
    #expect(refuses { $0[second + 23] = 0x80 })
    #expect(refuses { for index in 40..<48 { $0[second + index] = 0xff } })
  }

  @Test func `segments may overlap and fall`() throws {
    var bytes = Self.sample()
    let second = 64 + 2 * 56
    bytes[second + 17] = 0x0e
    let image = try Self.parse(bytes)
    #expect(image.segments[1].address < image.segments[0].address + image.segments[0].memorySize)
    #expect(image.span.contains(image.segments[0].address) && image.span.contains(image.segments[1].address))
  }

  /// Parsing either fails or gives an image that is safe to map.
  @Test func `mutated files never trap and never leave the user's addresses`() {
    var random = SeededGenerator("mutated programs")
    let original = Self.sample()
    var accepted = 0
    for _ in 0..<SeededGenerator.steps(20_000) {
      var bytes = original
      for _ in 0...(random.next() % 4) {
        let place = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 3 {
        case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes[place] ^= 1 << UInt8(random.next() % 8)
        default:
          for index in place..<min(place + 8, bytes.count) { bytes[index] = random.next() % 2 == 0 ? 0xff : 0 }
        }
      }
      if random.next() % 16 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
      guard let image = try? Self.parse(bytes) else { continue }
      accepted += 1
      var end: UInt64 = 0
      for segment in image.segments {
        #expect(segment.fileSize <= segment.memorySize, "seed \(random.seed)")
        #expect(segment.address >= image.span.lowerBound, "seed \(random.seed)")
        end = max(end, segment.address + segment.memorySize)
        #expect(end <= Self.limit, "seed \(random.seed)")
      }
      #expect(image.span.upperBound >= end && image.alignment.nonzeroBitCount == 1, "seed \(random.seed)")
    }
    #expect(accepted > 1000)
  }

  private func script(_ text: StaticString) throws(Errno) -> ScriptHeader? { try ScriptHeader(ByteString(text).bytes) }

  @Test func `a script's first line names an interpreter and at most one argument`() throws {
    #expect(try script("echo") == nil)
    #expect(try script("#!/bin/sh\n") == ScriptHeader(interpreter: "/bin/sh", argument: nil))
    #expect(try script("#! \t/bin/sh  -e  -x \t\nrest") == ScriptHeader(interpreter: "/bin/sh", argument: "-e  -x"))
    #expect(try script("#!/bin/sh") == ScriptHeader(interpreter: "/bin/sh", argument: nil))
    #expect(throws: Errno.ENOEXEC) { try script("#!\n") }
    #expect(throws: Errno.ENOEXEC) { try script("#!   \n") }
    let long = [UInt8]("#!/".utf8) + [UInt8](repeating: 0x61, count: 300)
    #expect(throws: Errno.ENOEXEC) { try ScriptHeader(long) }
  }

  @Test func `the initial stack is laid out as the ABI says`() {
    let arguments = ProgramArguments(arguments: ["ls", "-l"], environment: ["A=1"])
    let top: UInt64 = 0x7fff_0000_0000
    let stack = InitialStack(top: top, arguments: arguments, fileName: "/bin/ls", random: (1, 2)) {
      fileName, platform, random in [31, fileName, 15, platform, 25, random, 0, 0]
    }
    #expect(stack.pointer % 16 == 0)
    #expect(UInt64(stack.bytes.count) == top - stack.pointer)
    let reader = ByteReader(stack.bytes)
    func word(_ index: Int) -> UInt64 { reader.u64(index * 8) }
    func string(_ address: UInt64) -> ByteString {
      ByteString(Array(stack.bytes[Int(address - stack.pointer)...].prefix { $0 != 0 }))
    }
    #expect(word(0) == 2 && word(3) == 0 && word(5) == 0)
    #expect(string(word(1)) == "ls" && string(word(2)) == "-l" && string(word(4)) == "A=1")
    #expect(word(6) == 31 && string(word(7)) == "/bin/ls")
    #expect(word(8) == 15 && string(word(9)) == "x86_64")
    #expect(word(10) == 25 && word(11) % 16 == 0 && reader.u64(Int(word(11) - stack.pointer)) == 1)
    #expect(stack.argumentStart == word(1) && stack.argumentEnd == word(4))
  }
}

extension ScriptHeader {
  init(interpreter: ByteString, argument: ByteString?) {
    self = try! ScriptHeader(
      [UInt8]("#!".utf8) + interpreter.bytes + (argument.map { [0x20] + $0.bytes } ?? []) + [0x0a])!
  }
}
