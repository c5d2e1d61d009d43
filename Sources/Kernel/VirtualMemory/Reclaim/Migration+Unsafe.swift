// Moving a page to another frame while programs go on using it.
//
// The machine is waited for without a lock, so a page is moved in two steps. First it is hidden: a private page of one page table
// loses its accessed bit there, a page of a file leaves all page tables. Then, when no machine shows it any more, it is looked at
// again, and copied if it still is hidden:
//
// * A private page under its table's lock. Entries without the accessed bit are not offered, and nobody but reclaim takes the bit
//   away, which has isolated the page for us: with the bit still clear no machine has had the page since, and none gets it while
//   the lock is held. The kernel's own writes to user memory hold the lock, too; what has pinned or shared the page shows in its count.
// * A page of a file with its object's pages locked and its references frozen: a look-up waits for the lock. A
//   thread that mapped the page in between holds a reference for its entry, and drops it only after its machine has unmapped it.
//
// What was used in between is tried again, a few times. All others stay where they are: pages of several tables after a fork,
// pinned and locked ones, those on their way to or from a device.
//
// SAFETY: a slot points into a table of the space's tree and is used under its table lock; owners are used under the lock of
// `ReverseMap.owners`.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

enum Migration {
  private static var tries: Int { 8 }

  /// Moves the page in `old`, which reclaim looks at, to `new`, whose one reference goes with it. Waits for machines.
  ///
  /// - Returns: whether it was moved: then `old` has no references but the caller's.
  static func move(_ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    guard hideAndMove(old, to: new) else { return false }
    PageOwner.set(new, owner: PageOwner.owner(old), page: PageOwner.page(old))
    let flags = old.frame.flags
    PageLists.add(new, flags.intersection([.anonymous, .swapBacked, .referenced]), active: flags.contains(.active))
    return true
  }

  private static func hideAndMove(_ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    var gather = MappingGather()
    for _ in 0..<tries {
      let flags = old.frame.flags
      let isAnonymous = flags.contains(.anonymous)
      // A page of a file may be in page tables, which it leaves.
      guard !flags.contains(.swapCached), isAnonymous ? Frames.isIdle(old) : !Frames.isPinned(old) else { return false }
      let isHidden = ReverseMap.owners.withLock { owners in
        defer { gather.flushRun() }
        return isAnonymous
          ? withMembers(old, owners) { $0.hide(PageOwner.page(old) &* pageSize, old, &gather) }
          : withObject(old, owners) { $0.hide(old, &gather) }
      }
      gather.finish()
      guard isHidden else { return false }
      let isMoved = ReverseMap.owners.withLock { owners in
        isAnonymous
          ? withMembers(old, owners) { $0.migrate(PageOwner.page(old) &* pageSize, old, to: new) }
          : withObject(old, owners) { $0.migrate(old, to: new) }
      }
      if isMoved { return true }
    }
    return false
  }

  /// Whether `body` does it for any of the spaces that may show a private page.
  private static func withMembers(
    _ frame: PageFrameNumber, _ owners: borrowing ReverseMap.Owners, _ body: (AddressSpace) -> Bool
  ) -> Bool {
    guard let family = unsafe owners.family(frame) else { return false }
    var isDone = false
    unsafe family._withUnsafeGuaranteedRef { family in
      family.forEachMember { space in
        isDone = body(space)
        return isDone ? .stop : .goOn
      }
    }
    return isDone
  }

  private static func withObject(
    _ frame: PageFrameNumber, _ owners: borrowing ReverseMap.Owners, _ body: (MemoryObject) -> Bool
  ) -> Bool {
    guard let object = unsafe owners.object(frame) else { return false }
    return unsafe object._withUnsafeGuaranteedRef { body($0) }
  }
}

extension AddressSpace {
  /// Takes the accessed bit of the entry at `address`, and the page from the machine.
  fileprivate func hide(_ address: UInt64, _ frame: PageFrameNumber, _ gather: inout MappingGather) -> Bool {
    tables.withLock { tables in
      let place = tables.find(address)
      guard let slot = unsafe place.slot, mayMigrate(frame, place, address) else { return false }
      unsafe tables.forgetUse(slot)
      gather.turn(to: machineSpace)
      gather.unmap(address, length: pageSize)
      gather.flushRun()
      return true
    }
  }

  /// Puts `new` with the contents of `old` into the entry at `address`, if the page is still hidden.
  fileprivate func migrate(_ address: UInt64, _ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    tables.withLock { tables in
      let place = tables.find(address)
      let entry = place.entry
      guard let slot = unsafe place.slot, mayMigrate(old, place, address), !entry.isAccessed else { return false }
      Frames.copy(old, to: new)
      unsafe slot.pointee = entry.word & ~PageTableEntry.frameMask | new.rawValue << 12
      Frames.release(old)
      return true
    }
  }

  private func mayMigrate(_ frame: PageFrameNumber, _ place: PageTables.Place, _ address: UInt64) -> Bool {
    !place.isShared && place.entry.holds(frame) && !place.entry.isObjectPage && !isLockedOrBusy(address)
      && Frames.isIdle(frame)
  }
}

extension MemoryObject {
  /// Takes the page out of all page tables.
  fileprivate func hide(_ frame: PageFrameNumber, _ gather: inout MappingGather) -> Bool {
    let index = PageOwner.page(frame)
    let isThere = pages.withLock { pages in
      pages.find(index) == .ready(frame) && !pages.tree.hasTag(ObjectPages.writeBackTag, at: index)
    }
    return isThere && unmap(frame, index, .always, &gather)
  }

  /// Puts `new` with the contents of `old` in its place, if nobody has it.
  fileprivate func migrate(_ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    let index = PageOwner.page(old)
    return pages.withLock { pages in
      guard pages.find(index) == .ready(old), !pages.tree.hasTag(ObjectPages.writeBackTag, at: index),
        Frames.freeze(old)
      else { return false }
      Frames.copy(old, to: new)
      _ = pages.tree.replace(at: index, with: ObjectPages.value(new, busy: false))
      Frames.thaw(old)
      return true
    }
  }
}
