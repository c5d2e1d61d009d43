// madvise(2), and bringing pages in before they are touched.

import KernelCore
import LinuxABI
import Scheduling

/// What a program says about its use of memory.
public enum MemoryAdvice: Sendable {
  case normal, random, sequential
  case willNeed
  /// Drop the pages now; the next touch finds zeros, or the object's contents.
  case discard
  /// The contents may be dropped at any time (MADV_FREE); Apus drops them at once.
  case free
  /// Drop the range from the object itself (MADV_REMOVE).
  case remove
  case inherit, dontInherit, wipeOnFork, keepOnFork
  case dump, dontDump
  case hugePages, noHugePages
  /// Make huge pages of what is there now (MADV_COLLAPSE).
  case collapse
  /// The pages are not going to be used soon: they leave memory before others (MADV_COLD), or now (MADV_PAGEOUT).
  case cold, pageOut
  /// Hints without an effect here: merging of equal pages.
  case ignored
  case populateForReading, populateForWriting
}

extension AddressSpace {
  /// Applies advice to [address, address + length). Unmapped parts are skipped, and reported at the end.
  ///
  /// - Throws: EINVAL, ENOMEM (a part is not mapped), EFAULT or ENOMEM when pages could not be brought in; `collapse` moreover
  ///   EAGAIN, and EINTR.
  @export(interface)
  public func advise(_ address: UInt64, _ length: UInt64, _ advice: MemoryAdvice) throws(Errno) {
    guard address & pageMask == 0, let length = roundedUpToPage(length) else { throw .EINVAL }
    let (end, overflow) = address.addingReportingOverflow(length)
    guard !overflow else { throw .EINVAL }
    if length == 0 { return }
    guard end <= Self.userLimit else { throw .ENOMEM }
    switch advice {
    case .populateForReading: return try populate(address, end, .read)
    case .populateForWriting: return try populate(address, end, .write)
    case .willNeed: return try bringIn(address, end)
    case .remove: return try removeContents(address, end)
    case .cold: return try age(address, end, .cold)
    case .pageOut: return try age(address, end, .pageOut)
    case .collapse: return try collapse(address, end)
    default: break
    }
    var gather = MappingGather(space: machineSpace)
    try changeAreas { state throws(Errno) in
      defer { gather.finish() }
      var position = address
      var hasHole = false
      while position < end {
        guard let area = state.map.firstEnding(after: position), area.start < end else {
          hasHole = true
          break
        }
        if area.start > position { hasHole = true }
        let start = max(position, area.start)
        let stop = min(area.end, end)
        try apply(advice, &state, area, start, stop, &gather)
        position = stop
        Thread.checkReschedule()
      }
      if hasHole { throw .ENOMEM }
    }
  }

  private func apply(
    _ advice: MemoryAdvice, _ state: inout AreaState, _ area: VirtualMemoryArea, _ start: UInt64, _ end: UInt64,
    _ gather: inout MappingGather
  ) throws(Errno) {
    if try adviseHuge(advice, area, start, end, &gather) { return }
    switch advice {
    case .discard:
      if area.flags.contains(.locked) { throw .EINVAL }
      try state.makingTables { () throws(Errno) in try takeOut(start, end, floor: start, ceiling: end, &gather) }
    case .free:
      if area.object != nil || area.isShared { throw .EINVAL }
      try state.makingTables { () throws(Errno) in try takeOut(start, end, floor: start, ceiling: end, &gather) }
    case .normal:
      try setFlags(&state, area, start, end, area.flags.subtracting([.randomAccess, .sequentialAccess]))
    case .random:
      try setFlags(&state, area, start, end, area.flags.subtracting(.sequentialAccess).union(.randomAccess))
    case .sequential:
      try setFlags(&state, area, start, end, area.flags.subtracting(.randomAccess).union(.sequentialAccess))
    case .inherit: try setFlags(&state, area, start, end, area.flags.subtracting(.notInherited))
    case .dontInherit: try setFlags(&state, area, start, end, area.flags.union(.notInherited))
    case .wipeOnFork:
      if area.object != nil || area.isShared { throw .EINVAL }
      try setFlags(&state, area, start, end, area.flags.union(.wipedOnFork))
    case .keepOnFork: try setFlags(&state, area, start, end, area.flags.subtracting(.wipedOnFork))
    case .dump: try setFlags(&state, area, start, end, area.flags.subtracting(.notDumped))
    case .dontDump: try setFlags(&state, area, start, end, area.flags.union(.notDumped))
    case .hugePages: try setFlags(&state, area, start, end, area.flags.subtracting(.noHugePages).union(.hugePages))
    case .noHugePages: try setFlags(&state, area, start, end, area.flags.subtracting(.hugePages).union(.noHugePages))
    case .ignored, .willNeed, .remove, .populateForReading, .populateForWriting, .cold, .pageOut, .collapse: break
    }
  }

  /// Gives [start, end) of `area` other flags, cutting the area and joining it with its neighbours as needed.
  func setFlags(
    _ state: inout AreaState, _ area: VirtualMemoryArea, _ start: UInt64, _ end: UInt64, _ flags: MappingFlags
  ) throws(Errno) {
    guard area.flags != flags else { return }
    try split(&state, at: start)
    try split(&state, at: end)
    guard let part = state.map.find(start) else { throw .ENOMEM }
    state.count(part, by: -part.pageCount)
    part.flags = flags
    state.count(part, by: part.pageCount)
    mergeAround(&state, part)
  }

  /// Visits what is mapped of [start, end), an area at a time. The areas are not locked while `body` works.
  ///
  /// - Throws: what `accept`, which looks at an area under the lock, or `body` throws; ENOMEM at the end, when a part was not
  ///   mapped.
  func forEachPart(
    _ start: UInt64, _ end: UInt64, _ accept: (VirtualMemoryArea) throws(Errno) -> Void,
    _ body: (Range<UInt64>) throws(Errno) -> Void
  ) throws(Errno) {
    var position = start
    var hasHole = false
    while position < end {
      let part = try areas.withReadLock { state throws(Errno) -> Range<UInt64>? in
        guard let area = state.map.firstEnding(after: position), area.start < end else { return nil }
        try accept(area)
        return max(position, area.start)..<min(area.end, end)
      }
      if part?.lowerBound != position { hasHole = true }
      guard let part else { break }
      try body(part)
      position = part.upperBound
      Thread.checkReschedule()
    }
    if hasHole { throw .ENOMEM }
  }

  /// MADV_WILLNEED: reads what objects have in their stores.
  private func bringIn(_ start: UInt64, _ end: UInt64) throws(Errno) {
    let isComplete = areas.withReadLock { state in
      var position = start
      var isComplete = true
      while position < end {
        guard let area = state.map.firstEnding(after: position), area.start < end else { return false }
        if area.start > position { isComplete = false }
        let stop = min(area.end, end)
        if let object = area.object {
          object.readAhead(
            from: area.objectIndex(max(position, area.start)), count: (stop &- max(position, area.start)) / pageSize)
        }
        position = stop
      }
      return isComplete
    }
    if !isComplete { throw .ENOMEM }
  }

  /// MADV_REMOVE: punches a hole into shared memory.
  private func removeContents(_ start: UInt64, _ end: UInt64) throws(Errno) {
    var position = start
    while position < end {
      // The object's own lock protects the hole; the area may not be locked, because punching visits all mappings.
      let part = try areas.withReadLock { state throws(Errno) -> (MemoryObject, UInt64, UInt64) in
        guard let area = state.map.find(position) else { throw .ENOMEM }
        if area.flags.contains(.locked) { throw .EINVAL }
        guard let object = area.object, !object.hasStore else { throw .EINVAL }
        guard area.isShared, area.maximumProtection.contains(.write) else { throw .EACCES }
        guard area.source?.allowsHoles ?? true else { throw .EPERM }
        let stop = min(area.end, end)
        return (object, area.objectIndex(position), (stop &- position) / pageSize)
      }
      part.0.punchHole(from: part.1 &* pageSize, length: part.2 &* pageSize)
      position = position &+ part.2 &* pageSize
    }
  }

  // MARK: Populating

  /// Brings the pages of [start, end) into memory: for reading, or with nil as each area's protection wants it (mmap(2)
  /// with MAP_POPULATE: writable private memory gets its frames).
  ///
  /// - Throws: ENOMEM where nothing is mapped, EINVAL where the program may not do that, EFAULT where a page cannot be had.
  func populate(_ start: UInt64, _ end: UInt64, _ access: Access? = nil) throws(Errno) {
    var position = start
    while position < end {
      let area = try areas.withReadLock { state throws(Errno) -> (end: UInt64, access: Access)? in
        guard let area = state.map.find(position) else { return nil }
        if let access, !area.protection.contains(Protection(rawValue: access.rawValue)) { throw .EINVAL }
        return (area.end, access ?? (area.permits(.write) && !area.isShared ? .write : .read))
      }
      guard let area else { throw .ENOMEM }
      let stop = min(area.end, end)
      while position < stop {
        let isThere = tables.withLock { $0.entry(position).permits(area.access) }
        if !isThere {
          do throws(FaultFailure) { try makeAccessible(position, area.access, .byProgram) } catch {
            throw error == .outOfMemory ? .ENOMEM : .EFAULT
          }
        }
        position = position &+ pageSize
        if position & (PageTables.tableSpan &- 1) == 0 {
          Thread.checkReschedule()
          if Thread.current.hasFatalSignal { throw .ENOMEM }
        }
      }
      Thread.checkReschedule()
    }
  }
}
