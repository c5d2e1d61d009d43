// A kernel image made by hand: the smallest file that the loader accepts, and every field of it open to damage.
//
//   file 0x0000  ELF header, program headers
//        0x1000  code: the Apus header, one routine            loaded at 0x1000
//        0x2000  dynamic section, one relocation, a word       loaded at 0x2000, with 0x1000 bytes of zeros behind
//        0x2200  section headers, symbols, names               not loaded

import Glibc

struct TestImage {
  /// Places of fields in the file.
  enum Field {
    static let fileClass = 4
    static let type = 16
    static let machine = 18
    static let programHeaders = 32
    static let programHeaderSize = 54
    static let programHeaderCount = 56
    static let code = 64
    static let data = 64 + 56
    static let dynamic = 64 + 2 * 56
    static let flags = 4
    static let offset = 8
    static let address = 16
    static let fileSize = 32
    static let memorySize = 40
    static let header = 0x1000
    static let relocation = 0x2040
    static let dynamicTable = 0x2000
    static let sections = 0x2200
    static let symbols = 0x2400
    static let names = 0x2600
  }
  static let word: UInt64 = 0x2100
  static let addend: UInt64 = 0x1040

  var bytes = [UInt8](repeating: 0, count: 0x2800)

  init() {
    bytes.replaceSubrange(0..<8, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0])
    set(Field.type, UInt16(3))
    set(Field.machine, UInt16(62))
    set(20, UInt32(1))
    set(24, UInt64(0x1028))
    set(Field.programHeaders, UInt64(64))
    set(40, UInt64(Field.sections))
    set(52, UInt16(64))
    set(Field.programHeaderSize, UInt16(56))
    set(Field.programHeaderCount, UInt16(3))
    set(58, UInt16(64))
    set(60, UInt16(4))
    program(Field.code, type: 1, flags: 5, place: 0x1000, file: 0x100, memory: 0x100)
    program(Field.data, type: 1, flags: 6, place: 0x2000, file: 0x200, memory: 0x1200)
    program(Field.dynamic, type: 2, flags: 6, place: 0x2000, file: 0x40, memory: 0x40)
    // The Apus header: magic, version, start, cpu_entry, kernel_trap.
    for (index, value) in [0x4547_414d_4955_5041, 1, 0x40, 0x50, 0x60].enumerated() {
      set(Field.header + 8 * index, UInt64(value))
    }
    // DT_RELA, DT_RELASZ, DT_NULL, and a relative relocation of the word.
    for (index, value) in [7, 0x2040, 8, 24, 0, 0].enumerated() { set(Field.dynamicTable + 8 * index, UInt64(value)) }
    for (index, value) in [Self.word, 8, Self.addend].enumerated() { set(Field.relocation + 8 * index, value) }
    symbols()
  }

  /// Functions `first` (0x1040, 16 bytes), a Swift function (0x1050, 16 bytes), and the routine `assembly` (0x1060).
  private mutating func symbols() {
    section(1, type: 1, flags: 6, place: 0x1000, size: 0x100, link: 0)
    section(2, type: 2, flags: 0, place: UInt64(Field.symbols), size: 5 * 24, link: 3)
    section(3, type: 3, flags: 0, place: UInt64(Field.names), size: 0x100, link: 0)
    let names = "\0first\0$e10FileSystem8OpenFileC5closeyyF\0assembly\0variable\0"
    bytes.replaceSubrange(Field.names..<Field.names + names.utf8.count, with: names.utf8)
    symbol(1, name: "first", type: 2, section: 1, 0x1040, size: 16)
    symbol(2, name: "$e10", type: 2, section: 1, 0x1050, size: 16)
    symbol(3, name: "assembly", type: 0, section: 1, 0x1060, size: 0)
    symbol(4, name: "variable", type: 1, section: 2, 0x1048, size: 8)
  }

  mutating func set<T: FixedWidthInteger>(_ place: Int, _ value: T) {
    for index in 0..<T.bitWidth / 8 { bytes[place + index] = UInt8(truncatingIfNeeded: value >> T(8 * index)) }
  }

  private mutating func program(_ at: Int, type: UInt32, flags: UInt32, place: UInt64, file: UInt64, memory: UInt64) {
    set(at, type)
    set(at + Field.flags, flags)
    set(at + Field.offset, place)
    set(at + Field.address, place)
    set(at + Field.fileSize, file)
    set(at + Field.memorySize, memory)
  }

  private mutating func section(_ index: Int, type: UInt32, flags: UInt64, place: UInt64, size: UInt64, link: UInt32) {
    let at = Field.sections + index * 64
    set(at + 4, type)
    set(at + 8, flags)
    set(at + 16, flags & 2 != 0 ? place : 0)
    set(at + 24, place)
    set(at + 32, size)
    set(at + 40, link)
  }

  private mutating func symbol(_ index: Int, name: String, type: UInt8, section: UInt16, _ value: UInt64, size: UInt64)
  {
    let at = Field.symbols + index * 24
    let names = bytes[Field.names...]
    let place = names.indices.first { names[$0...].starts(with: name.utf8) }!
    set(at, UInt32(place - Field.names))
    set(at + 4, type)
    set(at + 6, section)
    set(at + 8, value)
    set(at + 16, size)
  }

  /// Calls `body` with a path under which the bytes can be opened.
  static func withFile<R>(_ bytes: [UInt8], _ body: (String) throws -> R) throws -> R {
    var name = Array("/tmp/apus-image-XXXXXX".utf8CString)
    let descriptor = mkstemp(&name)
    defer { close(descriptor) }
    unlink(name)
    guard descriptor >= 0, write(descriptor, bytes, bytes.count) == bytes.count else { throw POSIXFailure(errno) }
    return try body("/proc/self/fd/\(descriptor)")
  }

  struct POSIXFailure: Error {
    var code: Int32
    init(_ code: Int32) { self.code = code }
  }
}
