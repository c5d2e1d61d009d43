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
    /// Offered with MACHINE_MAP_FILL.
    var isFilled: Bool
  }
  static let lock = SpinLock<[Int64: [UInt64: Mapping]]>([:], rank: .log)
  static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(256 << 20))
    AddressSpace.userLimit = 0x7ffff0000000
    machine_fake_spaces.map = { space, address, physical, length, protection in
      TestMachine.lock.withLock { tlb in
        for offset in stride(from: 0, to: length, by: 4096) {
          tlb[space, default: [:]][address + offset] = Mapping(
            frame: (physical + offset) >> 12, protection: UInt8(protection & 7),
            isFilled: protection & UInt64(MACHINE_MAP_FILL) != 0)
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
        guard var entries = tlb.removeValue(forKey: space) else { return }
        if Int(length / 4096) < entries.count {
          for key in stride(from: address, to: address + length, by: 4096) {
            entries[key]?.protection = UInt8(protection)
          }
        } else {
          for key in Array(entries.keys) where key >= address && key < address + length {
            entries[key]?.protection = UInt8(protection)
          }
        }
        tlb[space] = entries
      }
    }
    machine_fake_spaces.destroy = { space in TestMachine.lock.withLock { $0[space] = nil } }
    return true
  }()

  static func prepare() { #expect(isPrepared) }

  /// Whether everything that the machine maps is in the tables, with at least these rights, and what the tables hold is
  /// mapped by an area that allows it.
  static func isConsistent(_ space: AddressSpace) -> Bool {
    let mappings = lock.withLock { $0[space.machineSpace] ?? [:] }
    guard mappings.allSatisfy({ agrees(space, $0.key, $0.value) }) else { return false }
    var isRight = true
    space.areas.withReadLock { state in
      var end: UInt64 = 0
      func expectNothing(_ start: UInt64, _ end: UInt64) {
        space.tables.withLock { tables in
          tables.forEach(start, end) { address, entry in
            print("\(address) is mapped nowhere and holds \(String(entry.word, radix: 16))")
            isRight = false
          }
        }
      }
      state.map.visitAll { area in
        expectNothing(end, area.start)
        end = area.end
        space.tables.withLock { tables in
          tables.forEach(area.start, area.end) { address, entry in
            guard entry.isResident else { return }
            let isOwn = !entry.isObjectPage || area.object != nil
            if isOwn, !entry.isPresent || entry.machineProtection.isSubset(of: area.protection.union(.read)) { return }
            print("\(address) holds \(String(entry.word, radix: 16)) in an area with \(area.protection)")
            isRight = false
          }
        }
      }
      expectNothing(end, AddressSpace.userLimit)
    }
    return isRight
  }

  /// The first question for a few pages.
  static func isConsistent(_ space: AddressSpace, within range: Range<UInt64>) -> Bool {
    stride(from: range.lowerBound, to: range.upperBound, by: 4096).allSatisfy { address in
      guard let mapping = lock.withLock({ $0[space.machineSpace]?[address] }) else { return true }
      return agrees(space, address, mapping)
    }
  }

  private static func agrees(_ space: AddressSpace, _ address: UInt64, _ mapping: Mapping) -> Bool {
    let entry = space.tables.withLock { $0.entry(address) }
    if entry.isPresent, entry.frame.rawValue == mapping.frame,
      Protection(rawValue: mapping.protection).isSubset(of: entry.machineProtection)
    {
      return true
    }
    print("stale: \(address) \(mapping), tables \(String(entry.word, radix: 16))")
    return false
  }

  /// What an audit has seen of a frame.
  private struct Seen {
    var entries: Int32 = 0
    var writable: Int32 = 0
    var isObject = false
    var isTable = false
  }
  nonisolated(unsafe) private static var seen: [Seen] = []

  /// Whether the page tables of all spaces together are in order: the references of tables and frames are those that
  /// tables hold, the sums and counts are right, and a private page that a table lets be written is in no other table.
  /// Changes nothing that it looks at.
  static func audit(_ spaces: [AddressSpace]) -> Bool {
    if seen.isEmpty { seen = Array(repeating: Seen(), count: 256 << 8) }
    // Frames and tables that the audit came to; a table's unmarked entries count as writable.
    var found: [PageFrameNumber] = []
    defer { for frame in found { seen[Int(frame.rawValue)] = Seen() } }
    /// Notes an entry; whether it is the first.
    func note(_ frame: PageFrameNumber, isTable: Bool, isObject: Bool, writable: Bool) -> Bool {
      let place = Int(frame.rawValue)
      let isFirst = seen[place].entries == 0
      if isFirst {
        found.append(frame)
        seen[place].isTable = isTable
        seen[place].isObject = isObject
      } else {
        expect(seen[place].isTable == isTable && seen[place].isObject == isObject, "a frame in two roles")
      }
      seen[place].entries += 1
      if writable { seen[place].writable += 1 }
      return isFirst
    }
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
          expect(entry.isObjectTable == isObjects && (shift <= 30 || !isObjects), "an object's table")
          let isUnmarked = !entry.isTableCopiedOnWrite && !isObjects
          if note(entry.frame, isTable: true, isObject: isObjects, writable: isUnmarked) {
            visit(entry.frame, shift - 9)
          }
        } else if entry.isSwapped {
          sums &+= ResidentPages.packed(entry)
        } else if entry.isCounted {
          sums &+= ResidentPages.packed(entry)
          _ = note(entry.frame, isTable: false, isObject: entry.isObjectPage, writable: entry.isWritable)
        }
      }
      if shift == 12 { expect(table.frame.mapCount == sums, "the sums of a table") }
    }
    for space in spaces {
      let root = space.tables.withLock { $0.root }
      visit(root, PageTables.rootShift)
    }
    if let failure = spaces.lazy.compactMap({ miscount($0) }).first { expect(false, failure) }
    for frame in found {
      let seen = seen[Int(frame.rawValue)]
      if seen.isTable {
        expect(Frames.tableReferences(frame) == seen.entries, "the references of a table")
        expect(seen.entries == 1 || seen.writable == 0, "a shared table without a mark")
        continue
      }
      let references = frame.frame.referenceCount & (Frames.pinBias - 1)
      if seen.isObject {
        expect(references == seen.entries + 1, "the references of an object's page")
      } else {
        let isCached = frame.frame.flags.contains(.swapCached)
        expect(
          references == seen.entries + (isCached ? 1 : 0),
          "private page \(frame.rawValue) has \(references) references, \(seen), flags \(frame.frame.flags)")
        expect(seen.writable == 0 || !isCached, "a page in the swap cache that can be written")
        expect(seen.writable == 0 || seen.entries == 1, "a private page of several tables that can be written")
      }
    }
    return isRight
  }

  /// What is wrong with the counts of a space, if anything: those of its tables, compared with the entries themselves, and those
  /// of its areas.
  static func miscount(_ space: AddressSpace) -> String? {
    var truth = PageTables.Census()
    truth.tables = 1
    func visit(_ table: PageFrameNumber, _ shift: UInt64, _ isInCommon: Bool) {
      let slots = unsafe PageTables.table(table)
      for index in 0..<512 {
        let entry = unsafe PageTableEntry(word: slots[index])
        if shift > 12 {
          guard entry.isPresent else { continue }
          truth.tables += 1
          visit(entry.frame, shift - 9, isInCommon || entry.isTableCopiedOnWrite || entry.isObjectTable)
        } else if entry.word != 0 {
          let pages = ResidentPages(packed: ResidentPages.packed(entry))
          if isInCommon { truth.common += pages } else { truth.own += pages }
        }
      }
    }
    let failure: String? = space.tables.withLock { tables in
      visit(tables.root, PageTables.rootShift, false)
      if tables.own != truth.own { return "own pages: \(tables.own), in truth \(truth.own)" }
      if tables.commonPages < 0 { return "\(tables.commonPages) pages in common" }
      if !tables.mayHaveCommonTables, truth.common.anonymous > 0 { return "private pages in common, unexpectedly" }
      if tables.peakPages < tables.own.inMemory { return "a peak of \(tables.peakPages) below \(tables.own)" }
      let census = tables.census()
      return census == truth ? nil : "census \(census), in truth \(truth)"
    }
    return failure
      ?? space.areas.withReadLock { state in
        var sums = AreaState()
        state.map.visitAll { sums.count($0, by: $0.pageCount) }
        let isRight =
          sums.totalPages == state.totalPages && sums.dataPages == state.dataPages
          && sums.stackPages == state.stackPages && sums.executablePages == state.executablePages
          && sums.lockedPages == state.lockedPages && sums.hugePages == state.hugePages
        return isRight ? nil : "the pages of areas: \(state.totalPages), in truth \(sums.totalPages)"
      }
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

extension AddressSpace {
  /// Pages of [start, end) in memory, and on swap areas.
  func residency(_ start: UInt64, _ end: UInt64) -> (all: Int, swapped: Int) {
    tables.withLock { tables in
      var result = (all: 0, swapped: 0)
      tables.forEach(start, end) { _, entry in
        if entry.isSwapped { result.swapped += 1 } else if entry.isCounted { result.all += 1 }
      }
      return result
    }
  }
}
