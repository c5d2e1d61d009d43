// On which nodes a space's pages lie, and are to lie: mbind(2), get_mempolicy(2), move_pages(2), migrate_pages(2).

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// What became of a page that was to move to another node.
public enum PageMove: Sendable {
  /// It lies where it should, now or before.
  case done
  case absent
  /// Others have it too, or it is in use by a device, or it cannot move.
  case busy
  case noMemory
}

extension AddressSpace {
  /// The node of the page at an address; nil when none is there. The page of zeros is nobody's.
  @export(interface)
  public func node(at address: UInt64) -> Int? {
    tables.withLock { tables in
      let entry = tables.entry(address & ~pageMask)
      guard entry.isPresent, entry.frame != Frames.zeroPage else { return nil }
      return entry.frame.node
    }
  }

  // MARK: Policies of ranges

  /// The rule for the range that contains `address`; nil where the thread's applies.
  ///
  /// - Throws: EFAULT where nothing is mapped.
  @export(interface)
  public func memoryPolicy(at address: UInt64) throws(Errno) -> MemoryPolicy? {
    try areas.withReadLock { state throws(Errno) in
      guard let area = state.map.find(address) else { throw .EFAULT }
      return area.policy
    }
  }

  /// Says on which nodes pages of [start, end) go that are made from now on; nil leaves it to the thread's policy.
  ///
  /// - Throws: EFAULT when a part is not mapped, and nothing has changed; ENOMEM, EINVAL as `split`.
  @export(interface)
  public func setMemoryPolicy(_ start: UInt64, _ end: UInt64, _ policy: MemoryPolicy?) throws(Errno) {
    try areas.withWriteLock { state throws(Errno) in
      var position = start
      while position < end {
        guard let area = state.map.find(position) else { throw .EFAULT }
        position = area.end
      }
      position = start
      while position < end {
        guard let area = state.map.find(position) else { throw .EFAULT }
        let stop = min(area.end, end)
        if area.policy != policy {
          try split(&state, at: position)
          try split(&state, at: stop)
          guard let part = state.map.find(position) else { throw .EFAULT }
          part.policy = policy
          mergeAround(&state, part)
        }
        position = stop
        Thread.checkReschedule()
      }
    }
  }

  /// Has the rules of [start, end) that name several nodes look at `node` first; other ranges have none to look at.
  ///
  /// - Throws: ENOENT when no range has a rule of its own; EOPNOTSUPP for a rule of another kind, and what lies below is
  ///   changed already; ENOMEM, EINVAL as `split`.
  @export(interface)
  public func setHomeNode(_ start: UInt64, _ end: UInt64, _ node: Int) throws(Errno) {
    try areas.withWriteLock { state throws(Errno) in
      var isAny = false
      var position = start
      while position < end, let area = state.map.firstEnding(after: position), area.start < end {
        let stop = min(area.end, end)
        position = max(position, area.start)
        if var policy = area.policy {
          guard policy.mode == .bind || policy.mode == .preferred else { throw .EOPNOTSUPP }
          policy.home = node
          try split(&state, at: position)
          try split(&state, at: stop)
          guard let part = state.map.find(position) else { throw .ENOENT }
          part.policy = policy
          mergeAround(&state, part)
          isAny = true
        }
        position = stop
      }
      if !isAny { throw .ENOENT }
    }
  }

  /// Runs `body`, which makes a page of `area`, with the area's rule in the place of the thread's, if it has one.
  @inline(__always)
  func byPolicy<Result>(of area: VirtualMemoryArea, _ page: UInt64, _ body: () -> Result) -> Result {
    guard MemoryZone.nodeCount > 1, let policy = area.policy else { return body() }
    let thread = Thread.current
    let usual = thread.memoryPolicy
    thread.memoryPolicy = policy.forPage((page &- area.start) / pageSize)
    defer { thread.memoryPolicy = usual }
    return body()
  }

  // MARK: Moving

  /// The next pages from `position` on, up to `end`, that lie on one of `nodes`, at most `limit`; `position` is where to go on.
  @export(interface)
  public func pages(on nodes: UInt64, from position: inout UInt64, to end: UInt64, limit: Int) -> [UInt64] {
    var result: [UInt64] = []
    let stop = min(end, Self.userLimit)
    while position < stop, result.count < limit {
      let tableEnd = min(stop, (position | (PageTables.tableSpan &- 1)) &+ 1)
      position = tables.withLock { tables in
        tables.forEach(position, tableEnd) { address, entry in
          guard entry.isPresent, entry.isCounted, nodes & (1 << UInt64(entry.frame.node)) != 0 else { return }
          result.append(address)
        }
        return max(tableEnd, tables.nextTable(from: position))
      }
    }
    return result
  }

  /// Moves the page at `address` to one of `nodes`. May not be called with locks held.
  @export(interface)
  public func movePage(at address: UInt64, to nodes: UInt64) -> PageMove {
    let found: PageFrameNumber? = tables.withLock { tables in
      let entry = tables.entry(address & ~pageMask)
      guard entry.isPresent, entry.isCounted else { return nil }
      Frames.retain(entry.frame)
      return entry.frame
    }
    guard let frame = found else { return .absent }
    if nodes & (1 << UInt64(frame.node)) != 0 {
      Frames.release(frame)
      return .done
    }
    let isIsolated = PageLists.isolate(frame)
    Frames.release(frame)
    guard isIsolated else { return .busy }
    var policy = MemoryPolicy(.bind, nodes: nodes)
    do throws(Errno) {
      let target = try FrameAllocator.allocate(options: .movable, by: &policy)
      if Migration.move(frame, to: target) {
        frame.frame.release(count: Frames.inspectionBias)
        return .done
      }
      Frames.release(target)
    } catch {
      Compaction.giveBack(frame)
      return .noMemory
    }
    Compaction.giveBack(frame)
    return .busy
  }
}
