// From an object's pages to the page-table entries that show them, and what needs that: truncation, holes,
// invalidation.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// The areas that map an object.
@safe struct ObjectMappings {
  /// Not retained: an area leaves before it ends.
  fileprivate var areas: [Unmanaged<VirtualMemoryArea>] = unsafe []
}

extension MemoryObject {
  func addMapping(_ area: VirtualMemoryArea) {
    // Another area or the maker of this one counts already, so writing is not denied.
    if area.mayWriteObject { writers.add(1, ordering: .relaxed) }
    mappings.withLock { unsafe $0.areas.append(Unmanaged.passUnretained(area)) }
  }

  func removeMapping(_ area: VirtualMemoryArea) {
    mappings.withLock { mappings in
      let wanted = unsafe Unmanaged.passUnretained(area).toOpaque()
      guard let place = unsafe mappings.areas.lastIndex(where: { unsafe $0.toOpaque() == wanted }) else { return }
      unsafe mappings.areas.swapAt(place, mappings.areas.count - 1)
      unsafe mappings.areas.removeLast()
      if area.mayWriteObject { endWriting() }
    }
  }

  // MARK: Writable mappings

  /// Counts one writer more, for as long as a mapping is being made.
  ///
  /// - Throws: EPERM when writable mappings are denied.
  func beginWriting() throws(Errno) {
    var seen = writers.load(ordering: .relaxed)
    while seen >= 0 {
      let result = writers.weakCompareExchange(expected: seen, desired: seen &+ 1, ordering: .acquiringAndReleasing)
      if result.exchanged { return }
      seen = result.original
    }
    throw .EPERM
  }

  func endWriting() { writers.subtract(1, ordering: .releasing) }

  /// Denies writable mappings permanently, unless there are some.
  ///
  /// - Returns: whether they are denied.
  @export(interface)
  public func denyWritableMappings() -> Bool {
    let result = writers.compareExchange(expected: 0, desired: -1, ordering: .acquiringAndReleasing)
    return result.exchanged || result.original < 0
  }

  // MARK: Areas

  /// Runs `body` while the geometry of the mappings stays as it is.
  func withMappings<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
    try mappings.withLock { _ throws(Failure) in try body() }
  }

  /// Whether any area maps the object.
  public var isMapped: Bool { @export(interface) get { mappings.withLock { unsafe !$0.areas.isEmpty } } }

  /// Calls `body` with each area that maps a part of the object, whose geometry stays as it is meanwhile.
  func withMappedAreas(_ body: (VirtualMemoryArea) -> Void) {
    mappings.withLock { mappings in
      // SAFETY: an area is in the list only while its space holds it; it leaves under this lock.
      for index in unsafe 0..<mappings.areas.count { body(unsafe mappings.areas[index].takeUnretainedValue()) }
    }
  }

  /// Calls `body` for each area that shows a part of the pages [start, end), with that part's addresses. The machine's
  /// mappings are in line with the tables, on all CPUs, when this returns.
  private func forEachMapping(
    _ start: UInt64, _ end: UInt64,
    _ body: (VirtualMemoryArea, _ start: UInt64, _ end: UInt64, inout MappingGather) -> Void
  ) {
    var gather = MappingGather()
    mappings.withLock { mappings in
      for index in unsafe 0..<mappings.areas.count {
        // SAFETY: an area is in the list only while its space holds it; it leaves under this lock.
        let area = unsafe mappings.areas[index].takeUnretainedValue()
        let first = max(start, area.pageOffset)
        let last = min(end, area.pageOffset &+ area.length / pageSize)
        guard first < last else { continue }
        gather.turn(to: unsafe area.space.machineSpace)
        body(
          area, area.start &+ (first &- area.pageOffset) &* pageSize,
          area.start &+ (last &- area.pageOffset) &* pageSize, &gather)
      }
      gather.flushRun()
    }
    gather.finish()
  }

  /// Where the pages [start, end) are mapped, from the first such place on; at most `limit` pages.
  private func mappedPart(_ start: UInt64, _ end: UInt64, limit: UInt64) -> Range<UInt64>? {
    mappings.withLock { mappings in
      var first = end
      for index in unsafe 0..<mappings.areas.count {
        // SAFETY: as above.
        let area = unsafe mappings.areas[index].takeUnretainedValue()
        if start < area.pageOffset &+ area.length / pageSize { first = min(first, max(start, area.pageOffset)) }
      }
      return first < end ? first..<(end &- first > limit ? first &+ limit : end) : nil
    }
  }

  /// Takes the pages [start, end) out of all page tables. Private copies of them stay, or go too.
  ///
  /// A part at a time, for what is taken out is kept until the lock of the mappings has been let go. An area that comes to be in
  /// between shows no page of a part that is done: it could have one only from those that were visited.
  func unmapPages(_ start: UInt64, _ end: UInt64, withCopies: Bool = false) {
    var position = start
    while let part = mappedPart(position, end, limit: 8192) {
      unmapPart(part.lowerBound, part.upperBound, withCopies)
      position = part.upperBound
    }
  }

  private func unmapPart(_ start: UInt64, _ end: UInt64, _ withCopies: Bool) {
    // A space that shares a table may be about to copy it with its old entries: nothing is freed before all spaces were visited.
    var copies: [PageTableEntry] = []
    defer { for entry in copies { entry.release() } }
    // A page that goes from a shared table during a later visit may have been put there, and offered to the machine for a
    // space that was visited before, in between: all are visited again. After one round no space puts in old pages.
    for _ in 0..<2 {
      var isFirst = true
      var isAgain = false
      forEachMapping(start, end) { area, first, last, gather in
        let takesCopies = withCopies && !area.flags.contains(.hugeTLB)
        if unsafe area.space.takeOutObjectPages(first, last, &gather, takesCopies ? { copies.append($0) } : nil),
          !isFirst
        {
          isAgain = true
        }
        isFirst = false
      }
      if !isAgain { return }
    }
  }

  /// Takes the right to write to the pages [start, end) away from all mappings, so that the next write is noticed.
  func protectPages(_ start: UInt64, _ end: UInt64) {
    guard isMapped else { return }
    forEachMapping(start, end) { area, first, last, gather in
      guard area.isShared else { return }
      unsafe area.space.tables.withLock { tables in
        unsafe tables.forEachPlace(first, last) { address, slot, place in
          let entry = unsafe PageTableEntry(word: slot.pointee)
          // In a shared table the right may be gone on behalf of another space: this one's machine has not heard of it.
          guard entry.isObjectPage, entry.isWritable || place.isInCommon else { return }
          unsafe tables.protectInPlace(slot)
          if entry.isPresent { gather.protect(address, length: pageSize, entry.machineProtection.subtracting(.write)) }
        }
      }
    }
  }

  // MARK: Truncation

  /// Changes the size. Pages beyond the new end leave the object and all mappings; the rest of the last page is cleared.
  ///
  /// The caller excludes writers (an inode's lock). Private copies that programs made of pages beyond the end go, too: the
  /// next access is SIGBUS (mmap(2)), or finds what the file has when it has grown again.
  @export(interface)
  public func truncate(to newSize: UInt64) {
    let old = size
    if newSize > old {
      clearTail()
      size = newSize
      return
    }
    size = newSize
    dropPages(from: newSize / pageSize &+ (newSize & pageMask != 0 ? 1 : 0), to: .max, withCopies: true)
    clearTail()
  }

  /// Makes [offset, offset + length) read as zeros, giving back whole pages. Only for objects without a store.
  @export(interface)
  public func punchHole(from offset: UInt64, length: UInt64) {
    let end = min(offset &+ min(length, UInt64.max &- offset), size)
    guard !hasStore, offset < end else { return }
    let first = offset / pageSize &+ (offset & pageMask != 0 ? 1 : 0)
    let last = end == size ? pageCount : end / pageSize
    if first < last { dropPages(from: first, to: last) }
    clear(offset, min(end, first &* pageSize))
    if end != size { clear(max(offset, last &* pageSize), end) }
  }

  /// Makes the pages that are missing in [start, end), before the end: writing there needs none from then on. Only for objects
  /// without a store; all or none.
  ///
  /// - Throws: ENOSPC, ENOMEM; EINTR for a thread that is to end.
  @export(interface)
  public func fillHoles(from start: UInt64, to end: UInt64) throws(Errno) {
    guard !hasStore, start < end else { return }
    var made: [Range<UInt64>] = []
    do throws(Errno) {
      for index in start / pageSize..<(end &- 1) / pageSize &+ 1 where lookUpIsAbsent(index) {
        Frames.release(try MemoryPressure.retrying { () throws(Errno) in try page(index) })
        if let last = made.last, last.upperBound == index {
          made[made.count - 1] = last.lowerBound..<index &+ 1
        } else {
          try KernelMemory.admitGrowth(count: made.count, capacity: made.capacity, stride: 16)
          made.append(index..<index &+ 1)
        }
        if Self.isLong(index &* pageSize), !Self.goesOn() { throw .EINTR }
      }
    } catch {
      for range in made { dropPages(from: range.lowerBound, to: range.upperBound) }
      throw error
    }
  }

  /// Clears bytes within one page, if there is one.
  func clear(_ start: UInt64, _ end: UInt64) {
    guard start < end, let frame = pageIfPresent(start / pageSize) else { return }
    defer { Frames.release(frame) }
    // SAFETY: `start` and `end` lie in the same page, or `end` is its end; the reference keeps the frame.
    let target = unsafe Frames.pointer(frame) + Int(truncatingIfNeeded: start & pageMask)
    _ = unsafe target.initializeMemory(as: UInt8.self, repeating: 0, count: Int(truncatingIfNeeded: end &- start))
  }

  /// Removes the pages [start, end) from the object and from all mappings. Private copies stay, or go too.
  func dropPages(from start: UInt64, to end: UInt64, withCopies: Bool = false) {
    didRemovePages()
    var frames: [PageFrameNumber] = []
    removePages(from: start, to: end) { frames.append($0) }
    unmapPages(start, end, withCopies: withCopies)
    for (index, frame) in frames.enumerated() {
      Frames.release(frame)
      if index & 4095 == 4095 { Thread.checkRescheduleUnlessLocked() }
    }
    settleHugePages(dropping: start / HugePage.frames..<end / HugePage.frames)
  }

  /// Forgets all clean pages: their contents are read from the store again. For stores that changed behind our back.
  @export(interface)
  public func invalidate() {
    guard hasStore else { return }
    dropClean(from: 0, to: .max)
  }

  /// Forgets the clean pages that hold a part of a range of bytes, for a write to the store that bypasses the pages. Pages
  /// that are being read are waited for: what they bring may be older than what was written.
  ///
  /// - Locks: sleeps.
  @export(interface)
  public func forget(_ range: Range<UInt64>) {
    guard hasStore, !range.isEmpty else { return }
    let first = range.lowerBound / pageSize
    let last = (range.upperBound &- 1) / pageSize
    guard pages.withLock({ $0.tree.next(from: first).map { $0.index <= last } ?? false }) else { return }
    waitForReads(first, last)
    dropClean(from: first, to: last &+ 1)
  }

  /// Takes the clean pages [start, end) out of all mappings and out of the object.
  private func dropClean(from start: UInt64, to end: UInt64) {
    didRemovePages()
    unmapPages(start, end)
    removeClean(from: start, to: end)
    // A fault that came in between shows the old page until it is unmapped again.
    unmapPages(start, end)
  }

  /// Takes the clean pages [start, end) out of the object.
  private func removeClean(from start: UInt64, to end: UInt64) {
    var position = start
    while true {
      var frames: [PageFrameNumber] = []
      let isLast = pages.withLock { pages in
        for _ in 0..<256 {
          guard let (index, value) = pages.tree.next(from: position), index < end else { return true }
          position = index &+ 1
          if ObjectPages.isBusy(value) || pages.tree.hasTag(ObjectPages.dirtyTag, at: index)
            || pages.tree.hasTag(ObjectPages.writeBackTag, at: index)
          {
            continue
          }
          if let (frame, _) = pages.remove(at: index) { frames.append(frame) }
        }
        return false
      }
      countPages(-frames.count)
      for frame in frames { Frames.release(frame) }
      if isLast || position == 0 { break }
    }
  }
}
