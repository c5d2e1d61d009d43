// The page tables of one address space: four levels of 512 entries, each level in one page frame, reached through the
// direct map.
//
//     address   47……39   38……30   29……21   20……12   11……0
//     table     level 4  level 3  level 2  level 1   byte in the page
//
// They are the truth on every machine: a processor walks them itself, the user machine's host mappings are a TLB over
// them. A table below the root is a frame with a reference for each entry that leads to it, so trees share tables of any
// level after a fork (PageTables+Sharing). Any walk may look; before an entry is changed its path is made the
// tree's own: `ensureSlot`, `exclusiveSlot` and `makeExclusive` are the only ways to a slot that may be changed.
//
// The structure is owned by the space's page-table lock. Allocation never waits: a caller that gets ENOMEM lets go of
// the lock, reclaims, and tries again.

import KernelCore
import LinuxABI
import PhysicalMemory

/// The tree of page tables.
struct PageTables {
  /// A reference to an entry of a last-level table; valid while the page-table lock is held.
  typealias Slot = UnsafeMutablePointer<UInt64>

  let root: PageFrameNumber
  /// What the tree holds: see PageTables+Count.
  var own = ResidentPages()
  var commonPages = 0
  var peakPages = 0
  var mayHaveCommonTables = false
  /// Whether pages were pinned since the last fork found none.
  var mayHavePins = false

  init() throws(Errno) {
    root = try Frames.allocateTable()
    Counters.add(1, to: Counters.pageTables)
  }

  /// The address space that one last-level table covers: 2 MiB.
  static var tableSpan: UInt64 { 1 << 21 }
  /// Where in an address the index into the root begins.
  static var rootShift: UInt64 { 39 }
  /// The same for the tables that refer to last-level tables.
  static var middleShift: UInt64 { 21 }
  /// The same for the tables that refer to those: an entry covers 1 GiB.
  static var groupShift: UInt64 { 30 }

  // MARK: Look-up

  /// Where the entry of a page is.
  @safe struct Place {
    /// nil where there is no table.
    let slot: Slot?
    /// Whether a table of the path may belong to other trees too and has to be copied before it is changed.
    let isShared: Bool
    /// Whether the entry is in an object's table, where pages come and go in place.
    let isInObjectTable: Bool
    /// Whether other trees may have the entry too.
    var isInCommon: Bool { isShared || isInObjectTable }

    /// The place of the page that lies `pages` further in the same table.
    func advanced(by pages: Int) -> Place {
      unsafe Place(slot: slot.map { unsafe $0 + pages }, isShared: isShared, isInObjectTable: isInObjectTable)
    }

    /// The entry with the rights that the whole path gives.
    @inline(__always)
    var entry: PageTableEntry {
      guard let slot = unsafe slot else { return .empty }
      let entry = unsafe PageTableEntry(word: slot.pointee)
      return isShared ? entry.inSharedTable : entry
    }
  }

  @inline(__always)
  func find(_ address: UInt64) -> Place {
    var table = unsafe Self.table(root)
    var path: UInt64 = 0
    var shift = Self.rootShift
    while shift >= Self.middleShift {
      defer { shift &-= 9 }
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent else { return unsafe Place(slot: nil, isShared: false, isInObjectTable: false) }
      path |= entry.word
      unsafe table = Self.table(entry.frame)
    }
    return unsafe Place(
      slot: table + Self.index(address, 12), isShared: PageTableEntry(word: path).isTableCopiedOnWrite,
      isInObjectTable: PageTableEntry(word: path).isObjectTable)
  }

  /// The entry for `address` with its path's rights; empty when there is no table.
  @inline(__always)
  func entry(_ address: UInt64) -> PageTableEntry { find(address).entry }

  /// The byte of guest memory at `address` if the tables permit the access.
  @inline(__always)
  func translate(
    _ address: UInt64, _ access: Access, _ authority: AddressSpace.FaultAuthority
  ) -> UnsafeMutableRawPointer? {
    let place = find(address)
    let entry = place.entry
    guard
      entry.permits(access)
        || (authority == .byDebugger && !(access == .write && place.isShared) && entry.permitsDebugger(access))
    else { return nil }
    return unsafe Frames.pointer(entry.frame) + Int(truncatingIfNeeded: address & pageMask)
  }

  /// Calls `body` with each non-empty entry of [start, end), in order, with its path's rights. Absent tables are skipped
  /// whole.
  @inline(__always)
  func forEach(_ start: UInt64, _ end: UInt64, _ body: (UInt64, PageTableEntry) -> Void) {
    unsafe forEachPlace(start, end) { address, slot, place in
      let entry = unsafe PageTableEntry(word: slot.pointee)
      if !entry.isEmpty { body(address, place.isInCommon ? entry.inSharedTable : entry) }
    }
  }

  /// Calls `body` with each slot of the tables that cover [start, end), the empty ones too, and its place.
  @inline(__always)
  func forEachPlace(_ start: UInt64, _ end: UInt64, _ body: (UInt64, Slot, Place) -> Void) {
    var address = start
    while address < end {
      let stop = min(end, (address | (Self.tableSpan &- 1)) &+ 1)
      let place = find(address)
      guard var slot = unsafe place.slot else {
        address = nextTable(from: address)
        continue
      }
      while address < stop {
        let here = unsafe Place(slot: slot, isShared: place.isShared, isInObjectTable: place.isInObjectTable)
        unsafe body(address, slot, here)
        unsafe slot += 1
        address &+= pageSize
      }
    }
  }

  /// The first address beyond the table that covers `address`, or beyond the highest one that is absent.
  func nextTable(from address: UInt64) -> UInt64 {
    var table = unsafe Self.table(root)
    var shift = Self.rootShift
    while shift >= Self.middleShift {
      defer { shift &-= 9 }
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent else { return ((address >> shift) &+ 1) << shift }
      unsafe table = Self.table(entry.frame)
    }
    return (address | (Self.tableSpan &- 1)) &+ 1
  }

  // MARK: Ways to change

  /// The entry for `address` in a table of this tree alone; missing tables are made.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  mutating func ensureSlot(_ address: UInt64) throws(Errno) -> Slot {
    let place = find(address)
    if !place.isShared, let slot = unsafe place.slot { return unsafe slot }
    return try unsafe makeSlot(address)
  }

  /// The entry for `address` in a table of this tree alone, or in an object's; nil where there is no table.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  mutating func exclusiveSlot(_ address: UInt64) throws(Errno) -> Slot? {
    let place = find(address)
    guard let slot = unsafe place.slot else { return nil }
    return place.isShared && !place.isInObjectTable ? try unsafe makeSlot(address) : unsafe slot
  }

  @inline(never)
  private mutating func makeSlot(_ address: UInt64) throws(Errno) -> Slot {
    let slot = try unsafe makeUpperSlot(address)
    if unsafe !PageTableEntry(word: slot.pointee).isPresent {
      let fresh = try Frames.allocateTable()
      Counters.add(1, to: Counters.pageTables)
      unsafe slot.pointee = PageTableEntry(table: fresh).word
    } else if unsafe PageTableEntry(word: slot.pointee).isTableCopiedOnWrite {
      try unsafe unshare(slot, Self.middleShift)
    }
    return unsafe Self.table(PageTableEntry(word: slot.pointee).frame) + Self.index(address, 12)
  }

  /// The entry at `level` above the last-level table of `address`, in a table of this tree alone, or in an object's.
  ///
  /// - Throws: ENOMEM.
  mutating func makeUpperSlot(_ address: UInt64, _ level: UInt64 = PageTables.middleShift) throws(Errno) -> Slot {
    var table = unsafe Self.table(root)
    var shift = Self.rootShift
    while shift > level {
      defer { shift &-= 9 }
      let slot = unsafe table + Self.index(address, shift)
      let entry = unsafe PageTableEntry(word: slot.pointee)
      if !entry.isPresent {
        let fresh = try Frames.allocateTable()
        Counters.add(1, to: Counters.pageTables)
        unsafe slot.pointee = PageTableEntry(table: fresh).word
      } else if entry.isTableCopiedOnWrite {
        try unsafe unshare(slot, shift)
      }
      unsafe table = Self.table(PageTableEntry(word: slot.pointee).frame)
    }
    return unsafe table + Self.index(address, level)
  }

  /// Makes all tables that cover [start, end) this tree's own; absent ones stay absent.
  ///
  /// - Throws: ENOMEM; some of the tables are the tree's own already.
  mutating func makeExclusive(_ start: UInt64, _ end: UInt64) throws(Errno) {
    var address = start
    while address < end {
      let place = find(address)
      if unsafe place.slot == nil {
        address = nextTable(from: address)
        continue
      }
      if place.isShared { _ = try unsafe makeSlot(address) }
      address = (address | (Self.tableSpan &- 1)) &+ 1
    }
  }

  /// Calls `body` with each non-empty slot of [start, end), in order. The tables there are the tree's own: the caller has
  /// called `makeExclusive`.
  @inline(__always)
  mutating func forEachSlot(_ start: UInt64, _ end: UInt64, _ body: (inout PageTables, UInt64, Slot) -> Void) {
    var address = start
    while address < end {
      let stop = min(end, (address | (Self.tableSpan &- 1)) &+ 1)
      guard var slot = unsafe find(address).slot else {
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

  // MARK: Changing entries of tables that are the tree's alone

  /// Puts a page into an empty slot. The slot takes over the caller's reference to the frame.
  @inline(__always)
  mutating func install(_ entry: PageTableEntry, in slot: Slot) {
    unsafe slot.pointee = entry.word
    unsafe count(slot, ResidentPages.packed(entry))
  }

  /// Puts private pages in neighbouring frames into `count` empty slots of one table.
  mutating func installRun(_ first: PageTableEntry, count pages: Int, in slot: Slot) {
    for index in 0..<pages { unsafe slot[index] = first.word &+ UInt64(index) &* pageSize }
    unsafe count(slot, ResidentPages.packed(first) &* Int32(truncatingIfNeeded: pages))
  }

  /// Changes what a slot holds; the page-table takes over a reference to the new frame and hands back that to the old.
  @inline(__always)
  mutating func replace(_ slot: Slot, by entry: PageTableEntry) -> PageTableEntry {
    let old = unsafe PageTableEntry(word: slot.pointee)
    unsafe slot.pointee = entry.word
    let change = ResidentPages.packed(entry) &- ResidentPages.packed(old)
    if change != 0 { unsafe count(slot, change) }
    return old
  }

  /// Empties a slot; the caller takes over the reference to the frame.
  @inline(__always)
  mutating func clear(_ slot: Slot) -> PageTableEntry {
    let old = unsafe PageTableEntry(word: slot.pointee)
    unsafe slot.pointee = 0
    unsafe count(slot, -ResidentPages.packed(old))
    return old
  }

  // MARK: Addresses

  @inline(__always)
  static func index(_ address: UInt64, _ shift: UInt64) -> Int {
    Int(truncatingIfNeeded: (address >> shift) & 511)
  }

  /// SAFETY: `frame` holds a table of this tree: a whole frame of 512 words in the direct map, which lives until its
  /// entry is cleared under the page-table lock.
  @inline(__always)
  static func table(_ frame: PageFrameNumber) -> Slot {
    unsafe Frames.pointer(frame).assumingMemoryBound(to: UInt64.self)
  }
}
