// Advice that moves pages: out of memory (MADV_COLD, MADV_PAGEOUT) or together (MADV_COLLAPSE).

import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  @Test func `pages that are advised out go to swap at once and come back as they were`() throws {
    _ = MemorySwapDevice.shared
    let slots = SwapSpace.freePages
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(1000 * page)
    for index in 0..<1000 as Range<UInt64> { try space.store(index + 1, address + index * page) }
    try space.advise(address + 100 * page, 600 * page, .pageOut)
    #expect(space.statistics.swappedPages == 600 && space.statistics.anonymousPages == 400)
    #expect(ReclaimCheck.failures([space]) == [])
    #expect(TestMachine.audit([space]) && TestMachine.isConsistent(space))
    for index in 0..<1000 as Range<UInt64> { #expect(try space.load(address + index * page) == index + 1) }
    #expect(space.statistics.swappedPages == 0 && SwapSpace.freePages == slots)
    // Shared memory without a name is the same, if nobody else shows it.
    let shared = try space.mapAnonymous(100 * page, [.read, .write], .shared)
    for index in 0..<100 as Range<UInt64> { try space.store(index, shared + index * page) }
    try space.advise(shared, 100 * page, .pageOut)
    #expect(space.residency(shared, shared + 100 * page).all == 0 && SwapSpace.freePages == slots - 100)
    for index in 0..<100 as Range<UInt64> { #expect(try space.load(shared + index * page) == index) }
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }

  @Test func `pages that others show, that are pinned or locked are not advised out`() throws {
    _ = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(600 * page)
    for index in 0..<600 as Range<UInt64> { try space.store(index, address + index * page) }
    let child = try space.fork()  // shares the tables
    try space.advise(address, 600 * page, .pageOut)
    #expect(space.statistics.swappedPages == 0)
    // One page of each side is its own; its neighbours are in two tables.
    try child.store(7, address)
    try space.advise(address, 600 * page, .pageOut)
    try child.advise(address, 600 * page, .pageOut)
    #expect(child.statistics.swappedPages == 1)
    #expect(try child.load(address) == 7 && space.load(address) == 0)
    child.destroy()
    let runs = try space.pin(address, 10 * page)
    try space.advise(address, 600 * page, .pageOut)
    #expect(space.statistics.swappedPages == 590)
    AddressSpace.unpin(runs)
    for index in 0..<600 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    // What lies below the locked area has been dealt with.
    try space.lock(address + 50 * page, 50 * page, onFault: .now, isPrivileged: true)
    #expect(throws: Errno.EINVAL) { try space.advise(address, 600 * page, .pageOut) }
    #expect(space.statistics.swappedPages == 50)
    #expect(throws: Errno.EINVAL) { try space.advise(address + 50 * page, page, .cold) }
    try space.unmap(address + 200 * page, page)
    #expect(throws: Errno.ENOMEM) { try space.advise(address + 150 * page, 100 * page, .pageOut) }
    #expect(space.statistics.swappedPages == 149)
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }

  @Test func `pages of a file that are advised out are dropped when they are clean`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 100 * page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 100 * page, protection: [.read, .write], flags: .shared, object: object)
    for index in 0..<100 as Range<UInt64> {
      #expect(try space.load(address + index * page) == TestStore.initial(index))
    }
    for index in 0..<10 as Range<UInt64> { try space.store(index, address + index * page) }
    let other = try AddressSpace.create()
    let copy = try other.map(at: 0, length: 100 * page, protection: .read, flags: [], object: object)
    for index in 90..<100 as Range<UInt64> { _ = try other.load(copy + index * page) }
    let isThere = { (index: UInt64) in object.pages.withLock { $0.find(index) } != .absent }
    try space.advise(address, 100 * page, .pageOut)
    // Changed ones are to be written first; those that others show stay, with what was mapped around them.
    #expect((0..<10).allSatisfy(isThere))
    #expect(!(10..<80).contains(where: isThere))
    #expect((90..<100).allSatisfy(isThere))
    try object.writeBack()
    try space.advise(address, 100 * page, .pageOut)
    #expect(!(0..<80).contains(where: isThere))
    for index in 0..<100 as Range<UInt64> {
      #expect(try space.load(address + index * page) == (index < 10 ? index : TestStore.initial(index)))
    }
    #expect(TestMachine.isConsistent(space) && TestMachine.isConsistent(other))
    space.destroy()
    other.destroy()
    withExtendedLifetime(store) {}
  }

  @Test func `cold pages leave memory before others, and stay until then`() throws {
    _ = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(512 * page)
    for index in 0..<512 as Range<UInt64> { try space.store(index, address + index * page) }
    let before = PageLists.count(.inactiveAnonymous)
    try space.advise(address + 256 * page, 128 * page, .cold)
    #expect(PageLists.count(.inactiveAnonymous) == before + 128)
    #expect(space.statistics.anonymousPages == 512)
    #expect(TestMachine.isConsistent(space) && ReclaimCheck.failures([space]) == [])
    // One that is used again is not cold any more.
    try space.handleFault(at: address + 256 * page, access: .write)
    #expect(Reclaim().reclaim(frames: 64) >= 64)
    #expect(space.residency(address, address + 256 * page).swapped == 0)
    #expect(space.residency(address + 256 * page, address + 257 * page).swapped == 0)
    #expect(space.residency(address + 257 * page, address + 384 * page).swapped >= 64)
    for index in 0..<512 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    space.destroy()
  }

  @Test func `scattered pages are collapsed into runs as large as a table`() throws {
    _ = MemorySwapDevice.shared
    let span: UInt64 = 512 * page
    let space = try AddressSpace.create()
    let base: UInt64 = 0x20_0000_0000
    _ = try space.map(at: base - span, length: 6 * span, protection: [.read, .write], flags: .fixed, object: nil)
    /// Whether the block is one run at a multiple of its size.
    func isLarge(_ block: UInt64) -> Bool {
      let first = space.tables.withLock { $0.entry(block) }.frame
      return first.rawValue & 511 == 0
        && (0..<512 as Range<UInt64>).allSatisfy { index in
          let entry = space.tables.withLock { $0.entry(block + index * page) }
          return entry.isWritable && entry.holds(first.advanced(by: Int(index)))
        }
    }
    // Far from each other, so that each has a small window; some leave for swap, one is the page of zeros.
    for index in stride(from: 0 as UInt64, to: 1024, by: 9) { try space.store(index + 1, base + index * page) }
    try space.advise(base + 90 * page, 100 * page, .pageOut)
    #expect(try space.load(base + 6 * page) == 0)
    let anonymous = VirtualMemoryStatistics.snapshot().anonymousPages - space.statistics.anonymousPages
    try space.advise(base, 2 * span, .collapse)
    #expect(isLarge(base) && isLarge(base + span))
    #expect(space.statistics.anonymousPages == 1024 && space.statistics.swappedPages == 0)
    #expect(VirtualMemoryStatistics.snapshot().anonymousPages == anonymous + 1024)
    for index in 0..<1024 as Range<UInt64> {
      #expect(try space.load(base + index * page) == (index % 9 == 0 ? index + 1 : 0))
    }
    // Once more changes nothing; a child sees the same, and what it collapses is its own.
    let first = space.tables.withLock { $0.entry(base) }.frame
    try space.advise(base, 2 * span, .collapse)
    #expect(space.tables.withLock { $0.entry(base) }.frame == first)
    let child = try space.fork()
    try space.store(77, base)
    try child.advise(base, span, .collapse)
    try space.advise(base, span, .collapse)
    #expect(isLarge(base))
    #expect(try child.load(base) == 1 && space.load(base) == 77 && child.load(base + 9 * page) == 10)
    #expect(TestMachine.audit([space, child]) && TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
    #expect(ReclaimCheck.failures([space, child]) == [])
    child.destroy()
    // What cannot be: a pinned page, a block without pages, less than a block, memory of other kinds, a hole.
    try space.store(5, base + 2 * span + 3 * page)
    let runs = try space.pin(base + 2 * span + 3 * page, page)
    #expect(throws: Errno.EAGAIN) { try space.advise(base + 2 * span, span, .collapse) }
    AddressSpace.unpin(runs)
    try space.advise(base + 2 * span, span, .collapse)
    #expect(try space.load(base + 2 * span + 3 * page) == 5)
    #expect(throws: Errno.EINVAL) { try space.advise(base + 3 * span, span, .collapse) }
    #expect(throws: Errno.EINVAL) { try space.advise(base + page, 8 * page, .collapse) }
    try space.advise(base + page, 512 * page, .collapse)
    let small = try space.mapAnonymous(500 * page)
    #expect(throws: Errno.EINVAL) { try space.advise(small, 500 * page, .collapse) }
    let shared = try space.mapAnonymous(2 * span, [.read, .write], .shared)
    #expect(throws: Errno.EINVAL) { try space.advise(shared, 2 * span, .collapse) }
    try space.advise(base, span, .noHugePages)
    #expect(throws: Errno.EINVAL) { try space.advise(base, span, .collapse) }
    try space.unmap(base + 3 * span, page)
    #expect(throws: Errno.ENOMEM) { try space.advise(base + span, 2 * span + page, .collapse) }
    #expect(TestMachine.audit([space]) && TestMachine.isConsistent(space))
    let free = TestMachine.freeFrames
    space.destroy()
    #expect(TestMachine.freeFrames > free)
  }

  @Test func `collapsing without 2 MiB in a row fails, or moves pages out of the way`() throws {
    _ = MemorySwapDevice.shared
    let span: UInt64 = 512 * page
    let space = try AddressSpace.create()
    let base: UInt64 = 0x20_0000_0000
    _ = try space.map(at: base, length: span, protection: [.read, .write], flags: .fixed, object: nil)
    for index in stride(from: 0 as UInt64, to: 512, by: 9) { try space.store(index, base + index * page) }
    // Everything is taken that cannot move, but for single frames.
    var taken: [PageFrameNumber] = []
    while let frame = try? FrameAllocator.allocate(options: .reserved) { taken.append(frame) }
    #expect(throws: Errno.ENOMEM) { try space.advise(base, span, .collapse) }
    for frame in taken { FrameAllocator.free(frame) }
    for index in 0..<512 as Range<UInt64> {
      #expect(try space.load(base + index * page) == (index % 9 == 0 ? index : 0))
    }
    try space.advise(base, span, .collapse)
    for index in 0..<512 as Range<UInt64> {
      #expect(try space.load(base + index * page) == (index % 9 == 0 ? index : 0))
    }
    #expect(TestMachine.audit([space]) && TestMachine.isConsistent(space))
    space.destroy()
  }
}
