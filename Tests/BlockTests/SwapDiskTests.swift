import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import Block

@Suite(.serialized) struct SwapDiskTests {
  /// A header as mkswap(8) writes it.
  private func header(lastPage: UInt32, bad: [UInt32] = [], version: UInt32 = 1) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: 4096)
    func put(_ value: UInt32, _ place: Int) {
      for byte in 0..<4 { page[place + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
    }
    put(version, 1024)
    put(lastPage, 1028)
    put(UInt32(bad.count), 1032)
    for (index, number) in bad.enumerated() { put(number, 1536 + 4 * index) }
    page.replaceSubrange(4086..., with: Array("SWAPSPACE2".utf8))
    return page
  }

  private func disk(_ header: [UInt8], pages: Int = 64, isReadOnly: Bool = false) -> MemoryDisk {
    let disk = MemoryDisk(sectors: pages * 8, isReadOnly: isReadOnly)
    disk.fill(header + [UInt8](repeating: 0, count: (pages - 1) * 4096))
    return disk
  }

  private func failure(_ disk: MemoryDisk) -> Errno? {
    do throws(Errno) { _ = try SwapDisk(disk) } catch { return error }
    return nil
  }

  @Test func `a header says how many pages there are`() throws {
    let area = try SwapDisk(disk(header(lastPage: 62)))
    #expect(area.swapPageCount == 63 && area.swapName == "/dev/fake" && !area.isSwapFile)
    #expect(throws: Errno.EOPNOTSUPP) { try area.discard() }
  }

  @Test func `what is no swap space is refused`() {
    #expect(failure(disk(header(lastPage: 63))) == nil)
    #expect(failure(disk([UInt8](repeating: 0, count: 4096))) == .EINVAL)
    #expect(failure(disk(header(lastPage: 64))) == .EINVAL)
    #expect(failure(disk(header(lastPage: .max))) == .EINVAL)
    #expect(failure(disk(header(lastPage: 0))) == .EINVAL)
    #expect(failure(disk(header(lastPage: 63, version: 0x0100_0000))) == .EINVAL)
    #expect(failure(disk(header(lastPage: 63, bad: [7]))) == .EINVAL)
    #expect(failure(disk(header(lastPage: 63), isReadOnly: true)) == .EROFS)
    #expect(failure(MemoryDisk(sectors: 7)) == .EINVAL)
    let broken = disk(header(lastPage: 63))
    broken.badSectors = [2]
    #expect(failure(broken) == .EIO)
  }

  @Test func `pages come back from where they were written`() throws {
    var random = SeededGenerator("swap disk")
    let area = try SwapDisk(disk(header(lastPage: 63)))
    var model = [UInt8](repeating: 0, count: 64)
    let frames = (0..<20).map { _ in try! FrameAllocator.allocate() }
    defer { for frame in frames { FrameAllocator.free(frame) } }
    func memory(_ index: Int) -> UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(start: DirectMap.pointer(to: frames[index]), count: 4096)
    }
    for _ in 0..<SeededGenerator.steps(500) {
      let slot = Int.random(in: 1...63, using: &random)
      let count = Int.random(in: 1...min(20, 64 - slot), using: &random)
      if Bool.random(using: &random) {
        for index in 0..<count {
          model[slot + index] = UInt8.random(in: 0...255, using: &random)
          memory(index).initializeMemory(as: UInt8.self, repeating: model[slot + index])
        }
        try frames[..<count].withUnsafeBufferPointer { try area.writeSwap(slot: slot, frames: $0) }
      } else {
        try frames[..<count].withUnsafeBufferPointer { try area.readSwap(slot: slot, frames: $0) }
        #expect((0..<count).allSatisfy { index in memory(index).allSatisfy { $0 == model[slot + index] } })
      }
    }
    #expect(throws: Errno.EINVAL) {
      try frames[..<1].withUnsafeBufferPointer { try area.writeSwap(slot: 0, frames: $0) }
    }
    #expect(throws: Errno.EINVAL) {
      try frames[..<2].withUnsafeBufferPointer { try area.writeSwap(slot: 63, frames: $0) }
    }
    #expect(throws: Errno.EINVAL) {
      try frames[..<1].withUnsafeBufferPointer { try area.readSwap(slot: .max, frames: $0) }
    }
  }
}
