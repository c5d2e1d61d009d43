// fork(2): a second space with the same contents.
//
// Which way is cheapest depends on the machine and on the size. Marking pages read-only costs the machine a command for
// each run of them, and later a fault for each page that either side writes (12–20 us on the user machine); copying a
// page costs 0.15 us. So the private pages of a small program are copied at once and the parent is left alone; a large
// one gives its page tables to the child (PageTables+Sharing): the cost follows the number of areas, not of pages.
//
// What the child will touch first (all that the parent has in memory, if it is not much) is offered to the machine in
// runs, so that the child does not begin with a fault for each page.
//
// SAFETY: a slot points to an entry of a table of its space's tree. Tables are released under that space's table lock only, so
// a slot is good until the lock is let go; what goes from parent to child are entries, never slots.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

extension AddressSpace {
  /// Up to this many private pages, fork copies them at once. Tests change it.
  nonisolated(unsafe) static var eagerCopyPages = 512
  /// Object pages of an area are put into the child's tables up to this many; the rest comes back through faults.
  static var inheritedObjectPages: Int { 1024 }
  /// Machine commands that one operation spends on offers.
  static var largestOffer: Int { 64 }
  /// Areas with more pages are not offered to a child that shares tables: it hardly touches all of them at once.
  static var largestOfferedArea: Int { 1024 }
  /// Runs of an area that fork write-protects one by one.
  static var largestProtection: Int { 32 }

  /// A copy of this space for a child process.
  ///
  /// - Throws: ENOMEM, EAGAIN.
  @export(interface)
  public func fork() throws(Errno) -> AddressSpace {
    try checkPromises()
    return try MemoryPressure.retrying { () throws(Errno) in try forkOnce() }
  }

  private func forkOnce() throws(Errno) -> AddressSpace {
    let child = try AddressSpace.create(in: family, for: user.load(ordering: .relaxed))
    var gather = MappingGather(space: machineSpace)
    do throws(Errno) {
      try areas.withWriteLock { state throws(Errno) in
        defer { gather.finish() }
        guard !state.isDestroyed else { throw .ENOMEM }
        // Copies of huge pages would have to come from their pool.
        let isEager =
          state.hugePages == 0 && !tables.withLock { $0.holdsPrivatePages(moreThan: Self.eagerCopyPages) }
        try child.areas.withWriteLock { childState throws(Errno) in
          childState.layout = state.layout
          childState.limits = state.limits
          try state.map.visitAll { area throws(Errno) in
            if area.flags.contains(.notInherited) { return }
            // Tens of thousands of areas are made in one call.
            try KernelMemory.check()
            Thread.checkReschedule()
            let copy = area.copy(start: area.start, end: area.end, in: child)
            copy.flags.subtract([.locked, .lockedOnFault])
            if copy.flags.contains(.accounted) { try child.commit(&childState, copy.pageCount) }
            child.insertUnmerged(&childState, copy)
          }
          if isEager {
            try copyPages(state.map, to: child)
          } else {
            try sharePages(state.map, with: child, &gather)
          }
        }
      }
    } catch {
      child.destroy()
      throw error
    }
    return child
  }

  private func insertUnmerged(_ state: inout AreaState, _ area: VirtualMemoryArea) {
    area.object?.addMapping(area)
    state.map.insert(area)
    state.count(area, by: area.pageCount)
  }

  // MARK: Sharing

  /// Gives the child this space's page tables. Nobody can fault in pages meanwhile: that takes the area lock.
  private func sharePages(
    _ areas: AreaMap, with child: AddressSpace, _ gather: inout MappingGather
  ) throws(Errno) {
    let childRoot = child.tables.withLock { $0.root }
    areas.visitAll { area in
      guard area.copiesOnWrite, area.protection.contains(.write) else { return }
      if gather.isFull(for: Self.largestProtection + 1) { gather.finish() }
      tables.withLock { protect(area, $0, &gather) }
    }
    let (pages, pinned) = tables.withLock { tables in (tables.share(with: childRoot), pinnedPages(&tables)) }
    child.tables.withLock { $0.didTake(pages) }
    try child.copyPinned(pinned)
    var childGather = MappingGather(space: child.machineSpace)
    defer { childGather.finish() }
    try areas.visitAll { area throws(Errno) in
      guard area.flags.contains(.notInherited) || area.flags.contains(.wipedOnFork) else { return }
      try child.takeOut(area.start, area.end, floor: area.start, ceiling: area.end, &childGather)
    }
    child.tables.withLock { tables in
      var offer = MappingOffer(space: child.machineSpace)
      areas.visitAll { area in
        guard area.pageCount <= Self.largestOfferedArea, offer.commands < Self.largestOffer else { return }
        tables.forEach(area.start, area.end) { address, entry in
          if offer.commands < Self.largestOffer { offer.add(address, entry) }
        }
      }
      offer.finish()
    }
  }

  /// Takes the machine's right to write the private pages of `area`.
  private func protect(_ area: VirtualMemoryArea, _ tables: borrowing PageTables, _ gather: inout MappingGather) {
    var runs = 0
    var rest: Range<UInt64>?
    tables.forEachWritableRun(area.start, area.end) { start, end in
      runs += 1
      if runs <= Self.largestProtection {
        gather.protect(start, length: end &- start, area.protection.subtracting(.write))
      } else {
        rest = (rest?.lowerBound ?? start)..<end
      }
    }
    // Too many to name: the machine forgets them, and faults bring back those that are used.
    if let rest { gather.unmap(rest.lowerBound, length: rest.upperBound &- rest.lowerBound) }
    gather.flushRun()
  }

  /// Private pages that devices read or write now, with a reference each: they stay the parent's, the child gets copies.
  private func pinnedPages(_ tables: inout PageTables) -> [(address: UInt64, entry: PageTableEntry)] {
    guard tables.mayHavePins else { return [] }
    var pinned: [(address: UInt64, entry: PageTableEntry)] = []
    tables.forEach(0, Self.userLimit) { address, entry in
      guard entry.isCounted, !entry.isObjectPage, Frames.isPinned(entry.frame) else { return }
      Frames.retain(entry.frame)
      pinned.append((address, entry))
    }
    tables.mayHavePins = !pinned.isEmpty
    return pinned
  }

  private func copyPinned(_ pages: [(address: UInt64, entry: PageTableEntry)]) throws(Errno) {
    defer { for (_, entry) in pages { Frames.release(entry.frame) } }
    for (address, entry) in pages {
      try tables.withLock { tables throws(Errno) in
        guard let slot = try unsafe tables.exclusiveSlot(address) else { return }
        let copy = try Frames.allocate()
        Frames.copy(entry.frame, to: copy)
        _ = unsafe tables.replace(
          slot, by: PageTableEntry(word: slot.pointee & ~PageTableEntry.frameMask | copy.rawValue << 12))
        Frames.release(entry.frame)
      }
    }
  }

  // MARK: Copying

  private func copyPages(_ areas: AreaMap, to child: AddressSpace) throws(Errno) {
    var offer = MappingOffer(space: child.machineSpace)
    try areas.visitAll { area throws(Errno) in
      if area.flags.contains(.notInherited) || area.flags.contains(.wipedOnFork) { return }
      try copyPages(area, to: child, &offer)
    }
    child.tables.withLock { _ in offer.finish() }
  }

  /// Copies the pages of one area, a table at a time: collect under our lock, install under the child's.
  private func copyPages(
    _ area: VirtualMemoryArea, to child: AddressSpace, _ offer: inout MappingOffer
  ) throws(Errno) {
    var inherited: [(address: UInt64, entry: PageTableEntry)] = []
    var objectPages = 0
    var position = area.start
    while position < area.end {
      let stop = min(area.end, (position | (PageTables.tableSpan &- 1)) &+ 1)
      if area.partWithTable(position, PageTables.middleShift) != nil,
        let (table, shift) = tables.withLock({ $0.objectTable(position) })
      {
        try child.tables.withLock { tables throws(Errno) in try tables.link(table, shift, at: position) }
        position = ((position >> shift) &+ 1) << shift
        continue
      }
      tables.withLock { tables in
        tables.forEach(position, stop) { address, entry in
          if entry.isObjectPage {
            // A shared mapping, or a private one that nobody wrote to: the object gives the page again.
            objectPages += 1
            if objectPages > Self.inheritedObjectPages { return }
          }
          if entry.isSwapped {
            SwapSpace.retain(entry.swapEntry)
          } else if entry.isCounted {
            Frames.retain(entry.frame)
          }
          inherited.append((address, entry))
        }
      }
      try child.adopt(area, inherited, &offer)
      inherited.removeAll(keepingCapacity: true)
      position = stop
    }
  }

  /// Installs pages that came with a reference each. On failure the references of those not installed are dropped.
  private func adopt(
    _ area: VirtualMemoryArea, _ pages: [(address: UInt64, entry: PageTableEntry)], _ offer: inout MappingOffer
  ) throws(Errno) {
    var done = 0
    var stock = FrameStock()
    defer { stock.release() }
    do throws(Errno) {
      try tables.withLock { tables throws(Errno) in
        while done < pages.count {
          let (address, entry) = pages[done]
          let slot = try unsafe tables.ensureSlot(address)
          var new = entry
          if !entry.isObjectPage, entry.isCounted {
            let frame = try stock.next(wanted: pages.count - done)
            Frames.copy(entry.frame, to: frame)
            Frames.release(entry.frame)
            enlist(frame, at: address)
            // Nobody else has the copy: the child may write at once.
            new = PageTableEntry(
              frame: frame, protection: area.protection, isWritable: true, marks: PageTableEntry.dirty)
            Counters.add(1, to: Counters.anonymousPages)
          }
          unsafe tables.install(new, in: slot)
          if offer.commands < Self.largestOffer { offer.add(address, new) }
          done += 1
        }
        offer.finish()
      }
    } catch {
      for (_, entry) in pages[done...] {
        if entry.isSwapped {
          SwapSpace.release(entry.swapEntry)
        } else if entry.isCounted {
          Frames.release(entry.frame)
        }
      }
      throw error
    }
  }
}

/// Single frames cut from runs, so that pages copied in order lie in order and one machine command maps many of them.
struct FrameStock {
  private var nextFrame: PageFrameNumber?
  private var left = 0

  init() {}

  /// A frame with unspecified contents. `wanted` says how many the caller is going to ask for.
  mutating func next(wanted: Int) throws(Errno) -> PageFrameNumber {
    if left == 0 {
      var order = min(5, Int.bitWidth - 1 - max(1, wanted).leadingZeroBitCount)
      if FrameAllocator.shortage > 0 { order = 0 }
      while order > 0, left == 0 {
        if let run = Frames.allocateRun(order: order, zeroed: .unspecified) {
          (nextFrame, left) = (run, 1 << order)
        }
        order -= 1
      }
      if left == 0 { return try Frames.allocate() }
    }
    guard let frame = nextFrame else { return try Frames.allocate() }
    nextFrame = frame.advanced(by: 1)
    left -= 1
    return frame
  }

  /// Gives back what was not used.
  mutating func release() {
    while left > 0, let frame = nextFrame {
      Frames.release(frame)
      nextFrame = frame.advanced(by: 1)
      left -= 1
    }
  }
}
