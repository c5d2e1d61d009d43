// The image loader: maps kernel.elf, a position-independent ELF file, anywhere in this process and applies its
// relocations. Any fault of the file is reported before any of its code runs.

import CMachine
import CMonitor
import Glibc

/// A kernel image in memory, with room for the ROM behind it.
@safe struct KernelImage {
  /// The image's link address 0 in this process. Nothing is mapped there; addresses in backtraces count from it.
  let bias: UInt
  /// The first byte of code, where the image's header is.
  let base: UInt
  let end: UInt
  let text: UnsafeMutableRawBufferPointer
  let romArea: UnsafeMutableRawBufferPointer
  let start: UInt
  let cpuEntry: UInt
  let kernelTrap: UInt

  private static let romSize = 64 << 10
  private static let largestImage: UInt64 = 256 << 20

  /// Maps the image at `path`.
  ///
  /// - Throws: a sentence that says what is wrong with the file.
  init(path: String) throws(MonitorFailure) {
    func wrong(_ what: String) -> MonitorFailure { MonitorFailure("\(path) is not a usable kernel image: \(what)") }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw MonitorFailure("cannot open the kernel image \(path): \(unsafe String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { throw wrong("not a file") }
    guard status.st_size > 0 else { throw wrong("it is empty") }
    let fileSize = UInt64(status.st_size)

    // SAFETY: both reads have the sizes of what they fill.
    var header = Elf64_Ehdr()
    let headerSize = MemoryLayout<Elf64_Ehdr>.size
    let got = unsafe withUnsafeMutableBytes(of: &header) { unsafe pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard got == headerSize else { throw wrong("it is truncated") }
    let identification = header.e_ident
    guard identification.0 == 0x7f, identification.1 == 0x45, identification.2 == 0x4c, identification.3 == 0x46,
      identification.4 == 2, identification.5 == 1, header.e_machine == UInt16(EM_X86_64),
      header.e_type == UInt16(ET_DYN)
    else { throw wrong("not a position-independent x86-64 ELF file") }
    let programHeaderSize = MemoryLayout<Elf64_Phdr>.size
    guard header.e_phentsize == programHeaderSize, header.e_phnum > 0, header.e_phnum <= 16 else {
      throw wrong("bad program headers")
    }
    var segments = [Elf64_Phdr](repeating: Elf64_Phdr(), count: Int(header.e_phnum))
    let tableSize = segments.count * programHeaderSize
    let tableRead = unsafe segments.withUnsafeMutableBytes {
      unsafe pread(descriptor, $0.baseAddress, tableSize, off_t(clamping: header.e_phoff))
    }
    guard tableRead == tableSize else { throw wrong("it is truncated") }

    let loads = segments.filter { $0.p_type == UInt32(PT_LOAD) }
    guard let first = loads.first, first.p_flags & UInt32(PF_X) != 0 else { throw wrong("no code at its beginning") }
    guard first.p_memsz >= UInt64(MemoryLayout<machine_image_header>.size) else { throw wrong("it is truncated") }
    var limit: UInt64 = 0
    for load in loads {
      let (end, overflow) = load.p_vaddr.addingReportingOverflow(load.p_memsz)
      let (fileEnd, fileOverflow) = load.p_offset.addingReportingOverflow(load.p_filesz)
      guard !overflow, !fileOverflow, fileEnd <= fileSize, load.p_filesz <= load.p_memsz, end <= Self.largestImage,
        load.p_vaddr >= limit, load.p_vaddr % 4096 == load.p_offset % 4096
      else { throw wrong("a segment lies outside the file or overlaps another") }
      // Each has pages of its own: it is mapped over whatever else was there.
      limit = (end + 4095) & ~4095
    }
    let textRange = 0..<Int64(first.p_memsz)

    // One reservation for the image and, behind it, the ROM, so that calls between them reach.
    let imageSize = Int(limit)
    let total = imageSize + Self.romSize
    guard let region = unsafe mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      unsafe region != MAP_FAILED
    else { throw MonitorFailure("no address space for the kernel image") }
    var isUsable = false
    defer { if !isUsable { unsafe munmap(region, total) } }
    for load in loads {
      try unsafe Self.map(load, of: descriptor, at: region, wrong: wrong)
    }
    let romStart = unsafe region + imageSize
    guard unsafe mprotect(romStart, Self.romSize, PROT_READ | PROT_WRITE | PROT_EXEC) == 0 else {
      throw MonitorFailure("the host does not allow executable memory for the ROM")
    }
    let image = unsafe UnsafeMutableRawBufferPointer(start: region, count: imageSize)
    if let dynamic = segments.first(where: { $0.p_type == UInt32(PT_DYNAMIC) }) {
      try unsafe Self.relocate(image, dynamic: dynamic, loads: loads, wrong: wrong)
    }
    // SAFETY: the first segment is mapped and was checked to hold the header.
    let place = unsafe image.loadUnaligned(fromByteOffset: Int(first.p_vaddr), as: machine_image_header.self)
    guard place.magic == MACHINE_IMAGE_MAGIC else { throw wrong("it has no Apus image header") }
    guard place.version == UInt64(MACHINE_VERSION) else {
      throw wrong("it was built for version \(place.version) of the machine interface, this is \(MACHINE_VERSION)")
    }
    guard textRange.contains(place.start), textRange.contains(place.cpu_entry), textRange.contains(place.kernel_trap)
    else {
      throw wrong("an entry point lies outside its code")
    }
    bias = UInt(bitPattern: region)
    base = bias + UInt(first.p_vaddr)
    end = bias + UInt(imageSize)
    unsafe text = UnsafeMutableRawBufferPointer(
      start: region + Int(first.p_vaddr), count: Int((first.p_memsz + 4095) & ~4095))
    unsafe romArea = UnsafeMutableRawBufferPointer(start: romStart, count: Self.romSize)
    start = base + UInt(place.start)
    cpuEntry = base + UInt(place.cpu_entry)
    kernelTrap = base + UInt(place.kernel_trap)
    isUsable = true
  }

  /// Makes the ROM, once it is written, unwritable: from then on no memory of the monitor is both writable and
  /// executable, except the kernel's code until the kernel has patched it.
  func sealROM() throws(MonitorFailure) {
    guard unsafe mprotect(romArea.baseAddress, romArea.count, PROT_READ | PROT_EXEC) == 0 else {
      throw MonitorFailure("the host does not allow executable memory for the ROM")
    }
  }

  /// Gives the memory back; nothing of the image may be in use.
  func unmap() {
    unsafe munmap(UnsafeMutableRawPointer(bitPattern: bias), romArea.count + Int(end - bias))
  }

  private static func map(
    _ load: Elf64_Phdr, of descriptor: Int32, at region: UnsafeMutableRawPointer, wrong: (String) -> MonitorFailure
  ) throws(MonitorFailure) {
    // Code stays writable until the kernel has patched its call sites (text_seal).
    let writable = load.p_flags & UInt32(PF_W | PF_X) != 0
    let protection = PROT_READ | (writable ? PROT_WRITE : 0) | (load.p_flags & UInt32(PF_X) != 0 ? PROT_EXEC : 0)
    let skew = Int(load.p_vaddr % 4096)
    let start = unsafe region + (Int(load.p_vaddr) - skew)
    let fileLength = Int(load.p_filesz) + skew
    let memoryLength = (Int(load.p_memsz) + skew + 4095) & ~4095
    let filePages = load.p_filesz == 0 ? 0 : (fileLength + 4095) & ~4095
    // SAFETY: the ranges lie in the reservation: the caller checked the segments against its size.
    if filePages > 0 {
      let mapped = unsafe mmap(
        start, filePages, protection | (filePages < memoryLength || load.p_filesz < load.p_memsz ? PROT_WRITE : 0),
        MAP_PRIVATE | MAP_FIXED, descriptor, off_t(load.p_offset) - off_t(skew))
      guard unsafe mapped != MAP_FAILED else { throw wrong("the host cannot map it (\(errno))") }
      // The rest of the last page belongs to the zeroed part.
      if load.p_memsz > load.p_filesz { unsafe memset(start + fileLength, 0, filePages - fileLength) }
    }
    if memoryLength > filePages {
      let mapped = unsafe mmap(
        start + filePages, memoryLength - filePages, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
      guard unsafe mapped != MAP_FAILED else { throw MonitorFailure("no memory for the kernel image") }
    }
  }

  /// Applies the relative relocations, the only kind that a position-independent static image has.
  ///
  /// The table is read, and words are written, only where a segment was mapped readable or writable: a damaged file
  /// must not make the monitor fault.
  private static func relocate(
    _ image: UnsafeMutableRawBufferPointer, dynamic: Elf64_Phdr, loads: [Elf64_Phdr], wrong: (String) -> MonitorFailure
  ) throws(MonitorFailure) {
    /// Whether `size` bytes at link address `address` lie in one segment that has the flags `flags`.
    func holds(_ address: UInt64, _ size: UInt64, _ flags: Int32 = 0) -> Bool {
      loads.contains { load in
        load.p_flags & UInt32(flags) == UInt32(flags) && address >= load.p_vaddr
          && address - load.p_vaddr <= load.p_memsz && size <= load.p_memsz - (address - load.p_vaddr)
      }
    }
    // SAFETY: called for offsets that `holds` has accepted: they lie in a mapped segment of the image.
    func word(_ offset: UInt64) -> UInt64 { unsafe image.loadUnaligned(fromByteOffset: Int(offset), as: UInt64.self) }

    guard holds(dynamic.p_vaddr, dynamic.p_memsz) else { throw wrong("its dynamic section lies outside of it") }
    var table: UInt64 = 0
    var size: UInt64 = 0
    for entry in 0..<dynamic.p_memsz / 16 {
      let tag = word(dynamic.p_vaddr + entry * 16)
      let value = word(dynamic.p_vaddr + entry * 16 + 8)
      if tag == DynamicTag.end { break }
      if tag == DynamicTag.relocations { table = value }
      if tag == DynamicTag.relocationsSize { size = value }
    }
    guard size == 0 || holds(table, size) else { throw wrong("its relocations lie outside of it") }
    let bias = UInt64(UInt(bitPattern: image.baseAddress))
    for entry in 0..<size / 24 {
      let place = word(table + entry * 24)
      let kind = word(table + entry * 24 + 8)
      let addend = word(table + entry * 24 + 16)
      guard kind == relativeRelocation, holds(place, 8, PF_W), addend <= UInt64(image.count) else {
        throw wrong("a relocation of kind \(kind) at \(place)")
      }
      // SAFETY: the place lies in a segment that is mapped writable.
      unsafe image.storeBytes(of: bias &+ addend, toByteOffset: Int(place), as: UInt64.self)
    }
  }

  // System V ABI, chapter 5, and its x86-64 supplement, section 4.4.
  private enum DynamicTag {
    static let end: UInt64 = 0
    static let relocations: UInt64 = 7
    static let relocationsSize: UInt64 = 8
  }
  private static let relativeRelocation: UInt64 = 8
}
