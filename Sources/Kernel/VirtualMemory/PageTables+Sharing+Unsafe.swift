// Sharing page tables after fork(2): a child takes its parent's tables instead of copies of them.
//
//     after fork                      after a write by the child through table T
//
//     parent   child                  parent              child
//       │ c      │ c                    │ c                 │
//       └──▶ M ◀─┘                      M ──c──▶ U ◀──c──   M'
//           ╱ ╲                          ╲                 ╱
//          T   U                          c▶ T         T' ◀
//                                            └─▶ pages ◀─┘
//
// The entry above a shared table is marked *copied on write* (c) and gives no right to write, in each tree that has it.
// That holds for everything below, so fork marks the root's entries only, a handful whatever the size of the program.
// A tree that wants to change an entry makes the path its own from the top: a marked table with other references is
// copied, which gives one more reference to everything that it holds and moves the mark one level down; without other
// references only the mark moves. At the last level the mark becomes that of each page: private pages lose the right to
// write in the copy and in the original, and their frames get one more reference, so that ordinary copy-on-write takes over.
//
// Reading unshares nothing. What a read fault puts in is the same for all who share the table, the page of zeros or a page of
// an object, none of them private; so it goes into the shared table, by one atomic step, and all have it at once. That is
// right only if the page belongs to the same kind of area in all of them. It does, unless the table is `divergent`:
//
// * Trees share a table from a fork on, when their areas were the same. (A child without some of the areas, see
//   MADV_DONTFORK, leaves the tables that these had in part.)
// * munmap, mprotect, mremap and MADV_DONTNEED of a part of its 2 MiB make the table the tree's own, also where it is empty;
//   of all of them, the tree lets go of it.
// * So areas can differ only by addition: mmap into a hole, a stack or heap that grows. Who adds marks the tables that
//   other trees may have as divergent first (`noteNewArea`), and read faults copy those as write faults do. A page which was
//   put in before the mark, or is just being put in by another tree, lies where all had an area, hence not in the hole.
//
// Invariants:
// * A table with several references is changed by single atomic steps only: rights and accessed bits are taken away; pages are
//   taken out, those of objects (by truncation and reclaim), and private ones for their swap entries; pages that nobody owns
//   are put into empty entries. Who takes out visits every space that may show the page.
// * Below a mark the machine has been offered no right to write private memory. So a fork has to take rights away from
//   those parts only that were made writable since the last one.
// * The references of a frame count tables, not spaces: whether a page is a program's alone can be asked only when its
//   path is.
//
// SAFETY (of this file): a present entry above the last level leads to a whole frame of 512 words in the direct map, which
// the entry's reference keeps; entries and tables change under the page-table lock of a space that has them only, those of
// tables in common by single atomic steps.

import LinuxABI
import PhysicalMemory
import Scheduling

extension FrameFlags {
  /// The frame is a page table, and the areas of those who share it may differ.
  static var divergentTable: FrameFlags { FrameFlags(rawValue: 1 << 25) }
}

extension PageTables {
  // MARK: Sharing

  /// Gives all tables to an empty tree too. The caller has taken the machine's rights away before: see
  /// `forEachWritableRun`.
  ///
  /// - Returns: how many pages both hold now.
  mutating func share(with child: PageFrameNumber) -> Int {
    let ours = unsafe Self.table(root)
    let theirs = unsafe Self.table(child)
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: ours[index])
      guard entry.isPresent else { continue }
      Frames.retainTable(entry.frame)
      let shared = entry.sharingTable.word
      unsafe ours[index] = shared
      unsafe theirs[index] = shared
    }
    return didShare()
  }

  /// Calls `body` with the runs of pages in [start, end) that the machine may have been allowed to write: those below no
  /// mark. A run is present throughout; private pages in between are never missing from it.
  ///
  /// - Complexity: O(tables that are not marked); full tables are not looked into.
  func forEachWritableRun(_ start: UInt64, _ end: UInt64, _ body: (_ start: UInt64, _ end: UInt64) -> Void) {
    var run = start..<start
    func extend(_ from: UInt64, _ to: UInt64) {
      if run.upperBound == from {
        run = run.lowerBound..<to
      } else {
        if !run.isEmpty { body(run.lowerBound, run.upperBound) }
        run = from..<to
      }
    }
    unsafe visit(Self.table(root), Self.rootShift, start, end, extend)
    if !run.isEmpty { body(run.lowerBound, run.upperBound) }
  }

  private func visit(
    _ table: Slot, _ shift: UInt64, _ start: UInt64, _ end: UInt64, _ extend: (UInt64, UInt64) -> Void
  ) {
    var position = start
    while position < end {
      let stop = min(end, ((position >> shift) &+ 1) << shift)
      defer { position = stop }
      let entry = unsafe PageTableEntry(word: table[Self.index(position, shift)])
      guard entry.isPresent, !entry.isTableCopiedOnWrite else { continue }
      if shift > Self.middleShift {
        unsafe visit(Self.table(entry.frame), shift &- 9, position, stop, extend)
        continue
      }
      let sums = ResidentPages(packed: entry.frame.frame.mapCount)
      if sums.anonymous == 512 {
        extend(position, stop)
      } else if sums.anonymous > 0 {
        let slots = unsafe Self.table(entry.frame)
        for address in stride(from: position, to: stop, by: Int(pageSize)) {
          let page = unsafe PageTableEntry(word: slots[Self.index(address, 12)])
          if page.isPresent { extend(address, address &+ pageSize) }
        }
      }
    }
  }

  // MARK: Taking apart

  /// Makes the table below the entry `slot` of an own table the tree's own, and unmarks the entry.
  ///
  /// - Throws: ENOMEM.
  mutating func unshare(_ slot: Slot, _ shift: UInt64) throws(Errno) {
    let table = unsafe PageTableEntry(word: slot.pointee).frame
    if Frames.tableReferences(table) == 1 {
      if table.frame.flags.contains(.divergentTable) { table.frame.clear(.divergentTable) }
      if shift > Self.middleShift { unsafe Self.passMarksDown(Self.table(table)) } else { didUnshare(table) }
      unsafe slot.pointee = PageTableEntry(table: table).word
      return
    }
    let copy = try Frames.allocateTable()
    Counters.add(1, to: Counters.pageTables)
    if shift > Self.middleShift {
      unsafe Self.copyUpperTable(Self.table(table), to: Self.table(copy))
    } else {
      unsafe Self.copyLastTable(Self.table(table), to: copy)
      didUnshare(copy)
    }
    unsafe slot.pointee = PageTableEntry(table: copy).word
    Self.drop(table, shift)
  }

  private static func passMarksDown(_ table: Slot) {
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: table[index])
      if entry.isPresent { unsafe table[index] = entry.sharingTable.word }
    }
  }

  private static func copyUpperTable(_ table: Slot, to copy: Slot) {
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: table[index])
      guard entry.isPresent else {
        unsafe copy[index] = 0
        continue
      }
      Frames.retainTable(entry.frame)
      // A concurrent copy of the table stores the same.
      unsafe table[index] = entry.sharingTable.word
      unsafe copy[index] = entry.sharingTable.word
    }
  }

  private static func copyLastTable(_ table: Slot, to frame: PageFrameNumber) {
    let copy = unsafe self.table(frame)
    var sums: Int32 = 0
    for index in 0..<512 {
      // Read once: pages of objects may be taken out meanwhile. Their frames live until this space was visited too.
      let entry = unsafe PageTableEntry(word: table[index])
      let own = entry.inSharedTable
      unsafe copy[index] = own.word
      sums &+= ResidentPages.packed(entry)
      // A swap entry does not leave a shared table: it is good until this tree has given up its reference.
      if entry.isSwapped { SwapSpace.retain(entry.swapEntry) }
      if entry.isEmpty || !entry.isCounted { continue }
      Frames.retain(entry.frame)
      if own != entry { unsafe takeBits(table + index, PageTableEntry.writable) }
    }
    frame.frame.addMappings(sums)
    Counters.add(ResidentPages(packed: sums).anonymous, to: Counters.anonymousPages)
  }

  // MARK: Reading

  /// The entry for `address`, into which a page may be put that is the same for all who have the table: a page of an
  /// object, or that of zeros, by `installInPlace`. Missing tables are made.
  ///
  /// - Throws: ENOMEM.
  mutating func placeForReading(_ address: UInt64) throws(Errno) -> Place {
    let place = find(address)
    if let slot = unsafe place.slot {
      let isDivergent = unsafe Frames.frame(at: slot).frame.flags.contains(.divergentTable)
      if !place.isShared || !isDivergent { return place }
    }
    _ = try unsafe ensureSlot(address)
    return find(address)
  }

  /// [start, end) is going to be mapped where it was not: other spaces that share a table there have no such area.
  func noteNewArea(_ start: UInt64, _ end: UInt64) {
    var address = start
    while address < end {
      let place = find(address)
      if place.isShared, let slot = unsafe place.slot {
        let table = unsafe Frames.frame(at: slot).frame
        if !table.flags.contains(.divergentTable) { table.set(.divergentTable) }
      }
      address = nextTable(from: address)
    }
  }

  /// Whether all tables on the way to `address` are this tree's alone, whatever their marks say.
  func isAlone(_ address: UInt64) -> Bool {
    var table = unsafe Self.table(root)
    var shift = Self.rootShift
    while shift >= Self.middleShift {
      let entry = unsafe PageTableEntry(word: table[Self.index(address, shift)])
      guard entry.isPresent, Frames.tableReferences(entry.frame) == 1 else { return false }
      unsafe table = Self.table(entry.frame)
      shift &-= 9
    }
    return true
  }

  // MARK: Dropping

  /// Gives up a reference to the table below an entry at `shift`; the last one ends all that the table holds. No machine
  /// shows pages any more that only this reference kept.
  static func drop(_ table: PageFrameNumber, _ shift: UInt64) {
    if table.frame.flags.contains(.objectTable) { return dropObjectTable(table, shift) }
    if Frames.releaseTableUnlessLast(table) { return }
    if shift > middleShift { dropTables(of: table, shift) } else { dropPages(of: table) }
    // The end of a large space takes long.
    Thread.checkRescheduleUnlessLocked()
  }

  /// Ends a table above the last level, below an entry at `shift`, without other references.
  static func dropTables(of table: PageFrameNumber, _ shift: UInt64) {
    let slots = unsafe self.table(table)
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: slots[index])
      if entry.isPresent { drop(entry.frame, shift &- 9) }
    }
    Frames.releaseTable(table)
    Counters.add(-1, to: Counters.pageTables)
  }

  /// Ends a last-level table without other references.
  static func dropPages(of table: PageFrameNumber) {
    let slots = unsafe self.table(table)
    let sums = table.frame.mapCount
    if sums != 0 {
      for index in 0..<512 {
        let entry = unsafe PageTableEntry(word: slots[index])
        if entry.isSwapped { SwapSpace.release(entry.swapEntry) }
        if !entry.isEmpty, entry.isCounted { Frames.release(entry.frame) }
      }
      Counters.add(-ResidentPages(packed: sums).anonymous, to: Counters.anonymousPages)
      table.frame.addMappings(0 &- sums)
    }
    Frames.releaseTable(table)
    Counters.add(-1, to: Counters.pageTables)
  }

  /// Takes everything out, for the end of a space: the machine has forgotten it. The root stays, so that a walk that still
  /// looks finds nothing.
  mutating func takeOutAll(into gather: inout MappingGather) {
    let slots = unsafe Self.table(root)
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: slots[index])
      if entry.isPresent { gather.release(table: entry.frame, Self.rootShift) }
      unsafe slots[index] = 0
    }
    didTakeOutAll()
  }

  /// Ends the empty tree.
  func releaseRoot() {
    Frames.releaseTable(root)
    Counters.add(-1, to: Counters.pageTables)
  }

  // MARK: Taking out

  /// Takes all pages of [start, end) out. Tables that lie in [floor, ceiling) leave as they are, shared or not: nothing
  /// else is mapped there. What leaves is freed when the caller finishes the gather.
  ///
  /// - Throws: ENOMEM, before anything has changed: tables in which other pages stay are made the tree's own.
  mutating func takeOut(
    _ start: UInt64, _ end: UInt64, floor: UInt64, ceiling: UInt64, into gather: inout MappingGather
  ) throws(Errno) {
    try keepBoundary(start, floor, ceiling)
    try keepBoundary(end &- pageSize, floor, ceiling)
    unsafe takeOut(Self.table(root), Self.rootShift, start, end, floor, ceiling, &gather)
    gather.flushRun()
  }

  /// Makes the path to `address` the tree's own, as far as its tables stay.
  private mutating func keepBoundary(_ address: UInt64, _ floor: UInt64, _ ceiling: UInt64) throws(Errno) {
    var table = unsafe Self.table(root)
    var shift = Self.rootShift
    while shift >= Self.middleShift {
      let begin = (address >> shift) << shift
      if begin >= floor, begin &+ (1 << shift) <= ceiling { return }
      let slot = unsafe table + Self.index(address, shift)
      let entry = unsafe PageTableEntry(word: slot.pointee)
      guard entry.isPresent, !entry.isObjectTable else { return }
      if entry.isTableCopiedOnWrite { try unsafe unshare(slot, shift) }
      unsafe table = Self.table(PageTableEntry(word: slot.pointee).frame)
      shift &-= 9
    }
  }

  private mutating func takeOut(
    _ table: Slot, _ shift: UInt64, _ start: UInt64, _ end: UInt64, _ floor: UInt64, _ ceiling: UInt64,
    _ gather: inout MappingGather
  ) {
    var position = start
    while position < end {
      let begin = (position >> shift) << shift
      let stop = min(end, begin &+ (1 << shift))
      defer { position = stop }
      let slot = unsafe table + Self.index(position, shift)
      let entry = unsafe PageTableEntry(word: slot.pointee)
      guard entry.isPresent else { continue }
      if begin >= floor, begin &+ (1 << shift) <= ceiling {
        unsafe slot.pointee = 0
        didTakeOut(entry, shift)
        gather.unmap(position, length: stop &- position)
        gather.release(table: entry.frame, shift)
      } else if entry.isObjectTable {
        unsafe unlink(slot, shift, position, &gather)
      } else if shift > Self.middleShift {
        unsafe takeOut(Self.table(entry.frame), shift &- 9, position, stop, floor, ceiling, &gather)
      } else {
        unsafe takeOutPages(Self.table(entry.frame), position, stop, &gather)
      }
    }
  }

  private mutating func takeOutPages(_ table: Slot, _ start: UInt64, _ end: UInt64, _ gather: inout MappingGather) {
    var address = start
    while address < end {
      let slot = unsafe table + Self.index(address, 12)
      if unsafe slot.pointee != 0 { gather.unmap(address, unsafe clear(slot)) }
      address &+= pageSize
    }
  }
}
