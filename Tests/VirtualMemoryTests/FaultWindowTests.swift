// How much one fault brings: windows of resident pages, and what the machine is told about them.

import LinuxABI
import PhysicalMemory
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  /// A file in memory whose page `index` begins with that number, written 16 pages at a time.
  private func makeFile(_ pages: Int) throws -> MemoryObject {
    let object = MemoryObject(store: nil, size: 0)
    for start in stride(from: 0, to: pages, by: 16) {
      var bytes = [UInt8](repeating: 0, count: min(16, pages - start) * Int(page))
      for index in 0..<bytes.count / Int(page) {
        bytes[index * Int(page)] = UInt8(truncatingIfNeeded: start + index)
        bytes[index * Int(page) + 1] = UInt8(truncatingIfNeeded: (start + index) >> 8)
      }
      #expect(try object.writeBytes(at: UInt64(start) * page, bytes) == bytes.count)
    }
    return object
  }

  private func isFilled(_ address: UInt64, _ space: AddressSpace) -> Bool? {
    TestMachine.lock.withLock { $0[space.machineSpace]?[address]?.isFilled }
  }

  @Test(arguments: [[], .shared] as [MappingFlags])
  func `pages in memory are mapped in windows, also when reading ahead is not wanted`(_ flags: MappingFlags) throws {
    let object = try makeFile(1000)
    let space = try AddressSpace.create()
    for isRandom in [false, true] {
      let address = try space.map(at: 0, length: 1000 * page, protection: .read, flags: flags, object: object)
      if isRandom { try space.advise(address, 1000 * page, .random) }
      let before = space.faults.load(ordering: .relaxed)
      for index in 0..<1000 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
      // 16 pages for each fault at first; more as long as there is plenty of memory.
      let most = FrameAllocator.shortage == 0 ? 8 : 64
      #expect(space.faults.load(ordering: .relaxed) - before <= most)
      #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
      #expect(isFilled(address + 500 * page, space) == false)
      try space.unmap(address, 1000 * page)
    }
  }

  @Test func `the machine fills what is going to be written to and has contents`() throws {
    let object = try makeFile(200)
    let space = try AddressSpace.create()
    let address = try space.map(
      at: 0, length: 200 * page, protection: [.read, .write], flags: .shared, object: object)
    for index in 0..<200 as Range<UInt64> { try space.store(index + 1, address + index * page) }
    #expect(isFilled(address + 150 * page, space) == true)
    #expect(try object.readBytes(at: 199 * page, 2) == [200, 0])
    // Fresh memory has nothing to fill; copies of it do.
    let fresh = try space.mapAnonymous(700 * page)
    for index in 0..<700 as Range<UInt64> { try space.store(index, fresh + index * page) }
    #expect(isFilled(fresh + 100 * page, space) == false)
    let child = try space.fork()
    for index in 0..<100 as Range<UInt64> { try child.store(index, fresh + index * page) }
    #expect(isFilled(fresh + 99 * page, child) == true)
    #expect(TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
    #expect(TestMachine.audit([space, child]))
  }
}
