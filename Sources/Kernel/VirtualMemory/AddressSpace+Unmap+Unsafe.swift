// munmap(2), and taking pages out of the tables for everybody else: madvise, truncation, reclaim.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it.

import KernelCore
import LinuxABI
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
    try areas.withWriteLock { state throws(Errno) in
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
    var next = state.map.firstEnding(after: start)
    while let area = next, area.start < end {
      next = state.map.next(after: area)
      zap(area.start, area.end, .allPages, &gather)
      if area.flags.contains(.accounted) { uncommit(&state, area.pageCount) }
      state.count(area, by: -area.pageCount)
      gather.retire(area)
      forget(&state, area)
    }
    let floor = state.map.lastEnding(atOrBefore: start)?.end ?? 0
    let ceiling = state.map.firstEnding(after: end)?.start ?? 1 << 47
    tables.withLock { $0.releaseTables(start, end, floor: floor, ceiling: ceiling, into: &gather) }
  }

  /// Which pages an operation takes away.
  enum ZapExtent {
    /// All of them.
    case allPages
    /// Those that show the area's object; private copies stay.
    case objectPages
  }

  /// Empties the entries of [start, end). The machine is told before the table lock is released; frames are freed when
  /// the caller finishes the gather.
  func zap(_ start: UInt64, _ end: UInt64, _ extent: ZapExtent, _ gather: inout MappingGather) {
    // The table lock is let go from time to time, so that copies by other threads don't wait for a whole teardown.
    let step = PageTables.tableSpan &* 16
    var position = start
    while position < end {
      let stop = end &- position > step ? position &+ step : end
      tables.withLock { tables in
        unsafe tables.forEach(position, stop) { tables, address, slot in
          if extent == .objectPages, unsafe !PageTableEntry(word: slot.pointee).isObjectPage { return }
          gather.unmap(address, unsafe tables.clear(slot))
        }
        gather.flushRun()
      }
      position = stop
      if gather.frameCount > 4096 { gather.finish() }
    }
  }
}
