// munmap(2), and unmapping pages on behalf of others: madvise, truncation, reclaim.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension AddressSpace {
  /// Removes everything that is mapped in [address, address + length).
  ///
  /// - Throws: EINVAL for a range that is unaligned, empty or outside of user memory; ENOMEM when cutting an area in two
  ///   would make too many.
  @export(interface)
  public func unmap(_ address: UInt64, _ length: UInt64) throws(Errno) {
    guard address & pageMask == 0, length != 0, let length = roundedUpToPage(length), length <= Self.userLimit,
      address <= Self.userLimit &- length
    else { throw .EINVAL }
    var gather = MappingGather(space: machineSpace)
    defer { gather.finish() }
    try changeAreas { state throws(Errno) in
      // Within the lock: nobody may map a page here while the machine still shows the old one.
      defer { gather.finish() }
      try unmap(&state, address, address &+ length, &gather)
    }
  }

  /// The same with the area lock held; the caller finishes the gather before it lets go of the lock.
  func unmap(
    _ state: inout AreaState, _ start: UInt64, _ end: UInt64, _ gather: inout MappingGather
  ) throws(Errno) {
    guard let first = state.map.firstEnding(after: start), first.start < end else { return }
    try split(&state, at: start)
    try split(&state, at: end)
    let floor = state.map.lastEnding(atOrBefore: start)?.end ?? 0
    let ceiling = state.map.firstEnding(after: end)?.start ?? 1 << 47
    let hugePromises = hugePromises(state, start, end)
    try state.makingTables { () throws(Errno) in try takeOut(start, end, floor: floor, ceiling: ceiling, &gather) }
    HugePagePool.unreserve(hugePromises)
    var next = state.map.firstEnding(after: start)
    while let area = next, area.start < end {
      next = state.map.next(after: area)
      if area.flags.contains(.accounted) { uncommit(&state, area.pageCount) }
      state.count(area, by: -area.pageCount)
      gather.retire(area)
      forget(&state, area)
      Thread.checkReschedule()
    }
  }

  /// Takes all pages of [start, end) out of the tables; between `floor` and `ceiling` nothing else is mapped. The machine
  /// is told before the table lock is released; frames are freed when the caller finishes the gather.
  ///
  /// - Throws: ENOMEM, before anything has changed.
  func takeOut(
    _ start: UInt64, _ end: UInt64, floor: UInt64, ceiling: UInt64, _ gather: inout MappingGather
  ) throws(Errno) {
    try tables.withLock { tables throws(Errno) in
      try tables.takeOut(start, end, floor: floor, ceiling: ceiling, into: &gather)
    }
  }

  /// Takes the pages of an object that [start, end) shows out of the tables, shared tables included. Every space that shares a
  /// table has an area for the object there and is visited too: the caller keeps the frames until then.
  ///
  /// - Parameter takeCopy: takes over what private copies of the pages were; nil: they stay.
  /// - Returns: whether a page was taken out of a table that other spaces may have too.
  func takeOutObjectPages(
    _ start: UInt64, _ end: UInt64, _ gather: inout MappingGather, _ takeCopy: ((PageTableEntry) -> Void)?
  ) -> Bool {
    var hasChangedOthers = false
    // The table lock is let go from time to time, so that copies by other threads don't wait for a whole teardown.
    let step = PageTables.tableSpan &* 16
    var position = start
    while position < end {
      let stop = end &- position > step ? position &+ step : end
      tables.withLock { tables in
        unsafe tables.forEachPlace(position, stop) { address, slot, place in
          let entry = unsafe PageTableEntry(word: slot.pointee)
          if entry.isEmpty {
            // Perhaps taken out on behalf of another space: this one's machine has not heard of it.
            if place.isInCommon { gather.unmap(address, length: pageSize) }
          } else if entry.isObjectPage || takeCopy != nil, tables.clearInPlace(place, entry) {
            if entry.isObjectPage {
              gather.unmap(address, entry)
            } else {
              if entry.isPresent { gather.unmap(address, length: pageSize) }
              takeCopy?(entry)
            }
            if place.isInCommon { hasChangedOthers = true }
          }
        }
        gather.flushRun()
      }
      position = stop
    }
    return hasChangedOthers
  }
}
