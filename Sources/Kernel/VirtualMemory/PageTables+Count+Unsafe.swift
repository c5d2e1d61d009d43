// How many pages a tree of page tables holds.
//
// The sums of a last-level table are in its frame's descriptor and are exact: each change of an entry changes them. What a tree
// holds is the sum over its tables (`census`). Tables that other trees have too change without notice, because a space that fills or
// empties an entry does so for all who have the table. So a tree never carries a count of those along: a census derives it
// from the tables when they are read, and whenever tables are handed over to another tree.
//
//     own           pages in tables that are the tree's alone; exact at all times
//     commonPages   pages in the other tables as the last census found them, less those whose table left or became own since
//     peakPages     the highest sum of both so far (VmHWM, ru_maxrss)
//
// Between two censuses `commonPages` may be too high or too low, by what others did. It is never negative, and an error of it
// ends with the next census.
//
// SAFETY: as in PageTables+Sharing: a present entry above the last level leads to a whole frame of 512 words, which the
// entry's reference keeps; the caller holds the page-table lock.

import PhysicalMemory

/// Pages that a table, or a part of a tree, holds.
struct ResidentPages: Equatable {
  /// Private pages.
  var anonymous = 0
  /// Pages of memory objects.
  var object = 0
  /// Pages on swap areas.
  var swapped = 0

  /// Those in memory.
  var inMemory: Int { anonymous &+ object }

  /// A last-level table's sums as its frame's descriptor keeps them: eleven bits, eleven bits and ten.
  init(packed: Int32) {
    let bits = UInt32(bitPattern: packed)
    (anonymous, object, swapped) = (Int(bits & 0x7ff), Int(bits >> 11 & 0x7ff), Int(bits >> 22))
  }

  /// A change of such sums: each part may be negative.
  init(change: Int32) {
    // Rounding finds the upper parts, whatever the signs of the lower ones.
    let swapped = (change &+ 1 << 21) >> 22
    let rest = change &- swapped << 22
    let object = (rest &+ 1 << 10) >> 11
    anonymous = Int(rest &- object << 11)
    self.object = Int(object)
    self.swapped = Int(swapped)
  }

  init() {}

  static func += (left: inout ResidentPages, right: ResidentPages) {
    left.anonymous &+= right.anonymous
    left.object &+= right.object
    left.swapped &+= right.swapped
  }

  static func -= (left: inout ResidentPages, right: ResidentPages) {
    left.anonymous &-= right.anonymous
    left.object &-= right.object
    left.swapped &-= right.swapped
  }

  /// What one entry counts for.
  @inline(__always)
  static func packed(_ entry: PageTableEntry) -> Int32 {
    if entry.isSwapped { return 1 << 22 }
    if entry.isEmpty || !entry.isCounted { return 0 }
    return entry.isObjectPage ? 1 << 11 : 1
  }
}

extension PageTables {
  /// What the tables of a tree, or of a part of it, hold.
  struct Census: Equatable {
    /// In tables that are the tree's alone.
    var own = ResidentPages()
    /// In tables that other trees may have too.
    var common = ResidentPages()
    /// Tables, those of others included.
    var tables = 0

    var all: ResidentPages {
      var all = own
      all += common
      return all
    }
  }

  // MARK: Looking

  /// What the tree holds now, by its tables, of which the root is one. Changes nothing.
  ///
  /// - Complexity: O(tables).
  func census() -> Census {
    var census = Census()
    census.tables = 1
    unsafe Self.visit(Self.table(root), Self.rootShift, isInCommon: false, &census)
    return census
  }

  /// What the tree holds now, which the peak takes into account.
  mutating func takeCensus() -> Census {
    let census = census()
    commonPages = census.common.inMemory
    notePeak()
    return census
  }

  /// Whether the tree holds more private pages than that.
  ///
  /// - Complexity: O(1) unless the tree shared tables at some time; then it goes over tables until it has found enough.
  func holdsPrivatePages(moreThan limit: Int) -> Bool {
    own.anonymous > limit || mayHaveCommonTables && census().all.anonymous > limit
  }

  // MARK: Noting changes

  /// Changes the sums of `slot`'s table, which is the tree's alone.
  @inline(__always)
  mutating func count(_ slot: Slot, _ change: Int32) {
    if change == 0 { return }
    unsafe Self.countInCommon(slot, change)
    own += ResidentPages(change: change)
    notePeak()
  }

  /// Changes the sums of `slot`'s table, which belongs to others too.
  @inline(__always)
  static func countInCommon(_ slot: Slot, _ change: Int32) {
    if change != 0 { unsafe Frames.frame(at: slot).frame.addMappings(change) }
  }

  /// All tables are given to another tree too. Returns how many pages in memory both hold.
  mutating func didShare() -> Int {
    own = ResidentPages()
    mayHaveCommonTables = true
    return takeCensus().common.inMemory
  }

  /// The tree, empty before, has all tables of one that holds so many pages in memory.
  mutating func didTake(_ pages: Int) {
    commonPages = pages
    mayHaveCommonTables = true
    notePeak()
  }

  /// A last-level table that was in common, or its copy, is the tree's alone now.
  mutating func didUnshare(_ table: PageFrameNumber) {
    let pages = ResidentPages(packed: table.frame.mapCount)
    own += pages
    takeFromCommon(pages.inMemory)
    notePeak()
  }

  /// The tree has an object's table below an entry at `shift`.
  mutating func didLink(_ entry: PageTableEntry, _ shift: UInt64) {
    commonPages &+= Self.census(below: entry, shift).common.inMemory
    notePeak()
  }

  /// An entry at `shift` with a table is gone from a table that is the tree's alone.
  mutating func didTakeOut(_ entry: PageTableEntry, _ shift: UInt64) {
    let census = Self.census(below: entry, shift)
    own -= census.own
    takeFromCommon(census.common.inMemory)
  }

  /// The tree is empty.
  mutating func didTakeOutAll() {
    own = ResidentPages()
    commonPages = 0
  }

  private mutating func takeFromCommon(_ pages: Int) { commonPages = max(0, commonPages &- pages) }

  @inline(__always)
  private mutating func notePeak() { peakPages = max(peakPages, own.inMemory &+ commonPages) }

  // MARK: Walking

  private static func census(below entry: PageTableEntry, _ shift: UInt64) -> Census {
    var census = Census()
    visit(entry, shift, isInCommon: false, &census)
    return census
  }

  /// Adds the table below an entry at `shift`, and those below that.
  private static func visit(_ entry: PageTableEntry, _ shift: UInt64, isInCommon: Bool, _ census: inout Census) {
    let isInCommon = isInCommon || entry.isTableCopiedOnWrite || entry.isObjectTable
    census.tables &+= 1
    if shift > middleShift {
      unsafe visit(table(entry.frame), shift &- 9, isInCommon: isInCommon, &census)
    } else if isInCommon {
      census.common += ResidentPages(packed: entry.frame.frame.mapCount)
    } else {
      census.own += ResidentPages(packed: entry.frame.frame.mapCount)
    }
  }

  private static func visit(_ table: Slot, _ shift: UInt64, isInCommon: Bool, _ census: inout Census) {
    for index in 0..<512 {
      let entry = unsafe PageTableEntry(word: table[index])
      if entry.isPresent { visit(entry, shift, isInCommon: isInCommon, &census) }
    }
  }
}
