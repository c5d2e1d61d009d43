// Areas that grow: stacks downwards when the page below them is touched, the heap by brk(2).

import KernelCore
import LinuxABI
import Scheduling

extension AddressSpace {
  /// Extends a growing area down to `page`; whether there is one that may.
  ///
  /// The stack's limit bounds it, and the guard gap to the next area below stays free (mmap(2), MAP_GROWSDOWN).
  func grow(to page: UInt64) -> Bool {
    areas.withWriteLock { state in
      guard let area = state.map.firstEnding(after: page) else { return false }
      if area.start <= page { return true }  // another thread was faster
      guard area.flags.contains(.growsDown), page >= Self.minimumAddress else { return false }
      guard area.end &- page <= state.limits.stack else { return false }
      if let below = state.map.previous(before: area), !below.flags.contains(.growsDown),
        !below.protection.isEmpty, page < below.end &+ VirtualMemoryArea.guardGap
      {
        return false
      }
      if let below = state.map.previous(before: area), page < below.end { return false }
      let pages = (area.start &- page) / pageSize
      if area.object != nil, area.pageOffset < pages { return false }
      guard Self.isUserRange(page, area.end &- page) else { return false }
      let count = Int(truncatingIfNeeded: pages)
      do throws(Errno) {
        try state.checkLimits(adding: count, area.protection, area.flags)
        if area.flags.contains(.accounted) { try commit(&state, count) }
      } catch {
        return false
      }
      state.count(area, by: count)
      tables.withLock { $0.noteNewArea(page, area.start) }
      area.resize(start: page, end: area.end)
      state.map.didChange(area)
      return true
    }
  }

  /// brk(2): moves the end of the heap; the result is the end now, whether or not it moved. 0 asks.
  @export(interface)
  public func setBreak(_ wish: UInt64) -> UInt64 {
    var gather = MappingGather(space: machineSpace)
    let (result, populated) = areas.withWriteLock { state -> (UInt64, Range<UInt64>?) in
      defer { gather.finish() }
      let current = state.layout.currentBreak
      guard wish >= state.layout.startBreak, !state.isDestroyed, state.layout.startBreak != 0 else {
        return (current, nil)
      }
      guard let oldEnd = roundedUpToPage(current), let newEnd = roundedUpToPage(wish) else { return (current, nil) }
      do throws(Errno) {
        if newEnd < oldEnd {
          try unmap(&state, newEnd, oldEnd, &gather)
        } else if newEnd > oldEnd {
          try extendHeap(&state, oldEnd, newEnd, wish)
        }
      } catch {
        return (current, nil)
      }
      state.layout.currentBreak = wish
      let isLocked = state.futureFlags.contains(.locked) && !state.futureFlags.contains(.lockedOnFault)
      return (wish, isLocked && newEnd > oldEnd ? oldEnd..<newEnd : nil)
    }
    if let populated { try? populate(populated.lowerBound, populated.upperBound) }
    return result
  }

  private func extendHeap(_ state: inout AreaState, _ start: UInt64, _ end: UInt64, _ wish: UInt64) throws(Errno) {
    let layout = state.layout
    let dataSize = (wish &- layout.startBreak) &+ (layout.endData &- layout.startData)
    guard dataSize <= state.limits.data else { throw .ENOMEM }
    guard Self.isUserRange(start, end &- start), !state.map.overlaps(start, end, respectingGaps: true) else {
      throw .ENOMEM
    }
    let pages = Int(truncatingIfNeeded: (end &- start) / pageSize)
    var flags: MappingFlags = [.heap, .accounted]
    flags.formUnion(state.futureFlags)
    try state.checkLimits(adding: pages, [.read, .write], flags)
    guard state.map.count < Self.maximumAreaCount else { throw .ENOMEM }
    try commit(&state, pages)
    insert(
      &state,
      VirtualMemoryArea(
        space: self, start: start, end: end, protection: [.read, .write], maximumProtection: .all, flags: flags,
        object: nil, pageOffset: 0, source: nil))
  }
}
