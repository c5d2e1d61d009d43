// What reclaim does through the reverse mapping: find out whether a page was used, and take it out of all page tables.
//
// "Used" is the accessed bit of an entry. Where the machine has no such bit of its own (the user machine), clearing it means to
// take the page away from the machine: the next use is a fault, which finds the entry as it was, sets the bit and offers
// the page again. Entries without the bit are never offered.
//
// Spaces may share a table (PageTables+Sharing): they have one entry together, which is changed once and in place, but each has a
// mapping on its machine. So all of them are visited, and a page that leaves is taken from all machines, used or not.
//
// The unmap commands are queued under the lock (`MappingGather`) and committed without it; then the page is checked again. Reclaim
// has isolated the page, so nobody else ages it or takes it away: any other change shows in the page's entries, in its count, or
// in its place in the object.
//
// SAFETY: owners are looked up and used under the lock of `ReverseMap.owners`. A slot points into a table of the space's tree and
// is used under its table lock.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// How a page is used.
enum PageUse {
  case idle
  case used
  /// Used, and what it holds is being executed.
  case executed
  /// Locked in memory, or shown by a space that is busy: leave it alone.
  case fixed

  mutating func merge(_ other: PageUse) {
    switch (self, other) {
    case (.fixed, _), (_, .fixed): self = .fixed
    case (.executed, _), (_, .executed): self = .executed
    case (.used, _), (_, .used): self = .used
    case (.idle, .idle): break
    }
  }
}

extension ReverseMap {
  /// Clears the accessed bits of a page and says how it was used since they were cleared last.
  static func testUse(_ frame: PageFrameNumber, _ owners: borrowing Owners, _ gather: inout MappingGather) -> PageUse {
    if frame.frame.flags.contains(.anonymous) {
      guard let family = unsafe owners.family(frame) else { return .idle }
      let address = PageOwner.page(frame) &* pageSize
      var use = PageUse.idle
      // All references but the swap cache's are those of page tables, as a rule.
      var left = Frames.users(frame) - (frame.frame.flags.contains(.swapCached) ? 1 : 0)
      unsafe family._withUnsafeGuaranteedRef { family in
        family.forEachMember { space in
          if left <= 0 { return .stop }
          gather.turn(to: space.machineSpace)
          if let found = space.testUse(address, frame, nil, &gather) {
            use.merge(found.use)
            // A shared table has one reference for all its spaces, which have to be visited one by one.
            if !found.isShared { left -= 1 }
          }
          return left > 0 ? .goOn : .stop
        }
      }
      return use
    }
    guard let object = unsafe owners.object(frame) else { return .idle }
    return unsafe object._withUnsafeGuaranteedRef { $0.testUse(frame, &gather) }
  }

  /// Takes a clean page of a file out of all page tables and out of its object.
  static func evict(
    _ frame: PageFrameNumber, _ owners: borrowing Owners, _ gather: inout MappingGather
  ) -> MemoryObject.Eviction {
    guard let object = unsafe owners.object(frame) else { return .used }
    return unsafe object._withUnsafeGuaranteedRef { $0.evict(frame, &gather) }
  }

  /// Replaces all entries that show an anonymous page by its swap entry, or the page of an object in there. What is used
  /// again stays.
  static func evict(
    _ frame: PageFrameNumber, to entry: SwapEntry, _ owners: borrowing Owners, _ gather: inout MappingGather
  ) {
    guard frame.frame.flags.contains(.anonymous) else {
      guard let object = unsafe owners.object(frame) else { return }
      return unsafe object._withUnsafeGuaranteedRef { $0.evict(frame, to: entry, &gather) }
    }
    guard let family = unsafe owners.family(frame) else { return }
    let address = PageOwner.page(frame) &* pageSize
    unsafe family._withUnsafeGuaranteedRef { family in
      var isShared = false
      family.forEachMember { space in
        gather.turn(to: space.machineSpace)
        let found = space.evict(address, frame, to: entry, &gather)
        isShared = isShared || found == true
        return !isShared && Frames.isIdle(frame) ? .stop : .goOn
      }
    }
  }
}

extension AddressSpace {
  /// Whether the machine sets the accessed bit of entries when a program uses them.
  static var machineNotesUse: Bool { false }

  /// What a walk found in one space.
  struct Finding {
    var use: PageUse
    /// The table may belong to other spaces too: they have the same entry, and mappings of their own.
    var isShared: Bool
  }

  /// Clears the accessed bit of the entry at `address`, if it holds `frame`; nil if it does not.
  ///
  /// - Parameter area: the area, when it is known and cannot change; else it is looked up.
  func testUse(
    _ address: UInt64, _ frame: PageFrameNumber, _ area: VirtualMemoryArea?, _ gather: inout MappingGather
  ) -> Finding? {
    tables.withLock { tables in
      let place = tables.find(address)
      let entry = place.entry
      guard let slot = unsafe place.slot, entry.holds(frame) else { return nil }
      let isLocked =
        if let area { area.flags.contains(.locked) } else { isLockedOrBusy(address) }
      if isLocked { return Finding(use: .fixed, isShared: place.isInCommon) }
      guard entry.isAccessed || place.isInCommon else { return Finding(use: .idle, isShared: false) }
      unsafe tables.forgetUse(slot)
      if !Self.machineNotesUse { gather.unmap(address, length: pageSize) }
      let use: PageUse = entry.isAccessed ? (entry.isExecutable ? .executed : .used) : .idle
      return Finding(use: use, isShared: place.isInCommon)
    }
  }

  /// Whether the page may not be taken: it is locked in memory, or the areas are being changed.
  func isLockedOrBusy(_ address: UInt64) -> Bool {
    areas.withReadLockIfFree { state in state.map.find(address)?.flags.contains(.locked) ?? true } ?? true
  }

  /// Puts a swap entry in the place of `frame`, if the page was not used lately, and makes the machine forget the page.
  ///
  /// - Returns: whether the table may be shared; nil if the page is not shown.
  func evict(
    _ address: UInt64, _ frame: PageFrameNumber, to entry: SwapEntry, _ gather: inout MappingGather
  ) -> Bool? {
    tables.withLock { tables in
      let place = tables.find(address)
      guard let slot = unsafe place.slot else { return nil }
      let old = unsafe PageTableEntry(word: slot.pointee)
      if old.holds(frame), !old.isObjectPage, !old.isAccessed, !isLockedOrBusy(address) {
        SwapSpace.retain(entry)
        if tables.replaceInPlace(place, old, by: PageTableEntry(swap: entry)) {
          Counters.add(-1, to: Counters.anonymousPages)
          // Not the last one: reclaim's own is given up only after all machines have forgotten the page.
          Frames.release(frame)
        } else {
          SwapSpace.release(entry)
        }
      } else if old != PageTableEntry(swap: entry) {
        return nil
      }
      gather.unmap(address, length: pageSize)
      return place.isShared
    }
  }
}
