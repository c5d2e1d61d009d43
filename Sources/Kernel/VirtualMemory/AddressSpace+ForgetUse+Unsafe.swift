// Forgetting that pages were used (/proc/PID/clear_refs, proc(5)): what smaps calls referenced later was used since.
//
// As in `ReverseMap.testUse`: where the machine notes no use, it forgets the pages, and the next use is a fault. Of a table that
// others have too only this space's machine does: what they use goes unnoticed until their machines have forgotten the page.
//
// SAFETY: slots are read and changed under the lock of the tables that they are in.

import KernelCore
import PhysicalMemory
import Scheduling

extension AddressSpace {
  public enum UsedPages: Sendable { case all, anonymous, ofObjects }

  /// Clears the accessed bits of pages. Huge pages, which reclaim does not look at, have none that mean anything.
  ///
  /// - Locks: sleeps; none may be held.
  @export(interface)
  public func forgetUse(of pages: UsedPages) {
    var position: UInt64 = 0
    while position < Self.userLimit, !Thread.current.hasFatalSignal {
      var gather = MappingGather(space: machineSpace)
      position = tables.withLock { tables in
        guard unsafe tables.find(position).slot != nil else { return tables.nextTable(from: position) }
        let stop = position &+ PageTables.tableSpan
        unsafe tables.forEachPlace(position, stop) { address, slot, place in
          let entry = unsafe PageTableEntry(word: slot.pointee)
          guard entry.isResident, entry.isCounted, !entry.frame.frame.flags.contains(.pooled),
            pages == .all || (pages == .ofObjects) == entry.isObjectPage
          else { return }
          entry.frame.frame.clear(.referenced)
          guard entry.isAccessed || place.isInCommon else { return }
          unsafe tables.forgetUse(slot)
          if !Self.machineNotesUse { gather.unmap(address, length: pageSize) }
        }
        gather.flushRun()
        return stop
      }
      gather.finish()
      Thread.checkReschedule()
    }
  }

  /// What is in memory now is the most that there was (VmHWM).
  @export(interface)
  public func forgetPeak() {
    tables.withLock { tables in
      tables.peakPages = 0
      _ = tables.takeCensus()
    }
  }
}
