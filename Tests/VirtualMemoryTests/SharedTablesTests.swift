// Page tables that several spaces have: after fork, and for good in shared mappings.

import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  /// The table pages that exist, and the private pages in tables.
  private static var tables: Int { VirtualMemoryStatistics.snapshot().pageTablePages }

  @Test func `fork of a large space makes a root only, and tables where one side writes`() throws {
    let space = try AddressSpace.create()
    let pages: UInt64 = 4096
    let address = try space.map(
      at: 0x20_0000_0000, length: pages * page, protection: [.read, .write], flags: .fixed, object: nil)
    for index in 0..<pages { try space.store(index, address + index * page) }
    let before = Self.tables
    let child = try space.fork()
    #expect(Self.tables == before + 1)
    #expect(child.statistics.anonymousPages == Int(pages))
    #expect(child.statistics.pageTablePages == space.statistics.pageTablePages)
    #expect(TestMachine.audit([space, child]))
    for index in 0..<pages { #expect(try child.load(address + index * page) == index) }
    #expect(Self.tables == before + 1)
    // One write: a table of each level, and a page.
    try child.store(7, address)
    #expect(Self.tables == before + 4)
    #expect(try space.load(address) == 0)
    #expect(TestMachine.audit([space, child]) && TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
    child.destroy()
    // Nobody else has the tables any more: no copies.
    let copies = VirtualMemoryStatistics.snapshot().copies
    for index in 0..<pages { try space.store(index + 1, address + index * page) }
    #expect(VirtualMemoryStatistics.snapshot().copies == copies)
    #expect(Self.tables == before + 1)  // the child's root lives as long as the object
    #expect(TestMachine.audit([space, child]) && TestMachine.isConsistent(space))
  }

  @Test func `a fork takes rights away only where pages became writable since the last one`() throws {
    let space = try AddressSpace.create()
    let address = try space.map(
      at: 0x20_0000_0000, length: 4096 * page, protection: [.read, .write], flags: .fixed, object: nil)
    for index in 0..<4096 as Range<UInt64> { try space.store(index, address + index * page) }
    try space.fork().destroy()
    var before = VirtualMemoryStatistics.snapshot().machineProtects
    try space.fork().destroy()
    #expect(VirtualMemoryStatistics.snapshot().machineProtects == before)
    try space.store(1, address + 1000 * page)
    before = VirtualMemoryStatistics.snapshot().machineProtects
    try space.fork().destroy()
    #expect(VirtualMemoryStatistics.snapshot().machineProtects == before + 1)
    #expect(TestMachine.isConsistent(space))
  }

  @Test func `dropping a shared table needs no memory for it, cutting one does`() throws {
    let space = try AddressSpace.create()
    let address = try space.map(
      at: 0x20_0000_0000, length: 2048 * page, protection: [.read, .write], flags: .fixed, object: nil)
    for index in 0..<2048 as Range<UInt64> { try space.store(index, address + index * page) }
    let child = try space.fork()
    try child.unmap(address, 512 * page)
    #expect(throws: Errno.EFAULT) { try child.load(address) }
    #expect(child.statistics.anonymousPages == 1536)
    try child.advise(address + 1024 * page, 512 * page, .discard)
    #expect(try child.load(address + 1024 * page) == 0)
    try child.unmap(address + 600 * page, 10 * page)
    try child.protect(address + 1600 * page, 10 * page, .read)
    for index in 0..<2048 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    #expect(try child.load(address + 599 * page) == 599)
    #expect(TestMachine.audit([space, child]) && TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
  }

  @Test func `reading fills a shared table for all, unless their areas may differ`() throws {
    let store = TestStore()
    defer { withExtendedLifetime(store) {} }
    let object = MemoryObject(store: store, size: 64 * page)
    let space = try AddressSpace.create()
    let base: UInt64 = 0x20_0000_0000
    _ = try space.map(at: base, length: 600 * page, protection: [.read, .write], flags: .fixed, object: nil)
    _ = try space.map(at: base + 700 * page, length: 32 * page, protection: .read, flags: .fixed, object: object)
    for index in 0..<600 as Range<UInt64> where index % 2 == 0 { try space.store(index, base + index * page) }
    try space.advise(base + 20 * page, 60 * page, .discard)
    try space.advise(base + 540 * page, 30 * page, .discard)
    let usual = unsafe AddressSpace.eagerCopyPages
    unsafe AddressSpace.eagerCopyPages = -1
    defer { unsafe AddressSpace.eagerCopyPages = usual }
    let child = try space.fork()
    let grandchild = try child.fork()
    let spaces = [space, child, grandchild]
    let before = Self.tables
    // The page of zeros and a file's page: no table is made, and who reads the same page finds it there.
    #expect(try child.load(base + 30 * page) == 0)
    #expect(space.tables.withLock { $0.entry(base + 30 * page) }.isPresent)
    #expect(try grandchild.load(base + 705 * page) == TestStore.initial(5))
    #expect(space.tables.withLock { $0.entry(base + 705 * page) }.isPresent)
    #expect(try space.load(base + 705 * page) == TestStore.initial(5))
    #expect(Self.tables == before)
    #expect(TestMachine.audit(spaces) && spaces.allSatisfy { TestMachine.isConsistent($0) })
    // Writing is as ever, also over the page of zeros that all have.
    try child.store(1, base + 30 * page)
    #expect(try space.load(base + 30 * page) == 0 && grandchild.load(base + 30 * page) == 0)
    // One maps something into a hole of the table: what it reads there is its own.
    _ = try space.map(at: base + 650 * page, length: 8 * page, protection: .read, flags: .fixed, object: object)
    #expect(try space.load(base + 651 * page) == TestStore.initial(1))
    #expect(grandchild.tables.withLock { $0.entry(base + 651 * page) }.isEmpty)
    _ = try grandchild.map(
      at: base + 650 * page, length: 8 * page, protection: .read, flags: .fixed, object: object, offset: 8 * page)
    #expect(try grandchild.load(base + 651 * page) == TestStore.initial(9))
    // Truncation takes the pages from all.
    #expect(try grandchild.load(base + 720 * page) == TestStore.initial(20))
    object.truncate(to: 10 * page)
    for space in spaces { #expect(throws: Errno.EFAULT) { try space.load(base + 720 * page) } }
    #expect(try child.load(base + 705 * page) == TestStore.initial(5))
    #expect(TestMachine.audit(spaces) && spaces.allSatisfy { TestMachine.isConsistent($0) })
  }

  @Test func `mappings of one object at congruent places share tables for good`() throws {
    let pages: UInt64 = 8 * 512
    let object = MemoryObject(store: nil, size: pages * page)
    var spaces: [AddressSpace] = []
    let before = Self.tables
    for number in 0..<64 as Range<UInt64> {
      let space = try AddressSpace.create()
      let address = try space.map(
        at: 0x20_0000_0000 + number << 30, length: pages * page, protection: [.read, .write],
        flags: [.shared, .fixed], object: object)
      // Who comes first fills the tables, the others find them.
      for index in stride(from: number, to: pages, by: 64) { try space.store(index, address + index * page) }
      spaces.append(space)
    }
    for (number, space) in spaces.enumerated() {
      let address = 0x20_0000_0000 + UInt64(number) << 30
      for index in stride(from: 0, to: pages, by: 7) { #expect(try space.load(address + index * page) == index) }
      #expect(space.statistics.objectPages == Int(pages))
    }
    // Each space has a root and two middle tables.
    #expect(Self.tables == before + 64 * 3 + 8)
    #expect(TestMachine.audit(spaces))
    // One goes its own way; the others stay.
    let first = 0x20_0000_0000 as UInt64
    try spaces[0].protect(first + 512 * page, page, .read)
    try spaces[0].unmap(first + 1024 * page, page)
    #expect(try spaces[0].load(first + 512 * page) == 512)
    #expect(throws: Errno.EFAULT) { try spaces[0].store(1, first + 512 * page) }
    try spaces[1].store(5, first + 1 << 30 + 512 * page)
    #expect(try spaces[0].load(first + 512 * page) == 5)
    #expect(TestMachine.audit(spaces))
    for space in spaces { #expect(TestMachine.isConsistent(space)) }
    // A child has the same tables; truncation empties them for all.
    let child = try spaces[2].fork()
    #expect(child.statistics.objectPages == Int(pages))
    object.truncate(to: 100 * page)
    #expect(throws: Errno.EFAULT) { try child.load(first + 2 << 30 + 200 * page) }
    #expect(try child.load(first + 2 << 30 + 99 * page) == 99)
    #expect(TestMachine.audit(spaces + [child]))
    for space in spaces + [child] { #expect(TestMachine.isConsistent(space)) }
    spaces = []
    child.destroy()
    #expect(object.sharedTables.withLock { $0.count } == 0)
  }

  @Test func `an allocation that fails, each in turn, loses nothing`() throws {
    _ = Frames.zeroPage
    let usual = unsafe AddressSpace.eagerCopyPages
    defer { unsafe AddressSpace.eagerCopyPages = usual }
    for eager in [usual, -1] {
      unsafe AddressSpace.eagerCopyPages = eager
      let before = VirtualMemoryStatistics.snapshot()
      let free = TestMachine.freeFrames
      var failing = 0
      while true {
        AllocationFailure.fail(after: failing)
        let failures = Self.exerciseMemory()
        let hasFailed = AllocationFailure.stop()
        let after = VirtualMemoryStatistics.snapshot()
        #expect(after.anonymousPages == before.anonymousPages && after.pageTablePages == before.pageTablePages)
        #expect(after.committedPages == before.committedPages && after.addressSpaces == before.addressSpaces)
        #expect(after.areas == before.areas && after.cachedPages == before.cachedPages)
        #expect(TestMachine.freeFrames == free, "allocation \(failing)")
        if !hasFailed {
          #expect(failures == 0)
          break
        }
        failing += 1
        if failing > 5000 { break }
      }
      #expect(failing > 20 && failing < 5000)
    }
  }

  /// Uses the calls that allocate; returns how many failed. What they fail with is ENOMEM, or EFAULT where the program
  /// would be ended.
  private static func exerciseMemory() -> Int {
    var failures = 0
    func attempt<Result>(_ body: () throws(Errno) -> Result) -> Result? {
      do throws(Errno) { return try body() } catch {
        #expect(error == .ENOMEM || error == .EFAULT)
        failures += 1
        return nil
      }
    }
    guard let space = attempt({ () throws(Errno) in try AddressSpace.create() }) else { return failures }
    let base: UInt64 = 0x20_0000_0000
    func map(_ at: UInt64, _ pages: UInt64, _ flags: MappingFlags) {
      _ = attempt { () throws(Errno) in
        try space.map(
          at: at, length: pages * page, protection: [.read, .write], flags: flags.union(.fixed), object: nil)
      }
    }
    map(base, 1400, [])
    map(base + 2048 * page, 1024, .shared)
    for index in stride(from: 0 as UInt64, to: 1400, by: 50) {
      _ = attempt { () throws(Errno) in try space.store(index, base + index * page) }
    }
    for index in stride(from: 2048 as UInt64, to: 3072, by: 200) {
      _ = attempt { () throws(Errno) in try space.store(index, base + index * page) }
    }
    var spaces = [space]
    if let child = attempt({ () throws(Errno) in try space.fork() }) {
      spaces.append(child)
      if let grandchild = attempt({ () throws(Errno) in try child.fork() }) { spaces.append(grandchild) }
    }
    for (number, space) in spaces.enumerated() {
      let number = UInt64(number)
      _ = attempt { () throws(Errno) in try space.store(number, base + (number * 600) * page) }
      _ = attempt { () throws(Errno) in try space.store(number, base + (2100 + number * 300) * page) }
      _ = attempt { () throws(Errno) in try space.protect(base + (number * 300 + 5) * page, 20 * page, .read) }
      _ = attempt { () throws(Errno) in try space.unmap(base + (number * 300 + 50) * page, 20 * page) }
      _ = attempt { () throws(Errno) in
        try space.remap(
          base + 900 * page, oldLength: 60 * page, newLength: 60 * page, options: [.mayMove, .fixed],
          target: base + 5000 * page)
      }
      _ = attempt { () throws(Errno) in try space.advise(base + 1000 * page, 30 * page, .discard) }
      expect(TestMachine.audit(spaces))
      expect(TestMachine.isConsistent(space))
    }
    for space in spaces { space.destroy() }
    return failures
  }
}
