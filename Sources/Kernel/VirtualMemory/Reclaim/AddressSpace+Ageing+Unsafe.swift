// What a program says that it will not use soon: pages that are the next to leave memory (MADV_COLD), or leave it now
// (MADV_PAGEOUT). They are taken off reclaim's lists without their accessed bits and go reclaim's own way from there, so
// a page that is used in that moment stays after all. Pages that others show too are nobody's to give away.
//
// SAFETY: a slot points to an entry of a table of this space's tree and is used under its table lock only; neighbours of a slot
// are reached within its table.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension AddressSpace {
  enum Ageing { case cold, pageOut }

  /// Pages that were taken off reclaim's lists, with `Frames.inspectionBias` references each.
  private typealias Batch = InlineArray<32, PageFrameNumber>

  /// Ages the pages of [start, end) that nobody else shows. Unmapped parts are skipped, and reported at the end.
  ///
  /// - Throws: EINVAL (locked memory, huge pages; what lies below is aged already), ENOMEM (a part is not mapped), EINTR.
  func age(_ start: UInt64, _ end: UInt64, _ goal: Ageing) throws(Errno) {
    let accept = { (area: VirtualMemoryArea) throws(Errno) in
      guard area.flags.isDisjoint(with: [.locked, .hugeTLB]) else { throw .EINVAL }
    }
    try forEachPart(start, end, accept) { part throws(Errno) in
      var position = part.lowerBound
      while position < part.upperBound {
        ageBatch(from: &position, to: part.upperBound, goal)
        if Thread.current.hasFatalSignal { throw .EINTR }
        Thread.checkReschedule()
      }
    }
  }

  private func ageBatch(from position: inout UInt64, to end: UInt64, _ goal: Ageing) {
    var batch = Batch(repeating: PageFrameNumber(0))
    var count = 0
    position = areas.withReadLock { state in
      guard !state.isDestroyed else { return end }
      return takeUnused(from: position, to: end, goal, &batch, &count)
    }
    switch goal {
    case .cold:
      for index in 0..<count {
        PageLists.putBack(batch[index], active: false)
        batch[index].frame.release(count: Frames.inspectionBias)
      }
      ReclaimCounters.add(count, to: ReclaimCounters.deactivated)
    case .pageOut:
      var files = PageBatch()
      var others = PageBatch()
      for index in 0..<count {
        if batch[index].frame.flags.contains(.swapBacked) {
          others.append(batch[index])
        } else {
          files.append(batch[index])
        }
      }
      var gone = 0
      if others.count > 0 { gone += SwapOut.run(others) }
      if files.count > 0 { gone += Reclaim.dropFiles(files) }
      ReclaimCounters.add(gone, to: ReclaimCounters.stolen)
    }
  }

  /// Takes pages of one table off reclaim's lists and away from the machine.
  ///
  /// - Returns: where to go on.
  private func takeUnused(
    from start: UInt64, to end: UInt64, _ goal: Ageing, _ batch: inout Batch, _ count: inout Int
  ) -> UInt64 {
    let takesSwapBacked = goal == .cold || Reclaim.canSwap
    var gather = MappingGather(space: machineSpace)
    defer { gather.finish() }
    return tables.withLock { tables in
      guard var slot = unsafe tables.find(start).slot else { return min(end, tables.nextTable(from: start)) }
      let stop = min(end, (start | (PageTables.tableSpan &- 1)) &+ 1)
      guard tables.isAlone(start) else { return stop }
      var address = start
      while address < stop, count < batch.count {
        let entry = unsafe PageTableEntry(word: slot.pointee)
        if Self.isOnlyHere(entry), takesSwapBacked || !entry.frame.frame.flags.contains(.swapBacked),
          PageLists.isolate(entry.frame)
        {
          batch[count] = entry.frame
          count += 1
          entry.frame.frame.clear(.referenced)
          unsafe tables.forgetUse(slot)
          if !Self.machineNotesUse { gather.unmap(address, length: pageSize) }
        }
        unsafe slot += 1
        address &+= pageSize
      }
      gather.flushRun()
      return address
    }
  }

  /// Whether no other table shows the page, and no device or copy in progress uses it.
  private static func isOnlyHere(_ entry: PageTableEntry) -> Bool {
    guard entry.isResident, entry.isCounted, !Frames.isPinned(entry.frame) else { return false }
    let isCached = entry.frame.frame.flags.contains(.swapCached)
    return Frames.users(entry.frame) == (entry.isObjectPage ? 2 : 1) + (isCached ? 1 : 0)
  }
}
