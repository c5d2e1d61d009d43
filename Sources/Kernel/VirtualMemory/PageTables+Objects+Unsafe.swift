// Page tables of memory objects, which all who map the object share for good; and changes in place.
//
// A part of an object of 512 pages that programs map shared, readable and writable, at addresses congruent to 2 MiB has one
// last-level table, found through the object. Whoever faults fills it for all. Nobody owns it alone: pages come and go by
// single atomic steps, each under the table lock of the space for which it is done.
//
// Invariants:
// * Where a tree refers to an object's table, the whole 2 MiB are mapped from that part of the object with these rights.
//   munmap, mprotect and mremap of a piece take the table out of the tree: its pages come back through faults.
// * A page is put into the table only after the object's version was compared under the space's table lock, and
//   truncation visits all spaces after it has changed the version: it finds every page, whoever put it in.
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
  /// The part of the object whose table shows `page`, if the area allows to use it.
  func partWithTable(_ page: UInt64) -> UInt64? {
    let start = page & ~(PageTables.tableSpan &- 1)
    guard isShared, object != nil, protection == [.read, .write], start >= self.start,
      start &+ PageTables.tableSpan <= end, objectIndex(start) & 511 == 0
    else { return nil }
    return objectIndex(start) / 512
  }
}

extension MemoryObject {
  /// The table of a part of the object, with a reference for the caller.
  ///
  /// - Throws: ENOMEM.
  func table(ofPart part: UInt64) throws(Errno) -> PageFrameNumber {
    try sharedTables.withLock { tables throws(Errno) in
      if let table = tables[part] {
        Frames.retainTable(table)
        return table
      }
      let table = try Frames.allocateTable()
      Counters.add(1, to: Counters.pageTables)
      table.frame.set(.objectTable)
      // SAFETY: the reference to the object is given up when the table ends.
      unsafe table.frame.setOwner(UnsafeRawPointer(Unmanaged.passRetained(self).toOpaque()), index: part)
      tables[part] = table
      return table
    }
  }
}

extension PageTables {
  /// The entry for `page` of a mapped object, in a table of this tree alone or in the object's.
  ///
  /// - Throws: ENOMEM.
  mutating func ensureSlot(_ page: UInt64, _ area: VirtualMemoryArea, _ object: MemoryObject) throws(Errno) -> Slot {
    let place = find(page)
    if !place.isShared, let slot = unsafe place.slot { return unsafe slot }
    if unsafe place.slot == nil, let part = area.partWithTable(page) {
      let upper = try unsafe makeUpperSlot(page)
      if unsafe !PageTableEntry(word: upper.pointee).isPresent {
        unsafe link(try object.table(ofPart: part), in: upper)
      }
    }
    return try unsafe ensureSlot(page)
  }

  /// The same where a page of the object is going to be shown to a program that reads: also in a table that other trees
  /// have too.
  ///
  /// - Throws: ENOMEM.
  mutating func slotForReading(
    _ page: UInt64, _ area: VirtualMemoryArea, _ object: MemoryObject
  ) throws(Errno) -> Slot {
    if unsafe find(page).slot != nil { return try unsafe slotForReading(page) }
    return try unsafe ensureSlot(page, area, object)
  }

  /// The object's table for `address`, with a reference for the caller.
  func objectTable(_ address: UInt64) -> PageFrameNumber? {
    let place = find(address)
    guard place.isInObjectTable, let slot = unsafe place.slot else { return nil }
    let table = unsafe Frames.frame(at: slot)
    Frames.retainTable(table)
    return table
  }

  /// Uses an object's table for the 2 MiB at `address`, where the tree has none; takes over the caller's reference, which
  /// is not the last.
  ///
  /// - Throws: ENOMEM; the reference is gone.
  mutating func link(_ table: PageFrameNumber, at address: UInt64) throws(Errno) {
    do throws(Errno) {
      try unsafe link(table, in: makeUpperSlot(address))
    } catch {
      Self.drop(table, Self.middleShift)
      throw error
    }
  }

  private mutating func link(_ table: PageFrameNumber, in upper: Slot) {
    unsafe upper.pointee = PageTableEntry(objectTable: table).word
    resident += ResidentPages(packed: table.frame.mapCount)
    notePeak()
  }

  /// Takes the objects' tables that show a part of [start, end) out of the tree.
  ///
  /// - Throws: ENOMEM; some are out, which is no harm.
  mutating func unlinkObjectTables(_ start: UInt64, _ end: UInt64, into gather: inout MappingGather) throws(Errno) {
    var address = start & ~(Self.tableSpan &- 1)
    while address < end {
      if find(address).isInObjectTable {
        let upper = try unsafe makeUpperSlot(address)
        unsafe unlink(upper, address, &gather)
      }
      address = nextTable(from: address)
    }
    gather.flushRun()
  }

  mutating func unlink(_ upper: Slot, _ address: UInt64, _ gather: inout MappingGather) {
    let table = unsafe PageTableEntry(word: upper.pointee).frame
    unsafe upper.pointee = 0
    resident -= ResidentPages(packed: table.frame.mapCount)
    gather.unmap(address & ~(Self.tableSpan &- 1), length: Self.tableSpan)
    gather.release(table: table, Self.middleShift)
  }

  /// `drop` for an object's table.
  static func dropObjectTable(_ table: PageFrameNumber) {
    guard let owner = unsafe table.frame.owner else { return }
    // SAFETY: the table keeps its object.
    let object = unsafe Unmanaged<MemoryObject>.fromOpaque(owner)
    let isLast = unsafe object._withUnsafeGuaranteedRef { object in
      object.sharedTables.withLock { tables in
        if Frames.releaseTableUnlessLast(table) { return false }
        tables[table.frame.index] = nil
        return true
      }
    }
    guard isLast else { return }
    dropPages(of: table)
    unsafe object.release()
  }

  // MARK: Changes in place

  /// Puts an object's page into an empty slot, which takes over the caller's reference; false if it is not empty any more.
  mutating func installInPlace(_ entry: PageTableEntry, in slot: Slot) -> Bool {
    guard unsafe Self.exchange(slot, .empty, entry) else { return false }
    unsafe count(slot, ResidentPages.packed(entry))
    return true
  }

  /// Empties a slot of a table that may be shared, if it still holds `entry`; the caller takes over the reference.
  /// Whoever shares the table sees the page go.
  mutating func clearInPlace(_ slot: Slot, _ entry: PageTableEntry) -> Bool {
    unsafe replaceInPlace(slot, entry, by: .empty)
  }

  /// Changes a slot of a table that may be shared, if it still holds `entry`; the caller takes over the reference.
  mutating func replaceInPlace(_ slot: Slot, _ entry: PageTableEntry, by new: PageTableEntry) -> Bool {
    guard unsafe Self.exchange(slot, entry, new) else { return false }
    unsafe count(slot, ResidentPages.packed(new) &- ResidentPages.packed(entry))
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
