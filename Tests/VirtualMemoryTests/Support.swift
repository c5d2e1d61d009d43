// What the tests of virtual memory share: the machine's memory, a record of the mappings that the machine was told
// about, and a store whose contents are known.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Testing

@testable import VirtualMemory

let page: UInt64 = 4096

/// All tests of the room use the same memory and the same counters, one after another.
@Suite(.serialized) struct VirtualMemoryTests {
  init() { TestMachine.prepare() }
}

/// The fake machine with a TLB that believes everything it is told.
enum TestMachine {
  struct Mapping: Equatable {
    var frame: UInt64
    var protection: UInt8
  }
  static let lock = SpinLock<[Int64: [UInt64: Mapping]]>([:], rank: .log)
  static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(256 << 20))
    AddressSpace.userLimit = 0x7ffff0000000
    machine_fake_spaces.map = { space, address, physical, length, protection in
      TestMachine.lock.withLock { tlb in
        for offset in stride(from: 0, to: length, by: 4096) {
          tlb[space, default: [:]][address + offset] = Mapping(
            frame: (physical + offset) >> 12, protection: UInt8(protection))
        }
      }
    }
    machine_fake_spaces.unmap = { space, address, length in
      TestMachine.lock.withLock { tlb in
        guard var entries = tlb.removeValue(forKey: space) else { return }
        if Int(length / 4096) < entries.count {
          for key in stride(from: address, to: address + length, by: 4096) { entries[key] = nil }
        } else {
          entries = entries.filter { $0.key < address || $0.key >= address + length }
        }
        tlb[space] = entries
      }
    }
    machine_fake_spaces.protect = { space, address, length, protection in
      TestMachine.lock.withLock { tlb in
        for key in tlb[space, default: [:]].keys where key >= address && key < address + length {
          tlb[space]![key]!.protection = UInt8(protection)
        }
      }
    }
    machine_fake_spaces.destroy = { space in TestMachine.lock.withLock { $0[space] = nil } }
    return true
  }()

  static func prepare() { #expect(isPrepared) }

  /// Whether everything that the machine maps is in the tables, with at least these rights.
  static func isConsistent(_ space: AddressSpace) -> Bool {
    let mappings = lock.withLock { $0[space.machineSpace] ?? [:] }
    return space.tables.withLock { tables in
      for (address, mapping) in mappings {
        let entry = tables.entry(address)
        guard entry.isPresent, entry.frame.rawValue == mapping.frame,
          Protection(rawValue: mapping.protection).isSubset(of: entry.machineProtection)
        else {
          print("stale: \(address) \(mapping), tables \(String(entry.word, radix: 16))")
          return false
        }
      }
      return true
    }
  }

  /// Frames that are free, after caches and per-CPU lists have been counted in.
  static var freeFrames: Int { MemoryStatistics.snapshot().free }
}

/// A store whose page `index` begins with a number.
final class TestStore: PageStore {
  var values: [UInt64: UInt64] = [:]
  var reads = 0
  var writes = 0
  var failure: Errno?

  static func initial(_ index: UInt64) -> UInt64 { index * 1000 + 7 }

  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    if let failure { throw failure }
    reads += 1
    for offset in 0..<frames.count {
      let pointer = unsafe frames[offset].pointer
      unsafe pointer.initializeMemory(as: UInt8.self, repeating: 0xee, count: 4096)
      let value = values[index + UInt64(offset)] ?? Self.initial(index + UInt64(offset))
      unsafe pointer.storeBytes(of: value, as: UInt64.self)
    }
  }

  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno) {
    if let failure { throw failure }
    writes += 1
    for offset in 0..<frames.count {
      values[index + UInt64(offset)] = unsafe frames[offset].pointer.load(as: UInt64.self)
    }
  }
}

extension AddressSpace {
  /// Reads the number at `address` as the program would.
  func load(_ address: UInt64) throws(Errno) -> UInt64 {
    try UserMemory.read(address, as: UInt64.self, in: self)
  }
  func store(_ value: UInt64, _ address: UInt64) throws(Errno) {
    try UserMemory.write(value, to: address, in: self)
  }
  func mapAnonymous(_ length: UInt64, _ protection: Protection = [.read, .write], _ flags: MappingFlags = [])
    throws(Errno) -> UInt64
  {
    try map(at: 0, length: length, protection: protection, flags: flags, object: nil)
  }
}
