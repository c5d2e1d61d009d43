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

// Middle tables: those of mappings that cover whole GiBs.
extension VirtualMemoryTests {
  private static var gibibyte: UInt64 { 1 << 30 }

  @Test func `large mappings lie at multiples of what a table covers, while there is room`() throws {
    let space = try AddressSpace.create()
    space.setMappingLayout(MappingLayout(base: 0x20_1234_5000, direction: .down))
    let object = MemoryObject(store: nil, size: 1 << 40)
    func place(_ length: UInt64, at wish: UInt64 = 0, of object: MemoryObject? = nil, offset: UInt64 = 0) throws
      -> UInt64
    {
      try space.map(
        at: wish, length: length, protection: [.read, .write],
        flags: object == nil ? .noReserve : [.shared, .noReserve], object: object, offset: offset)
    }
    #expect(try place(Self.gibibyte) == 0x1f_c000_0000)
    #expect(try place(Self.gibibyte + page) == 0x1f_4000_0000)
    #expect(try place(4 << 20) & 0x1f_ffff == 0)
    // Not a multiple: as close as can be.
    #expect(try place(4 << 20 + page) == 0x20_119f_f000)
    #expect(try place(4 << 20 + page, of: object) & 0x1f_ffff == 0)
    #expect(try place(Self.gibibyte, of: object, offset: 3 << 21) & 0x3fff_ffff == 3 << 21)
    #expect(try place(Self.gibibyte, of: object, offset: 5 * page) & 0x3fff_ffff == 5 * page)
    // A wish is granted as it is; in vain it counts for nothing.
    #expect(try place(Self.gibibyte, at: 0x10_0000_1000) == 0x10_0000_1000)
    #expect(try place(Self.gibibyte, at: 0x10_0000_1000) & 0x3fff_ffff == 0)
    // A hole that is too small for a good place is better than none.
    let narrow = try AddressSpace.create()
    let end = AddressSpace.userLimit & ~0xfff_ffff
    let (minimum, window) = (AddressSpace.minimumAddress, AddressSpace.kernelWindow)
    for taken in [minimum..<window.lowerBound, window.upperBound..<end - Self.gibibyte - page] {
      _ = try narrow.map(
        at: taken.lowerBound, length: taken.upperBound - taken.lowerBound, protection: [], flags: [.fixed, .noReserve],
        object: nil)
    }
    narrow.setMappingLayout(MappingLayout(base: end, direction: .down))
    #expect(try narrow.mapAnonymous(Self.gibibyte, [.read, .write], .noReserve) == end - Self.gibibyte)
    narrow.destroy()
    space.destroy()
  }

  @Test func `a GiB that unrelated programs map has all its tables once`() throws {
    let object = MemoryObject(store: nil, size: Self.gibibyte)
    var spaces: [AddressSpace] = []
    let before = Self.tables
    for number in 0..<16 as Range<UInt64> {
      let space = try AddressSpace.create()
      let address = try space.map(
        at: 0, length: Self.gibibyte, protection: [.read, .write], flags: .shared, object: object)
      for part in stride(from: number, to: 64, by: 16) { try space.store(part, address + part * 8 << 21) }
      spaces.append(space)
    }
    // A root and one table below it for each; one middle table and 64 of the last level for all.
    #expect(Self.tables == before + 16 * 2 + 65)
    func address(_ space: AddressSpace) -> UInt64 { space.areas.withReadLock { $0.map.first?.start ?? 0 } }
    for space in spaces {
      for part in 0..<64 as Range<UInt64> { #expect(try space.load(address(space) + part * 8 << 21) == part) }
    }
    #expect(Self.tables == before + 16 * 2 + 65)
    // fork keeps them, whichever way.
    let usual = unsafe AddressSpace.eagerCopyPages
    defer { unsafe AddressSpace.eagerCopyPages = usual }
    for eager in [usual, -1] {
      unsafe AddressSpace.eagerCopyPages = eager
      let tables = Self.tables
      let child = try spaces[0].fork()
      #expect(Self.tables <= tables + 2)
      try child.store(eager == -1 ? 1 : 2, address(child) + page)
      #expect(try spaces[1].load(address(spaces[1]) + page) == (eager == -1 ? 1 : 2))
      #expect(child.statistics.objectPages == spaces[1].statistics.objectPages)
      spaces.append(child)
    }
    #expect(TestMachine.audit(spaces))
    // Who cuts a piece out has a middle table of its own, and the others nothing of it.
    try spaces[2].unmap(address(spaces[2]) + 8 << 21, page)
    #expect(throws: Errno.EFAULT) { try spaces[2].load(address(spaces[2]) + 8 << 21) }
    #expect(try spaces[2].load(address(spaces[2]) + 16 << 21) == 2)
    #expect(try spaces[3].load(address(spaces[3]) + 8 << 21) == 1)
    try spaces[4].protect(address(spaces[4]) + 16 << 21, page, .read)
    #expect(throws: Errno.EFAULT) { try spaces[4].store(1, address(spaces[4]) + 16 << 21) }
    try spaces[5].store(9, address(spaces[5]) + 16 << 21)
    #expect(try spaces[4].load(address(spaces[4]) + 16 << 21) == 9)
    object.truncate(to: 3 * 8 << 21)
    for space in spaces {
      #expect(throws: Errno.EFAULT) { try space.load(address(space) + 40 << 21) }
      #expect(TestMachine.isConsistent(space))
    }
    #expect(try spaces[6].load(address(spaces[6]) + 16 << 21) == 9)
    #expect(TestMachine.audit(spaces))
    for space in spaces { space.destroy() }
    #expect(object.sharedTables.withLock { $0.count } == 0)
  }

  @Test func `random calls on large shared mappings agree with a flat model`() throws {
    var random = SeededGenerator("middle tables")
    let usual = unsafe AddressSpace.eagerCopyPages
    defer { unsafe AddressSpace.eagerCopyPages = usual }
    let before = VirtualMemoryStatistics.snapshot()
    _ = Frames.zeroPage
    let freeBefore = TestMachine.freeFrames
    do {
      let base: UInt64 = 0x20_0000_0000
      // Three GiB of addresses; the object has two and a half. What is touched lies near the ends of tables.
      let object = MemoryObject(store: nil, size: 5 * Self.gibibyte / 2)
      var values: [UInt64: UInt64] = [:]
      var size = 5 * Self.gibibyte / 2
      struct Part { var offset: UInt64, isWritable: Bool }
      /// What each space shows: address of a 2 MiB block to its place in the object.
      struct Model {
        let space: AddressSpace
        var blocks: [UInt64: Part]
      }
      func fresh() throws -> Model { Model(space: try AddressSpace.create(), blocks: [:]) }
      var models = [try fresh(), try fresh()]
      func block() -> UInt64 {
        let near = [0, 1, 255, 510, 511]
        return (UInt64(random.below(3)) * 512 + UInt64(near[random.below(near.count)])) << 21
      }
      for step in 0..<SeededGenerator.modelSteps(3_000, parts: 4) {
        let which = random.below(models.count)
        let space = models[which].space
        switch random.below(24) {
        case 0, 1:  // map whole GiBs, or a few blocks
          let isLarge = random.below(3) > 0
          let start = isLarge ? UInt64(random.below(2)) << 30 : block()
          let length = isLarge ? Self.gibibyte * UInt64(1 + random.below(2)) : UInt64(1 + random.below(3)) << 21
          let offset = random.below(4) > 0 ? start : UInt64(random.below(2)) << 21
          _ = try space.map(
            at: base + start, length: length, protection: [.read, .write], flags: [.shared, .fixed, .noReserve],
            object: object, offset: offset)
          for place in stride(from: 0, to: length, by: 1 << 21) {
            models[which].blocks[start + place] = Part(offset: offset + place, isWritable: true)
          }
        case 2:
          let start = block()
          try space.unmap(base + start, 1 << 21)
          models[which].blocks[start] = nil
        case 3:
          let start = block()
          guard var part = models[which].blocks[start] else { break }
          part.isWritable = random.below(2) == 0
          try space.protect(base + start, 1 << 21, part.isWritable ? [.read, .write] : .read)
          models[which].blocks[start] = part
        case 4:
          let start = block()
          guard models[which].blocks[start] != nil else { break }
          try space.advise(base + start, UInt64(1 + random.below(512)) * page, .discard)
        case 5:
          let (old, new) = (block(), block())
          guard let part = models[which].blocks[old], old != new else { break }
          _ = try space.remap(
            base + old, oldLength: 1 << 21, newLength: 1 << 21, options: [.mayMove, .fixed], target: base + new)
          models[which].blocks[old] = nil
          models[which].blocks[new] = part
        case 6 where models.count < 6:
          unsafe AddressSpace.eagerCopyPages = random.below(2) == 0 ? -1 : usual
          models.append(Model(space: try space.fork(), blocks: models[which].blocks))
        case 7 where models.count > 2:
          space.destroy()
          models.remove(at: which)
        case 8:
          let end = (UInt64(random.below(4)) + 1) * 5 * Self.gibibyte / 8 + UInt64(random.below(3)) * page
          object.truncate(to: end)
          size = end
          values = values.filter { $0.key < end }
        case 9:
          let start = block()
          object.punchHole(from: start, length: page)
          values[start] = nil
        default:
          let start = block()
          let address = start + UInt64([0, 1, 511][random.below(3)]) * page
          guard let part = models[which].blocks[start], part.offset + address - start < size else {
            #expect(throws: Errno.EFAULT) { try space.load(base + address) }
            break
          }
          let place = part.offset + address - start
          if random.below(2) == 0 {
            #expect(try space.load(base + address) == values[place] ?? 0, "step \(step)")
          } else if part.isWritable {
            try space.store(UInt64(step), base + address)
            values[place] = UInt64(step)
          } else {
            #expect(throws: Errno.EFAULT) { try space.store(1, base + address) }
          }
        }
        if step % 50 == 0 {
          #expect(TestMachine.audit(models.map(\.space)), "step \(step)")
          for model in models { #expect(TestMachine.isConsistent(model.space), "step \(step)") }
        }
      }
      for model in models { model.space.destroy() }
      object.truncate(to: 0)
      #expect(object.sharedTables.withLock { $0.count } == 0)
    }
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.pageTablePages == before.pageTablePages && after.areas == before.areas)
    #expect(TestMachine.freeFrames == freeBefore)
  }
}
