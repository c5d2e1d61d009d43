import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing
import VirtualMemory

@testable import Block

@Suite(.serialized) struct BlockContentTests {
  private func read(_ disk: BlockDevice, at offset: UInt64, _ count: Int) throws -> [UInt8] {
    try KernelBuffer.collect(count) { buffer throws(Errno) in try disk.content.read(at: offset, &buffer) }
  }

  @Test func `the page cache reads and writes the device, to its very end`() throws {
    // Not a whole number of pages.
    let disk = MemoryDisk(sectors: 21)
    disk.fill((0..<21 * 512).map { UInt8(truncatingIfNeeded: $0 / 512 + 1) })
    #expect(try read(disk, at: 0, 30_000) == disk.bytes)
    _ = try KernelBuffer.withBytes(of: [UInt8](repeating: 99, count: 1024)) { buffer throws(Errno) in
      try disk.content.write(at: 9728, &buffer)
    }
    #expect(disk.bytes[9728] == 20)
    try disk.content.writeBack()
    #expect(disk.bytes[9728...].allSatisfy { $0 == 99 } && disk.bytes[9727] == 19)
    disk.content.invalidate()
    #expect(try read(disk, at: 9000, 30_000) == Array(disk.bytes[9000...]))
  }

  @Test func `an error of the device reaches the reader, and nothing stays`() throws {
    let disk = MemoryDisk(sectors: 64)
    disk.badSectors = [3]
    #expect(throws: Errno.EIO) { try read(disk, at: 0, 100) }
    disk.badSectors = []
    #expect(try read(disk, at: 0, 100) == [UInt8](repeating: 0, count: 100))
    disk.content.invalidate()
    #expect(disk.content.residentPages == 0)
  }

  @Test func `segments join neighbours only`() {
    var random = SeededGenerator("segments")
    for _ in 0..<SeededGenerator.steps(500) {
      var list = SegmentList()
      var pages: [UInt64] = []
      for _ in 0..<Int.random(in: 0...20, using: &random) {
        let next = Bool.random(using: &random) ? (pages.last ?? 0) + 1 : UInt64.random(in: 1...30, using: &random)
        pages.append(next)
        list.append(PageFrameNumber(next))
      }
      // Flattened again it is what was put in, and no two neighbours could be one.
      let flat = list.segments.flatMap { segment in
        stride(from: segment.physicalAddress, to: segment.end, by: 4096).map { $0 / 4096 }
      }
      #expect(flat == pages && list.byteCount == pages.count * 4096)
      #expect(zip(list.segments, list.segments.dropFirst()).allSatisfy { $0.end != $1.physicalAddress })
    }
    var long = SegmentList()
    long.append(0, length: Int(UInt32.max) - 4095)
    long.append(UInt64(UInt32.max) - 4095, length: 8192)
    #expect(long.count == 2 && long.byteCount == Int(UInt32.max) + 4097)
  }
}
