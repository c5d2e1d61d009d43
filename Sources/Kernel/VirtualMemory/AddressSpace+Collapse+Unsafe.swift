// MADV_COLLAPSE: private memory that lies in single frames moves to 2 MiB that lie in a row, at a multiple of 2 MiB, so that the
// machine can show it as one large page. It is what faults that follow each other make in the first place (`fillTable`).
//
//     entries  ▒▒ ·· ▒▒ ▒▒ ·· ▒▒  ──▶  ██████   ▒▒ a frame somewhere, perhaps shared with a child   ·· nothing, or zeros
//
// The run of frames is found without a lock. Then the areas are locked, so that no fault offers a page of the block any more, the machine
// forgets it, and it is copied under the table lock.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it. The slots of a block fill one table.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling

extension AddressSpace {
  /// Makes large pages of the aligned blocks of 2 MiB in [start, end) that have a page in memory, or on a swap area.
  ///
  /// - Throws: EINVAL (other memory than private one without a file, an area without a whole block, MADV_NOHUGEPAGE, a block
  ///   without pages; blocks behind it are collapsed all the same), EAGAIN (a page is pinned, likewise), ENOMEM (no 2 MiB in
  ///   a row, or a part is not mapped), EINTR.
  func collapse(_ start: UInt64, _ end: UInt64) throws(Errno) {
    let accept = { (area: VirtualMemoryArea) throws(Errno) in
      guard area.mayCollapse else { throw .EINVAL }
    }
    try forEachPart(start, end, accept) { part throws(Errno) in
      let span = PageTables.tableSpan
      let (first, last) = ((part.lowerBound &+ span &- 1) & ~(span &- 1), part.upperBound & ~(span &- 1))
      // Within a block there is nothing to do, and Linux says so.
      guard first <= last else { throw .EINVAL }
      var failure: Errno?
      for block in stride(from: first, to: last, by: Int(span)) {
        do throws(Errno) { try collapse(block: block) } catch {
          guard error == .EINVAL || error == .EAGAIN else { throw error }
          failure = error
        }
        if Thread.current.hasFatalSignal { throw .EINTR }
        Thread.checkReschedule()
      }
      if let failure { throw failure }
    }
  }

  private enum Block {
    /// It is a large page already.
    case large
    case absent
    case scattered
    /// A page is on a swap area.
    case swapped(UInt64)
  }

  private func collapse(block start: UInt64) throws(Errno) {
    // As many tries as pages: each brings one back at the least, and others may be taken meanwhile.
    for _ in 0...PageTables.tableSpan / pageSize {
      switch look(at: start) {
      case .large: return
      case .absent: throw .EINVAL
      case .swapped(let page):
        do throws(FaultFailure) { try makeAccessible(page, .read, .byProgram) } catch {
          throw error == .outOfMemory ? .ENOMEM : .EINVAL
        }
      case .scattered: return try gatherBlock(start)
      }
    }
    throw .EAGAIN
  }

  private func look(at start: UInt64) -> Block {
    tables.withLock { tables in
      guard let slot = unsafe tables.find(start).slot else { return .absent }
      let first = unsafe PageTableEntry(word: slot.pointee)
      var isLarge = first.isResident && first.isCounted && first.frame.rawValue & (Self.tableWindow &- 1) == 0
      var isAbsent = true
      for index in 0..<Int(Self.tableWindow) {
        let entry = unsafe PageTableEntry(word: slot[index])
        if entry.isSwapped { return .swapped(start &+ UInt64(index) &* pageSize) }
        if !entry.isEmpty { isAbsent = false }
        if isLarge, !entry.holds(first.frame.advanced(by: index)) { isLarge = false }
      }
      return isAbsent ? .absent : isLarge ? .large : .scattered
    }
  }

  private func gatherBlock(_ start: UInt64) throws(Errno) {
    let order = Self.tableWindow.trailingZeroBitCount
    var found = Frames.allocateRun(order: order, zeroed: .unspecified)
    if found == nil, Compaction.makeBlockNow(order: order) {
      found = Frames.allocateRun(order: order, zeroed: .unspecified)
    }
    guard let run = found else { throw .ENOMEM }
    _ = machine_memory_enlarge(run.physicalAddress, PageTables.tableSpan)
    var gather = MappingGather(space: machineSpace)
    do throws(Errno) {
      try areas.withWriteLock { state throws(Errno) in
        // Others may have changed the areas since they were looked at.
        guard !state.isDestroyed, let area = state.map.find(start), area.mayCollapse,
          start &+ PageTables.tableSpan <= area.end
        else { throw .EINVAL }
        try tables.withLock { tables throws(Errno) in
          _ = try slots(&tables, of: start)
          gather.unmap(start, length: PageTables.tableSpan)
          gather.flushRun()
        }
        gather.finish()
        // Reclaim may have taken a page meanwhile, or a device have pinned one.
        try tables.withLock { tables throws(Errno) in try exchange(&tables, area, start, run, &gather) }
        gather.finish()
      }
    } catch {
      for index in 0..<Int(Self.tableWindow) { Frames.release(run.advanced(by: index)) }
      throw error
    }
  }

  /// The table of a block whose pages may all be copied.
  ///
  /// - Throws: EAGAIN when a page is pinned or went to swap, ENOMEM without memory for tables.
  private func slots(_ tables: inout PageTables, of start: UInt64) throws(Errno) -> PageTables.Slot {
    let slot = try unsafe tables.ensureSlot(start)
    for index in 0..<Int(Self.tableWindow) {
      let entry = unsafe PageTableEntry(word: slot[index])
      if entry.isSwapped || (entry.isResident && entry.isCounted && Frames.isPinned(entry.frame)) { throw .EAGAIN }
    }
    return unsafe slot
  }

  /// Puts `run`, with the contents of the block's pages, in their place. The old frames are freed by the gather.
  ///
  /// - Throws: as `slots`; nothing has changed.
  private func exchange(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ start: UInt64, _ run: PageFrameNumber,
    _ gather: inout MappingGather
  ) throws(Errno) {
    let slot = try unsafe slots(&tables, of: start)
    let count = Int(Self.tableWindow)
    enlist(run, count: count, at: start)
    var fresh = 0
    for index in 0..<count {
      let frame = run.advanced(by: index)
      let old = unsafe tables.replace(
        slot + index,
        by: PageTableEntry(
          frame: frame, protection: area.protection, isWritable: true, marks: PageTableEntry.dirty))
      if old.isResident, old.isCounted {
        Frames.copy(old.frame, to: frame)
        gather.release(old.frame)
      } else {
        Frames.clear(frame, from: 0)
        fresh += 1
      }
    }
    Counters.add(fresh, to: Counters.anonymousPages)
    var offer = MappingOffer(space: machineSpace)
    tables.forEach(start, start &+ PageTables.tableSpan) { address, entry in offer.add(address, entry) }
    offer.finish()
  }
}

extension VirtualMemoryArea {
  /// Whether large pages may be made of what the area holds: private memory without a file. A rule for nodes gives single
  /// frames.
  fileprivate var mayCollapse: Bool {
    guard object == nil, flags.isDisjoint(with: [.shared, .hugeTLB, .noHugePages]) else { return false }
    guard policy == nil || MemoryZone.nodeCount == 1 else { return false }
    let last = end & ~(PageTables.tableSpan &- 1)
    return last >= start && last &- start >= PageTables.tableSpan
  }
}
