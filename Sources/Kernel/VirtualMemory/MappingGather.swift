// Collects what an unmapping takes away, so that the machine needs few commands and every frame is freed only
// after the machine has forgotten it.
//
// The order is fixed: change the page tables and queue the machine's invalidation under the page-table lock (so that no
// later offer of a mapping can overtake it), let go of all spin locks, commit, free. A frame that another CPU could still
// write through an old mapping is never reused. Who goes through several spaces names each in turn; the machine's names are
// enough for the commit: a space that has ended meanwhile has no mappings left.

import KernelCore
import Machine
import PhysicalMemory
import Scheduling

/// A batch of invalidations and of frames to give back; end it with `finish()`.
struct MappingGather {
  private var space: Int64
  /// The other spaces whose machines were told something, and the place among them where the next one is likely found: a walk over
  /// neighbouring pages meets the same spaces in the same order.
  private var others: [Int64] = []
  private var likely = 0
  private var frames: [PageFrameNumber] = []
  private var tables: [(frame: PageFrameNumber, shift: UInt64)] = []
  private var runStart: UInt64 = 0
  private var runEnd: UInt64 = 0
  /// Commands to the present space since it was turned to, or the last `finish`.
  private var queued = 0
  /// Areas that were unmapped. Their end may close a file, which takes the file system's locks: it has to come after the
  /// area lock was released, so the gather is declared outside of that and keeps them.
  private var retired: [VirtualMemoryArea] = []

  init(space: Int64) { self.space = space }

  /// For a walk through several spaces.
  init() { space = -1 }

  /// What follows concerns another space.
  mutating func turn(to space: Int64) {
    guard self.space != space else { return }
    flushRun()
    if queued > 0 {
      if likely >= others.count || others[likely] != self.space {
        likely = others.firstIndex(of: self.space) ?? others.count
        if likely == others.count { others.append(self.space) }
      }
      likely += 1
      queued = 0
    }
    self.space = space
  }

  /// Runs that are named one by one. What lies between those that follow is forgotten too: faults bring it back.
  private static var mostRuns: Int { 64 }

  /// The page at `address` is gone from the tables. Call it with rising addresses: neighbours become one command.
  @inline(__always)
  mutating func unmap(_ address: UInt64, _ entry: PageTableEntry) {
    if entry.isPresent { unmap(address, length: pageSize) }
    if entry.isSwapped { SwapSpace.release(entry.swapEntry) }
    if entry.isCounted {
      if !entry.isObjectPage { Counters.add(-1, to: Counters.anonymousPages) }
      frames.append(entry.frame)
    }
  }

  /// As above for a range; the frames are the caller's.
  @inline(__always)
  mutating func unmap(_ address: UInt64, length: UInt64) {
    if runStart < runEnd, runEnd == address || (queued >= Self.mostRuns && runEnd < address) {
      runEnd = address &+ length
    } else {
      flushRun()
      (runStart, runEnd) = (address, address &+ length)
    }
  }

  /// Rights were taken from [address, address + length).
  mutating func protect(_ address: UInt64, length: UInt64, _ protection: Protection) {
    flushRun()
    machine_space_protect(space, address, length, UInt64(protection.rawValue))
    Counters.add(1, to: Counters.machineProtects)
    queued += 1
  }

  /// Keeps `area` until the gather itself ends.
  mutating func retire(_ area: VirtualMemoryArea) {
    if area.source != nil { retired.append(area) }
  }

  /// Whether so many commands more may be too many for the machine: then `finish` comes first, where no spin lock is held.
  func isFull(for more: Int) -> Bool { queued + more > Int(MACHINE_SPACE_COMMANDS) }

  /// Drops a reference to `frame` at the end.
  mutating func release(_ frame: PageFrameNumber) { frames.append(frame) }

  /// Drops a reference to the table below an entry at `shift` at the end, with all that only this reference keeps.
  /// `shift` tells the level: where in an address the entry's index begins.
  mutating func release(table frame: PageFrameNumber, _ shift: UInt64) { tables.append((frame, shift)) }

  /// Tells the machine about everything so far. Call it before the page-table lock is released.
  mutating func flushRun() {
    guard runStart < runEnd else { return }
    machine_space_unmap(space, runStart, runEnd &- runStart)
    Counters.add(1, to: Counters.machineUnmaps)
    (runStart, runEnd) = (0, 0)
    queued += 1
  }

  /// Waits until the invalidations are in force, and frees the frames. No spin lock is held: it may be another process that is
  /// waited for.
  mutating func finish() {
    LockOrder.mayWait()
    flushRun()
    if queued > 0 {
      commit(space)
      queued = 0
    }
    for other in others { commit(other) }
    others.removeAll(keepingCapacity: true)
    likely = 0
    for (index, frame) in frames.enumerated() {
      Frames.release(frame)
      if index & 4095 == 4095 { Thread.checkRescheduleUnlessLocked() }
    }
    frames.removeAll(keepingCapacity: true)
    for (table, shift) in tables { PageTables.drop(table, shift) }
    tables.removeAll(keepingCapacity: true)
  }

  /// Waits if the machine may have no room for the commands of a fault. No spin lock is held.
  static func makeRoom(in space: Int64) {
    LockOrder.mayWait()
    _ = machine_space_commit(space)
  }

  private func commit(_ space: Int64) {
    // A space whose machine side has died (its host process was killed) has no mappings left: the result is moot.
    _ = machine_space_commit(space)
    Counters.add(1, to: Counters.machineCommits)
  }
}
