// What programs do while the kernel waits, without a spin lock, for the machine to forget a page: the page is looked at again.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Testing

@testable import VirtualMemory

/// What happens at the next commits, once each.
private nonisolated(unsafe) var events: [() -> Void] = []

extension VirtualMemoryTests {
  /// Runs `body`; meanwhile each of `happening` happens while a commit is waited for, in order.
  private func during(_ happening: [() -> Void], _ body: () throws -> Void) rethrows {
    events = happening
    machine_fake_spaces.commit = { _ in
      // It may lead to commits of its own.
      guard !events.isEmpty else { return }
      events.removeFirst()()
    }
    defer { machine_fake_spaces.commit = nil }
    try body()
  }

  private func isolated(_ space: AddressSpace, _ address: UInt64) throws -> PageFrameNumber {
    let frame = space.tables.withLock { $0.entry(address) }.frame
    try #require(PageLists.isolate(frame))
    return frame
  }

  @Test func `a private page that is written while it is being moved keeps what was written`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(page)
    try space.store(1, address)
    let old = try isolated(space, address)
    let new = try Frames.allocate()
    // The program faults and has the page again; then the kernel writes for it, which shows in no bit of the entry.
    let use = {
      try? space.makeAccessible(address, .write, .byInstruction)
      try? space.store(2, address)
    }
    let write = { _ = try? space.store(3, address) }
    try during([use, use, write]) { #expect(Migration.move(old, to: new)) }
    #expect(events.isEmpty)
    #expect(try space.load(address) == 3)
    #expect(space.tables.withLock { $0.entry(address) }.frame == new)
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
    old.frame.release(count: Frames.inspectionBias)
    space.destroy()
  }

  @Test func `a private page that is always in use, or goes, stays where it is`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(page)
    try space.store(1, address)
    let use = { _ = try? space.makeAccessible(address, .write, .byInstruction) }
    let go = { _ = try? space.advise(address, page, .discard) }
    for happening in [[() -> Void](repeating: use, count: 100), [go]] {
      let old = try isolated(space, address)
      let new = try Frames.allocate()
      try during(happening) { #expect(!Migration.move(old, to: new)) }
      Frames.release(new)
      Compaction.giveBack(old)
    }
    #expect(try space.load(address) == 0)
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
    space.destroy()
  }

  @Test func `a page of a file that is read and written while it is being moved keeps what was written`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: page, protection: [.read, .write], flags: .shared, object: object)
    #expect(try space.load(address) == TestStore.initial(0))
    let old = try isolated(space, address)
    let new = try Frames.allocate()
    let read = { _ = try? space.makeAccessible(address, .read, .byInstruction) }
    let write = { _ = try? space.store(9, address) }
    try during([read, write]) { #expect(Migration.move(old, to: new)) }
    #expect(events.isEmpty)
    #expect(object.pages.withLock { $0.find(0) } == .ready(new))
    #expect(try space.load(address) == 9)
    #expect(store.reads == 1)
    try object.writeBack()
    #expect(store.values[0] == 9)
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
    old.frame.release(count: Frames.inspectionBias)
    space.destroy()
    _ = store
  }

  @Test func `a page of a file that is written while reclaim waits is not dropped`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: page, protection: [.read, .write], flags: .shared, object: object)
    #expect(try space.load(address) == TestStore.initial(0))
    // Without its accessed bit it could go.
    try space.advise(address, page, .cold)
    var batch = PageBatch()
    batch.append(try isolated(space, address))
    // Something has to be forgotten for a wait: another page, in use.
    let other = try space.map(
      at: 0, length: page, protection: .read, flags: .shared, object: MemoryObject(store: store, size: page))
    _ = try space.load(other)
    try space.makeAccessible(other, .read, .byInstruction)
    batch.append(try isolated(space, other))
    var dropped = 0
    during([{ _ = try? space.store(9, address) }]) { dropped = Reclaim.dropFiles(batch) }
    #expect(events.isEmpty && dropped == 0)
    #expect(try space.load(address) == 9)
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
    space.destroy()
    _ = store
  }

  @Test func `a mapping of many parts is emptied part by part, and waited for once in each`() throws {
    let object = MemoryObject(store: nil, size: 20_000 * page)
    let spaces = try (0..<3).map { _ in try AddressSpace.create() }
    var addresses: [UInt64] = []
    for space in spaces {
      let address = try space.map(
        at: 0, length: 20_000 * page, protection: .read, flags: [], object: object)
      for index in stride(from: 0, to: 20_000, by: 1_000) as StrideTo<UInt64> {
        _ = try space.load(address + index * page)
      }
      addresses.append(address)
    }
    object.truncate(to: 10_000 * page)
    for (space, address) in zip(spaces, addresses) {
      #expect(TestMachine.isConsistent(space))
      #expect(space.tables.withLock { $0.entry(address + 9_000 * page) }.isResident)
      #expect(space.tables.withLock { $0.entry(address + 10_000 * page) }.isEmpty)
      #expect(space.tables.withLock { $0.entry(address + 19_000 * page) }.isEmpty)
    }
    #expect(TestMachine.audit(spaces))
    for space in spaces { space.destroy() }
  }
}

#if DEBUG
  @Suite struct WaitOrderTests {
    @Test func `no machine is waited for with a spin lock held`() async {
      await #expect(processExitsWith: .failure) {
        SpinLock(1, rank: .pageTable).withLock { _ in
          var gather = MappingGather(space: 1)
          gather.finish()
        }
      }
    }
  }
#endif
