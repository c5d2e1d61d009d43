// Reading ELF headers (System V ABI, chapters 4 and 5; x86-64 supplement). Everything in a file is a claim: all sums are
// checked, all counts bounded, before anything is mapped. Pure functions of bytes, fuzzed on the host.

import CLinuxABI
import LinuxABI

/// What the kernel needs to know of a program file.
struct ELFImage: Equatable {
  /// A part of the file to be mapped (PT_LOAD).
  struct Segment: Equatable {
    var address: UInt64
    var fileOffset: UInt64
    var fileSize: UInt64
    var memorySize: UInt64
    var flags: UInt32

    var isReadable: Bool { flags & 4 != 0 }
    var isWritable: Bool { flags & 2 != 0 }
    var isExecutable: Bool { flags & 1 != 0 }
    /// The first page, and the end of the last one.
    var pageStart: UInt64 { address & ~4095 }
    var pageEnd: UInt64 { (address + memorySize + 4095) & ~4095 }
  }

  /// Whether it may be loaded anywhere (ET_DYN).
  var isRelocatable = false
  var entry: UInt64 = 0
  var segments: [Segment] = []
  /// Where the path of the interpreter is in the file (PT_INTERP).
  var interpreter: Range<UInt64>?
  /// The address of the program headers in memory, 0 when no segment holds them.
  var headersAddress: UInt64 = 0
  var headerCount = 0
  /// PT_GNU_STACK asks for an executable stack.
  var needsExecutableStack = false
  /// The largest p_align of a segment, a power of two.
  var alignment: UInt64 = 4096

  /// The pages from the lowest segment to the highest.
  var span: Range<UInt64> {
    let start = segments.reduce(segments.first?.pageStart ?? 0) { min($0, $1.pageStart) }
    return start..<max(start, segments.reduce(0) { max($0, $1.pageEnd) })
  }

  static let headerSize = 64
  static let programHeaderSize = 56
  /// The longest interpreter path, with its final zero (PATH_MAX).
  static let interpreterLimit: UInt64 = 4096

  /// What the first 64 bytes say.
  struct Header: Equatable {
    var isRelocatable: Bool
    var entry: UInt64
    var tableOffset: UInt64
    var tableCount: Int
    var tableSize: Int { tableCount * ELFImage.programHeaderSize }
  }

  /// Checks the file header.
  ///
  /// - Throws: ENOEXEC for anything but an executable or a shared object for this processor.
  static func header(_ bytes: [UInt8]) throws(Errno) -> Header {
    let reader = ByteReader(bytes)
    guard bytes.count >= headerSize, reader.u32(0) == 0x464c_457f else { throw .ENOEXEC }
    // Class, byte order, version and OS ABI are not looked at, as on Linux: the machine below says them all.
    let type = reader.u16(16)
    guard type == 2 || type == 3, reader.u16(18) == 62 else { throw .ENOEXEC }
    let count = Int(reader.u16(56))
    guard Int(reader.u16(54)) == programHeaderSize, count >= 1, count * programHeaderSize <= 65536 else {
      throw .ENOEXEC
    }
    return Header(
      isRelocatable: type == 3, entry: reader.u64(24), tableOffset: reader.u64(32), tableCount: count)
  }

  /// Checks the program headers.
  ///
  /// - Parameter userLimit: the first address that programs may not use.
  /// - Throws: ENOEXEC for a file that cannot be mapped as it asks.
  static func parse(_ header: Header, table: [UInt8], userLimit: UInt64) throws(Errno) -> ELFImage {
    guard table.count >= header.tableSize else { throw .ENOEXEC }
    let reader = ByteReader(table)
    var image = ELFImage()
    image.isRelocatable = header.isRelocatable
    image.entry = header.entry
    image.headerCount = header.tableCount
    for index in 0..<header.tableCount {
      let base = index * programHeaderSize
      let flags = reader.u32(base + 4)
      let offset = reader.u64(base + 8)
      let fileSize = reader.u64(base + 32)
      switch reader.u32(base) {
      case 1:
        try image.add(
          Segment(
            address: reader.u64(base + 16), fileOffset: offset, fileSize: fileSize, memorySize: reader.u64(base + 40),
            flags: flags), alignment: reader.u64(base + 48), userLimit)
      case 3:
        // The first one counts. A name needs a character and its zero.
        guard image.interpreter == nil else { continue }
        guard fileSize >= 2, fileSize <= interpreterLimit else { throw .ENOEXEC }
        let (end, overflow) = offset.addingReportingOverflow(fileSize)
        guard !overflow else { throw .ENOEXEC }
        image.interpreter = offset..<end
      case 0x6474_e551: image.needsExecutableStack = flags & 1 != 0
      default: continue
      }
    }
    guard !image.segments.isEmpty else { throw .ENOEXEC }
    image.findHeaders(header)
    return image
  }

  private mutating func add(_ segment: Segment, alignment: UInt64, _ userLimit: UInt64) throws(Errno) {
    // An empty segment maps nothing.
    guard segment.memorySize != 0 else { return }
    guard segment.fileSize <= segment.memorySize else { throw .ENOEXEC }
    guard segment.address & 4095 == segment.fileOffset & 4095 else { throw .ENOEXEC }
    let (end, overflow) = segment.address.addingReportingOverflow(segment.memorySize)
    guard !overflow, end <= userLimit else { throw .ENOEXEC }
    guard !segment.fileOffset.addingReportingOverflow(segment.fileSize).overflow,
      segment.fileOffset <= UInt64(Int64.max) - segment.memorySize
    else { throw .ENOEXEC }
    // The ABI wants rising segments that do not overlap; Linux maps whatever there is, the later over the earlier.
    if alignment.nonzeroBitCount == 1, alignment <= 1 << 30 { self.alignment = max(self.alignment, alignment) }
    segments.append(segment)
  }

  private mutating func findHeaders(_ header: Header) {
    for segment in segments {
      guard header.tableOffset >= segment.fileOffset else { continue }
      let distance = header.tableOffset - segment.fileOffset
      if distance < segment.fileSize, segment.fileSize - distance >= UInt64(header.tableSize) {
        headersAddress = segment.address + distance
        return
      }
    }
  }
}

/// Little-endian numbers in an array of bytes; what lies beyond the end reads as zero.
struct ByteReader {
  private let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  private func number(_ offset: Int, _ size: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<size).reversed() {
      let position = offset + index
      value = value << 8 | (position < bytes.count ? UInt64(bytes[position]) : 0)
    }
    return value
  }

  func u16(_ offset: Int) -> UInt16 { UInt16(number(offset, 2)) }
  func u32(_ offset: Int) -> UInt32 { UInt32(number(offset, 4)) }
  func u64(_ offset: Int) -> UInt64 { number(offset, 8) }
}
