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
            frame: (physical + offset) >> 12, protection: UInt8(protection & 7))
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

  /// Whether the page tables of all spaces together are in order: the references of tables and frames are those that
  /// tables hold, the sums are right, and a private page that a table lets be written is in no other table.
  static func audit(_ spaces: [AddressSpace]) -> Bool {
    var tables: [PageFrameNumber: (references: Int32, unmarked: Int)] = [:]
    var frames: [PageFrameNumber: (tables: Int32, isObject: Bool, writable: Int)] = [:]
    var isRight = true
    func expect(_ condition: Bool, _ comment: @autoclosure () -> String) {
      if !condition, isRight {
        isRight = false
        print("audit: \(comment())")
      }
    }
    func visit(_ table: PageFrameNumber, _ shift: UInt64) {
      let slots = unsafe PageTables.table(table)
      var sums: Int32 = 0
      for index in 0..<512 {
        let entry = unsafe PageTableEntry(word: slots[index])
        if entry.isEmpty { continue }
        if shift > 12 {
          expect(entry.isWritable != entry.isTableCopiedOnWrite, "an entry with mark and right")
          let isObjects = entry.frame.frame.flags.contains(.objectTable)
          expect(entry.isObjectTable == isObjects && (shift == 21 || !isObjects), "an object's table")
          let below = tables[entry.frame, default: (0, 0)]
          tables[entry.frame] = (
            below.references + 1, below.unmarked + (entry.isTableCopiedOnWrite || isObjects ? 0 : 1)
          )
          if below.references == 0 { visit(entry.frame, shift - 9) }
        } else if entry.isSwapped {
          sums &+= ResidentPages.packed(entry)
        } else if entry.isCounted {
          sums &+= ResidentPages.packed(entry)
          let frame = frames[entry.frame, default: (0, entry.isObjectPage, 0)]
          expect(frame.isObject == entry.isObjectPage, "a frame that is private and an object's")
          frames[entry.frame] = (frame.tables + 1, frame.isObject, frame.writable + (entry.isWritable ? 1 : 0))
        }
      }
      if shift == 12 { expect(table.frame.mapCount == sums, "the sums of a table") }
    }
    for space in spaces {
      let root = space.tables.withLock { $0.root }
      visit(root, PageTables.rootShift)
      let before = space.tables.withLock { $0.resident }
      let census = space.tables.withLock { $0.census() }
      expect(before.anonymous >= census.pages.anonymous, "private pages: \(before), in truth \(census.pages)")
    }
    for (table, seen) in tables {
      expect(Frames.tableReferences(table) == seen.references, "the references of a table")
      expect(seen.references == 1 || seen.unmarked == 0, "a shared table without a mark")
    }
    for (frame, seen) in frames {
      let references = frame.frame.referenceCount & (Frames.pinBias - 1)
      if seen.isObject {
        expect(references == seen.tables + 1, "the references of an object's page")
      } else {
        let isCached = frame.frame.flags.contains(.swapCached)
        expect(references == seen.tables + (isCached ? 1 : 0), "the references of a private page")
        expect(seen.writable == 0 || !isCached, "a page in the swap cache that can be written")
        expect(seen.writable == 0 || seen.tables == 1, "a private page of several tables that can be written")
      }
    }
    return isRight
  }

  /// Frames that are free, after caches and per-CPU lists have been counted in: on the host the only slabs are those of
  /// radix-tree nodes, of which CPUs keep some.
  static var freeFrames: Int {
    let statistics = MemoryStatistics.snapshot()
    return statistics.free + statistics.slab
  }
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
