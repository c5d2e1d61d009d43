// Page faults: making an access possible. The path, for a fault on a file page in memory: `handleFault` finds the area,
// `resolve` looks at the entry, `fillFromObject` (AddressSpace+ObjectFault) asks the object for the page, installs it and its
// resident neighbours, and offers them to the machine.
//
// The area lock is held for reading throughout, also while an object reads from its store; the table lock only for
// short steps. Every step that slept looks again at what it found before.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it. Neighbours of a slot are reached within one table: a
// window is aligned to its size, which is at most a table's span.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling
import Synchronization

extension AddressSpace {
  /// Pages around a fault on an object that are mapped with it, if they are in memory: a power of two.
  static var faultAroundPages: UInt64 { 16 }
  /// Pages that the first write fault in a part of anonymous memory fills in, and the most when faults follow each
  /// other. Frames that were never used cost the host nothing until they are touched, so being generous is cheap.
  static var firstWindow: UInt64 { 4 }
  static var largestWindow: UInt64 { 256 }
  /// Beyond that a window is a whole table: 2 MiB of memory that lies in the machine as in the address space, so that the
  /// machine can treat it as one page. Resident pages of an object are mapped up to that at once.
  static var tableWindow: UInt64 { 512 }
  /// The most pages that one write fault copies, or finds to be the program's alone.
  static var largestCopyWindow: UInt64 { 64 }

  /// Makes an access to `address` possible: the page is in the tables, and the machine has been offered it.
  ///
  /// - Throws: why a user program may not do this.
  /// - Locks: the area lock for reading. May sleep.
  @export(interface)
  public func handleFault(at address: UInt64, access: Access) throws(FaultFailure) {
    try makeAccessible(address, access, .byInstruction)
  }

  /// On whose behalf memory is touched.
  enum FaultAuthority {
    /// The program itself, which is about to try again: the area's protection decides.
    case byInstruction
    /// The kernel, for a program: as above.
    case byProgram
    /// A debugger: what mprotect could grant is granted, as a private copy.
    case byDebugger
  }

  enum Resolution {
    case done
    case outOfMemory
    /// No area, but one above grows downwards.
    case below
    case failed(FaultFailure)
  }

  func makeAccessible(_ address: UInt64, _ access: Access, _ authority: FaultAuthority) throws(FaultFailure) {
    guard address < Self.userLimit else { throw .notMapped }
    let page = address & ~pageMask
    Counters.add(1, to: Counters.faults)
    faults.add(1, ordering: .relaxed)
    if authority != .byInstruction { MappingGather.makeRoom(in: machineSpace) }
    var relief = MemoryPressure.Relief()
    while true {
      let resolution = areas.withReadLock { state in
        guard let area = state.map.find(page) else { return Resolution.below }
        guard area.permits(access) || (authority == .byDebugger && area.allowsDebugger(access)) else {
          return .failed(.notPermitted)
        }
        return byPolicy(of: area, page) { resolve(area, page, access, authority) }
      }
      switch resolution {
      case .done:
        if access == .write, DirtyLimits.isReached { throttleWriter(page) }
        return
      case .failed(let failure): throw failure
      case .below:
        guard authority != .byDebugger, grow(to: page) else { throw .notMapped }
      case .outOfMemory:
        guard relief.find() else { throw .outOfMemory }
      }
    }
  }

  /// Too much is dirty: a writer to a file's page waits for the flusher, with no lock held.
  @inline(never)
  private func throttleWriter(_ page: UInt64) {
    let writesFile = areas.withReadLock { state in
      guard let area = state.map.find(page), area.isShared, let object = area.object else { return false }
      return object.hasStore
    }
    if writesFile { Flusher.throttleWriter() }
  }

  /// Looks at the entry for `page` and does what is missing.
  private func resolve(
    _ area: VirtualMemoryArea, _ page: UInt64, _ access: Access, _ authority: FaultAuthority
  ) -> Resolution {
    if area.flags.contains(.hugeTLB) { return resolveHuge(area, page, access) }
    var gather = MappingGather(space: machineSpace)
    var swapped: SwapEntry?
    let resolution: Resolution? = tables.withLock { tables in
      let place = tables.find(page)
      let entry = place.entry
      if entry.isEmpty || entry.isSwapped {
        swapped = entry.isSwapped ? entry.swapEntry : nil
        return nil
      }
      if access != .write || entry.permits(.write) {
        // Reclaim may be taking the page out of a shared table just now: then the access is tried again.
        guard tables.noteUse(place) else { return .done }
        // The tables permit it: the machine had not heard of it, or has forgotten.
        offerAround(&tables, area, page)
        return .done
      }
      return grantWrite(&tables, area, page, &gather, authority)
    }
    gather.finish()
    if let resolution { return resolution }
    if let swapped { return fillFromSwap(area, page, access, swapped) }
    if area.object != nil { return fillFromObject(area, page, access) }
    return fillAnonymous(area, page, access)
  }

  // MARK: Writing to a page that is there

  /// A write to a page that the tables show read-only: copy it, or find that nobody else has it.
  private func grantWrite(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64, _ gather: inout MappingGather,
    _ authority: FaultAuthority
  ) -> Resolution {
    let slot: PageTables.Slot
    do throws(Errno) {
      guard let own = try unsafe tables.exclusiveSlot(page) else { return .done }
      unsafe slot = own
    } catch {
      return .outOfMemory
    }
    let entry = unsafe PageTableEntry(word: slot.pointee)
    if !entry.isResident { return .done }  // taken out of a shared table meanwhile; the access is tried again
    if entry.permits(.write) {
      // The table was shared and is not any more: what it holds may be written as before.
      offerTable(&tables, area, page)
      return .done
    }
    if entry.isObjectPage, area.isShared, let object = area.object {
      object.markDirty(area.objectIndex(page))
      let new = writable(entry.frame, area, PageTableEntry.objectPage)
      guard tables.replaceInPlace(tables.find(page), entry, by: new) else { return .done }
    } else if isPrivate(entry), Frames.isExclusive(entry.frame) {
      unsafe takeBack(&tables, area, page, slot)
      return .done
    } else if isPrivate(entry) {
      return unsafe copyWindow(&tables, area, page, slot, &gather)
    } else {
      do throws(Errno) {
        // Pages of an object are not copied ahead: that would hide later changes of a file.
        let frame = entry.isCounted ? try copy(of: entry.frame) : try Frames.allocateZeroed()
        enlist(frame, at: page)
        let old = unsafe tables.replace(slot, by: writable(frame, area, 0))
        Counters.add(1, to: Counters.anonymousPages)
        if old.isCounted {
          retire(page, old, &gather)
        } else if authority != .byInstruction, hasOthersRunning {
          // The page of zeros is never free, so its mapping may wait for the thread's return. But what the kernel writes here may
          // be looked for by another thread before.
          gather.unmap(page, length: pageSize)
        }
        gather.flushRun()
      } catch {
        return .outOfMemory
      }
    }
    offer(page, unsafe PageTableEntry(word: slot.pointee))
    return .done
  }

  func copy(of frame: PageFrameNumber) throws(Errno) -> PageFrameNumber {
    let new = try Frames.allocate()
    Frames.copy(frame, to: new)
    Counters.add(1, to: Counters.copies)
    return new
  }

  private func isPrivate(_ entry: PageTableEntry) -> Bool { !entry.isEmpty && !entry.isObjectPage && entry.isCounted }

  /// Makes a page that no other space has writable, and its neighbours in the same state: the spaces that shared them
  /// are gone, or have copies.
  private func takeBack(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64, _ slot: PageTables.Slot
  ) {
    _ = unsafe tables.replace(slot, by: writable(PageTableEntry(word: slot.pointee).frame, area, 0))
    guard area.protection.contains(.write) else { return offer(page, unsafe PageTableEntry(word: slot.pointee)) }
    let size = Self.largestCopyWindow &* pageSize
    let start = max(page & ~(size &- 1), area.start)
    let end = min((page & ~(size &- 1)) &+ size, area.end)
    var offer = MappingOffer(space: machineSpace)
    unsafe tables.forEachSlot(start, end) { tables, address, slot in
      let entry = unsafe PageTableEntry(word: slot.pointee)
      guard entry.isPresent, isPrivate(entry) else { return }
      if !entry.isWritable {
        guard Frames.isExclusive(entry.frame) else { return }
        _ = unsafe tables.replace(slot, by: writable(entry.frame, area, 0))
      }
      offer.add(address, unsafe PageTableEntry(word: slot.pointee))
    }
    offer.finish()
  }

  /// Copies a private page that others have too, and when faults follow each other the next ones.
  private func copyWindow(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64, _ slot: PageTables.Slot,
    _ gather: inout MappingGather
  ) -> Resolution {
    var window: UInt64 = 1
    if area.protection.contains(.write), area.nextFault == page, area.faultWindow > 0, FrameAllocator.shortage == 0,
      !area.flags.contains(.randomAccess)
    {
      window = min(area.faultWindow &* 2, Self.largestCopyWindow)
    }
    let stop = min(page &+ window &* pageSize, area.end, (page | (PageTables.tableSpan &- 1)) &+ 1)
    let count = Int(truncatingIfNeeded: (stop &- page) / pageSize)
    var stock = FrameStock()
    defer { stock.release() }
    var done = 0
    while done < count {
      let entry = unsafe PageTableEntry(word: slot[done])
      if done > 0, !entry.isPresent || !isPrivate(entry) || entry.isWritable { break }
      if done > 0, Frames.isExclusive(entry.frame) {
        _ = unsafe tables.replace(slot + done, by: writable(entry.frame, area, 0))
      } else {
        let frame: PageFrameNumber
        do throws(Errno) { frame = try stock.next(wanted: count - done) } catch {
          if done == 0 { return .outOfMemory }
          break
        }
        Frames.copy(entry.frame, to: frame)
        enlist(frame, at: page &+ UInt64(done) &* pageSize)
        _ = unsafe tables.replace(slot + done, by: writable(frame, area, 0))
        retire(page &+ UInt64(done) &* pageSize, entry, &gather)
        Counters.add(1, to: Counters.anonymousPages)
        Counters.add(1, to: Counters.copies)
      }
      done += 1
    }
    gather.flushRun()
    area.nextFault = page &+ UInt64(done) &* pageSize
    area.faultWindow = window
    var offer = MappingOffer(space: machineSpace, filling: true)
    for index in 0..<done {
      offer.add(page &+ UInt64(index) &* pageSize, unsafe PageTableEntry(word: slot[index]))
    }
    offer.finish()
    return .done
  }

  func writable(_ frame: PageFrameNumber, _ area: VirtualMemoryArea, _ marks: UInt64) -> PageTableEntry {
    // A debugger writes where the program may not: the page is private then, and the program's rights stay what they are.
    let (rights, marks) = (area.protection, marks | PageTableEntry.dirty)
    return PageTableEntry(frame: frame, protection: rights, isWritable: rights.contains(.write), marks: marks)
  }

  /// A thread other than the calling one may run user code in this space.
  private var hasOthersRunning: Bool { threads.load(ordering: .relaxed) > 1 || AddressSpace.current !== self }

  /// Drops what an entry held before it was replaced. The program may still read the old frame through the machine's mapping:
  /// with another thread, or with this one when it is hostile and only claims to wait. So the mapping goes before the frame is
  /// free.
  private func retire(_ page: UInt64, _ old: PageTableEntry, _ gather: inout MappingGather) {
    gather.unmap(page, old)
  }

  // MARK: Anonymous memory

  private func fillAnonymous(_ area: VirtualMemoryArea, _ page: UInt64, _ access: Access) -> Resolution {
    if access == .write, let resolution = fillTable(area, page) { return resolution }
    return tables.withLock { tables in
      do throws(Errno) {
        if access != .write {
          let place = try tables.placeForReading(page)
          let zeros = PageTableEntry(
            frame: Frames.zeroPage, protection: area.protection, isWritable: false, marks: PageTableEntry.uncounted)
          if tables.installInPlace(zeros, in: place) { offer(page, zeros) }
          return .done  // another was faster: the access is tried again
        }
        let slot = try unsafe tables.ensureSlot(page)
        guard unsafe slot.pointee == 0 else { return .done }  // another thread was faster; the access is tried again
        try unsafe fillWindow(&tables, area, page, slot)
        return .done
      } catch {
        return .outOfMemory
      }
    }
  }

  /// Gives the whole table of `page` frames that lie as its pages do, when faults have followed each other for long
  /// enough; nil if it does not come to that.
  private func fillTable(_ area: VirtualMemoryArea, _ page: UInt64) -> Resolution? {
    let start = page & ~(PageTables.tableSpan &- 1)
    guard start >= area.start, start &+ PageTables.tableSpan <= area.end,
      tables.withLock({ tables in
        guard nextWindow(area, page) == Self.tableWindow else { return false }
        guard let first = unsafe tables.find(start).slot else { return true }
        return unsafe isUntouched(first, Int(Self.tableWindow))
      }),
      let run = Frames.allocateRun(order: Self.tableWindow.trailingZeroBitCount, zeroed: .zeroed)
    else { return nil }
    // Takes long, so it is done without the lock.
    _ = machine_memory_enlarge(run.physicalAddress, PageTables.tableSpan)
    let resolution = tables.withLock { tables -> Resolution? in
      let first: PageTables.Slot
      do throws(Errno) { first = try unsafe tables.ensureSlot(start) } catch { return nil }
      guard unsafe isUntouched(first, Int(Self.tableWindow)) else { return nil }
      unsafe installWindow(&tables, area, start, run, Self.tableWindow, in: first)
      return .done
    }
    if resolution == nil {
      for index in 0..<Int(Self.tableWindow) { Frames.release(run.advanced(by: index)) }
    }
    return resolution
  }

  private func installWindow(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ start: UInt64, _ run: PageFrameNumber, _ pages: UInt64,
    in slot: PageTables.Slot
  ) {
    enlist(run, count: Int(pages), at: start)
    unsafe tables.installRun(writable(run, area, 0), count: Int(pages), in: slot)
    Counters.add(Int(pages), to: Counters.anonymousPages)
    area.nextFault = start &+ pages &* pageSize
    area.faultWindow = pages
    var offer = MappingOffer(space: machineSpace)
    for index in 0..<Int(pages) {
      offer.add(start &+ UInt64(index) &* pageSize, unsafe PageTableEntry(word: slot[index]))
    }
    offer.finish()
  }

  /// Gives frames to the page that was written and to untouched pages around it, as one run of memory if possible.
  private func fillWindow(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ page: UInt64, _ slot: PageTables.Slot
  ) throws(Errno) {
    var pages = min(nextWindow(area, page), Self.largestWindow)
    while pages > 1 {
      // Aligned to its size, a window never leaves its table: the slots of its pages are neighbours.
      let start = page & ~(pages &* pageSize &- 1)
      let first = unsafe slot - Int(truncatingIfNeeded: (page &- start) / pageSize)
      if start >= area.start, start &+ pages &* pageSize <= area.end, unsafe isUntouched(first, Int(pages)),
        let run = Frames.allocateRun(order: pages.trailingZeroBitCount, zeroed: .zeroed)
      {
        return unsafe installWindow(&tables, area, start, run, pages, in: first)
      }
      pages /= 2
    }
    let frame = try Frames.allocateZeroed()
    enlist(frame, at: page)
    unsafe tables.install(writable(frame, area, 0), in: slot)
    Counters.add(1, to: Counters.anonymousPages)
    area.nextFault = page &+ pageSize
    offer(page, unsafe PageTableEntry(word: slot.pointee))
  }

  /// Sequential faults double the window; any other fault resets it. With little memory left it is one page.
  func nextWindow(_ area: VirtualMemoryArea, _ page: UInt64) -> UInt64 {
    if area.flags.contains(.randomAccess) || FrameAllocator.shortage > 0 { return 1 }
    guard area.nextFault == page, area.faultWindow > 0 else { return Self.firstWindow }
    return min(area.faultWindow &* 2, Self.tableWindow)
  }

  private func isUntouched(_ first: PageTables.Slot, _ count: Int) -> Bool {
    for index in 0..<count where unsafe first[index] != 0 { return false }
    return true
  }
}
