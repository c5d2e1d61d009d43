// Page replacement and swap: pages leave memory and come back, and lists, slots and references agree at every step.

import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

/// A swap area in the test's own memory.
final class MemorySwapDevice: SwapDevice {
  let swapName: ByteString
  let swapPageCount: Int
  var isSwapFile: Bool { false }
  var pages: [Int: [UInt8]] = [:]
  var reads = 0
  var writes = 0
  var failure: Errno?
  /// Threads that fault read at the same time.
  private let lock = SpinLock<Void>((), rank: .log)

  init(_ name: String, pages: Int) {
    swapName = ByteString(name)
    swapPageCount = pages
  }

  func readSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    if let failure { throw failure }
    for index in 0..<frames.count {
      let page = lock.withLock { _ in
        reads += index == 0 ? 1 : 0
        return pages[slot + index]
      }
      guard let page else {
        Issue.record("slot \(slot + index) was never written")
        throw .EIO
      }
      unsafe page.withUnsafeBytes { unsafe frames[index].pointer.copyMemory(from: $0.baseAddress!, byteCount: 4096) }
    }
  }

  func writeSwap(slot: Int, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    if let failure { throw failure }
    for index in 0..<frames.count {
      let page = Array(unsafe UnsafeRawBufferPointer(start: frames[index].pointer, count: 4096))
      lock.withLock { _ in
        writes += index == 0 ? 1 : 0
        pages[slot + index] = page
      }
    }
  }

  /// The area that all tests use.
  static let shared: MemorySwapDevice = {
    let device = MemorySwapDevice("/dev/test", pages: 20_000)
    try! SwapSpace.enable(device)
    return device
  }()
}

/// What must hold between lists, slots and page tables whenever nobody is in the middle of something.
enum ReclaimCheck {
  static func failures(_ spaces: [AddressSpace]) -> [String] {
    var failures: [String] = []
    for list in [PageList.inactiveAnonymous, .activeAnonymous, .inactiveFile, .activeFile] {
      guard let frames = PageLists.contents(list) else {
        failures.append("\(list) is broken")
        continue
      }
      for frame in frames where frame.frame.referenceCount <= 0 || frame.frame.referenceCount >= Frames.inspectionBias {
        failures.append("\(list) holds \(frame.rawValue) with \(frame.frame.referenceCount) references")
      }
    }
    // Slots are named as often as their count says, and a cached frame knows its slot.
    var named: [SwapEntry: Int] = [:]
    var slots: Set<UnsafeMutablePointer<UInt64>> = []  // spaces may share them
    for space in spaces {
      var swapped = 0
      space.tables.withLock { tables in
        unsafe tables.forEachPlace(0, 1 << 47) { _, slot, _ in
          let entry = unsafe PageTableEntry(word: slot.pointee)
          guard entry.isSwapped else { return }
          swapped += 1
          if unsafe slots.insert(slot).inserted { named[entry.swapEntry, default: 0] += 1 }
        }
      }
      if swapped != space.tables.withLock({ $0.census().all.swapped }) { failures.append("swappedPages is wrong") }
    }
    for number in 1..<UInt32(max(1, ReverseMap.capacity)) {
      _ = ReverseMap.withObject(OwnerNumber(rawValue: number)) { object in
        let (swapped, names) = namedSlots(object)
        for entry in names { named[entry, default: 0] += 1 }
        if swapped != names.count { failures.append("an object counts \(swapped) swapped pages, not \(names.count)") }
      }
    }
    SwapSpace.state.withLock { state in
      for (index, area) in state.areas.enumerated() {
        guard let area else { continue }
        var next = area.nextUsed(from: 1)
        var used = 0
        while let slot = next {
          used += 1
          let entry = SwapEntry(area: index, slot: slot)
          let found = area[slot]
          if found.isBusy { failures.append("\(slot) is busy") }
          if found.references != named[entry, default: 0] {
            failures.append("\(slot) has \(found.references) references, not \(named[entry, default: 0])")
          }
          if let frame = found.frame, PageOwner.swapEntry(frame) != entry { failures.append("\(slot): wrong frame") }
          named[entry] = nil
          next = area.nextUsed(from: slot + 1)
        }
        if used != area.capacity - area.freeSlots { failures.append("free slots are counted wrongly") }
      }
    }
    if !named.isEmpty { failures.append("\(named.count) entries name free slots") }
    return failures
  }

  /// How many pages of the object are on swap areas by its own count, and under which names.
  private static func namedSlots(_ object: MemoryObject) -> (count: Int, names: [SwapEntry]) {
    object.pages.withLock { pages in
      var names: [SwapEntry] = []
      var position: UInt64 = 0
      while let (index, value) = pages.tree.next(from: position) {
        if case .swapped(let entry) = ObjectPages.page(value), pages.tree.hasTag(ObjectPages.swappedTag, at: index) {
          names.append(entry)
        }
        position = index + 1
      }
      return (pages.swapped, names)
    }
  }
}

extension VirtualMemoryTests {
  /// Ages and evicts until nothing more goes, or `frames` are free.
  private func evict(_ frames: Int) -> Int {
    var freed = 0
    for _ in 0..<4 where freed < frames { freed += Reclaim().reclaim(frames: frames - freed) }
    return freed
  }

  @Test func `anonymous pages go to swap and come back with what was in them`() throws {
    let device = MemorySwapDevice.shared
    let before = SwapSpace.freePages
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(1000 * page)
    for index in 0..<1000 as Range<UInt64> { try space.store(index + 1, address + index * page) }
    let writes = device.writes
    #expect(evict(900) >= 900)
    #expect(space.statistics.swappedPages >= 900)
    #expect(space.statistics.anonymousPages + space.statistics.swappedPages == 1000)
    #expect(SwapSpace.freePages <= before - 900)
    #expect(device.writes - writes < 200, "pages are written in clusters")
    #expect(ReclaimCheck.failures([space]) == [])
    #expect(TestMachine.isConsistent(space))
    let reads = device.reads
    for index in 0..<1000 as Range<UInt64> { #expect(try space.load(address + index * page) == index + 1) }
    #expect(device.reads - reads < 300, "pages are read in clusters")
    // Everything is in memory and the program's alone: no slot is left.
    #expect(space.statistics.anonymousPages == 1000 && space.statistics.swappedPages == 0)
    #expect(SwapSpace.freePages == before && SwapSpace.cachedPages == 0)
    for index in 0..<1000 as Range<UInt64> { try space.store(index, address + index * page) }
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }

  @Test func `pages in use stay and others go first`() throws {
    _ = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(800 * page)
    for index in 0..<800 as Range<UInt64> { try space.store(index, address + index * page) }
    // The program works on the first hundred pages: on this machine a use is a fault.
    for _ in 0..<15 {
      for index in 0..<100 as Range<UInt64> { try space.handleFault(at: address + index * page, access: .write) }
      _ = Reclaim().reclaim(frames: 16)
    }
    let hot = space.residency(address, address + 100 * page).all
    let cold = space.residency(address + 100 * page, address + 800 * page).all
    #expect(hot >= 90, "\(hot) of 100 hot pages and \(cold) of 700 cold ones are in memory")
    #expect(cold < 400)
    space.destroy()
  }

  @Test func `fork shares slots and the last one keeps the page`() throws {
    _ = MemorySwapDevice.shared
    let before = SwapSpace.freePages
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(600 * page)
    for index in 0..<600 as Range<UInt64> { try space.store(index, address + index * page) }
    let child = try space.fork()
    #expect(evict(600) >= 500)
    let grandchild = try child.fork()
    #expect(ReclaimCheck.failures([space, child, grandchild]) == [])
    for index in 0..<600 as Range<UInt64> {
      #expect(try child.load(address + index * page) == index)
      try child.store(index + 1000, address + index * page)
    }
    #expect(ReclaimCheck.failures([space, child, grandchild]) == [])
    _ = evict(700)
    for index in 0..<600 as Range<UInt64> {
      #expect(try space.load(address + index * page) == index)
      #expect(try child.load(address + index * page) == index + 1000)
    }
    space.destroy()
    child.destroy()
    for index in 0..<600 as Range<UInt64> { #expect(try grandchild.load(address + index * page) == index) }
    #expect(ReclaimCheck.failures([grandchild]) == [])
    grandchild.destroy()
    #expect(SwapSpace.freePages == before)
  }

  @Test func `pages that are in memory already are left alone by reading around another`() throws {
    _ = MemorySwapDevice.shared
    let free = TestMachine.freeFrames
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(64 * page)
    for index in 0..<64 as Range<UInt64> { try space.store(index + 1, address + index * page) }
    let child = try space.fork()
    // With the child's slots pages stay in the swap cache: some go, some stay, and those around them come again.
    for round in 0..<40 as Range<UInt64> {
      _ = Reclaim().reclaim(frames: round % 8 == 0 ? 64 : 5)
      for index in stride(from: round % 9, to: 64, by: 9) {
        #expect(try space.load(address + index * page) == index + 1)
      }
      #expect(TestMachine.audit([space, child]))
    }
    space.destroy()
    child.destroy()
    #expect(SwapSpace.cachedPages == 0)
    // What the radix tree of the reverse map keeps aside.
    #expect(abs(TestMachine.freeFrames - free) <= 2)
  }

  @Test func `a page that cannot be written stays in memory`() throws {
    let device = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(100 * page)
    for index in 0..<100 as Range<UInt64> { try space.store(index, address + index * page) }
    device.failure = .EIO
    _ = evict(100)
    for index in 0..<100 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    device.failure = nil
    #expect(ReclaimCheck.failures([space]) == [])
    #expect(evict(80) >= 80)
    device.failure = .EIO
    var failed = 0
    for index in 0..<100 as Range<UInt64> where (try? space.load(address + index * page)) == nil { failed += 1 }
    #expect(failed >= 60)
    device.failure = nil
    for index in 0..<100 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    space.destroy()
  }

  @Test func `locked and pinned pages are left alone`() throws {
    _ = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(200 * page)
    for index in 0..<200 as Range<UInt64> { try space.store(index, address + index * page) }
    try space.lock(address, 50 * page, onFault: .now, isPrivileged: true)
    let runs = try space.pin(address + 50 * page, 50 * page)
    _ = evict(200)
    #expect(space.residency(address, address + 100 * page).all == 100)
    #expect(space.residency(address + 100 * page, address + 200 * page).all < 50)
    AddressSpace.unpin(runs)
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }
}

extension VirtualMemoryTests {
  @Test func `swap-out goes on with no free frame at all`() throws {
    _ = MemorySwapDevice.shared
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(400 * page)
    let object = MemoryObject(store: nil, size: 200 * page)
    let shared = try space.map(at: 0, length: 200 * page, protection: [.read, .write], flags: .shared, object: object)
    for index in 0..<400 as Range<UInt64> { try space.store(index, address + index * page) }
    for index in 0..<200 as Range<UInt64> { try space.store(index, shared + index * page) }
    var reservation = PageReservation()
    try reservation.fill(8)
    var taken: [PageFrameNumber] = []
    while let frame = try? FrameAllocator.allocate(options: .reserved) { taken.append(frame) }
    // What is left is in the stocks of other CPUs.
    #expect(FrameAllocator.isExhausted)
    #expect(throws: Errno.ENOMEM) { try FrameAllocator.allocate() }
    #expect(throws: Errno.ENOMEM) { try FrameAllocator.allocate(options: .reserved) }
    let reserved = reservation.count
    #expect(reserved == 8)
    while let frame = reservation.take() { taken.append(frame) }
    let before = (ReclaimStatistics.snapshot(), MemoryStatistics.snapshot())
    #expect(evict(500) >= 500)
    let after = (ReclaimStatistics.snapshot(), MemoryStatistics.snapshot())
    #expect(after.1.free - before.1.free >= 500)
    #expect(after.0.swappedOutExhausted - before.0.swappedOutExhausted >= 500, "nothing could be allocated meanwhile")
    // Frames are put aside by this CPU as soon as there are some; nothing else was taken.
    #expect(after.1.allocations - before.1.allocations <= 8)
    for frame in taken { FrameAllocator.free(frame) }
    for index in 0..<400 as Range<UInt64> { #expect(try space.load(address + index * page) == index) }
    for index in 0..<200 as Range<UInt64> { #expect(try space.load(shared + index * page) == index) }
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }

  @Test func `swapoff brings every page back`() throws {
    _ = MemorySwapDevice.shared
    let device = MemorySwapDevice("/dev/other", pages: 1000)
    try SwapSpace.enable(device, priority: 5)
    #expect(throws: Errno.EBUSY) { try SwapSpace.enable(device) }
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(500 * page)
    for index in 0..<500 as Range<UInt64> { try space.store(index, address + index * page) }
    let child = try space.fork()
    _ = Reclaim().reclaim(frames: 400)
    let area = try #require(SwapSpace.statistics().first { $0.name == device.swapName })
    #expect(area.used >= 400 && area.priority == 5 && area.size == 999)
    // Pages without rights come back as well.
    try space.protect(address, 100 * page, [])
    try SwapSpace.disable(device.swapName)
    #expect(!SwapSpace.statistics().contains { $0.name == device.swapName })
    #expect(throws: Errno.EINVAL) { try SwapSpace.disable(device.swapName) }
    device.failure = .EIO
    try space.protect(address, 100 * page, .read)
    for index in 0..<500 as Range<UInt64> {
      #expect(try space.load(address + index * page) == index)
      #expect(try child.load(address + index * page) == index)
    }
    #expect(ReclaimCheck.failures([space, child]) == [])
    space.destroy()
    child.destroy()
  }
}

extension VirtualMemoryTests {
  @Test func `compaction moves pages of files that programs have mapped`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 2000 * page)
    let space = try AddressSpace.create()
    let file = try space.map(at: 0, length: 2000 * page, protection: .read, flags: .shared, object: object)
    let address = try space.mapAnonymous(4000 * page)
    for index in 0..<2000 as Range<UInt64> {
      _ = try space.load(file + index * page)
      for offset in 0..<2 as Range<UInt64> { try space.store(1, address + (2 * index + offset) * page) }
    }
    try space.unmap(address, 4000 * page)
    let before = ReclaimStatistics.snapshot()
    Compaction.compactAll()
    let after = ReclaimStatistics.snapshot()
    // How many depends on what earlier tests have left scattered.
    #expect(after.migrated > before.migrated)
    let reads = store.reads
    for index in 0..<2000 as Range<UInt64> {
      #expect(try space.load(file + index * page) == TestStore.initial(index))
    }
    #expect(store.reads == reads, "nothing was read again")
    #expect(ReclaimCheck.failures([space]) == [])
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space]))
    space.destroy()
    _ = store
  }
}

extension VirtualMemoryTests {
  @Test func `compaction moves pages and loses nothing`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 4000 * page)
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(8000 * page)
    let file = try space.map(at: 0, length: 4000 * page, protection: .read, flags: .shared, object: object)
    for index in 0..<4000 as Range<UInt64> { _ = try space.load(file + index * page) }
    for index in 0..<8000 as Range<UInt64> { try space.store(index, address + index * page) }
    // Holes everywhere: two pages of three go.
    for index in 0..<8000 as Range<UInt64> where index % 3 != 0 {
      try space.advise(address + index * page, page, .discard)
    }
    let runs = try space.pin(address, 30 * page)
    let before = ReclaimStatistics.snapshot()
    Compaction.compactAll()
    let after = ReclaimStatistics.snapshot()
    let child = try space.fork()
    #expect(after.migrated - before.migrated > 500, "\(after.migrated - before.migrated) pages moved")
    // A page of a file that programs have mapped.
    guard case .ready(let old) = object.pages.withLock({ $0.find(7) }) else { throw Errno.ENOENT }
    let new = try Frames.allocate()
    try #require(PageLists.isolate(old))
    #expect(Migration.move(old, to: new))
    old.frame.release(count: Frames.inspectionBias)
    #expect(object.pages.withLock { $0.find(7) } != .ready(old))
    for index in 0..<8000 as Range<UInt64> {
      #expect(try space.load(address + index * page) == (index % 3 == 0 ? index : 0))
      if index % 3 == 0 { #expect(try child.load(address + index * page) == index) }
    }
    for index in 0..<4000 as Range<UInt64> {
      #expect(try space.load(file + index * page) == TestStore.initial(index))
    }
    AddressSpace.unpin(runs)
    #expect(ReclaimCheck.failures([space, child]) == [])
    #expect(TestMachine.isConsistent(space) && TestMachine.audit([space, child]))
    child.destroy()
    space.destroy()
    _ = store
  }
}
