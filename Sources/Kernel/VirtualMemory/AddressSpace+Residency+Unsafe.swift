// Who else has the pages of an area: what smaps divides them by.
//
// A page's count says how many page-table entries map it, not how many programs: a table may be shared by several
// (PageTables+Sharing), and so may the table above it. So the reverse map is walked: the spaces of the family for private pages,
// the areas of the object for others. It is walked for 64 pages at a time, so that no lock is held for long. A table that several
// of them share is looked up once. Nothing is walked where the pages have no other users and the table is not shared.
//
// The pages may come and go meanwhile, as with every list in /proc.
//
// SAFETY: a slot points to an entry of a table of a space's tree and is read under the lock of these tables. Beyond that it is
// kept as a number, to find out whether two spaces have the same table.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// What 64 neighbouring entries of one table hold.
private struct PageRun {
  static var length: UInt64 { 64 }

  /// What tells a page, or a place on a swap area, from others; 0 for what counts for nothing.
  var names = InlineArray<64, UInt64>(repeating: 0)
  var mappings = InlineArray<64, Int32>(repeating: 0)
  // A bit for each page.
  var objectPages: UInt64 = 0
  var privatePages: UInt64 = 0
  var swapped: UInt64 = 0
  var dirty: UInt64 = 0
  var referenced: UInt64 = 0
  var active: UInt64 = 0
  var swapCached: UInt64 = 0
  /// Where the first entry is.
  var place: UInt = 0
  /// Whether others may have private pages, or pages of the object.
  var mayShareCopies = false
  var mayShareObject = false

  static func name(_ entry: PageTableEntry) -> UInt64 {
    entry.isSwapped || (!entry.isEmpty && entry.isCounted)
      ? entry.word & (PageTableEntry.frameMask | PageTableEntry.swapped) : 0
  }

  func frame(_ index: Int) -> PageFrameNumber { PageFrameNumber((names[index] & PageTableEntry.frameMask) >> 12) }
}

extension AddressSpace {
  /// What an area, or what was one, has in memory. The caller has no lock.
  func residency(_ area: AreaSnapshot) -> Residency {
    var result = Residency()
    var position = area.start
    while position < area.end {
      var run = PageRun()
      let next = read(&run, position, area.end)
      if run.objectPages | run.privatePages | run.swapped != 0 {
        count(&run, position, area)
        add(run, of: area, to: &result)
      }
      position = next
      Thread.checkReschedule()
    }
    return result
  }

  /// Reads the entries from `start` on; returns where the next ones are.
  private func read(_ run: inout PageRun, _ start: UInt64, _ end: UInt64) -> UInt64 {
    tables.withLock { tables in
      let place = tables.find(start)
      guard let first = unsafe place.slot else { return min(end, tables.nextTable(from: start)) }
      let stop = min(end, (start | (PageRun.length &* pageSize &- 1)) &+ 1)
      unsafe run.place = UInt(bitPattern: first)
      for index in 0..<Int(truncatingIfNeeded: (stop &- start) / pageSize) {
        let entry = unsafe PageTableEntry(word: first[index])
        let name = PageRun.name(entry)
        guard name != 0 else { continue }
        run.names[index] = name
        let bit = UInt64(1) << UInt64(index)
        guard !entry.isSwapped else {
          run.swapped |= bit
          run.mayShareCopies = true
          continue
        }
        let flags = entry.frame.frame.flags
        if entry.isAccessed || flags.contains(.referenced) { run.referenced |= bit }
        if flags.contains(.active) { run.active |= bit }
        if flags.contains(.swapCached) { run.swapCached |= bit }
        let hasOthers = place.isInCommon || Frames.users(entry.frame) > (entry.isObjectPage ? 2 : 1)
        if entry.isObjectPage {
          run.objectPages |= bit
          if hasOthers { run.mayShareObject = true }
        } else {
          run.privatePages |= bit
          if !flags.contains(.swapCached) || entry.word & PageTableEntry.dirty != 0 { run.dirty |= bit }
          if hasOthers { run.mayShareCopies = true }
        }
      }
      return stop
    }
  }

  /// Counts the mappings of the pages of a run.
  private func count(_ run: inout PageRun, _ start: UInt64, _ area: AreaSnapshot) {
    if run.mayShareCopies {
      var member = 0
      while true {
        let isLast = family.visitMembers(from: &member, limit: 32) { space in
          space.count(&run, run.privatePages | run.swapped, start, 0..<Int(PageRun.length))
        }
        if isLast { break }
        Thread.checkReschedule()
      }
    }
    guard run.objectPages != 0, let object = area.object else { return }
    let first = area.offset / pageSize &+ (start &- area.start) / pageSize
    let last = first &+ PageRun.length
    if run.mayShareObject {
      object.withMappedAreas { other in
        let lower = max(first, other.pageOffset)
        let upper = min(last, other.pageOffset &+ other.length / pageSize)
        guard lower < upper else { return }
        // Below the area's start there may be addresses for the run's first pages, or none.
        unsafe other.space.count(
          &run, run.objectPages, other.start &- (other.pageOffset &- first) &* pageSize,
          Int(lower &- first)..<Int(upper &- first))
      }
    }
    // What has no store differs from it: a file in memory has no other place.
    run.dirty |= object.hasStore ? object.unstored(from: first) & run.objectPages : run.objectPages
  }

  /// Adds a mapping to each page of a run that this space shows at `start` and behind.
  private func count(_ run: inout PageRun, _ pages: UInt64, _ start: UInt64, _ indexes: Range<Int>) {
    tables.withLock { tables in
      var index = indexes.lowerBound
      while index < indexes.upperBound {
        let address = start &+ UInt64(index) &* pageSize
        let tableEnd = (address | (PageTables.tableSpan &- 1)) &+ 1
        let stop = min(indexes.upperBound, index + Int(truncatingIfNeeded: (tableEnd &- address) / pageSize))
        defer { index = stop }
        guard let slot = unsafe tables.find(address).slot else { continue }
        let isSame = UInt(bitPattern: slot) == run.place &+ UInt(index) &* 8
        var left = pages & (UInt64.max << UInt64(index))
        while left != 0 {
          let page = left.trailingZeroBitCount
          guard page < stop else { break }
          left &= left &- 1
          if isSame || (unsafe PageRun.name(PageTableEntry(word: slot[page - index])) == run.names[page]) {
            run.mappings[page] += 1
          }
        }
      }
    }
  }

  private func add(_ run: PageRun, of area: AreaSnapshot, to result: inout Residency) {
    let isStored = area.object?.hasStore == true
    for index in 0..<Int(PageRun.length) where run.names[index] != 0 {
      let bit = UInt64(1) << UInt64(index)
      if run.swapped & bit != 0 {
        result.addSwapped(mappings: run.mappings[index])
        continue
      }
      result.add(
        Residency.Page(
          owner: run.privatePages & bit != 0 ? .program : isStored ? .file : .memory,
          mappings: max(1, run.mappings[index]), isDirty: run.dirty & bit != 0,
          isReferenced: run.referenced & bit != 0, isLocked: area.flags.contains(.locked), frame: run.frame(index)))
    }
    result.active += run.active.nonzeroBitCount
    result.swapCached += run.swapCached.nonzeroBitCount
  }
}
