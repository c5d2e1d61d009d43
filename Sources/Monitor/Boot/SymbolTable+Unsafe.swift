// Names for the addresses in the kernel's backtraces. The kernel prints offsets into its image; the image's own symbol
// table says which function each of them lies in. The file is mapped when the machine starts, because a confined monitor can
// open nothing later, and read only when a backtrace appears.

import CMonitor
import Glibc

/// The functions of a kernel image, by address.
@safe struct SymbolTable {
  private struct Function {
    var start: UInt64
    var size: UInt64
    /// Offset of the NUL-terminated name in the file.
    var name: Int
  }

  private let file: UnsafeRawBufferPointer
  private var functions: [Function] = []

  /// The table of the machine that this process runs: mapped at its start.
  nonisolated(unsafe) static var mapped: UnsafeRawBufferPointer?

  /// Maps the image file, so that its symbols can be read when a backtrace appears; without it backtraces stay numbers.
  static func map(path: String) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var status = stat()
    // SAFETY: the mapping is private, as long as the file was when it was made, and stays for the life of the process.
    guard unsafe fstat(descriptor, &status) == 0, status.st_size > 0,
      let start = unsafe mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0),
      unsafe start != MAP_FAILED
    else { return }
    unsafe mapped = UnsafeRawBufferPointer(start: start, count: Int(status.st_size))
  }

  /// Reads the functions of the symbol tables; nil when the file has none that makes sense.
  init?(_ file: UnsafeRawBufferPointer) {
    unsafe self.file = unsafe file
    guard let header = unsafe Self.load(Elf64_Ehdr.self, from: file, at: 0),
      header.e_shentsize == MemoryLayout<Elf64_Shdr>.size
    else { return nil }
    func section(_ index: UInt32) -> Elf64_Shdr? {
      guard index < header.e_shnum else { return nil }
      return unsafe Self.load(Elf64_Shdr.self, from: file, at: header.e_shoff, index: UInt64(index))
    }
    /// Where the sections of code end; 0 for other sections.
    let codeEnds = (0..<UInt32(header.e_shnum)).map { index in
      guard let section = section(index), section.sh_flags & UInt64(SHF_EXECINSTR) != 0 else { return UInt64(0) }
      return section.sh_addr &+ section.sh_size
    }
    for index in 0..<UInt32(header.e_shnum) {
      guard let table = section(index), table.sh_type == UInt32(SHT_SYMTAB), let strings = section(table.sh_link)
      else { continue }
      for entry in 0..<table.sh_size / UInt64(MemoryLayout<Elf64_Sym>.size) {
        guard let symbol = unsafe Self.load(Elf64_Sym.self, from: file, at: table.sh_offset, index: entry) else {
          break
        }
        // Routines in assembly may have neither a type nor a size: then they reach to the next one.
        let kind = symbol.st_info & 15
        guard kind == UInt8(STT_FUNC) || kind == UInt8(STT_NOTYPE), Int(symbol.st_shndx) < codeEnds.count,
          codeEnds[Int(symbol.st_shndx)] > symbol.st_value
        else { continue }
        let size = symbol.st_size != 0 ? symbol.st_size : codeEnds[Int(symbol.st_shndx)] - symbol.st_value
        let (name, overflow) = strings.sh_offset.addingReportingOverflow(UInt64(symbol.st_name))
        guard !overflow, name < UInt64(file.count) else { continue }
        functions.append(Function(start: symbol.st_value, size: size, name: Int(name)))
      }
    }
    if functions.isEmpty { return nil }
    functions.sort { $0.start < $1.start }
  }

  /// The function at a link address as `name + 0x12`, demangled when it is Swift's.
  ///
  /// - Parameter isReturn: the address is where a call returns to, which may lie behind the end of the caller: a call that
  ///   never returns can be its last instruction.
  func name(of address: UInt64, isReturn: Bool = false) -> String? {
    guard !isReturn || address > 0 else { return nil }
    let sought = isReturn ? address - 1 : address
    var low = 0
    var high = functions.count
    while low < high {
      let middle = (low + high) / 2
      if functions[middle].start <= sought { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return nil }
    let function = functions[low - 1]
    guard sought - function.start < function.size else { return nil }
    let offset = address - function.start
    return unsafe "\(demangled(text(at: function.name))) + 0x\(String(offset, radix: 16))"
  }

  private func text(at offset: Int) -> String {
    let bytes = unsafe file[offset...].prefix(2048).prefix { $0 != 0 }
    return unsafe String(decoding: bytes, as: UTF8.self)
  }

  private func demangled(_ name: String) -> String {
    // SAFETY: the runtime's demangler returns NULL or a string that the caller frees; both pointers last for the call.
    unsafe name.withCString { mangled in
      guard let result = unsafe swiftDemangle(mangled, UInt(name.utf8.count), nil, nil, 0) else { return name }
      defer { unsafe free(result) }
      return unsafe String(cString: result)
    }
  }

  /// The structure number `index` of those from `start` on, when it lies in the file.
  private static func load<T: BitwiseCopyable>(
    _: T.Type, from file: UnsafeRawBufferPointer, at start: UInt64, index: UInt64 = 0
  ) -> T? {
    let (distance, tooFar) = index.multipliedReportingOverflow(by: UInt64(MemoryLayout<T>.size))
    let (offset, overflow) = start.addingReportingOverflow(distance)
    guard !tooFar, !overflow, file.count >= MemoryLayout<T>.size, offset <= UInt64(file.count - MemoryLayout<T>.size)
    else { return nil }
    // SAFETY: the structure ends within the buffer.
    return unsafe file.loadUnaligned(fromByteOffset: Int(offset), as: T.self)
  }
}

@_silgen_name("swift_demangle")
private func swiftDemangle(
  _ name: UnsafePointer<CChar>, _ length: UInt, _ buffer: UnsafeMutablePointer<CChar>?,
  _ size: UnsafeMutablePointer<UInt>?, _ flags: UInt32
) -> UnsafeMutablePointer<CChar>?

extension SymbolTable {
  /// A line of the kernel's log with the function's name behind `image+0x…`; the line itself when there is none.
  ///
  /// `at image+0x…` is the place of a trap, `from image+0x…` a return address.
  static func annotated(_ line: String) -> String {
    guard let file = unsafe mapped, let mark = line.firstRange(of: "image+0x") else { return line }
    let digits = line[mark.upperBound...].prefix { $0.isHexDigit }
    let isReturn = line[..<mark.lowerBound].hasSuffix("from ")
    guard let address = UInt64(digits, radix: 16), let table = unsafe SymbolTable(file),
      let name = table.name(of: address, isReturn: isReturn)
    else { return line }
    return line[..<digits.endIndex] + "  " + name + line[digits.endIndex...]
  }
}
