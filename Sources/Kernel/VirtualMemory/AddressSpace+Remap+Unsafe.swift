// mremap(2): growing, shrinking and moving an area with its pages.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it.

import KernelCore
import LinuxABI
import Scheduling

/// What mremap may do.
public struct RemapOptions: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static var mayMove: RemapOptions { RemapOptions(rawValue: 1) }
  public static var fixed: RemapOptions { RemapOptions(rawValue: 2) }
  public static var keepOld: RemapOptions { RemapOptions(rawValue: 4) }
}

extension AddressSpace {
  /// Changes the size of the mapping at `address`, moving it if it must and may; returns where it is.
  ///
  /// - Throws: EINVAL, EFAULT (nothing mapped, or more than one area), ENOMEM, EAGAIN.
  @export(interface)
  public func remap(
    _ address: UInt64, oldLength: UInt64, newLength: UInt64, options: RemapOptions, target: UInt64 = 0
  ) throws(Errno) -> UInt64 {
    guard address & pageMask == 0, let oldLength = roundedUpToPage(oldLength),
      let newLength = roundedUpToPage(newLength), newLength != 0
    else { throw .EINVAL }
    if options.contains(.fixed) || options.contains(.keepOld) {
      guard options.contains(.mayMove) else { throw .EINVAL }
    }
    if options.contains(.keepOld), oldLength != newLength { throw .EINVAL }
    guard oldLength <= Self.userLimit, address <= Self.userLimit &- oldLength, newLength <= Self.userLimit else {
      throw .EINVAL
    }
    if options.contains(.fixed) {
      guard target & pageMask == 0, Self.isUserRange(target, newLength) else { throw .EINVAL }
      guard target >= Self.minimumAddress else { throw .EPERM }
      // The ranges may not overlap.
      guard target >= address &+ oldLength || target &+ newLength <= address else { throw .EINVAL }
    }
    var gather = MappingGather(space: machineSpace)
    let (result, populated) = try changeAreas { state throws(Errno) -> (UInt64, Range<UInt64>?) in
      defer { gather.finish() }
      return try remap(&state, address, oldLength, newLength, options, target, &gather)
    }
    if let populated { try? populate(populated.lowerBound, populated.upperBound) }
    return result
  }

  private func remap(
    _ state: inout AreaState, _ address: UInt64, _ oldLength: UInt64, _ newLength: UInt64, _ options: RemapOptions,
    _ target: UInt64, _ gather: inout MappingGather
  ) throws(Errno) -> (UInt64, Range<UInt64>?) {
    guard let area = state.map.find(address) else { throw .EFAULT }
    if area.flags.contains(.hugeTLB) {
      // Huge pages are moved and cut as wholes; what they were promised does not grow.
      guard let old = HugePage.roundedUp(oldLength), let new = HugePage.roundedUp(newLength), new <= old,
        address & HugePage.mask == 0, !options.contains(.keepOld),
        !options.contains(.fixed) || target & HugePage.mask == 0
      else { throw .EINVAL }
      return try remapArea(&state, area, address, old, new, options, target, &gather)
    }
    return try remapArea(&state, area, address, oldLength, newLength, options, target, &gather)
  }

  private func remapArea(
    _ state: inout AreaState, _ area: VirtualMemoryArea, _ address: UInt64, _ oldLength: UInt64, _ newLength: UInt64,
    _ options: RemapOptions, _ target: UInt64, _ gather: inout MappingGather
  ) throws(Errno) -> (UInt64, Range<UInt64>?) {
    // mremap(2): a length of zero makes a second mapping of shared memory.
    if oldLength == 0, !area.isShared { throw .EINVAL }
    if options.contains(.keepOld), area.isShared || area.object != nil { throw .EINVAL }
    let moves = options.contains(.fixed) || options.contains(.keepOld)
    if !moves, newLength <= oldLength {
      if newLength < oldLength { try unmap(&state, address &+ newLength, address &+ oldLength, &gather) }
      return (address, nil)
    }
    guard area.end &- address >= min(oldLength, newLength) else { throw .EFAULT }
    if area.object != nil {
      let index = area.objectIndex(address)
      guard !index.addingReportingOverflow(newLength / pageSize).overflow else { throw .EINVAL }
    }
    let added = newLength > oldLength ? Int(truncatingIfNeeded: (newLength &- oldLength) / pageSize) : 0
    try state.checkLimits(adding: added, area.protection, area.flags)
    if !moves, address &+ oldLength == area.end, Self.isUserRange(address, newLength),
      !state.map.overlaps(area.end, address &+ newLength, respectingGaps: true)
    {
      if area.flags.contains(.accounted) { try commit(&state, added) }
      let oldEnd = area.end
      tables.withLock { $0.noteNewArea(oldEnd, address &+ newLength) }
      area.resize(start: area.start, end: address &+ newLength)
      state.map.didChange(area)
      state.count(area, by: added)
      mergeAround(&state, area)
      return (address, populatedRange(area, oldEnd, address &+ newLength))
    }
    guard options.contains(.mayMove) else { throw .ENOMEM }
    return try move(&state, area, address, oldLength, newLength, options, target, &gather)
  }

  private func move(
    _ state: inout AreaState, _ area: VirtualMemoryArea, _ address: UInt64, _ oldLength: UInt64, _ newLength: UInt64,
    _ options: RemapOptions, _ target: UInt64, _ gather: inout MappingGather
  ) throws(Errno) -> (UInt64, Range<UInt64>?) {
    if options.contains(.fixed) { try unmap(&state, target, target &+ newLength, &gather) }
    var oldLength = oldLength
    if newLength < oldLength {
      try unmap(&state, address &+ newLength, address &+ oldLength, &gather)
      oldLength = newLength
    }
    // Unmapping may have cut the area.
    guard let area = state.map.find(address) else { throw .EFAULT }
    let start =
      options.contains(.fixed)
      ? target
      : try findHole(state, newLength, alignment: area.flags.contains(.hugeTLB) ? HugePage.size : pageSize)
    // Room for the new area and for cutting the old one at both ends.
    guard state.map.count &+ 3 <= Self.maximumAreaCount else { throw .ENOMEM }
    let pages = Int(truncatingIfNeeded: newLength / pageSize)
    let isAccounted = area.flags.contains(.accounted)
    if isAccounted { try commit(&state, pages) }
    let fresh = VirtualMemoryArea(
      space: self, start: start, end: start &+ newLength, protection: area.protection,
      maximumProtection: area.maximumProtection, flags: area.flags.subtracting(.heap), object: area.object,
      pageOffset: area.object == nil ? 0 : area.objectIndex(address), source: area.source)
    fresh.policy = area.policy
    fresh.hasLostHugePages = area.hasLostHugePages
    fresh.object?.addMapping(fresh)
    do throws(Errno) {
      try state.makingTables { () throws(Errno) in
        try movePages(fresh, from: address, length: oldLength, to: start, &gather)
      }
    } catch {
      fresh.object?.removeMapping(fresh)
      if isAccounted { uncommit(&state, pages) }
      throw error
    }
    if area.flags.contains(.hugeReserved) { try forgetHugePromises(&state, address, address &+ oldLength) }
    // The invalidation of the old range is in force before anyone sees the new one.
    gather.finish()
    tables.withLock { $0.noteNewArea(start, start &+ newLength) }
    state.map.insert(fresh)
    state.count(fresh, by: pages)
    if oldLength != 0, !options.contains(.keepOld) { try unmap(&state, address, address &+ oldLength, &gather) }
    mergeAround(&state, fresh)
    return (start, populatedRange(area, start, start &+ newLength))
  }

  /// Moves entries to their new place. All tables are made before the first entry moves, so it fails before it began.
  private func movePages(
    _ area: VirtualMemoryArea, from old: UInt64, length: UInt64, to new: UInt64, _ gather: inout MappingGather
  ) throws(Errno) {
    // An object's truncation walks its areas one after the other: it must not find neither place full.
    guard let object = area.object else { return try moveEntries(old, length, new, &gather) }
    try object.withMappings { () throws(Errno) in try moveEntries(old, length, new, &gather) }
  }

  private func moveEntries(
    _ old: UInt64, _ length: UInt64, _ new: UInt64, _ gather: inout MappingGather
  ) throws(Errno) {
    try tables.withLock { tables throws(Errno) in
      try tables.unlinkObjectTables(old, old &+ length, into: &gather)
      try tables.makeExclusive(old, old &+ length)
      var failure: Errno?
      unsafe tables.forEachSlot(old, old &+ length) { tables, address, _ in
        guard failure == nil else { return }
        // The path to `address` is the tree's own already, so making this one changes nothing there.
        do throws(Errno) { _ = try unsafe tables.ensureSlot(address &- old &+ new) } catch { failure = error }
      }
      if let failure { throw failure }
      unsafe tables.forEachSlot(old, old &+ length) { tables, address, slot in
        guard let target = unsafe tables.find(address &- old &+ new).slot else { return }
        let entry = unsafe tables.clear(slot)
        unsafe tables.install(entry, in: target)
        // Reclaim finds the page at its new place; one that others show at the old place it will not find.
        if entry.isResident, entry.isCounted, !entry.isObjectPage, Frames.isExclusive(entry.frame) {
          SwapSpace.movePage(entry.frame, to: (address &- old &+ new) / pageSize)
        }
        if entry.isPresent { gather.unmap(address, length: pageSize) }
      }
      gather.flushRun()
    }
  }

  private func populatedRange(_ area: VirtualMemoryArea, _ start: UInt64, _ end: UInt64) -> Range<UInt64>? {
    area.flags.contains(.locked) && !area.flags.contains(.lockedOnFault) && start < end ? start..<end : nil
  }
}
