import Testing

@testable import VirtualMemory

@Suite struct MappingLayoutTests {
  private let limit: UInt64 = 0x7fff_ffff_f000

  @Test func `the flexible layout leaves the stack its limit, between 128 MiB and five sixths of the space`() {
    func gap(_ stack: UInt64, random: UInt64? = nil) -> UInt64 {
      let layout = MappingLayout.flexible(userLimit: limit, stackLimit: stack, random: random)
      #expect(layout.direction == .down && layout.base % 4096 == 0)
      return limit - layout.base
    }
    #expect(gap(8 << 20) == 128 << 20)
    #expect(gap(1 << 30) == 1 << 30 + 1 << 20)
    #expect(gap(.max) == (limit / 6 * 5) & ~4095)
    #expect(gap(1 << 46, random: 4096) == 1 << 46 + 16 << 30 + 1 << 20 + 4096)
  }

  @Test func `the legacy layout begins at a third of the space and goes up`() {
    #expect(MappingLayout.legacy(userLimit: limit, random: nil) == .init(base: 0x2aaa_aaaa_b000, direction: .up))
    #expect(MappingLayout.legacy(userLimit: limit, random: 8192).base == 0x2aaa_aaaa_d000)
  }
}

extension VirtualMemoryTests {
  @Test func `mappings go up from the base in the legacy layout, and over holes that are too small`() throws {
    let space = try AddressSpace.create()
    space.setMappingLayout(MappingLayout(base: 0x10_0000_0000, direction: .up))
    let first = try space.mapAnonymous(4 * page)
    let second = try space.mapAnonymous(page, .read)
    #expect((first, second) == (0x10_0000_0000, 0x10_0000_0000 + 4 * page))
    try space.unmap(first, 2 * page)
    #expect(try space.mapAnonymous(3 * page, .read) == second + page)
    #expect(try space.mapAnonymous(2 * page, .read) == first)
    space.destroy()
  }

  @Test func `strict accounting refuses what goes beyond the limit, and keeps its sum`() throws {
    CommitAccounting.mode = .never
    CommitAccounting.userReserve = 0
    CommitAccounting.kibibytes = (VirtualMemoryStatistics.snapshot().committedPages + 1000) * 4
    defer {
      CommitAccounting.mode = .heuristic
      CommitAccounting.ratio = 50
    }
    #expect(CommitAccounting.ratio == 0)
    // Swap areas, which other tests made, count too: all but 1000 pages are promised beforehand.
    let others = try AddressSpace.create()
    let rest = CommitAccounting.limit - VirtualMemoryStatistics.snapshot().committedPages - 1000
    if rest > 0 { _ = try others.mapAnonymous(UInt64(rest) * page) }
    let before = VirtualMemoryStatistics.snapshot().committedPages
    #expect(CommitAccounting.limit == before + 1000)
    let space = try AddressSpace.create()
    #expect(throws: (any Error).self) { try space.mapAnonymous(1000 * page) }
    let address = try space.mapAnonymous(600 * page)
    #expect(throws: (any Error).self) { try space.fork() }
    try space.unmap(address, 300 * page)
    let child = try space.fork()
    #expect(VirtualMemoryStatistics.snapshot().committedPages == before + 600)
    let object = MemoryObject(store: nil, size: 1000 * page)
    #expect(throws: (any Error).self) { try object.promisePagesForTest(500) }
    space.destroy()
    child.destroy()
    #expect(VirtualMemoryStatistics.snapshot().committedPages >= before)
    others.destroy()
  }
}

extension MemoryObject {
  fileprivate func promisePagesForTest(_ count: UInt64) throws {
    for index in 0..<count { Frames.release(try page(index)) }
  }
}
