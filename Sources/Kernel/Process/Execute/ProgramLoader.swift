// Mapping a program into a fresh address space: its segments, the interpreter's, the vDSO, the stack. Nothing of the old
// program is touched; if anything fails the new space is dropped and execve(2) returns the error.

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import VirtualMemory

/// A program in memory, ready to run.
struct LoadedProgram {
  var space: AddressSpace
  var entry: UInt64
  var stackPointer: UInt64
}

struct ProgramLoader {
  private let space: AddressSpace
  private let caller: Caller
  private let placement: ProgramPlacement

  /// Maps `resolved` into a new space.
  static func load(
    _ resolved: ResolvedProgram, limits: AddressSpaceLimits, credentials: Credentials, isSecure: Bool,
    placement: ProgramPlacement, by caller: Caller
  ) throws(Errno) -> LoadedProgram {
    let image = try resolved.program.image()
    var interpreter: (file: ProgramFile, image: ELFImage)?
    if let range = image.interpreter {
      let path = try PathWalk.resolve(try resolved.program.interpreterPath(range), by: caller)
      let file = try ProgramFile.open(path, by: caller)
      do throws(Errno) {
        interpreter = (file, try file.image())
      } catch {
        // execve(2): an interpreter that is no ELF file for this machine is ELIBBAD.
        throw error == .ENOEXEC ? .ELIBBAD : error
      }
    }
    let space = try AddressSpace.create(for: credentials.effectiveUser)
    space.limits = limits
    let loader = ProgramLoader(space: space, caller: caller, placement: placement)
    do throws(Errno) { return try loader.load(image, interpreter, resolved, credentials, isSecure) } catch {
      space.threadEnded()
      throw error
    }
  }

  private func load(
    _ image: ELFImage, _ interpreter: (file: ProgramFile, image: ELFImage)?, _ resolved: ResolvedProgram,
    _ credentials: Credentials, _ isSecure: Bool
  ) throws(Errno) -> LoadedProgram {
    let stackTop = placement.stackTop
    space.setMappingLayout(placement.mappings(stackLimit: space.limits.stack))
    let bias = try map(image, resolved.program.file, preferred: placement.programBase)
    var entry = image.entry &+ bias
    var base: UInt64 = 0
    if let interpreter {
      base = try map(interpreter.image, interpreter.file.file, preferred: 0)
      entry = interpreter.image.entry &+ base
    }
    recordLayout(image, bias, stackTop)
    let vdso = try VDSO.map(into: space)
    space.updateLayout { $0.vdso = vdso }
    let random = (Random.next(), Random.next())
    let stack = InitialStack(
      top: stackTop & ~4095, arguments: resolved.arguments, fileName: resolved.fileName, random: random
    ) { fileName, platform, random in
      var vector: [UInt64] = []
      func add(_ key: UInt64, _ value: UInt64) { vector += [key, value] }
      if vdso != 0 { add(33, vdso) }  // AT_SYSINFO_EHDR
      add(51, Task.largestSignalFrame)  // AT_MINSIGSTKSZ
      add(16, UInt64(machine_cpu_features()))  // AT_HWCAP
      add(6, pageSize)  // AT_PAGESZ
      add(17, 100)  // AT_CLKTCK
      add(3, image.headersAddress == 0 ? 0 : image.headersAddress &+ bias)  // AT_PHDR
      add(4, UInt64(ELFImage.programHeaderSize))  // AT_PHENT
      add(5, UInt64(image.headerCount))  // AT_PHNUM
      add(7, base)  // AT_BASE
      add(8, 0)  // AT_FLAGS
      add(9, image.entry &+ bias)  // AT_ENTRY
      add(11, UInt64(credentials.realUser))
      add(12, UInt64(credentials.effectiveUser))
      add(13, UInt64(credentials.realGroup))
      add(14, UInt64(credentials.effectiveGroup))
      add(23, isSecure ? 1 : 0)  // AT_SECURE
      add(25, random)  // AT_RANDOM
      add(26, 0)  // AT_HWCAP2
      add(31, fileName)  // AT_EXECFN
      add(15, platform)  // AT_PLATFORM
      add(0, 0)
      return vector
    }
    try mapStack(stack, top: stackTop & ~4095, isExecutable: image.needsExecutableStack)
    return LoadedProgram(space: space, entry: entry, stackPointer: stack.pointer)
  }

  // MARK: Segments

  /// Maps the segments of an image.
  ///
  /// - Parameter preferred: where to put a relocatable image; 0 leaves it to the space.
  /// - Returns: what to add to the image's addresses.
  private func map(_ image: ELFImage, _ file: OpenFile, preferred: UInt64) throws(Errno) -> UInt64 {
    let span = image.span
    var bias: UInt64 = 0
    if image.isRelocatable {
      // Reserve the whole span at once, with room for an alignment above that of pages.
      let length = span.upperBound - span.lowerBound
      let slack = image.alignment > pageSize ? image.alignment : 0
      guard let total = addChecked(length, slack), total <= AddressSpace.userLimit else { throw .ENOMEM }
      let start = try space.map(
        at: preferred, length: total, protection: [], flags: [.noReserve], object: nil)
      let aligned = (start &+ image.alignment &- 1) & ~(image.alignment &- 1)
      try space.unmap(start, total)
      bias = aligned &- (span.lowerBound & ~(image.alignment &- 1))
    }
    // The first segment must find its place free; the others may lie over it (as Linux maps them), for whatever else is
    // in the space lies outside the reserved span, or is the harm that the file does to itself.
    var placement: MappingFlags = .fixedNoReplace
    for segment in image.segments {
      try map(segment, bias, file, placement)
      placement = .fixed
    }
    return bias
  }

  private func addChecked(_ a: UInt64, _ b: UInt64) -> UInt64? {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? nil : sum
  }

  private func map(
    _ segment: ELFImage.Segment, _ bias: UInt64, _ file: OpenFile, _ placement: MappingFlags
  ) throws(Errno) {
    var protection: Protection = []
    if segment.isReadable { protection.insert(.read) }
    if segment.isWritable { protection.insert(.write) }
    if segment.isExecutable { protection.insert(.execute) }
    let address = segment.address &+ bias
    let start = address & ~4095
    let head = address & 4095
    let fileEnd = address &+ segment.fileSize
    let memoryEnd = (address &+ segment.memorySize &+ 4095) & ~4095
    var mappedEnd = start
    if segment.fileSize != 0 {
      let offset = segment.fileOffset - head
      let length = segment.fileSize + head
      let object = try file.mapping(offset: offset, length: length)
      _ = try space.map(
        at: start, length: length, protection: protection, flags: placement, object: object, offset: offset,
        source: FileMapping.source(of: file))
      mappedEnd = (fileEnd &+ 4095) & ~4095
      // The rest of the last page belongs to the zero-initialised data.
      if segment.memorySize > segment.fileSize, fileEnd & 4095 != 0, segment.isWritable {
        do throws(Errno) {
          try UserMemory.clear(at: fileEnd, count: Int(mappedEnd - fileEnd), in: space)
        } catch {
          throw error == .EFAULT ? .ENOEXEC : error
        }
      }
    }
    if memoryEnd > mappedEnd {
      _ = try space.map(
        at: mappedEnd, length: memoryEnd - mappedEnd, protection: protection, flags: placement, object: nil)
    }
  }

  // MARK: Layout, stack

  private func recordLayout(_ image: ELFImage, _ bias: UInt64, _ stackTop: UInt64) {
    var (startCode, endCode) = (UInt64.max, UInt64(0))
    var (startData, endData, end) = (UInt64(0), UInt64(0), UInt64(0))
    for segment in image.segments {
      let address = segment.address &+ bias
      if segment.isExecutable {
        startCode = min(startCode, address)
        endCode = max(endCode, address &+ segment.fileSize)
      }
      if segment.isWritable {
        startData = max(startData, address)
        endData = max(endData, address &+ segment.fileSize)
      }
      end = max(end, (address &+ segment.memorySize &+ 4095) & ~4095)
    }
    let startBreak = end &+ placement.breakGap
    space.updateLayout { layout in
      layout.startCode = startCode == .max ? 0 : startCode
      layout.endCode = endCode
      layout.startData = startData
      layout.endData = endData
      layout.startBreak = startBreak
      layout.currentBreak = startBreak
    }
  }

  private func mapStack(_ stack: InitialStack, top: UInt64, isExecutable: Bool) throws(Errno) {
    let used = top &- (stack.pointer & ~4095)
    let size = used &+ 32 * pageSize
    let protection: Protection = isExecutable ? .all : [.read, .write]
    _ = try space.map(
      at: top &- size, length: size, protection: protection, flags: [.fixedNoReplace, .growsDown, .stack], object: nil)
    try UserMemory.copyOut(to: stack.pointer, stack.bytes, in: space)
    space.updateLayout { layout in
      layout.startStack = stack.pointer
      layout.argumentStart = stack.argumentStart
      layout.argumentEnd = stack.argumentEnd
      layout.environmentStart = stack.argumentEnd
      layout.environmentEnd = stack.environmentEnd
      layout.auxiliaryVector = stack.auxiliaryVector
    }
  }
}
