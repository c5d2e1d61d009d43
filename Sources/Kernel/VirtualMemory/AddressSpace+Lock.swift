// mlock(2) and its family. Frames of address spaces are not taken away today, so locking means: bring the pages in, and
// keep the promise in the limits and in /proc.

import LinuxABI
import Scheduling

extension AddressSpace {
  /// mlock(2), mlock2(2).
  ///
  /// - Parameter isPrivileged: the caller has CAP_IPC_LOCK: no limit counts.
  /// - Throws: ENOMEM (a part is not mapped, the limit), EPERM (the limit is zero), EAGAIN (pages could not be had).
  @export(interface)
  public func lock(_ address: UInt64, _ length: UInt64, onFault: LockMode, isPrivileged: Bool) throws(Errno) {
    let (start, end) = try Self.lockRange(address, length)
    let flags: MappingFlags = onFault == .onFault ? [.locked, .lockedOnFault] : .locked
    try areas.withWriteLock { state throws(Errno) in
      if !isPrivileged {
        guard state.limits.locked > 0 else { throw .EPERM }
        let added = Int(truncatingIfNeeded: (end &- start) / pageSize) &- state.lockedPages(start, end)
        guard UInt64(max(0, state.lockedPages &+ added)) <= state.limits.locked / pageSize else { throw .ENOMEM }
      }
      try changeLock(&state, start, end, flags)
    }
    if onFault == .now { try populateLocked(start, end) }
  }

  public enum LockMode: Sendable { case now, onFault }

  /// munlock(2).
  @export(interface)
  public func unlock(_ address: UInt64, _ length: UInt64) throws(Errno) {
    let (start, end) = try Self.lockRange(address, length)
    try areas.withWriteLock { state throws(Errno) in try changeLock(&state, start, end, []) }
  }

  /// mlockall(2).
  @export(interface)
  public func lockAll(current: Bool, future: Bool, onFault: LockMode, isPrivileged: Bool) throws(Errno) {
    let flags: MappingFlags = onFault == .onFault ? [.locked, .lockedOnFault] : .locked
    let ranges = try areas.withWriteLock { state throws(Errno) -> [Range<UInt64>] in
      if !isPrivileged {
        guard state.limits.locked > 0 else { throw .EPERM }
        if current, UInt64(max(0, state.totalPages)) > state.limits.locked / pageSize { throw .ENOMEM }
      }
      state.futureFlags = future ? flags : []
      guard current else { return [] }
      var ranges: [Range<UInt64>] = []
      state.map.visit { area in
        ranges.append(area.start..<area.end)
        return true
      }
      for range in ranges { try changeLock(&state, range.lowerBound, range.upperBound, flags) }
      return ranges
    }
    // mlockall(2) ignores what cannot be brought in: guard areas without rights, files that became shorter.
    if onFault == .now { for range in ranges { try? populate(range.lowerBound, range.upperBound) } }
  }

  /// munlockall(2).
  @export(interface)
  public func unlockAll() {
    areas.withWriteLock { state in
      state.futureFlags = []
      var ranges: [Range<UInt64>] = []
      state.map.visit { area in
        if area.flags.contains(.locked) { ranges.append(area.start..<area.end) }
        return true
      }
      for range in ranges { try? changeLock(&state, range.lowerBound, range.upperBound, []) }
    }
  }

  private static func lockRange(_ address: UInt64, _ length: UInt64) throws(Errno) -> (UInt64, UInt64) {
    let start = address & ~pageMask
    // As on Linux, a length that overflows when it is rounded up to pages is none.
    guard roundedUpToPage(length) != nil else { return (start, start) }
    let (sum, overflow) = address.addingReportingOverflow(length)
    guard !overflow, let end = roundedUpToPage(sum) else { throw .EINVAL }
    guard end <= userLimit else { throw .ENOMEM }
    return (start, end)
  }

  private func changeLock(
    _ state: inout AreaState, _ start: UInt64, _ end: UInt64, _ flags: MappingFlags
  ) throws(Errno) {
    var position = start
    while position < end {
      guard let area = state.map.find(position) else { throw .ENOMEM }
      let stop = min(area.end, end)
      // Huge pages stay in memory anyway.
      if !area.flags.contains(.hugeTLB) {
        try setFlags(&state, area, position, stop, area.flags.subtracting([.locked, .lockedOnFault]).union(flags))
      }
      position = stop
      Thread.checkReschedule()
    }
  }

  private func populateLocked(_ start: UInt64, _ end: UInt64) throws(Errno) {
    do throws(Errno) { try populate(start, end) } catch {
      // mlock(2): ENOMEM also where the range contains memory without rights.
      throw error == .EFAULT ? .ENOMEM : .EAGAIN
    }
  }
}

extension AreaState {
  /// Locked pages in [start, end).
  borrowing func lockedPages(_ start: UInt64, _ end: UInt64) -> Int {
    var pages: UInt64 = 0
    var next = map.firstEnding(after: start)
    while let area = next, area.start < end {
      if area.flags.contains(.locked) { pages &+= (min(area.end, end) &- max(area.start, start)) / pageSize }
      next = map.next(after: area)
    }
    return Int(truncatingIfNeeded: pages)
  }
}
