// O_DIRECT on files of the host: data moves between the host and pinned pages, and the cache agrees with both.

import DeviceTestSupport
import FileSystem
import Foundation
import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtioFS
@testable import VirtualMemory

@Suite(.serialized) struct DirectTests {
  /// Memory of a program.
  private struct Program {
    let space: AddressSpace
    let address: UInt64
    static let size = 1 << 20

    init() throws {
      DeviceBus.prepare()
      if AddressSpace.userLimit == 0 { AddressSpace.userLimit = 0x7fff_f000_0000 }
      space = try AddressSpace.create()
      address = try space.map(
        at: 0, length: UInt64(Self.size), protection: [.read, .write], flags: [], object: nil)
    }

    func buffer(_ offset: Int, _ count: Int) -> TransferBuffer {
      TransferBuffer(user: address + UInt64(offset), count: count, in: space)
    }
    func put(_ bytes: [UInt8], at offset: Int) throws {
      try UserMemory.copyOut(to: address + UInt64(offset), bytes, in: space)
    }
    func bytes(_ offset: Int, _ count: Int) throws -> [UInt8] {
      try UserMemory.copyIn(from: address + UInt64(offset), count: count, in: space)
    }
    /// Whether any page is pinned still.
    var hasPins: Bool {
      space.tables.withLock { tables in
        stride(from: address, to: address + UInt64(Self.size), by: 4096).contains {
          let entry = tables.entry($0)
          return entry.isCounted && Frames.isPinned(entry.frame)
        }
      }
    }
  }

  private static func read(_ file: Inode, _ offset: Int, _ count: Int) throws -> [UInt8] {
    try KernelBuffer.collect(count) { buffer throws(Errno) in try file.read(at: UInt64(offset), &buffer) }
  }

  @Test func `direct and cached transfers, truncation and the host agree on a file`() throws {
    let host = HostDirectory()
    host.write("file", "")
    let file = try Harness.mount(host.path).rootInode.walk("file")
    let program = try Program()
    var random = SeededGenerator("direct")
    var model: [UInt8] = []
    func place(_ offset: Int, _ bytes: [UInt8]) {
      if model.count < offset + bytes.count {
        model += [UInt8](repeating: 0, count: offset + bytes.count - model.count)
      }
      model.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
    for step in 0..<SeededGenerator.steps(300) {
      let offset = random.below(600) * 512
      // Memory anywhere, also across more pages than a request has room for.
      let memory = random.below(20_000)
      switch random.below(6) {
      case 0, 1:
        let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: (1 + random.below(600)) * 512)
        try program.put(bytes, at: memory)
        var buffer = program.buffer(memory, bytes.count)
        #expect(try file.writeDirectly(at: UInt64(offset), &buffer) == bytes.count)
        place(offset, bytes)
      case 2, 3:
        let count = (1 + random.below(600)) * 512
        var buffer = program.buffer(memory, count)
        let read = try file.readDirectly(at: UInt64(offset), &buffer)
        #expect(read == max(0, min(count, model.count - offset)))
        if read > 0 { #expect(try program.bytes(memory, read) == Array(model[offset..<offset + read])) }
      case 4:
        let odd = offset + random.below(512)
        let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: ~step), count: 1 + random.below(9000))
        let written = try KernelBuffer.withBytes(of: bytes) { buffer throws(Errno) in
          try file.write(at: UInt64(odd), &buffer)
        }
        #expect(written == bytes.count)
        place(odd, bytes)
      default:
        let size = random.below(400_000)
        try file.setAttributes(AttributeChange(size: UInt64(size)))
        if size < model.count {
          model.removeLast(model.count - size)
        } else {
          model += [UInt8](repeating: 0, count: size - model.count)
        }
      }
      let start = random.below(model.count + 1)
      let part = Array(model[start..<min(model.count, start + 10_000)])
      #expect(try Self.read(file, start, part.count) == part)
      #expect(try file.size() == UInt64(model.count))
    }
    #expect(FileManager.default.contents(atPath: host.file("file")).map { Array($0) } == model)
    #expect(!program.hasPins)
  }

  @Test func `places and lengths are multiples of 512, but a file's last bytes can be read`() throws {
    let host = HostDirectory()
    host.write("file", [UInt8](repeating: 7, count: 1000))
    let file = try Harness.mount(host.path).rootInode.walk("file")
    let program = try Program()
    func read(_ offset: UInt64, _ count: Int) throws -> Int {
      var buffer = program.buffer(1, count)
      return try file.readDirectly(at: offset, &buffer)
    }
    #expect(try read(0, 4096) == 1000)
    #expect(try read(512, 512) == 488)
    #expect(try read(1000, 512) == 0 && read(1024, 512) == 0 && read(1001, 511) == 0)
    #expect(errno { try read(1, 512) } == .EINVAL)
    #expect(errno { try read(0, 511) } == .EINVAL)
    var buffer = program.buffer(0, 100)
    #expect(errno { try file.writeDirectly(at: 0, &buffer) } == .EINVAL)
    #expect(file.directAlignment == 512)
  }

  @Test func `a file that the host cuts short ends a read early, and leaves memory behind that alone`() throws {
    let host = HostDirectory()
    host.write("file", [UInt8](repeating: 7, count: 1 << 20))
    // The kernel believes the old size for an hour.
    let file = try Harness.mount(host.path, validSeconds: 3600).rootInode.walk("file")
    let program = try Program()
    truncate(host.file("file"), 200_000)
    try program.put([UInt8](repeating: 9, count: 1 << 20), at: 0)
    var buffer = program.buffer(0, 1 << 20)
    #expect(try file.readDirectly(at: 0, &buffer) == 200_000)
    #expect(buffer.remaining == (1 << 20) - 200_000)
    #expect(try program.bytes(199_999, 3) == [7, 9, 9])
    #expect(!program.hasPins)
  }

  @Test func `memory that is not there ends a transfer, and what was pinned before is not any more`() throws {
    let host = HostDirectory()
    host.write("file", [UInt8](repeating: 7, count: 8192))
    let file = try Harness.mount(host.path).rootInode.walk("file")
    let program = try Program()
    let pieces = [(program.address, 4096), (0x1000 as UInt64, 4096)]
    var buffer = TransferBuffer(userVectors: pieces, in: program.space)
    #expect(try file.readDirectly(at: 0, &buffer) == 4096)
    #expect(errno { try file.readDirectly(at: 4096, &buffer) } == .EFAULT)
    buffer = TransferBuffer(userVectors: pieces, in: program.space)
    #expect(try file.writeDirectly(at: 8192, &buffer) == 4096)
    #expect(errno { try file.writeDirectly(at: 12_288, &buffer) } == .EFAULT)
    #expect(try file.size() == 12_288)
    #expect(!program.hasPins)
  }
}
