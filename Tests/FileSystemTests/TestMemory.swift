// The memory of the tests: page frames, and a program's address space.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import TestSupport
import VirtualMemory

enum TestMemory {
  private static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(64 << 20))
    AddressSpace.userLimit = 0x7fff_f000_0000
    return true
  }()

  static func prepare() { precondition(isPrepared) }
}

/// A program with some pages of memory, and what it knows to be there.
final class TestProgram {
  let space: AddressSpace
  let address: UInt64
  private(set) var bytes: [UInt8]

  init(pages: Int) throws {
    TestMemory.prepare()
    space = try AddressSpace.create()
    bytes = [UInt8](repeating: 0, count: pages * 4096)
    address = try space.map(at: 0, length: UInt64(bytes.count), protection: [.read, .write], flags: [], object: nil)
  }

  func write(_ new: [UInt8], at offset: Int) throws {
    try UserMemory.copyOut(to: address + UInt64(offset), new, in: space)
    bytes.replaceSubrange(offset..<offset + new.count, with: new)
  }

  func buffer(_ offset: Int, _ count: Int) -> TransferBuffer {
    TransferBuffer(user: address + UInt64(offset), count: count, in: space)
  }
}
