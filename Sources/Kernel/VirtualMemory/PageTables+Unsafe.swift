// The page tables of one address space: four levels of 512 entries, each level in one page frame, reached through the
// direct map.
//
//     address   47……39   38……30   29……21   20……12   11……0
//     table     level 4  level 3  level 2  level 1   byte in the page
//
// They are the truth on every machine: a processor walks them itself, the user machine's host mappings are a TLB over
// them. A table page is an ordinary frame with a reference count. Today every table has one reference; a table that
// several spaces share will have more, and `ensureSlot` is the one place that makes tables, `releaseTables` and
// `releaseAll` the ones that drop them.
//
// The structure is owned by the space's page-table lock. Allocation never waits: a caller that gets ENOMEM lets go of
// the lock, reclaims, and tries again.

import LinuxABI
import PhysicalMemory

/// The tree of page tables, and how many pages of what kind it holds.
struct PageTables {
  /// A reference to an entry of a last-level table; valid while the page-table lock is held.
  typealias Slot = UnsafeMutablePointer<UInt64>

  private let root: PageFrameNumber
  /// Table pages, the root included.
  private(set) var tableCount = 1
  /// Pages of private memory, of memory objects, and the highest sum of both so far.
  private(set) var anonymousPages = 0
  private(set) var objectPages = 0
  private(set) var peakPages = 0

  init() throws(Errno) {
    root = try Frames.allocateZeroed()
    Counters.add(1, to: Counters.pageTables)
  }

  /// The address space that one last-level table covers: 2 MiB.
  static var tableSpan: UInt64 { 1 << 21 }

  // MARK: Look-up

  /// The last-level entry for `address`, if there is a table for it.
  @inline(__always)
  func slot(_ address: UInt64) -> Slot? {
    var table = unsafe Self.table(root)
    var shift: UInt64 = 39
    while shift >= 21 {
      defer { shift &-= 9 }
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent else { return nil }
      unsafe table = Self.table(entry.frame)
    }
    return unsafe table + Self.index(address, 12)
  }

  /// The entry for `address`; empty when there is no table.
  @inline(__always)
  func entry(_ address: UInt64) -> PageTableEntry {
    guard let slot = unsafe slot(address) else { return .empty }
    return unsafe PageTableEntry(word: slot.pointee)
  }

  /// The last-level entry for `address`, with the tables above it.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  mutating func ensureSlot(_ address: UInt64) throws(Errno) -> Slot {
    if let slot = unsafe slot(address) { return unsafe slot }
    return try unsafe makeSlot(address)
  }

  @inline(never)
  private mutating func makeSlot(_ address: UInt64) throws(Errno) -> Slot {
    var table = unsafe Self.table(root)
    var shift: UInt64 = 39
    while shift >= 21 {
      defer { shift &-= 9 }
      let slot = unsafe table + Self.index(address, shift)
      if unsafe !PageTableEntry(word: slot.pointee).isPresent {
        let fresh = try Frames.allocateZeroed()
        tableCount &+= 1
        Counters.add(1, to: Counters.pageTables)
        unsafe slot.pointee = PageTableEntry(table: fresh).word
      }
      unsafe table = Self.table(PageTableEntry(word: slot.pointee).frame)
    }
    return unsafe table + Self.index(address, 12)
  }

  /// The byte of guest memory at `address` if the tables permit the access.
  @inline(__always)
  func translate(
    _ address: UInt64, _ access: Access, _ authority: AddressSpace.FaultAuthority
  ) -> UnsafeMutableRawPointer? {
    let entry = entry(address)
    guard entry.permits(access) || (authority == .byDebugger && entry.permitsDebugger(access)) else { return nil }
    return unsafe Frames.pointer(entry.frame) + Int(truncatingIfNeeded: address & pageMask)
  }

  // MARK: Changing entries

  /// Puts a page into an empty slot. The slot takes over the caller's reference to the frame.
  @inline(__always)
  mutating func install(_ entry: PageTableEntry, in slot: Slot) {
    unsafe slot.pointee = entry.word
    count(entry, by: 1)
  }

  /// Changes what a slot holds; the page-table takes over a reference to the new frame and hands back that to the old.
  @inline(__always)
  mutating func replace(_ slot: Slot, by entry: PageTableEntry) -> PageTableEntry {
    let old = unsafe PageTableEntry(word: slot.pointee)
    unsafe slot.pointee = entry.word
    count(old, by: -1)
    count(entry, by: 1)
    return old
  }

  /// Empties a slot; the caller takes over the reference to the frame.
  @inline(__always)
  mutating func clear(_ slot: Slot) -> PageTableEntry {
    let old = unsafe PageTableEntry(word: slot.pointee)
    unsafe slot.pointee = 0
    count(old, by: -1)
    return old
  }

  @inline(__always)
  private mutating func count(_ entry: PageTableEntry, by change: Int) {
    guard !entry.isEmpty, entry.isCounted else { return }
    if entry.isObjectPage { objectPages &+= change } else { anonymousPages &+= change }
    peakPages = max(peakPages, anonymousPages &+ objectPages)
  }

  /// Calls `body` with each non-empty last-level entry of [start, end), in order. Absent tables are skipped whole.
  @inline(__always)
  mutating func forEach(_ start: UInt64, _ end: UInt64, _ body: (inout PageTables, UInt64, Slot) -> Void) {
    var address = start
    while address < end {
      let stop = min(end, (address | (Self.tableSpan &- 1)) &+ 1)
      guard var slot = unsafe slot(address) else {
        address = nextTable(from: address)
        continue
      }
      while address < stop {
        if unsafe slot.pointee != 0 { unsafe body(&self, address, slot) }
        unsafe slot += 1
        address &+= pageSize
      }
    }
  }

  /// The first address beyond the absent table, or absent higher table, that covers `address`.
  private func nextTable(from address: UInt64) -> UInt64 {
    var table = unsafe Self.table(root)
    var shift: UInt64 = 39
    while shift >= 21 {
      defer { shift &-= 9 }
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent else { return ((address >> shift) &+ 1) << shift }
      unsafe table = Self.table(entry.frame)
    }
    return (address | (Self.tableSpan &- 1)) &+ 1
  }

  // MARK: Releasing tables

  /// Gives back the tables that lie wholly in [floor, ceiling) and cover a part of [start, end). All their entries are
  /// empty: the caller has unmapped [start, end), and nothing is mapped elsewhere between `floor` and `ceiling`.
  ///
  /// - Parameter gather: frees the frames after the machine's mappings are gone.
  mutating func releaseTables(
    _ start: UInt64, _ end: UInt64, floor: UInt64, ceiling: UInt64, into gather: inout MappingGather
  ) {
    var address = start & ~(Self.tableSpan &- 1)
    while address < end {
      unsafe prune(Self.table(root), 39, address, floor, ceiling, &gather)
      address &+= Self.tableSpan
      if unsafe slotTable(address) == nil, address < end { address = nextTable(from: address) }
    }
  }

  private func slotTable(_ address: UInt64) -> Slot? { unsafe slot(address & ~(Self.tableSpan &- 1)) }

  /// Releases the table for `address` below the entry of `table` at `shift`, then that entry's own when it is empty.
  private mutating func prune(
    _ table: Slot, _ shift: UInt64, _ address: UInt64, _ floor: UInt64, _ ceiling: UInt64,
    _ gather: inout MappingGather
  ) {
    let slot = unsafe table + Self.index(address, shift)
    let entry = unsafe PageTableEntry(word: slot.pointee)
    guard entry.isPresent else { return }
    if shift > 21 { unsafe prune(Self.table(entry.frame), shift &- 9, address, floor, ceiling, &gather) }
    let span = UInt64(1) << shift
    let begin = address & ~(span &- 1)
    guard begin >= floor, begin &+ span <= ceiling else { return }
    if shift > 21, unsafe !Self.isEmpty(Self.table(entry.frame)) { return }
    unsafe slot.pointee = 0
    tableCount &-= 1
    Counters.add(-1, to: Counters.pageTables)
    gather.release(entry.frame)
  }

  private static func isEmpty(_ table: Slot) -> Bool {
    for index in 0..<512 where unsafe table[index] != 0 { return false }
    return true
  }

  /// Frees every table and drops every page. Nothing may use the tables afterwards, nor the machine its mappings.
  mutating func releaseAll() {
    unsafe release(Self.table(root), 39)
    Counters.add(-tableCount, to: Counters.pageTables)
    Frames.release(root)
    tableCount = 0
    anonymousPages = 0
    objectPages = 0
  }

  private func release(_ table: Slot, _ shift: UInt64) {
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: table[index])
      guard !entry.isEmpty else { continue }
      if shift > 12 {
        unsafe release(Self.table(entry.frame), shift &- 9)
        Frames.release(entry.frame)
      } else if entry.isCounted {
        if !entry.isObjectPage { Counters.add(-1, to: Counters.anonymousPages) }
        Frames.release(entry.frame)
      }
    }
  }

  // MARK: Addresses

  @inline(__always)
  private static func index(_ address: UInt64, _ shift: UInt64) -> Int {
    Int(truncatingIfNeeded: (address >> shift) & 511)
  }

  /// SAFETY: `frame` holds a table of this tree: a whole frame of 512 words in the direct map, which lives until its
  /// entry is cleared under the page-table lock.
  @inline(__always)
  private static func table(_ frame: PageFrameNumber) -> Slot {
    unsafe Frames.pointer(frame).assumingMemoryBound(to: UInt64.self)
  }
}
