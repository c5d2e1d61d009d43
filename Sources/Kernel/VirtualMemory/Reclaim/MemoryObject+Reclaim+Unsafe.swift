// Reclaim of a memory object's pages: whether one is used, and its way out of the object.
//
// SAFETY: an area is in the object's list only while its space holds it; it leaves under the list's lock. A slot points into a
// table of the space's tree and is used under its table lock.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory

extension MemoryObject {
  /// Notes a fresh page of the object's with reclaim, on whose lists it is from now on.
  @inline(__always)
  func enlist(_ frame: PageFrameNumber, _ index: UInt64) {
    // Pages beyond 128 TiB have no place in a descriptor; they stay until the object ends.
    guard hasStore || isSwappable, index < 1 << 35 else { return }
    PageOwner.set(frame, owner: number, page: index)
    PageLists.add(frame, hasStore ? [] : .swapBacked, active: false)
  }

  /// Clears the accessed bits of all entries that show the page.
  func testUse(_ frame: PageFrameNumber, _ gather: inout MappingGather) -> PageUse {
    let index = PageOwner.page(frame)
    var use = PageUse.idle
    forEachEntry(index) { area, address in
      gather.turn(to: unsafe area.space.machineSpace)
      if let found = unsafe area.space.testUse(address, frame, area, &gather) { use.merge(found.use) }
    }
    return use
  }

  enum Eviction {
    case evicted
    /// It is in use, or has another reference.
    case used
    /// It differs from the store, or is on its way there.
    case dirty
  }

  /// Takes a clean page of a store out of all page tables and out of the object. Reclaim is looking at it.
  ///
  /// The frame is the caller's to free, when the gather is finished.
  func evict(_ frame: PageFrameNumber, _ gather: inout MappingGather) -> Eviction {
    let index = PageOwner.page(frame)
    guard pages.withLock({ $0.find(index) == .ready(frame) }) else { return .used }
    if isUnstored(index) { return .dirty }
    guard unmap(frame, index, .ifIdle, &gather) else { return .used }
    let outcome: Eviction = pages.withLock { pages in
      guard pages.find(index) == .ready(frame) else { return .used }
      if pages.isUnstored(index) { return .dirty }
      // Only the object has it, and from now on no thread can get a reference, not even a look-up without the lock.
      guard Frames.freeze(frame) else { return .used }
      _ = pages.remove(at: index)
      // The object's reference goes with it.
      Frames.thaw(frame)
      return .evicted
    }
    if outcome == .evicted { countPages(-1) }
    return outcome
  }

  private func isUnstored(_ index: UInt64) -> Bool { pages.withLock { $0.isUnstored(index) } }

  enum UnmapCondition {
    /// Stop at an entry that was used lately, or is locked.
    case ifIdle
    case always
  }

  /// Empties the entries that show the page, and makes all machines forget it; false if one had to stay.
  func unmap(
    _ frame: PageFrameNumber, _ index: UInt64, _ condition: UnmapCondition, _ gather: inout MappingGather
  ) -> Bool {
    // As in `unmapPages`: who was visited may have the page again through a table that a later visit emptied. Here the object
    // keeps the page, so that can happen at each round.
    for _ in 0..<4 {
      var isAgain = false
      guard unmapOnce(frame, index, condition, &gather, &isAgain) else { return false }
      if !isAgain { return true }
    }
    return false
  }

  private func unmapOnce(
    _ frame: PageFrameNumber, _ index: UInt64, _ condition: UnmapCondition, _ gather: inout MappingGather,
    _ isAgain: inout Bool
  ) -> Bool {
    var isIdle = true
    var isFirst = true
    forEachEntry(index) { area, address in
      guard isIdle else { return }
      defer { isFirst = false }
      gather.turn(to: unsafe area.space.machineSpace)
      unsafe area.space.tables.withLock { tables in
        let place = tables.find(address)
        guard let slot = unsafe place.slot else { return }
        let entry = unsafe PageTableEntry(word: slot.pointee)
        if entry.holds(frame), entry.isObjectPage {
          let mayGo = condition == .always || (!entry.isAccessed && !area.flags.contains(.locked))
          guard mayGo, tables.clearInPlace(place, entry) else {
            isIdle = false
            return
          }
          // Not the last one: reclaim has one.
          Frames.release(frame)
          if place.isInCommon, !isFirst { isAgain = true }
        } else if !entry.isEmpty || !place.isInCommon {
          return
        }
        gather.unmap(address, length: pageSize)
      }
    }
    return isIdle
  }

  /// Calls `body` with each place at which an area shows the page.
  private func forEachEntry(_ index: UInt64, _ body: (VirtualMemoryArea, UInt64) -> Void) {
    withMappedAreas { area in
      guard index >= area.pageOffset, index &- area.pageOffset < area.length / pageSize else { return }
      body(area, area.start &+ (index &- area.pageOffset) &* pageSize)
    }
  }
}
