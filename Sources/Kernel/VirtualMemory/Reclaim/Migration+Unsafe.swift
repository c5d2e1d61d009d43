// Moving a page to another frame while programs go on using it.
//
// A private page of one page table is moved under that table's lock: the machine forgets it, the contents are copied, the entry
// gets the new frame. A page of a file leaves all page tables first, and then its frame is exchanged in its object with
// the references frozen: whoever looks it up meanwhile waits for the object's lock. Programs fault it in again. All others
// stay where they are: pages of several tables after a fork, pinned and locked ones, those on their way to or from a device.
//
// SAFETY: a slot points into a table of the space's tree and is used under its table lock; owners are used under the lock of
// `ReverseMap.owners`.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

enum Migration {
  /// Moves the page in `old`, which reclaim looks at, to `new`, whose one reference goes with it.
  ///
  /// - Returns: whether it was moved: then `old` has no references but the caller's.
  static func move(_ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    let flags = old.frame.flags
    let isAnonymous = flags.contains(.anonymous)
    // A page of a file may be in page tables, which it leaves.
    guard !flags.contains(.swapCached), isAnonymous ? Frames.isIdle(old) : !Frames.isPinned(old) else { return false }
    let isMoved = ReverseMap.owners.withLock { owners in
      isAnonymous ? moveAnonymous(old, new, owners) : movePageOfObject(old, new, owners)
    }
    guard isMoved else { return false }
    PageOwner.set(new, owner: PageOwner.owner(old), page: PageOwner.page(old))
    PageLists.add(new, flags.intersection([.anonymous, .swapBacked, .referenced]), active: flags.contains(.active))
    return true
  }

  private static func moveAnonymous(
    _ old: PageFrameNumber, _ new: PageFrameNumber, _ owners: borrowing ReverseMap.Owners
  ) -> Bool {
    guard let family = unsafe owners.family(old) else { return false }
    let address = PageOwner.page(old) &* pageSize
    var isMoved = false
    unsafe family._withUnsafeGuaranteedRef { family in
      family.forEachMember { space in
        isMoved = space.migrate(address, old, to: new)
        return isMoved ? .stop : .goOn
      }
    }
    return isMoved
  }

  private static func movePageOfObject(
    _ old: PageFrameNumber, _ new: PageFrameNumber, _ owners: borrowing ReverseMap.Owners
  ) -> Bool {
    guard let object = unsafe owners.object(old) else { return false }
    return unsafe object._withUnsafeGuaranteedRef { $0.migrate(old, to: new) }
  }
}

extension AddressSpace {
  /// Puts `new` with the contents of `old` into the entry at `address`.
  fileprivate func migrate(_ address: UInt64, _ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    tables.withLock { tables in
      let place = tables.find(address)
      let entry = place.entry
      guard let slot = unsafe place.slot, !place.isShared, entry.holds(old), !entry.isObjectPage,
        !isLockedOrBusy(address), Frames.isIdle(old)
      else { return false }
      // Waiting with the lock held keeps everybody away from the page.
      var gather = MappingGather(space: machineSpace)
      gather.unmap(address, length: pageSize)
      gather.finish()
      Frames.copy(old, to: new)
      unsafe slot.pointee = entry.word & ~PageTableEntry.frameMask | new.rawValue << 12
      Frames.release(old)
      return true
    }
  }
}

extension MemoryObject {
  /// Puts `new` with the contents of `old` in its place.
  fileprivate func migrate(_ old: PageFrameNumber, to new: PageFrameNumber) -> Bool {
    let index = PageOwner.page(old)
    guard pages.withLock({ $0.find(index) == .ready(old) }), !isInTransfer(index) else { return false }
    var walk = ReverseWalk()
    let isUnmapped = unmap(old, index, .always, &walk)
    walk.finish()
    guard isUnmapped else { return false }
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

  private func isInTransfer(_ index: UInt64) -> Bool {
    pages.withLock { $0.tree.hasTag(ObjectPages.writeBackTag, at: index) }
  }
}
