// Page tables of memory objects, which all who map the object share for good; and changes in place.
//
// A part of an object of 512 pages that programs map shared, readable and writable, at addresses congruent to 2 MiB has one
// last-level table, found through the object. A fault fills it for all. No space owns it alone: pages come and go by
// single atomic steps, each under the table lock of the space for which it is done. Likewise 512 such parts, at addresses
// congruent to 1 GiB, have one middle table: who maps so much has a single entry of its own for a GiB.
//
//     space   space            space
//       │o      │o               │          o  object's table
//       └──▶ M ◀┘                M'         M' shows 2 MiB of the GiB, or has something else beside them
//          o╱ ╲o               o╱
//          T   T ◀─────────────┘            more than 512 parts: more middle tables
//
// Invariants:
// * Where a tree refers to an object's table, all that the table covers is mapped from that part of the object with these rights.
//   munmap, mprotect and mremap of a piece take the table out of the tree: its pages come back through faults.
// * A middle table only gains tables, each in one atomic step, and gives them up at its end.
// * A page is put into the table only after the object's version was compared under the space's table lock, and
//   truncation visits all spaces after it has changed the version: it finds every page, no matter which space put it in.
// * The table has a reference for each entry that leads to it and keeps its object; the object's list of tables has none.

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization

extension FrameFlags {
  /// The frame is an object's page table; its owner is the object, its index the part.
  static var objectTable: FrameFlags { FrameFlags(rawValue: 1 << 24) }
}

extension VirtualMemoryArea {
  /// The part of the object whose table, below an entry at `shift`, shows `page`, if the area allows to use it.
  func partWithTable(_ page: UInt64, _ shift: UInt64) -> UInt64? {
    let span: UInt64 = 1 << shift
    let start = page & ~(span &- 1)
    guard isShared, object != nil, protection == [.read, .write], start >= self.start, start &+ span <= end,
      objectIndex(start) & (span / pageSize &- 1) == 0
    else { return nil }
    return objectIndex(start) / (span / pageSize)
  }
}

/// The tables of an object, by the level of the entry that refers to them, and part.
struct ObjectTables {
  private var last: [UInt64: PageFrameNumber] = [:]
  private var middle: [UInt64: PageFrameNumber] = [:]

  var count: Int { last.count + middle.count }

  subscript(shift: UInt64, part: UInt64) -> PageFrameNumber? {
    get { shift == PageTables.middleShift ? last[part] : middle[part] }
    set { if shift == PageTables.middleShift { last[part] = newValue } else { middle[part] = newValue } }
  }
}

extension MemoryObject {
  /// The table of a part of the object, with a reference for the caller.
  ///
  /// - Throws: ENOMEM.
  func table(ofPart part: UInt64, _ shift: UInt64) throws(Errno) -> PageFrameNumber {
    try sharedTables.withLock { tables throws(Errno) in
      if let table = tables[shift, part] {
        Frames.retainTable(table)
        return table
      }
      let table = try Frames.allocateTable()
      Counters.add(1, to: Counters.pageTables)
      table.frame.set(.objectTable)
      // SAFETY: the reference to the object is given up when the table ends.
      unsafe table.frame.setOwner(UnsafeRawPointer(Unmanaged.passRetained(self).toOpaque()), index: part)
      tables[shift, part] = table
      return table
    }
  }
}

extension PageTables {
  /// The entry for `page` of a mapped object, in a table of this tree alone or in the object's.
  ///
  /// - Throws: ENOMEM.
  mutating func ensurePlace(_ page: UInt64, _ area: VirtualMemoryArea, _ object: MemoryObject) throws(Errno) -> Place {
    let place = find(page)
    if !place.isShared || place.isInObjectTable, unsafe place.slot != nil { return place }
    if unsafe place.slot == nil {
      try linkTable(Self.groupShift, page, area, object)
      try linkTable(Self.middleShift, page, area, object)
    }
    _ = try unsafe ensureSlot(page)
    return find(page)
  }

  /// Uses the object's table below the entry at `shift`, if the area allows it and the tree has none there.
  private mutating func linkTable(
    _ shift: UInt64, _ page: UInt64, _ area: VirtualMemoryArea, _ object: MemoryObject
  ) throws(Errno) {
    guard let part = area.partWithTable(page, shift) else { return }
    let upper = try unsafe makeUpperSlot(page, shift)
    if unsafe PageTableEntry(word: upper.pointee).isPresent { return }
    unsafe link(try object.table(ofPart: part, shift), in: upper, shift)
  }

  /// The same where a page of the object is going to be shown to a program that reads: also in a table that other trees
  /// have too.
  ///
  /// - Throws: ENOMEM.
  mutating func placeForReading(
    _ page: UInt64, _ area: VirtualMemoryArea, _ object: MemoryObject
  ) throws(Errno) -> Place {
    if unsafe find(page).slot != nil { return try placeForReading(page) }
    return try ensurePlace(page, area, object)
  }

  /// The object's table for `address`, the upper one of two, with a reference for the caller; and where in an address the
  /// index of the entry that leads to it begins.
  func objectTable(_ address: UInt64) -> (table: PageFrameNumber, shift: UInt64)? {
    guard let (entry, shift) = objectTableEntry(address) else { return nil }
    Frames.retainTable(entry.frame)
    return (entry.frame, shift)
  }

  private func objectTableEntry(_ address: UInt64) -> (entry: PageTableEntry, shift: UInt64)? {
    var table = unsafe Self.table(root)
    var shift = Self.rootShift
    while shift >= Self.middleShift {
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent else { return nil }
      if entry.isObjectTable { return (entry, shift) }
      unsafe table = Self.table(entry.frame)
      shift &-= 9
    }
    return nil
  }

  /// Uses an object's table below the entry at `shift` for `address`, where the tree has none; takes over the caller's
  /// reference, which is not the last.
  ///
  /// - Throws: ENOMEM; the reference is gone.
  mutating func link(_ table: PageFrameNumber, _ shift: UInt64, at address: UInt64) throws(Errno) {
    do throws(Errno) {
      try unsafe link(table, in: makeUpperSlot(address, shift), shift)
    } catch {
      Self.drop(table, shift)
      throw error
    }
  }

  private mutating func link(_ table: PageFrameNumber, in upper: Slot, _ shift: UInt64) {
    let entry = PageTableEntry(objectTable: table)
    // The slot may be in an object's table itself, where another space was faster: with the same.
    guard unsafe Self.exchange(upper, .empty, entry) else { return Self.drop(table, shift) }
    didLink(entry, shift)
  }

  /// Takes the objects' tables that show a part of [start, end) out of the tree.
  ///
  /// - Throws: ENOMEM; some are out, which is no harm.
  mutating func unlinkObjectTables(_ start: UInt64, _ end: UInt64, into gather: inout MappingGather) throws(Errno) {
    var address = start
    while address < end {
      guard let (_, shift) = objectTableEntry(address) else {
        address = nextTable(from: address)
        continue
      }
      unsafe unlink(try makeUpperSlot(address, shift), shift, address, &gather)
      address = ((address >> shift) &+ 1) << shift
    }
    gather.flushRun()
  }

  mutating func unlink(_ upper: Slot, _ shift: UInt64, _ address: UInt64, _ gather: inout MappingGather) {
    let entry = unsafe PageTableEntry(word: upper.pointee)
    unsafe upper.pointee = 0
    didTakeOut(entry, shift)
    gather.unmap((address >> shift) << shift, length: 1 << shift)
    gather.release(table: entry.frame, shift)
  }

  /// `drop` for an object's table.
  static func dropObjectTable(_ table: PageFrameNumber, _ shift: UInt64) {
    guard let owner = unsafe table.frame.owner else { return }
    // SAFETY: the table keeps its object.
    let object = unsafe Unmanaged<MemoryObject>.fromOpaque(owner)
    let isLast = unsafe object._withUnsafeGuaranteedRef { object in
      object.sharedTables.withLock { tables in
        if Frames.releaseTableUnlessLast(table) { return false }
        tables[shift, table.frame.index] = nil
        return true
      }
    }
    guard isLast else { return }
    if shift > middleShift { dropTables(of: table, shift) } else { dropPages(of: table) }
    unsafe object.release()
  }

  // MARK: Changes in place

  /// Puts an object's page into an empty slot, which takes over the caller's reference; false if it is not empty any more.
  mutating func installInPlace(_ entry: PageTableEntry, in place: Place) -> Bool {
    replaceInPlace(place, .empty, by: entry)
  }

  /// Empties a slot of a table that may be shared, if it still holds `entry`; the caller takes over the reference.
  /// All spaces that share the table lose the page.
  mutating func clearInPlace(_ place: Place, _ entry: PageTableEntry) -> Bool {
    replaceInPlace(place, entry, by: .empty)
  }

  /// Changes a slot of a table that may be shared, if it still holds `entry`; the caller takes over the reference.
  mutating func replaceInPlace(_ place: Place, _ entry: PageTableEntry, by new: PageTableEntry) -> Bool {
    guard let slot = unsafe place.slot, unsafe Self.exchange(slot, entry, new) else { return false }
    let change = ResidentPages.packed(new) &- ResidentPages.packed(entry)
    if place.isInCommon { unsafe Self.countInCommon(slot, change) } else { unsafe count(slot, change) }
    return true
  }

  /// Sets the accessed bit of what was found; false if that is there no more.
  @inline(__always)
  func noteUse(_ place: Place) -> Bool {
    guard let slot = unsafe place.slot else { return false }
    let entry = unsafe PageTableEntry(word: slot.pointee)
    if entry.isAccessed { return true }
    guard entry.isPresent else { return !entry.isSwapped }
    return unsafe Self.exchange(slot, entry, PageTableEntry(word: entry.word | PageTableEntry.accessed))
  }

  /// Clears the accessed bit in a table that may be shared.
  func forgetUse(_ slot: Slot) { unsafe Self.takeBits(slot, PageTableEntry.accessed) }

  /// Takes the right to write away in a table that may be shared.
  func protectInPlace(_ slot: Slot) {
    unsafe Self.takeBits(slot, PageTableEntry.writable | PageTableEntry.dirty)
  }

  /// Clears bits of an entry while others may do the same, or empty it.
  @inline(__always)
  static func takeBits(_ slot: Slot, _ bits: UInt64) {
    _ = unsafe word(slot).pointee.bitwiseAnd(~bits, ordering: .relaxed)
  }

  @inline(__always)
  private static func exchange(_ slot: Slot, _ old: PageTableEntry, _ new: PageTableEntry) -> Bool {
    unsafe word(slot).pointee.compareExchange(
      expected: old.word, desired: new.word, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// SAFETY: an aligned word of a table that lives while the lock is held; Atomic<UInt64> has its layout.
  @inline(__always)
  private static func word(_ slot: Slot) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe UnsafeMutableRawPointer(slot).assumingMemoryBound(to: Atomic<UInt64>.self)
  }
}
