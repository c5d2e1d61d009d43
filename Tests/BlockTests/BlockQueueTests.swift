import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import Block

@Suite(.serialized) struct BlockQueueTests {
  @Test func `a transfer is performed and seen in the statistics`() throws {
    let disk = MemoryDisk(sectors: 64)
    try disk.perform(PageIO(.write, sector: 8, byte: 7))
    let read = PageIO(.read, sector: 8)
    try disk.perform(read)
    #expect(read.content == [UInt8](repeating: 7, count: 4096))
    try disk.flush()
    let statistics = disk.statistics
    #expect(statistics.reads.count == 1 && statistics.reads.sectors == 8)
    #expect(statistics.writes.count == 1 && statistics.writes.sectors == 8)
    #expect(statistics.flushes.count == 1 && statistics.underWay == 0)
  }

  @Test func `transfers that make no sense are refused`() {
    let disk = MemoryDisk(sectors: 64, limits: BlockLimits(segments: 2, bytes: 8192))
    func failure(_ io: BlockIO) -> Errno? {
      do throws(Errno) { try disk.perform(io) } catch { return error }
      return nil
    }
    #expect(failure(PageIO(.read, sector: 57)) == .EIO)
    #expect(failure(PageIO(.read, sector: .max)) == .EIO)
    #expect(failure(BlockIO()) == .EINVAL)
    let odd = PageIO(.read, sector: 0)
    odd.prepare(.read, sector: 0)
    odd.memory.append(odd.frame.physicalAddress, length: 100)
    #expect(failure(odd) == .EINVAL)
    let discard = BlockIO()
    discard.prepare(.discard, sector: 0, count: 8)
    #expect(failure(discard) == .EOPNOTSUPP)
    #expect(disk.log.isEmpty)
    let readOnly = MemoryDisk(sectors: 64, isReadOnly: true)
    #expect(throws: Errno.EROFS) { try readOnly.perform(PageIO(.write, sector: 0)) }
  }

  @Test func `neighbours that wait become one request, within the limits`() {
    let disk = MemoryDisk(sectors: 1024, limits: BlockLimits(segments: 4, bytes: 64 << 10))
    disk.isLate = true
    disk.depth = 1
    let transfers = (0..<10).map { PageIO(.write, sector: UInt64($0 * 8), byte: UInt8($0)) }
    for io in transfers { disk.submit(io) }
    // The first is under way when the second comes.
    while !disk.underWay.isEmpty { disk.answer() }
    #expect(disk.log.map { $0.2 / 8 }.reduce(0, +) == 10)
    // Frames that are neighbours by chance make fewer segments, so more can be joined.
    #expect(disk.log.count <= 4 && disk.log[0].2 == 8)
    for (index, io) in transfers.enumerated() {
      #expect(io.isComplete && io.error == nil && io.completions == 1)
      #expect(disk.bytes[index * 4096] == UInt8(index))
    }
    #expect(Int(disk.statistics.writes.joined) == 10 - disk.log.count)
  }

  @Test func `a plug joins what came in any order`() {
    let disk = MemoryDisk(sectors: 1024, limits: BlockLimits(segments: 64, bytes: 1 << 20))
    let order = [5, 3, 9, 0, 7, 1, 8, 2, 6, 4]
    let transfers = order.map { PageIO(.write, sector: UInt64($0 * 8), byte: UInt8($0)) }
    disk.isLate = true
    disk.depth = 0
    var plug = BlockPlug(disk)
    for io in transfers { plug.add(io) }
    #expect(disk.log.isEmpty && transfers.allSatisfy { !$0.isComplete })
    disk.depth = .max
    disk.isLate = false
    plug.pull()
    #expect(disk.log.count == 1 && disk.log[0].1 == 0 && disk.log[0].2 == 80)
    #expect(transfers.allSatisfy { $0.isComplete && $0.completions == 1 })
    #expect((0..<10).allSatisfy { disk.bytes[$0 * 4096] == UInt8($0) })
  }

  @Test func `of joined transfers only those fail whose sectors are bad`() {
    let disk = MemoryDisk(sectors: 1024, limits: BlockLimits(segments: 64, bytes: 1 << 20))
    disk.badSectors = [17]
    let transfers = (0..<4).map { PageIO(.write, sector: UInt64($0 * 8), byte: 1) }
    var plug = BlockPlug(disk)
    for io in transfers { plug.add(io) }
    plug.pull()
    #expect(transfers.map { $0.error } == [nil, nil, .EIO, nil])
    #expect(transfers.allSatisfy { $0.completions == 1 })
  }

  /// Random transfers of pages against an array, on a device that answers late and in any order.
  @Test func `after any sequence of transfers the disk is what they made of it`() {
    var random = SeededGenerator("block queue")
    let pages = 64
    let disk = MemoryDisk(sectors: pages * 8, limits: BlockLimits(segments: 5, bytes: 6 * 4096))
    disk.isLate = true
    var model = [UInt8](repeating: 0, count: pages)
    var busy = Set<Int>()
    var pending: [(io: PageIO, page: Int, value: UInt8)] = []
    func settle() {
      for entry in pending where entry.io.isComplete {
        #expect(entry.io.completions == 1 && entry.io.error == nil)
        if entry.io.operation == .write {
          model[entry.page] = entry.value
        } else {
          #expect(entry.io.content.allSatisfy { $0 == model[entry.page] })
        }
        busy.remove(entry.page)
      }
      pending.removeAll { $0.io.isComplete }
    }
    for _ in 0..<SeededGenerator.steps(3000) {
      disk.depth = Int.random(in: 1...4, using: &random)
      var plug = BlockPlug(disk)
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        // Without an order among transfers to one place the outcome would be open.
        let page = Int.random(in: 0..<pages, using: &random)
        guard busy.insert(page).inserted else { continue }
        let value = UInt8.random(in: 0...255, using: &random)
        let io = PageIO(Bool.random(using: &random) ? .write : .read, sector: UInt64(page * 8), byte: value)
        pending.append((io, page, value))
        if Bool.random(using: &random) { plug.add(io) } else { disk.submit(io) }
      }
      plug.pull()
      for _ in 0..<Int.random(in: 0...3, using: &random) where !disk.underWay.isEmpty {
        disk.answer(Int.random(in: 0..<disk.underWay.count, using: &random))
      }
      settle()
    }
    while !disk.underWay.isEmpty { disk.answer() }
    settle()
    #expect(pending.isEmpty && disk.statistics.underWay == 0)
    #expect((0..<pages).allSatisfy { disk.bytes[$0 * 4096] == model[$0] })
  }
}
