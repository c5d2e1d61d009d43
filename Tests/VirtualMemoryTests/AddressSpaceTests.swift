import LinuxABI
import PhysicalMemory
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  @Test func `untouched memory reads as zero and costs no frame`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(64 * page)
    #expect(try space.load(address + 5 * page) == 0)
    #expect(space.statistics.residentPages == 0)
    try space.store(9, address + 5 * page)
    #expect(try space.load(address + 5 * page) == 9)
    #expect(try space.load(address + 6 * page) == 0)
  }

  @Test func `after fork each side sees its own writes, for small and large programs`() throws {
    for pages in [8, 2000] as [UInt64] {
      let space = try AddressSpace.create()
      let address = try space.mapAnonymous(pages * page)
      for index in 0..<pages { try space.store(index, address + index * page) }
      let child = try space.fork()
      try child.store(77, address)
      try space.store(88, address + page)
      #expect(try space.load(address) == 0)
      #expect(try child.load(address) == 77)
      #expect(try child.load(address + page) == 1)
      #expect(try child.load(address + (pages - 1) * page) == pages - 1)
      #expect(TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
    }
  }

  @Test func `after the child has gone the parent writes without copying`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(1000 * page)
    for index in 0..<1000 as Range<UInt64> { try space.store(index, address + index * page) }
    let child = try space.fork()
    child.destroy()
    let copies = VirtualMemoryStatistics.snapshot().copies
    for index in 0..<1000 as Range<UInt64> { try space.store(index, address + index * page) }
    #expect(VirtualMemoryStatistics.snapshot().copies == copies)
  }

  @Test func `fork of a large program tells the machine once per area`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(400 * page)
    for index in 0..<400 as Range<UInt64> { try space.store(index, address + index * page) }
    let other = try space.mapAnonymous(400 * page, .all)
    for index in 0..<400 as Range<UInt64> { try space.store(index, other + index * page) }
    let before = VirtualMemoryStatistics.snapshot()
    _ = try space.fork()
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.machineProtects - before.machineProtects <= 4)
    #expect(after.machineMaps - before.machineMaps <= 64)
  }

  @Test func `the stack grows to its limit and keeps a gap below it`() throws {
    let space = try AddressSpace.create()
    space.limits.stack = 64 * page
    let top: UInt64 = 0x7fff_0000_0000 - 0x1000_0000
    _ = try space.map(
      at: top - 4 * page, length: 4 * page, protection: [.read, .write], flags: [.fixed, .growsDown, .stack],
      object: nil)
    try space.store(1, top - 60 * page)
    #expect(throws: Errno.EFAULT) { try space.store(1, top - 65 * page) }
    let below = try space.map(
      at: top - 700 * page, length: page, protection: .read, flags: .fixed, object: nil)
    space.limits.stack = .max
    #expect(throws: Errno.EFAULT) { try space.store(1, below + 2 * page) }
    try space.store(1, below + 300 * page)
  }

  @Test func `fixed mappings respect what the caller asked for`() throws {
    let space = try AddressSpace.create()
    let address: UInt64 = 0x20_0000_0000
    func map(_ address: UInt64, _ length: UInt64, _ flags: MappingFlags) throws -> UInt64 {
      try space.map(at: address, length: length, protection: .read, flags: flags, object: nil)
    }
    #expect(try map(address, 4 * page, .fixedNoReplace) == address)
    #expect(throws: Errno.EEXIST) { try map(address + page, page, .fixedNoReplace) }
    #expect(throws: Errno.EINVAL) { try map(address + 1, page, .fixed) }
    #expect(throws: Errno.EPERM) { try map(0, page, .fixed) }
    #expect(throws: Errno.ENOMEM) { try map(AddressSpace.userLimit, page, .fixed) }
    #expect(throws: Errno.ENOMEM) { try map(.max & ~0xfff, page, .fixed) }
    #expect(throws: Errno.ENOMEM) { try map(0x4000_0000_0000, page, .fixed) }
    #expect(throws: Errno.EINVAL) { try map(0, 0, []) }
    #expect(throws: Errno.ENOMEM) { try map(0, .max, []) }
    #expect(try map(address, page, []) != address)
    #expect(try map(address + 64 * page, page, []) == address + 64 * page)
    space.limits.addressSpace = 70 * page
    #expect(throws: Errno.ENOMEM) { try map(0, 70 * page, []) }
  }

  @Test func `munmap gives page tables back`() throws {
    let space = try AddressSpace.create()
    let tables = space.statistics.pageTablePages
    var addresses: [UInt64] = []
    for index in 0..<20 as Range<UInt64> {
      addresses.append(
        try space.map(
          at: 0x30_0000_0000 + index << 30, length: 3 * page, protection: [.read, .write], flags: .fixed, object: nil))
      try space.store(1, addresses.last!)
    }
    #expect(space.statistics.pageTablePages > tables + 20)
    for address in addresses { try space.unmap(address, 3 * page) }
    #expect(space.statistics.pageTablePages == tables)
  }

  @Test func `the break moves both ways and stops at other mappings`() throws {
    let space = try AddressSpace.create()
    let start: UInt64 = 0x10_0000_0123
    space.updateLayout { layout in
      layout.startBreak = start
      layout.currentBreak = start
    }
    #expect(space.setBreak(0) == start)
    #expect(space.setBreak(start + 10 * page) == start + 10 * page)
    try space.store(5, (start + 9 * page) & ~7)
    #expect(space.setBreak(start + 2 * page) == start + 2 * page)
    #expect(throws: Errno.EFAULT) { try space.load((start + 9 * page) & ~7) }
    _ = try space.map(
      at: (start & ~0xfff) + 20 * page, length: page, protection: .read, flags: .fixed, object: nil)
    #expect(space.setBreak(start + 30 * page) == start + 2 * page)
    #expect(space.setBreak(start - 1) == start + 2 * page)
  }

  @Test func `mlock counts against its limit`() throws {
    let space = try AddressSpace.create()
    space.limits.locked = 4 * page
    let address = try space.mapAnonymous(10 * page)
    try space.lock(address, 4 * page, onFault: .now, isPrivileged: false)
    #expect(space.statistics.lockedPages == 4)
    #expect(space.statistics.anonymousPages >= 4)
    #expect(throws: Errno.ENOMEM) { try space.lock(address + 4 * page, page, onFault: .now, isPrivileged: false) }
    try space.lock(address, 4 * page, onFault: .now, isPrivileged: false)
    #expect(throws: Errno.EINVAL) { try space.advise(address, page, .discard) }
    try space.unlock(address, 10 * page)
    #expect(space.statistics.lockedPages == 0)
    #expect(throws: Errno.ENOMEM) { try space.lock(address + 9 * page, 2 * page, onFault: .now, isPrivileged: true) }
  }

  @Test func `a pinned page stays the parent's over fork`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(1000 * page)
    for index in 0..<1000 as Range<UInt64> { try space.store(index, address + index * page) }
    let runs = try space.pin(address + 3 * page, page)
    #expect(runs.count == 1)
    let child = try space.fork()
    try space.store(50, address + 3 * page)
    #expect(unsafe runs[0].frame.pointer.load(as: UInt64.self) == 50)
    #expect(try child.load(address + 3 * page) == 3)
    AddressSpace.unpin(runs)
  }

  @Test func `a debugger writes read-only memory privately`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 4 * page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 4 * page, protection: [.read, .execute], flags: [], object: object)
    #expect(space.patch(address, [0xcc, 0, 0, 0, 0, 0, 0, 0]) == 8)
    #expect(space.inspect(address, count: 8) == [0xcc, 0, 0, 0, 0, 0, 0, 0])
    #expect(space.inspect(address + 4 * page - 3, count: 8).count == 3)
    #expect(try space.load(address) == 0xcc)
    #expect(try space.load(address + page) == TestStore.initial(1))
    #expect(throws: Errno.EFAULT) { try space.store(1, address) }
    #expect(!object.isDirty)
    _ = store
  }

  @Test func `shared keys name the object, private ones the space`() throws {
    let space = try AddressSpace.create()
    let shared = try space.mapAnonymous(4 * page, [.read, .write], .shared)
    let own = try space.mapAnonymous(4 * page)
    let child = try space.fork()
    #expect(try UserMemory.sharedKey(of: shared + 8, in: space) == UserMemory.sharedKey(of: shared + 8, in: child))
    #expect(try UserMemory.sharedKey(of: own + 8, in: space) != UserMemory.sharedKey(of: own + 8, in: child))
    #expect(try UserMemory.sharedKey(of: shared + 4, in: space) != UserMemory.sharedKey(of: shared + 8, in: space))
  }

  @Test func `atomic operations change the word once`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(page)
    #expect(try UserMemory.atomicCompareExchange(address, expected: 0, desired: 5, in: space) == 0)
    #expect(try UserMemory.atomicCompareExchange(address, expected: 0, desired: 6, in: space) == 5)
    #expect(try UserMemory.atomicUpdate(address, in: space) { $0 + 1 } == 5)
    #expect(try UserMemory.atomicLoad(address, in: space) == 6)
    #expect(throws: Errno.EINVAL) { try UserMemory.atomicLoad(address + 2, in: space) }
    #expect(throws: Errno.EFAULT) { try UserMemory.atomicLoad(address + page, in: space) }
  }

  @Test func `mincore and msync report holes`() throws {
    let space = try AddressSpace.create()
    let address: UInt64 = 0x20_0000_0000
    _ = try space.map(at: address, length: 40 * page, protection: [.read, .write], flags: .fixed, object: nil)
    try space.store(1, address + 16 * page)
    var bytes: [UInt8] = []
    try space.residency(address, 40 * page, &bytes)
    #expect(bytes.count == 40 && bytes[16] == 1 && bytes[0] == 0 && bytes[39] == 0)
    #expect(throws: Errno.ENOMEM) { try space.residency(address, 41 * page, &bytes) }
    #expect(throws: Errno.ENOMEM) { try space.sync(address, 41 * page, .wait, invalidating: false) }
    #expect(throws: Errno.ENOMEM) { try space.advise(address, 41 * page, .random) }
    #expect(throws: Errno.EINVAL) { try space.advise(address + 1, page, .discard) }
  }
}
