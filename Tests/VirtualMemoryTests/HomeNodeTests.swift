// set_mempolicy_home_node(2): which of a rule's nodes comes first.

import LinuxABI
import PhysicalMemory
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  @Test func `a home node is for rules that name nodes`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(30 * page)
    #expect(throws: Errno.ENOENT) { try space.setHomeNode(address, address + 10 * page, 0) }
    try space.setMemoryPolicy(address, address + 20 * page, MemoryPolicy(.bind, nodes: 1))
    try space.setHomeNode(address + 5 * page, address + 30 * page, 0)
    #expect(try space.memoryPolicy(at: address)?.home == nil)
    #expect(try space.memoryPolicy(at: address + 5 * page)?.home == 0)
    #expect(try space.memoryPolicy(at: address + 20 * page) == nil)
    try space.setMemoryPolicy(address, address + 5 * page, MemoryPolicy(.interleave, nodes: 1))
    #expect(throws: Errno.EOPNOTSUPP) { try space.setHomeNode(address, address + 10 * page, 0) }
    space.destroy()
  }
}
