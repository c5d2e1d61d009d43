// The kernel's disk driver against the monitor's disk, in one process.

import DeviceTestSupport
import Devices
import FileSystem
import Foundation
import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing
import Virtio
import VirtualMemory

@testable import Block
@testable import VirtioBlock

/// A file of the host, removed at the end.
private final class HostFile {
  let path = NSTemporaryDirectory() + "apus-disk-\(UUID().uuidString)"
  init(_ bytes: [UInt8]) { FileManager.default.createFile(atPath: path, contents: Data(bytes)) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  var bytes: [UInt8] { Array(FileManager.default.contents(atPath: path) ?? Data()) }
}

@Suite(.serialized) struct VirtioBlockTests {
  nonisolated(unsafe) private static var found = 0

  private func attach(_ file: HostFile, isReadOnly: Bool = false) throws -> VirtioDisk {
    DeviceBus.prepare()
    DeviceBus.add(Disk(try HostDisk(path: file.path, isReadOnly: isReadOnly), identifier: "test")) {
      Interrupts.handle(2 << UInt64($0))
    }
    let device = VirtioDevice.all(kind: VirtioDevice.Kind.block).last!
    Self.found += 1
    return try VirtioDisk(
      device, DiskConfiguration(device)!, name: "vd", number: DeviceNumber(major: 254, minor: UInt32(Self.found)))
  }

  @Test func `disks are named as elsewhere`() {
    #expect(
      [0, 1, 25, 26, 27, 701, 702].map { VirtioBlock.name($0).string } == [
        "vda", "vdb", "vdz", "vdaa", "vdab", "vdzz", "vdaaa",
      ])
  }

  @Test func `a disk has the size and the rights of its file`() throws {
    let file = HostFile([UInt8](repeating: 3, count: 10_000))
    let disk = try attach(file)
    #expect(disk.sectorCount == 19 && !disk.isReadOnly && disk.limits.segments == 126)
    #expect(disk.limits.discardSectors > 0 && disk.limits.logicalBlockSize == 512)
    #expect { try HostDisk(path: file.path, isReadOnly: false) } throws: { ($0 as? HostDisk.Failure)?.code == EBUSY }
    let other = HostFile([UInt8](repeating: 3, count: 8192))
    let readOnly = try attach(other, isReadOnly: true)
    #expect(readOnly.isReadOnly)
    let io = BlockIO()
    io.prepare(.write, sector: 0)
    #expect(throws: Errno.EROFS) { try readOnly.perform(io) }
    _ = try HostDisk(path: other.path, isReadOnly: true)
  }

  @Test func `bytes go to the file and come back through the page cache`() throws {
    let file = HostFile([UInt8](repeating: 0, count: 1 << 20))
    let disk = try attach(file)
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 / 3) }
    _ = try KernelBuffer.withBytes(of: bytes) { buffer throws(Errno) in try disk.content.write(at: 1000, &buffer) }
    try disk.content.writeBack()
    try disk.flush()
    #expect(Array(file.bytes[1000..<301_000]) == bytes)
    disk.content.invalidate()
    let back = try KernelBuffer.collect(300_000) { buffer throws(Errno) in try disk.content.read(at: 1000, &buffer) }
    #expect(back == bytes)
    try disk.change(.discard, sector: 8, count: 16)
    #expect(file.bytes[4096..<12_288].allSatisfy { $0 == 0 } && file.bytes[12_288] == bytes[11_288])
    try disk.change(.clear, sector: 1, count: 1)
    #expect(file.bytes[512..<1024].allSatisfy { $0 == 0 })
  }

  @Test func `an error of the host is the transfer's`() throws {
    let file = HostFile([UInt8](repeating: 1, count: 1 << 20))
    let disk = try attach(file)
    #expect(truncate(file.path, 4096) == 0)
    #expect(throws: Errno.EIO) {
      _ = try KernelBuffer.collect(100) { buffer throws(Errno) in try disk.content.read(at: 1 << 19, &buffer) }
    }
  }

  /// More transfers at once than the disk takes, from several threads, against a model; the disk answers some at once and
  /// some from its threads (flushes and discards always).
  @Test func `whatever is asked of it at once, a disk keeps what was written`() throws {
    let pages = 256
    let file = HostFile([UInt8](repeating: 0, count: pages * 4096))
    let disk = try attach(file)
    var random = SeededGenerator("virtio disk")
    let seeds = (0..<3).map { _ in random.next() }
    let failures = NSCountedSet()
    let lock = NSLock()
    var threads: [Thread] = []
    let finished = DispatchSemaphore(value: 0)
    for (number, seed) in seeds.enumerated() {
      let thread = Thread {
        var random = SeededGenerator(seed: seed)
        // Each thread has pages of its own.
        let mine = (0..<pages).filter { $0 % seeds.count == number }
        var model = [UInt8](repeating: 0, count: pages)
        let frames = (0..<8).map { _ in try! FrameAllocator.allocate() }
        let transfers = frames.map { _ in BlockIO(segments: 1) }
        for _ in 0..<SeededGenerator.steps(400) {
          let chosen = mine.shuffled(using: &random).prefix(8)
          let writes = Bool.random(using: &random)
          for (place, page) in chosen.enumerated() {
            let memory = UnsafeMutableRawBufferPointer(start: DirectMap.pointer(to: frames[place]), count: 4096)
            let value = UInt8.random(in: 0...255, using: &random)
            transfers[place].prepare(writes ? .write : .read, sector: UInt64(page * 8))
            transfers[place].memory.append(frames[place])
            if writes {
              model[page] = value
              memory.initializeMemory(as: UInt8.self, repeating: value)
            }
          }
          var plug = BlockPlug(disk)
          for place in chosen.indices { plug.add(transfers[place]) }
          plug.pull()
          for place in chosen.indices { while !transfers[place].isComplete { sched_yield() } }
          for (place, page) in chosen.enumerated() {
            let memory = UnsafeRawBufferPointer(start: DirectMap.pointer(to: frames[place]), count: 4096)
            if transfers[place].error != nil || memory.contains(where: { $0 != model[page] }) {
              lock.withLock { failures.add("page \(page)") }
            }
          }
          if Int.random(in: 0...9, using: &random) == 0 { try! disk.flush() }
          if Int.random(in: 0...9, using: &random) == 0 {
            let page = mine.randomElement(using: &random)!
            try! disk.change(.discard, sector: UInt64(page * 8), count: 8)
            model[page] = 0
          }
        }
        finished.signal()
      }
      thread.stackSize = 1 << 20
      threads.append(thread)
      thread.start()
    }
    for _ in threads { finished.wait() }
    #expect(failures.count == 0)
    #expect(disk.statistics.underWay == 0)
  }
}
