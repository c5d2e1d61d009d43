// fork(2): a second space with the same contents.
//
// Which way is cheapest depends on the machine and on the size. Marking pages read-only costs the machine a flush per
// area, and later a fault for each page that either side writes (12–20 us on the user machine); copying a page costs
// 0.15 us. So the private pages of a small program are copied at once and the parent is left alone; those of a large
// one are shared and copied when they are written.
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

extension AddressSpace {
  /// Up to this many private pages, fork copies them at once.
  static var eagerCopyPages: Int { 512 }
  /// Object pages of an area are put into the child's tables up to this many; the rest comes back through faults.
  static var inheritedObjectPages: Int { 1024 }
  /// Machine commands that one operation spends on offers.
  static var largestOffer: Int { 64 }

  /// A copy of this space for a child process.
  ///
  /// - Throws: ENOMEM, EAGAIN.
  @export(interface)
  public func fork() throws(Errno) -> AddressSpace {
    try MemoryPressure.retrying { () throws(Errno) in try forkOnce() }
  }

  private func forkOnce() throws(Errno) -> AddressSpace {
    let child = try AddressSpace.create()
    var gather = MappingGather(space: machineSpace)
    do throws(Errno) {
      try areas.withWriteLock { state throws(Errno) in
        defer { gather.finish() }
        guard !state.isDestroyed else { throw .ENOMEM }
        let private_ = tables.withLock { $0.anonymousPages }
        let isEager = private_ <= Self.eagerCopyPages
        try child.areas.withWriteLock { childState throws(Errno) in
          childState.layout = state.layout
          childState.limits = state.limits
          var offer = MappingOffer(space: child.machineSpace)
          var next = state.map.first
          while let area = next {
            next = state.map.next(after: area)
            if area.flags.contains(.notInherited) { continue }
            let copy = area.copy(start: area.start, end: area.end, in: child)
            copy.flags.subtract([.locked, .lockedOnFault])
            if copy.flags.contains(.accounted) { try child.commit(&childState, copy.pageCount) }
            child.insertUnmerged(&childState, copy)
            if area.flags.contains(.wipedOnFork) { continue }
            try inheritPages(area, to: child, isEager ? .copied : .shared, &gather, &offer)
          }
          child.tables.withLock { _ in offer.finish() }
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

  private enum Inheritance { case copied, shared }

  /// Gives the child the pages of one area, a table at a time: collect under our lock, install under the child's.
  private func inheritPages(
    _ area: VirtualMemoryArea, to child: AddressSpace, _ inheritance: Inheritance, _ gather: inout MappingGather,
    _ offer: inout MappingOffer
  ) throws(Errno) {
    var inherited: [(address: UInt64, entry: PageTableEntry)] = []
    var objectPages = 0
    var position = area.start
    while position < area.end {
      let stop = min(area.end, (position | (PageTables.tableSpan &- 1)) &+ 1)
      var protectStart: UInt64 = .max
      var protectEnd: UInt64 = 0
      tables.withLock { tables in
        unsafe tables.forEach(position, stop) { tables, address, slot in
          var entry = unsafe PageTableEntry(word: slot.pointee)
          if entry.isObjectPage {
            // A shared mapping, or a private one that nobody wrote to: the object gives the page again.
            objectPages += 1
            if objectPages > Self.inheritedObjectPages { return }
          }
          if entry.isCounted { Frames.retain(entry.frame) }
          let isPrivate = !entry.isObjectPage && entry.isCounted
          // A pinned page is being read or written by a device: the parent must keep it, so the child gets a copy.
          let isPinned = isPrivate && Frames.isPinned(entry.frame)
          if inheritance == .shared, isPrivate, !isPinned, entry.isWritable {
            entry = PageTableEntry(word: entry.word & ~PageTableEntry.writable)
            unsafe slot.pointee = entry.word
            protectStart = min(protectStart, address)
            protectEnd = max(protectEnd, address &+ pageSize)
          }
          inherited.append((address, entry))
        }
        if protectStart < protectEnd {
          // Private pages of one area: no page in between may be writable any more, so one command does for all.
          gather.protect(protectStart, length: protectEnd &- protectStart, area.protection.subtracting(.write))
        }
      }
      do throws(Errno) {
        try child.adopt(area, inherited, inheritance, &offer)
      } catch {
        gather.finish()
        throw error
      }
      inherited.removeAll(keepingCapacity: true)
      position = stop
    }
  }

  /// Installs pages that came with a reference each. On failure the references of those not installed are dropped.
  private func adopt(
    _ area: VirtualMemoryArea, _ pages: [(address: UInt64, entry: PageTableEntry)], _ inheritance: Inheritance,
    _ offer: inout MappingOffer
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
          let isPrivate = !entry.isObjectPage && entry.isCounted
          if isPrivate, inheritance == .copied || Frames.isPinned(entry.frame) {
            let frame = try stock.next(wanted: pages.count - done)
            Frames.copy(entry.frame, to: frame)
            Frames.release(entry.frame)
            // Nobody else has the copy: the child may write at once.
            new = PageTableEntry(
              frame: frame, protection: area.protection, isWritable: true, marks: PageTableEntry.dirty)
          }
          if isPrivate { Counters.add(1, to: Counters.anonymousPages) }
          unsafe tables.install(new, in: slot)
          if offer.commands < Self.largestOffer { offer.add(address, new) }
          done += 1
        }
        offer.finish()
      }
    } catch {
      for (_, entry) in pages[done...] where entry.isCounted { Frames.release(entry.frame) }
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
