// Areas of huge pages (mmap(2) with MAP_HUGETLB, files of hugetlbfs).
//
// A huge page is 512 frames of the pool (HugePagePool) that lie in a row, shown by all 512 entries of one last-level
// table, or by none: they are filled, copied and made writable together, and the machine sees one command. Everything
// that only looks at entries (copies to and from user memory, pins, protection) treats them as any others.
//
// Promises. A private area that is `.hugeReserved` holds one reservation in the pool for each huge page that it has no copy of
// its own of; a fault takes it, unmapping gives it back. A child of fork(2) has no reservations: when the pool is
// empty, its write to a page that it shares with its parent is SIGBUS. The parent's never is: the page is taken from the
// children, who get SIGBUS when they miss it (`VirtualMemoryArea.hasLostHugePages`). Shared areas promise through their
// object.
//
// SAFETY: a slot points to an entry of a table of this space's tree. Tables are released under the table lock only, so a slot
// is good until the lock is let go; none leaves the closure that holds it. The slots of a huge page fill one table.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// What areas of huge pages without a file are called.
final class AnonymousHugePages: MappingSource {
  var mappingName: ByteString { ByteString("/anon_hugepage (deleted)") }
  var mappingDevice: UInt64 { 0 }
  var mappingInode: UInt64 { 0 }
}

/// One thread at a time makes a private huge page: two must not take two promises for it.
private enum HugeFaultLocks {
  private static let locks: [SleepLock] = (0..<16).map { _ in SleepLock(.hugeFaults) }

  static func lock(_ space: Int64, _ address: UInt64) -> SleepLock {
    locks[Int(truncatingIfNeeded: (address / HugePage.size &+ UInt64(bitPattern: space)) & 15)]
  }
}

extension AddressSpace {
  // MARK: Mapping

  /// `map` for huge pages.
  ///
  /// - Throws: moreover EINVAL when address or offset are no multiples of the size of a huge page.
  func mapHuge(
    at address: UInt64, length: UInt64, protection: Protection, maximum: Protection, flags: MappingFlags,
    object: MemoryObject?, offset: UInt64, source: (any MappingSource)?
  ) throws(Errno) -> UInt64 {
    guard length != 0, offset & HugePage.mask == 0 else { throw .EINVAL }
    guard let length = HugePage.roundedUp(length), length <= Self.userLimit else { throw .ENOMEM }
    guard !offset.addingReportingOverflow(length).overflow else { throw .EOVERFLOW }
    if flags.contains(.fixed) || flags.contains(.fixedNoReplace) {
      guard address & HugePage.mask == 0 else { throw .EINVAL }
      guard Self.isUserRange(address, length) else { throw .ENOMEM }
      guard address >= Self.minimumAddress else { throw .EPERM }
    }
    let writer = flags.contains(.shared) && maximum.contains(.write) ? object : nil
    try writer?.beginWriting()
    defer { writer?.endWriting() }
    let pages = Int(truncatingIfNeeded: length / pageSize)
    var gather = MappingGather(space: machineSpace)
    let start = try areas.withWriteLock { state throws(Errno) in
      guard !state.isDestroyed else { throw .ENOMEM }
      let start = try place(state, address, length, flags, alignment: HugePage.size)
      // Huge pages stay in memory anyway, and count for no limit of locked memory.
      var areaFlags = flags.subtracting(.transient).union(state.futureFlags).union(.hugeTLB)
      areaFlags.subtract([.locked, .lockedOnFault, .growsDown])
      let replaced = flags.contains(.fixed) ? state.mappedPages(start, start &+ length) : 0
      try state.checkLimits(adding: pages, replacing: replaced, protection, areaFlags)
      if flags.contains(.fixed) {
        defer { gather.finish() }
        try unmap(&state, start, start &+ length, &gather)
      }
      guard state.map.count < Self.maximumAreaCount else { throw .ENOMEM }
      var object = object
      if object == nil, areaFlags.contains(.shared) {
        object = MemoryObject(store: nil, size: length, huge: HugePageSupply(budget: nil))
      }
      if !areaFlags.contains(.noReserve) {
        if areaFlags.contains(.shared) {
          let first = offset / HugePage.size
          try object?.promiseHugePages(first..<first &+ length / HugePage.size)
        } else {
          try HugePagePool.reserve(pages / HugePagePool.framesPerPage)
          areaFlags.insert(.hugeReserved)
        }
      }
      // A writable mapping makes a file of hugetlbfs as long as itself.
      if protection.contains(.write) { object?.extend(to: offset &+ length) }
      insert(
        &state,
        VirtualMemoryArea(
          space: self, start: start, end: start &+ length, protection: protection, maximumProtection: maximum,
          flags: areaFlags, object: object, pageOffset: offset / pageSize, source: source ?? AnonymousHugePages()))
      return start
    }
    if flags.contains(.populate) || flags.contains(.locked) { try? populate(start, start &+ length) }
    return start
  }

  // MARK: Promises

  /// Huge pages of [start, end) of which the program has no copy of its own.
  private func unclaimedHugePages(_ start: UInt64, _ end: UInt64) -> Int {
    tables.withLock { tables in
      var count = 0
      var position = start
      while position < end {
        let entry = tables.entry(position)
        if entry.isEmpty || entry.isObjectPage { count += 1 }
        position = position &+ HugePage.size
      }
      return count
    }
  }

  /// What the areas that lie wholly in [start, end) have been promised.
  func hugePromises(_ state: borrowing AreaState, _ start: UInt64, _ end: UInt64) -> Int {
    guard state.hugePages > 0 else { return 0 }
    var pages = 0
    var next = state.map.firstEnding(after: start)
    while let area = next, area.start < end {
      if area.flags.contains(.hugeReserved) { pages += unclaimedHugePages(area.start, area.end) }
      next = state.map.next(after: area)
    }
    return pages
  }

  /// The promises of [start, end), parts of areas, have gone elsewhere.
  func forgetHugePromises(_ state: inout AreaState, _ start: UInt64, _ end: UInt64) throws(Errno) {
    try split(&state, at: start)
    try split(&state, at: end)
    state.map.find(start)?.flags.remove(.hugeReserved)
  }

  /// madvise(2) for a part of an area of huge pages; whether it has been dealt with.
  ///
  /// - Throws: EINVAL for advice that makes no sense here, or an address within a huge page.
  func adviseHuge(
    _ advice: MemoryAdvice, _ area: VirtualMemoryArea, _ start: UInt64, _ end: UInt64, _ gather: inout MappingGather
  ) throws(Errno) -> Bool {
    guard area.flags.contains(.hugeTLB) else { return false }
    switch advice {
    case .free, .wipeOnFork: throw .EINVAL
    case .discard: break
    default: return false
    }
    guard start & HugePage.mask == 0 else { throw .EINVAL }
    let end = end & ~HugePage.mask
    guard start < end else { return true }
    let isReserved = area.flags.contains(.hugeReserved)
    let before = isReserved ? unclaimedHugePages(area.start, area.end) : 0
    try takeOut(start, end, floor: start, ceiling: end, &gather)
    gather.finish()
    guard isReserved else { return true }
    do throws(Errno) {
      try HugePagePool.reserve(unclaimedHugePages(area.start, area.end) - before)
    } catch {
      // A child still has the pages, or others were faster: nothing is promised to the area any more.
      HugePagePool.unreserve(before)
      area.flags.remove(.hugeReserved)
    }
    return true
  }

  // MARK: Faults

  /// Looks at the entries of the huge page around `page` and does what is missing.
  func resolveHuge(_ area: VirtualMemoryArea, _ page: UInt64, _ access: Access) -> Resolution {
    let start = page & ~HugePage.mask
    let isAbsent: Bool? = tables.withLock { tables in
      let entry = tables.entry(page)
      if entry.isEmpty { return true }
      guard access != .write || entry.permits(.write) else { return false }
      offerHuge(tables, start)
      return nil
    }
    guard let isAbsent else { return .done }
    if isAbsent {
      if area.hasLostHugePages { return .failed(.bus) }
      let resolution = fillHuge(area, start)
      guard case .done = resolution, access == .write, !area.isShared else { return resolution }
    }
    return grantHugeWrite(area, start)
  }

  private func fillHuge(_ area: VirtualMemoryArea, _ start: UInt64) -> Resolution {
    while let object = area.object {
      let version = object.version
      let found: PageFrameNumber?
      do throws(Errno) {
        let index = area.objectIndex(start)
        found = area.isShared ? try object.hugePage(index) : try object.residentHugePage(index)
      } catch {
        return .failed(.bus)
      }
      guard let found else { break }
      let resolution: Resolution? = tables.withLock { tables in
        // With the version unchanged the object still holds the frames, or gives them up after it has had this lock.
        guard object.version == version else { return nil }
        return installHuge(&tables, area, start, found, object: object)
      }
      if let resolution { return resolution }
    }
    return fillPrivateHuge(area, start)
  }

  private func fillPrivateHuge(_ area: VirtualMemoryArea, _ start: UInt64) -> Resolution {
    let lock = HugeFaultLocks.lock(machineSpace, start)
    lock.acquire()
    defer { lock.release() }
    do throws(Errno) {
      // The table first, so that nothing can fail once a promise has been used.
      let isAbsent = try tables.withLock { tables throws(Errno) in try unsafe tables.ensureSlot(start).pointee == 0 }
      guard isAbsent else { return .done }
    } catch {
      return .outOfMemory
    }
    do throws(Errno) {
      let frame = try HugePagePool.take(area.flags.contains(.hugeReserved) ? .reserved : .unreserved)
      return tables.withLock { tables in installHuge(&tables, area, start, frame, object: nil) }
    } catch {
      return .failed(.bus)
    }
  }

  /// Puts a huge page into the tables: one of `object`, or a private one whose references are the caller's.
  private func installHuge(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ start: UInt64, _ frame: PageFrameNumber,
    object: MemoryObject?
  ) -> Resolution {
    do throws(Errno) {
      let slot = try unsafe tables.ensureSlot(start)
      for index in 0..<HugePagePool.framesPerPage where unsafe slot[index] == 0 {
        let page = frame.advanced(by: index)
        if object != nil { Frames.retain(page) }
        unsafe tables.install(
          PageTableEntry(
            frame: page, protection: area.protection, isWritable: object == nil || area.isShared,
            marks: object == nil ? PageTableEntry.dirty : PageTableEntry.objectPage), in: slot + index)
      }
      if object == nil { Counters.add(HugePagePool.framesPerPage, to: Counters.anonymousPages) }
      offerHuge(tables, start)
      return .done
    } catch {
      return .outOfMemory
    }
  }

  /// A write to a huge page that the tables show read-only: all of it is copied, or becomes writable.
  private func grantHugeWrite(_ area: VirtualMemoryArea, _ start: UInt64) -> Resolution {
    let lock = HugeFaultLocks.lock(machineSpace, start)
    lock.acquire()
    defer { lock.release() }
    var claim: HugePagePool.Claim = .unreserved
    let resolution: Resolution? = tables.withLock { tables in
      do throws(Errno) {
        let slot = try unsafe tables.ensureSlot(start)
        // Without the lock it may have gone: the access is tried again.
        if unsafe slot.pointee == 0 { return .done }
        if unsafe isOwnHuge(area, slot) {
          unsafe makeHugeWritable(&tables, area, slot)
          offerHuge(tables, start)
          return .done
        }
        let isClaimed = unsafe !PageTableEntry(word: slot.pointee).isObjectPage
        if !isClaimed, area.flags.contains(.hugeReserved) { claim = .reserved }
        return nil
      } catch {
        return .outOfMemory
      }
    }
    if let resolution { return resolution }
    let frame: PageFrameNumber
    do throws(Errno) { frame = try HugePagePool.take(claim) } catch {
      return area.flags.contains(.hugeReserved) ? takeFromRelatives(start) : .failed(.bus)
    }
    var gather = MappingGather(space: machineSpace)
    defer { gather.finish() }
    return tables.withLock { tables in unsafe copyHuge(&tables, area, start, to: frame, &gather) }
  }

  /// Takes the page at `start` from those who have it by fork, after which it is this space's own. The access is tried again
  /// after that, and also if one of them is changing its areas: waiting for it here, with this space's areas locked,
  /// could deadlock.
  private func takeFromRelatives(_ start: UInt64) -> Resolution {
    let page = tables.withLock { tables in tables.entry(start) }
    guard !page.isEmpty else { return .done }
    var isChanged = false
    for relative in family.spaces() where relative !== self {
      do throws(Errno) {
        guard let hadPage = try relative.loseHugePage(page.frame) else { return .done }
        if hadPage { isChanged = true }
      } catch {
        return .outOfMemory
      }
    }
    return isChanged ? .done : .failed(.bus)
  }

  /// Gives up a huge page that was not promised to this space; whether it was there, nil if the areas are being changed.
  ///
  /// - Throws: ENOMEM, for page tables.
  private func loseHugePage(_ frame: PageFrameNumber) throws(Errno) -> Bool? {
    try areas.withReadLockIfFree { state throws(Errno) in
      var gather = MappingGather(space: machineSpace)
      defer { gather.finish() }
      var isFound = false
      var next = state.hugePages > 0 ? state.map.first : nil
      while let area = next {
        next = state.map.next(after: area)
        guard area.flags.contains(.hugeTLB), !area.isShared, !area.flags.contains(.hugeReserved) else { continue }
        var position = area.start
        while position < area.end {
          let end = position &+ HugePage.size
          try tables.withLock { tables throws(Errno) in
            guard tables.entry(position).holds(frame) else { return }
            try tables.takeOut(position, end, floor: position, ceiling: end, into: &gather)
            area.hasLostHugePages = true
            isFound = true
          }
          position = end
        }
      }
      return isFound
    }
  }

  /// Whether a write may go to the page that is there.
  private func isOwnHuge(_ area: VirtualMemoryArea, _ slot: PageTables.Slot) -> Bool {
    if area.isShared { return true }
    for index in 0..<HugePagePool.framesPerPage {
      let entry = unsafe PageTableEntry(word: slot[index])
      if entry.isObjectPage || !Frames.isExclusive(entry.frame) { return false }
    }
    return true
  }

  private func makeHugeWritable(_ tables: inout PageTables, _ area: VirtualMemoryArea, _ slot: PageTables.Slot) {
    for index in 0..<HugePagePool.framesPerPage {
      let entry = unsafe PageTableEntry(word: slot[index])
      if entry.isEmpty { continue }
      let marks = (entry.word & PageTableEntry.objectPage) | PageTableEntry.dirty
      _ = unsafe tables.replace(slot + index, by: writableHuge(entry.frame, area, marks))
    }
  }

  private func copyHuge(
    _ tables: inout PageTables, _ area: VirtualMemoryArea, _ start: UInt64, to frame: PageFrameNumber,
    _ gather: inout MappingGather
  ) -> Resolution {
    do throws(Errno) {
      let slot = try unsafe tables.ensureSlot(start)
      for index in 0..<HugePagePool.framesPerPage {
        let (page, copy) = unsafe (PageTableEntry(word: slot[index]), frame.advanced(by: index))
        if !page.isEmpty { Frames.copy(page.frame, to: copy) }
        let old = unsafe tables.replace(slot + index, by: writableHuge(copy, area, PageTableEntry.dirty))
        if !old.isEmpty { gather.unmap(start &+ UInt64(index) &* pageSize, old) }
      }
      Counters.add(HugePagePool.framesPerPage, to: Counters.anonymousPages)
      Counters.add(HugePagePool.framesPerPage, to: Counters.copies)
      gather.flushRun()
      offerHuge(tables, start)
      return .done
    } catch {
      for index in 0..<HugePagePool.framesPerPage { gather.release(frame.advanced(by: index)) }
      return .outOfMemory
    }
  }

  private func writableHuge(_ frame: PageFrameNumber, _ area: VirtualMemoryArea, _ marks: UInt64) -> PageTableEntry {
    // A debugger writes where the program may not: the program's rights stay what they are.
    PageTableEntry(
      frame: frame, protection: area.protection, isWritable: area.protection.contains(.write), marks: marks)
  }

  private func offerHuge(_ tables: borrowing PageTables, _ start: UInt64) {
    var offer = MappingOffer(space: machineSpace)
    tables.forEach(start, start &+ HugePage.size) { address, entry in offer.add(address, entry) }
    offer.finish()
  }

  // MARK: Statistics

  /// What areas of huge pages have in memory, in pages of 4 KiB: those that nobody else has, and the others.
  struct HugeResidency {
    var anonymous = 0
    var object = 0
    var shared = 0
    /// By node.
    var nodes = InlineArray<8, Int>(repeating: 0)
    var all: Int { anonymous + object }
  }

  func hugeResidency(_ area: VirtualMemoryArea) -> HugeResidency {
    tables.withLock { tables in
      var result = HugeResidency()
      var position = area.start
      while position < area.end {
        let entry = tables.entry(position)
        position = position &+ HugePage.size
        guard !entry.isEmpty else { continue }
        result.nodes[min(entry.frame.node, 7)] += HugePagePool.framesPerPage
        if entry.isObjectPage {
          result.object += HugePagePool.framesPerPage
          // The object's own reference is the second one.
          if entry.frame.frame.referenceCount > 2 { result.shared += HugePagePool.framesPerPage }
        } else {
          result.anonymous += HugePagePool.framesPerPage
          if !Frames.isExclusive(entry.frame) { result.shared += HugePagePool.framesPerPage }
        }
      }
      return result
    }
  }

  /// The same for all areas.
  func hugeResidency(_ state: borrowing AreaState) -> HugeResidency {
    var sum = HugeResidency()
    guard state.hugePages > 0 else { return sum }
    state.map.visit { area in
      if area.flags.contains(.hugeTLB) {
        let part = hugeResidency(area)
        sum.anonymous += part.anonymous
        sum.object += part.object
        sum.shared += part.shared
      }
      return true
    }
    return sum
  }
}
