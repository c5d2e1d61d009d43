// execve(2) without memory: each allocation of loading a program fails in turn, and nothing is lost.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Testing
import Tmpfs
import VirtualMemory

@testable import Process

@Suite(.serialized) struct ExecuteFailureTests {
  private static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(256 << 20))
    AddressSpace.userLimit = 0x7fff_f000_0000
    Tmpfs.register()
    return true
  }()

  /// An executable of two segments; the second one has initialised data that ends in the middle of a page, and zeros behind it.
  private static func program(interpreter: String?) -> [UInt8] {
    var bytes = [UInt8](repeating: 0x90, count: 0x3000)
    func put(_ value: UInt64, _ size: Int, _ offset: Int) {
      for index in 0..<size { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    }
    for index in 0..<0x200 { bytes[index] = 0 }
    put(0x464c_457f, 4, 0)
    (bytes[4], bytes[5], bytes[6]) = (2, 1, 1)
    for (value, size, offset) in [
      (3, 2, 16), (62, 2, 18), (1, 4, 20), (0x1040, 8, 24), (64, 8, 32), (64, 2, 52), (56, 2, 54),
      (interpreter == nil ? 2 : 3, 2, 56),
    ] { put(UInt64(value), size, offset) }
    func header(_ index: Int, _ type: UInt64, _ flags: UInt64, _ values: [UInt64]) {
      put(type, 4, 64 + index * 56)
      put(flags, 4, 64 + index * 56 + 4)
      for (place, value) in values.enumerated() { put(value, 8, 64 + index * 56 + 8 + 8 * place) }
    }
    // Offset, address (twice), size in the file and in memory, alignment.
    header(0, 1, 5, [0, 0, 0, 0x1800, 0x1800, 4096])
    header(1, 1, 6, [0x1e00, 0x2e00, 0x2e00, 0x400, 0x20_0900, 4096])
    if let interpreter {
      let text = Array(interpreter.utf8) + [0]
      header(2, 3, 4, [0x180, 0x180, 0x180, UInt64(text.count), UInt64(text.count), 1])
      bytes.replaceSubrange(0x180..<0x180 + text.count, with: text)
    }
    return bytes
  }

  private static func put(_ path: String, _ bytes: [UInt8], by caller: Caller) throws(Errno) {
    let file = try FileTree.open(ByteString(path), [.create, .writeOnly], permissions: 0o755, by: caller)
    file.acquire()
    defer { file.release() }
    _ = try file.writeBytes(bytes, at: nil)
  }

  /// All that execve(2) does before its point of no return.
  private static func load(_ name: String, _ arguments: ProgramArguments, by caller: Caller) throws(Errno) {
    let path = try PathWalk.resolve(ByteString(name), by: caller)
    let resolved = try ResolvedProgram(
      try ProgramFile.open(path, by: caller), fileName: ByteString(name), arguments: arguments, by: caller)
    _ = try ProgramLoader.load(
      resolved, limits: AddressSpaceLimits(), credentials: .root, isSecure: false,
      placement: ProgramPlacement(personality: ADDR_NO_RANDOMIZE), by: caller)
  }

  private static var freeFrames: Int {
    let statistics = MemoryStatistics.snapshot()
    return statistics.free + statistics.slab
  }

  @Test func `an exec in which an allocation fails, each in turn, loses nothing`() throws {
    #expect(Self.isPrepared)
    let superblock = try TmpfsSuperblock(options: try TmpfsOptions("size=16m,mode=755"))
    let namespace = MountNamespace(root: superblock)
    let root = namespace.rootPath
    let caller = Caller(credentials: .root, umask: 0, root: root, workingDirectory: root)
    try Self.put("/linker", Self.program(interpreter: nil), by: caller)
    try Self.put("/program", Self.program(interpreter: "/linker"), by: caller)
    try Self.put("/script", Array("#!/program -x\n".utf8), by: caller)
    // Arguments that fill more pages of the stack than one.
    let arguments = ProgramArguments(
      arguments: ["script"], environment: (0..<40).map { ByteString("\($0)=" + String(repeating: "v", count: 900)) })
    for name in ["/program", "/script"] {
      // What is made once and kept.
      try Self.load(name, arguments, by: caller)
      let before = VirtualMemoryStatistics.snapshot()
      let free = Self.freeFrames
      var failing = 0
      while failing < 1000 {
        AllocationFailure.fail(after: failing)
        var failure: Errno?
        do throws(Errno) { try Self.load(name, arguments, by: caller) } catch { failure = error }
        let hasFailed = AllocationFailure.stop()
        let after = VirtualMemoryStatistics.snapshot()
        #expect(after.addressSpaces == before.addressSpaces && after.areas == before.areas, "allocation \(failing)")
        #expect(after.anonymousPages == before.anonymousPages && after.pageTablePages == before.pageTablePages)
        #expect(after.committedPages == before.committedPages && after.cachedPages == before.cachedPages)
        #expect(Self.freeFrames == free, "allocation \(failing)")
        // EFAULT and ENOEXEC: no frame for the stack, or for the last page of the data, after all that memory pressure can do.
        let isExpected = [nil, .ENOMEM, .EFAULT, .ENOEXEC].contains(failure)
        #expect(isExpected, "allocation \(failing): \(String(describing: failure))")
        if !hasFailed {
          #expect(failure == nil)
          break
        }
        failing += 1
      }
      #expect(failing > 8 && failing < 1000, "\(failing) allocations")
      // Nobody holds the files any more.
      for file in ["/program", "/linker", "/script"] {
        let inode = try PathWalk.resolve(ByteString(file), by: caller).inode
        #expect(inode.writers.load(ordering: .relaxed) == 0)
      }
    }
  }
}
