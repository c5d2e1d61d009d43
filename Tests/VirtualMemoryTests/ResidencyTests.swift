// What smaps tells of pages that several programs have.

import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  private static func residency(_ space: AddressSpace, at address: UInt64) -> Residency {
    space.areas(.residency, from: address, limit: 1)[0].residency
  }

  @Test func `a private page counts as a share for each program that shows it, also through shared tables`() throws {
    let space = try AddressSpace.create()
    let pages: UInt64 = 4096
    let address = try space.map(
      at: 0x20_0000_0000, length: pages * page, protection: [.read, .write], flags: .fixed, object: nil)
    for index in 0..<pages { try space.store(index, address + index * page) }
    var alone = Self.residency(space, at: address)
    #expect(alone.privateDirty == 4096 && alone.sharedDirty == 0 && alone.share.kibibytes == 16384)
    #expect(alone.mostMappings == 1 && alone.anonymous == 4096 && alone.ofDirty.kibibytes == 16384)
    // Three programs have the tables from the root on.
    let children = try (0..<3).map { _ in try space.fork() }
    for each in children + [space] {
      let shared = Self.residency(each, at: address)
      #expect(shared.sharedDirty == 4096 && shared.mostMappings == 4 && shared.share.kibibytes == 4096)
    }
    // Two of them get tables of their own, of each level: the page that was written is theirs, the others are in several tables.
    try children[0].store(1, address)
    try space.store(1, address + 600 * page)
    for each in children + [space] {
      let shared = Self.residency(each, at: address)
      #expect(shared.resident == 4096 && shared.mostMappings == 4)
    }
    let writer = Self.residency(children[0], at: address)
    #expect(writer.privateDirty == 1 && writer.sharedDirty == 4095)
    // A page of its own, and one that three have, among 4094 that four have.
    #expect(writer.ofAnonymous.kibibytes == (4096 + 4096 / 3 + 4094 * 4096 / 4) / 1024)
    // All shares together are all pages.
    let sum = (children + [space]).reduce(0) { $0 + Self.residency($1, at: address).share.kibibytes }
    #expect((16384 + 8 - 4...16384 + 8).contains(sum))
    for child in children { child.destroy() }
    alone = Self.residency(space, at: address)
    #expect(alone.privateDirty == 4096 && alone.share.kibibytes == 16384)
    space.destroy()
  }

  @Test func `a page of an object counts as a share for each mapping, wherever it is`() throws {
    let object = MemoryObject(store: nil, size: 1024 * page)
    let spaces = try (0..<3).map { _ in try AddressSpace.create() }
    // The first two have one table together; the third has pages 100…163 at an address with another offset in its table.
    let both: Protection = [.read, .write]
    for space in spaces[..<2] {
      _ = try space.map(
        at: 0x20_0000_0000, length: 1024 * page, protection: both, flags: [.fixed, .shared], object: object)
    }
    let third: UInt64 = 0x20_0000_0000 + 490 * page
    _ = try spaces[2].map(
      at: third, length: 64 * page, protection: both, flags: [.fixed, .shared], object: object, offset: 100 * page)
    for index in 0..<1024 as Range<UInt64> { try spaces[0].store(index, 0x20_0000_0000 + index * page) }
    for index in 0..<1024 as Range<UInt64> { #expect(try spaces[1].load(0x20_0000_0000 + index * page) == index) }
    for index in 0..<64 as Range<UInt64> { #expect(try spaces[2].load(third + index * page) == index + 100) }
    let first = Self.residency(spaces[0], at: 0x20_0000_0000)
    #expect(first.sharedDirty == 1024 && first.mostMappings == 3 && first.anonymous == 0)
    #expect(first.ofMemory.kibibytes == (960 * 4096 / 2 + 64 * 4096 / 3) / 1024)
    let last = Self.residency(spaces[2], at: third)
    #expect(last.sharedDirty == 64 && last.share.kibibytes == 64 * 4 / 3)
    for space in spaces { space.destroy() }
  }

  @Test func `pages of a store are dirty until they are written back, and one mapping is private`() throws {
    let store = TestStore()
    defer { withExtendedLifetime(store) {} }
    let object = MemoryObject(store: store, size: 16 * page)
    let space = try AddressSpace.create()
    let address = try space.map(
      at: 0x20_0000_0000, length: 16 * page, protection: [.read, .write], flags: [.fixed, .shared], object: object)
    for index in 0..<16 as Range<UInt64> { _ = try space.load(address + index * page) }
    var found = Self.residency(space, at: address)
    #expect(found.privateClean == 16 && found.ofFiles.kibibytes == 64 && found.ofDirty.kibibytes == 0)
    try space.store(1, address + 3 * page)
    found = Self.residency(space, at: address)
    #expect(found.privateClean == 15 && found.privateDirty == 1 && found.ofDirty.kibibytes == 4)
    try object.writeBack(0..<16 * page)
    found = Self.residency(space, at: address)
    #expect(found.privateClean == 16)
    space.destroy()
  }
}
