import LinuxABI
@testable import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

private let huge: UInt64 = 2 << 20

/// What a shared mapping holds, whoever maps it.
private final class SharedContent {
  var values: [UInt64: UInt64] = [:]
}

private struct Program {
  struct Area {
    var address: UInt64
    var pages: UInt64
    var shared: SharedContent?
    /// Whether every page is promised: touching for the first time cannot fail.
    var isPromised: Bool
  }
  var space: AddressSpace
  var areas: [Area] = []
  /// Numbers in private memory, by address.
  var values: [UInt64: UInt64] = [:]
}

private func failure(_ body: () throws(Errno) -> Void) -> Errno? {
  do throws(Errno) {
    try body()
    return nil
  } catch {
    return error
  }
}

extension VirtualMemoryTests {
  @Test func `huge pages are promised, filled, copied and given back as wholes`() throws {
    HugePagePool.resize(to: 4)
    defer { HugePagePool.resize(to: 0) }
    typealias Counts = HugePagePool.Statistics
    let space = try AddressSpace.create()
    let address = try space.map(
      at: 0, length: 3 * huge, protection: [.read, .write], flags: .hugeTLB, object: nil)
    #expect(address % huge == 0)
    #expect(HugePagePool.statistics == Counts(total: 4, free: 4, reserved: 3, surplus: 0))
    #expect(
      failure { () throws(Errno) in
        _ = try space.map(at: 0, length: 2 * huge, protection: .read, flags: .hugeTLB, object: nil)
      } == .ENOMEM)
    #expect(failure { () throws(Errno) in try space.unmap(address, page) } == .EINVAL)
    #expect(failure { () throws(Errno) in try space.protect(address + page, huge, .read) } == .EINVAL)
    try space.store(1, address)
    try space.store(2, address + huge - 8)
    #expect(HugePagePool.statistics == Counts(total: 4, free: 3, reserved: 2, surplus: 0))
    #expect(space.statistics.anonymousPages == 0 && space.statistics.hugePages == 512)

    let child = try space.fork()
    try child.store(3, address)
    #expect(try space.load(address) == 1)
    #expect(try child.load(address + huge - 8) == 2)
    #expect(HugePagePool.statistics == Counts(total: 4, free: 2, reserved: 2, surplus: 0))
    // Nothing is left for the child, but what the parent was promised is there.
    #expect(failure { () throws(Errno) in try child.store(3, address + huge) } == .EFAULT)
    try space.store(4, address + huge)
    try space.store(5, address + 2 * huge)
    #expect(TestMachine.isConsistent(space) && TestMachine.isConsistent(child))
    child.destroy()
    #expect(HugePagePool.statistics == Counts(total: 4, free: 1, reserved: 0, surplus: 0))
    try space.advise(address, huge, .discard)
    #expect(HugePagePool.statistics == Counts(total: 4, free: 2, reserved: 1, surplus: 0))
    #expect(try space.load(address) == 0)
    space.destroy()
    #expect(HugePagePool.statistics == Counts(total: 4, free: 4, reserved: 0, surplus: 0))
  }

  @Test func `who was promised a huge page keeps it when the pool is empty, and his children lose it`() throws {
    HugePagePool.resize(to: 2)
    defer { HugePagePool.resize(to: 0) }
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 2 * huge, protection: [.read, .write], flags: .hugeTLB, object: nil)
    for number in 0..<2 { try space.store(UInt64(number) + 1, address + UInt64(number) * huge) }
    let (moved, child) = (try space.fork(), try space.fork())
    let grandchild = try child.fork()
    let target: UInt64 = 0x1000_0000_0000
    _ = try moved.remap(
      address, oldLength: 2 * huge, newLength: 2 * huge, options: [.mayMove, .fixed], target: target)
    // A child may not write, which harms nobody.
    #expect(failure { () throws(Errno) in try grandchild.store(9, address) } == .EFAULT)
    for reader in [space, child, grandchild] { #expect(try reader.load(address) == 1) }
    #expect(try moved.load(target) == 1)

    try space.store(5, address + huge)
    #expect(try space.load(address) == 1 && space.load(address + huge) == 5)
    for loser in [child, grandchild] {
      #expect(try loser.load(address) == 1)
      #expect(failure { () throws(Errno) in _ = try loser.load(address + huge) } == .EFAULT)
      #expect(failure { () throws(Errno) in try loser.store(9, address + huge) } == .EFAULT)
    }
    #expect(try moved.load(target) == 1)
    #expect(failure { () throws(Errno) in _ = try moved.load(target + huge) } == .EFAULT)
    // A page in the pool does not bring back what it had.
    let late = try grandchild.fork()
    #expect(HugePagePool.statistics == .init(total: 2, free: 0, reserved: 0, surplus: 0))
    try space.unmap(address + huge, huge)
    #expect(HugePagePool.statistics == .init(total: 2, free: 1, reserved: 0, surplus: 0))
    for loser in [child, late] {
      #expect(failure { () throws(Errno) in _ = try loser.load(address + huge) } == .EFAULT)
    }
    for one in [space, moved, child, grandchild, late] {
      #expect(TestMachine.isConsistent(one))
      one.destroy()
    }
    #expect(HugePagePool.statistics == .init(total: 2, free: 2, reserved: 0, surplus: 0))
  }

  @Test func `programs with huge pages see what a flat memory would hold, over random steps`() throws {
    var random = SeededGenerator("huge areas")
    let before = HugePagePool.statistics
    #expect(before == HugePagePool.Statistics())
    let commandsBefore = VirtualMemoryStatistics.snapshot()
    HugePagePool.resize(to: 10)
    var programs = [Program(space: try AddressSpace.create())]
    for _ in 0..<SeededGenerator.steps(1_500) {
      let who = random.below(programs.count)
      let space = programs[who].space
      let which = programs[who].areas.isEmpty ? nil : random.below(programs[who].areas.count)
      switch random.below(10) {
      case 0 where programs[who].areas.count < 4:
        let pages = UInt64(1 + random.below(3))
        let isShared = random.below(3) == 0
        do throws(Errno) {
          let address = try space.map(
            at: 0, length: pages * huge, protection: [.read, .write],
            flags: isShared ? [.hugeTLB, .shared] : .hugeTLB, object: nil)
          #expect(address % huge == 0)
          programs[who].areas.append(
            .init(address: address, pages: pages, shared: isShared ? SharedContent() : nil, isPromised: true))
        } catch {
          #expect(error == .ENOMEM)
        }
      case 1 where programs.count < 4:
        var child = programs[who]
        child.space = try space.fork()
        for index in child.areas.indices where child.areas[index].shared == nil {
          child.areas[index].isPromised = false
        }
        programs.append(child)
      case 2 where programs.count > 1 && random.below(3) == 0:
        programs.remove(at: who).space.destroy()
      case 3:
        guard let which, random.below(3) == 0 else { break }
        let area = programs[who].areas.remove(at: which)
        try space.unmap(area.address, area.pages * huge)
        programs[who].values = programs[who].values.filter {
          $0.key < area.address || $0.key >= area.address + area.pages * huge
        }
      case 4:
        guard let which else { break }
        let area = programs[who].areas[which]
        let address = area.address + UInt64(random.below(Int(area.pages))) * huge
        try space.advise(address, huge, .discard)
        if area.shared == nil {
          programs[who].areas[which].isPromised = false
          programs[who].values = programs[who].values.filter { $0.key < address || $0.key >= address + huge }
        }
      case 5:
        guard let which else { break }
        let area = programs[who].areas[which]
        let address = area.address + UInt64(random.below(Int(area.pages))) * huge
        try space.protect(address, huge, .read)
        #expect(failure { () throws(Errno) in try space.store(9, address) } == .EFAULT)
        try space.protect(address, huge, [.read, .write])
      case 6:
        guard let which, random.below(2) == 0 else { break }
        let area = programs[who].areas[which]
        let wish = 0x1000_0000_0000 + UInt64(random.below(1 << 16)) * 16 * huge
        // A place that overlaps the old one is refused.
        guard wish != area.address else { break }
        let target = try space.remap(
          area.address, oldLength: area.pages * huge, newLength: area.pages * huge, options: [.mayMove, .fixed],
          target: wish)
        programs[who].areas[which].address = target
        guard area.shared == nil else { break }
        var moved: [UInt64: UInt64] = [:]
        for (address, value) in programs[who].values {
          let isInside = address >= area.address && address < area.address + area.pages * huge
          moved[isInside ? address - area.address + target : address] = value
        }
        programs[who].values = moved
      default:
        guard let which else { break }
        let area = programs[who].areas[which]
        let offset = UInt64(random.below(Int(area.pages * 512))) * page + UInt64(random.below(512)) * 8
        let address = area.address + offset
        if random.below(2) == 0 {
          let value = random.next()
          let error = failure { () throws(Errno) in try space.store(value, address) }
          if error != nil {
            #expect(error == .EFAULT && !area.isPromised)
          } else if let shared = area.shared {
            shared.values[offset] = value
          } else {
            programs[who].values[address] = value
          }
        } else {
          let expected = (area.shared.map { $0.values[offset] } ?? programs[who].values[address]) ?? 0
          do throws(Errno) { #expect(try space.load(address) == expected) } catch {
            #expect(error == .EFAULT && !area.isPromised)
          }
        }
      }
      if random.below(20) == 0 { for program in programs { #expect(TestMachine.isConsistent(program.space)) } }
    }
    for program in programs {
      for (address, value) in program.values {
        let isPromised = program.areas.contains {
          $0.isPromised && $0.address <= address && address < $0.address + $0.pages * huge
        }
        do throws(Errno) { #expect(try program.space.load(address) == value) } catch {
          #expect(error == .EFAULT && !isPromised)
        }
      }
      program.space.destroy()
    }
    #expect(HugePagePool.statistics == HugePagePool.Statistics(total: 10, free: 10, reserved: 0, surplus: 0))
    HugePagePool.resize(to: 0)
    #expect(HugePagePool.statistics == before)
    programs = []
    let after = VirtualMemoryStatistics.snapshot()
    #expect(after.anonymousPages == commandsBefore.anonymousPages)
    #expect(after.memoryObjects == commandsBefore.memoryObjects)
  }

  @Test func `a budget is never exceeded and keeps what it was assured of`() throws {
    HugePagePool.resize(to: 6)
    defer { HugePagePool.resize(to: 0) }
    let budget = try HugePageBudget(maximum: 4, minimum: 2)
    #expect(HugePagePool.statistics.reserved == 2)
    do {
      let object = MemoryObject(store: nil, size: 8 * huge, huge: HugePageSupply(budget: budget))
      try object.promiseHugePages(0..<3)
      #expect(HugePagePool.statistics.reserved == 3 && budget.free == 1)
      #expect(failure { () throws(Errno) in try object.promiseHugePages(0..<5) } == .ENOMEM)
      #expect(HugePagePool.statistics.reserved == 3 && budget.free == 1)
      for index in 0..<4 { _ = try object.hugePage(UInt64(index) * 512) }
      #expect(failure { () throws(Errno) in _ = try object.hugePage(4 * 512) } == .ENOMEM)
      #expect(HugePagePool.statistics == .init(total: 6, free: 2, reserved: 0, surplus: 0))
      object.truncate(to: 3 * huge)
      #expect(HugePagePool.statistics == .init(total: 6, free: 3, reserved: 0, surplus: 0))
      object.truncate(to: huge)
      #expect(HugePagePool.statistics == .init(total: 6, free: 5, reserved: 1, surplus: 0))
    }
    #expect(HugePagePool.statistics == .init(total: 6, free: 6, reserved: 2, surplus: 0))
  }
}
