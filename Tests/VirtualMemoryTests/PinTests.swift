// Pages pinned for devices: the walker's faults, and the list of memory that a transfer buffer makes of them.

import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  @Test func `a walk brings pages that are absent, and stops where nothing is mapped`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(10 * page)
    try space.unmap(address + 4 * page, page)
    var buffer = TransferBuffer(user: address + 100, count: Int(10 * page) - 100, in: space)
    var list = SegmentList()
    let pins = try buffer.pin(into: &list, segments: 64, bytes: 1 << 20, for: .write)
    #expect(pins.byteCount == Int(4 * page) - 100 && list.byteCount == pins.byteCount)
    #expect(buffer.remaining == Int(10 * page) - 100)
    buffer.consume(pins)
    #expect(throws: Errno.EFAULT) {
      _ = try buffer.pin(into: &list, segments: 64, bytes: 1 << 20, for: .write)
    }
    #expect(space.statistics.anonymousPages == 4)
    pins.release()
  }

  @Test func `read-only memory is pinned for reading only, untouched memory without a frame`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(4 * page, [.read])
    let buffer = TransferBuffer(user: address, count: Int(4 * page), in: space)
    var list = SegmentList()
    #expect(throws: Errno.EFAULT) { _ = try buffer.pin(into: &list, segments: 8, bytes: 1 << 20, for: .write) }
    let pins = try buffer.pin(into: &list, segments: 8, bytes: 1 << 20, for: .read)
    #expect(pins.byteCount == Int(4 * page) && pins.runs.isEmpty)
    #expect(list.segments.allSatisfy { $0.physicalAddress == Frames.zeroPage.physicalAddress })
    pins.release()
  }

  @Test func `the limits of a transfer hold, and nothing stays pinned`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(64 * page)
    // Written from the end, so that neighbours in memory are none in the space.
    for index in (0..<64 as Range<UInt64>).reversed() { try space.store(index, address + index * page) }
    var buffer = TransferBuffer(user: address, count: Int(64 * page), in: space)
    var random = SeededGenerator("pins")
    while buffer.remaining > 0 {
      var list = SegmentList()
      let segments = Int.random(in: 1...8, using: &random)
      let bytes = Int.random(in: 1...20, using: &random) * 512
      let pins = try buffer.pin(into: &list, segments: segments, bytes: bytes, for: .write)
      #expect(list.count <= segments && pins.byteCount <= bytes && pins.byteCount > 0)
      #expect(list.byteCount == pins.byteCount)
      #expect(pins.runs.allSatisfy { Frames.isPinned($0.frame) })
      pins.release()
      #expect(pins.runs.allSatisfy { !Frames.isPinned($0.frame) })
      buffer.consume(pins)
    }
  }

  @Test func `pieces are joined where their memory is, whatever they are`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(8 * page)
    for index in 0..<8 as Range<UInt64> { try space.store(index, address + index * page) }
    // A page in two pieces, then another one.
    let buffer = TransferBuffer(
      userVectors: [(address, 512), (address + 512, 3584), (address + 5 * page, 4096), (address, 512)], in: space)
    #expect(buffer.isAligned(to: 512) && !buffer.isAligned(to: 4096) && buffer.isUserMemory)
    var list = SegmentList()
    let pins = try buffer.pin(into: &list, segments: 8, bytes: 1 << 20, for: .read)
    #expect(pins.byteCount == 8704)
    let first = try #require(list.segments.first)
    #expect(first.length >= 4096 && list.count <= 3)
    // The page at the front is pinned three times.
    let frame = PageFrameNumber(physicalAddress: first.physicalAddress)
    #expect(frame.frame.referenceCount >= 3 * Frames.pinBias)
    pins.release()
    #expect(!Frames.isPinned(frame))
  }

  @Test func `a page cannot be pinned more often than its count holds`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(page)
    let buffer = TransferBuffer(user: address, count: 512, in: space)
    var held: [PinnedMemory] = []
    var list = SegmentList()
    #expect(throws: Errno.EAGAIN) {
      for _ in 0..<5000 {
        list.removeAll()
        held.append(try buffer.pin(into: &list, segments: 1, bytes: 512, for: .write))
      }
    }
    #expect(held.count > 500)
    for pins in held { pins.release() }
    #expect(try space.load(address) == 0)
  }
}
