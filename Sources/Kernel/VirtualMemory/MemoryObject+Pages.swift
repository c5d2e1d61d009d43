// Finding and making the pages of an object: look-up, reading from the store with readahead, fresh pages.

import DataStructures
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling
import Synchronization

extension MemoryObject {
  /// Pages that a first read takes from the store, and the most that sequential reads take: 64 and 128 KiB.
  static var firstReadWindow: Int { 16 }
  static var largestReadWindow: Int { 32 }

  /// The page at `index` with a reference for the caller, read or made if it is absent.
  ///
  /// - Throws: ENOMEM, EFAULT (`index` is beyond the end), the store's errors.
  func page(_ index: UInt64, onRead: () -> Void = {}) throws(Errno) -> PageFrameNumber {
    while true {
      let found = lookUp(index)
      switch found {
      case .ready(let frame): return frame
      case .busy: waitUntilReady(index)
      case .swapped(let entry):
        guard index < pageCount else { throw .EFAULT }
        if let frame = try bringBack(index, entry, onRead: onRead) { return frame }
      case .absent:
        guard index < pageCount else { throw .EFAULT }
        if hasStore {
          onRead()
          if let frame = try readIn(index) { return frame }
        } else if let frame = try insertFresh(index) {
          return frame
        }
      }
    }
  }

  /// The page for a fault; with `allocating` false nil stands for a hole in an object without a store.
  func pageForFault(
    _ index: UInt64, allocating: Bool, onMajorFault: () -> Void
  ) throws(Errno) -> PageFrameNumber? {
    guard index < pageCount else { throw .EFAULT }
    if !allocating && !hasStore {
      let found = lookUp(index)
      if case .ready(let frame) = found { return frame }
      if found == .absent { return nil }
    }
    return try page(index) {
      Counters.add(1, to: Counters.majorFaults)
      onMajorFault()
    }
  }

  /// What is at `index`; a ready page comes with a reference.
  ///
  /// Without a lock: the page is found, then gets a reference unless it is free, and if it is still in its place then it
  /// was the right one. Else the reference, which hit whatever the frame is used for now, is given back.
  @inline(__always)
  func lookUp(_ index: UInt64) -> ObjectPages.Page {
    let found: ObjectPages.Page? = RCU.read {
      guard let slot = tree.slot(at: index) else { return .absent }
      let value = slot.value
      let page = ObjectPages.page(value)
      guard case .ready(let frame) = page else { return page }
      guard frame.frame.retainIfReferenced() else { return nil }
      if slot.value == value { return page }
      Frames.release(frame)
      return nil
    }
    return found ?? lookUpLocked(index)
  }

  /// As above, when the page went away while we looked.
  private func lookUpLocked(_ index: UInt64) -> ObjectPages.Page {
    pages.withLock { pages in
      let page = pages.find(index)
      if case .ready(let frame) = page { Frames.retain(frame) }
      return page
    }
  }

  private func waitUntilReady(_ index: UInt64) {
    // Uninterruptible and without a deadline: it cannot fail. The reader wakes us, whether it succeeds or not.
    try? ready.wait(.uninterruptible) { pages.withLock { $0.find(index) != .busy } }
  }

  /// Waits for those of the pages first...last that are being read now.
  func waitForReads(_ first: UInt64, _ last: UInt64) {
    var position = first
    while true {
      let (busy, isEnd) = pages.withLock { pages -> (UInt64?, Bool) in
        for _ in 0..<256 {
          guard let (index, value) = pages.tree.next(from: position), index <= last, index < .max else {
            return (nil, true)
          }
          position = index &+ 1
          if ObjectPages.isBusy(value) { return (index, false) }
        }
        return (nil, false)
      }
      if let busy { waitUntilReady(busy) }
      if isEnd { return }
    }
  }

  /// Calls `body` with those of `count` pages from `start` on that are ready, and their places.
  func forEachResident(from start: UInt64, count: Int, _ body: (Int, PageFrameNumber) -> Void) {
    pages.withLock { pages in
      let end = min(start &+ UInt64(count), pageCount)
      var index = start
      while index < end {
        if case .ready(let frame) = pages.find(index) { body(Int(truncatingIfNeeded: index &- start), frame) }
        index &+= 1
      }
    }
  }

  /// The first page from `start` on that has contents, in memory or on swap; nil when there is none.
  @export(interface)
  public func nextPage(from start: UInt64) -> UInt64? { pages.withLock { $0.tree.next(from: start)?.index } }

  /// The first page from `start` on that has no contents. Takes as long as the row of pages before it: it lets others run.
  @export(interface)
  public func nextHole(from start: UInt64) -> UInt64 {
    var index = start
    while true {
      let stop = index &+ 256
      pages.withLock { pages in
        while index < stop, pages.tree.next(from: index)?.index == index { index &+= 1 }
      }
      if index < stop { return index }
      Thread.checkReschedule()
    }
  }

  // MARK: Making pages

  /// A page of zeros at `index`, with a reference for the caller; nil when another thread made one meanwhile, or the
  /// object became shorter.
  private func insertFresh(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    try ObjectPages.preload()
    let frame = try Frames.allocateZeroed()
    do throws(Errno) { try promisePage() } catch {
      Frames.release(frame)
      throw error
    }
    let isInserted = pages.withLock { pages in
      guard pages.find(index) == .absent, index < pageCount, pages.insert(frame, at: index, busy: false) else {
        return false
      }
      Frames.retain(frame)
      enlist(frame, index)
      return true
    }
    guard isInserted else {
      Frames.release(frame)
      unpromisePages(1)
      return nil
    }
    countPages(1)
    return frame
  }

  /// Fills 2^`order` absent pages with one run of zeros; false if one is there already, beyond the end, or there is no such
  /// run of frames.
  func makeFresh(from start: UInt64, order: Int) -> Bool {
    let count = UInt64(1) << UInt64(order)
    func areAbsent(_ pages: ObjectPages) -> Bool {
      guard start &+ count <= pageCount else { return false }
      for index in start..<start &+ count where pages.find(index) != .absent { return false }
      return true
    }
    guard pages.withLock({ areAbsent($0) }), promisePages(Int(count)) else { return false }
    guard let run = Frames.allocateRun(order: order, zeroed: .zeroed) else {
      unpromisePages(Int(count))
      return false
    }
    if order == 9 { _ = machine_memory_enlarge(run.physicalAddress, count &* pageSize) }
    var done = 0
    // Nodes for one page are more than a run needs, which fills whole nodes.
    if (try? ObjectPages.preload()) != nil {
      pages.withLock { pages in
        guard areAbsent(pages) else { return }
        while done < Int(count) {
          let (frame, index) = (run.advanced(by: done), start &+ UInt64(done))
          guard pages.insert(frame, at: index, busy: false) else { break }
          enlist(frame, index)
          done += 1
        }
      }
    }
    for index in done..<Int(count) { Frames.release(run.advanced(by: index)) }
    unpromisePages(Int(count) - done)
    countPages(done)
    return done > 0
  }

  /// Memory without a store is promised page by page, unless that happened when the object was made.
  ///
  /// - Throws: ENOSPC, for giving memory up would not help.
  func promisePage() throws(Errno) {
    guard chargesPages else { return }
    try quota?.take(1)
    do throws(Errno) { try CommitAccounting.commit(1) } catch {
      quota?.give(1)
      throw .ENOSPC
    }
  }

  /// The same for a run; false when it cannot be promised.
  private func promisePages(_ count: Int) -> Bool {
    guard chargesPages else { return true }
    do throws(Errno) {
      try quota?.take(count)
    } catch {
      return false
    }
    do throws(Errno) {
      try CommitAccounting.commit(count)
    } catch {
      quota?.give(count)
      return false
    }
    return true
  }

  func unpromisePages(_ count: Int) {
    guard chargesPages, count > 0 else { return }
    CommitAccounting.uncommit(count)
    quota?.give(count)
  }

  func countPages(_ change: Int) {
    if huge != nil { return Counters.add(change, to: Counters.hugeObjectPages) }
    Counters.add(change, to: Counters.cachedPages)
    if !hasStore { Counters.add(change, to: Counters.sharedMemoryPages) }
  }

  // MARK: Reading from the store

  /// Reads the page at `index` and absent ones around it; nil when it is there already or went away meanwhile.
  private func readIn(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    guard let batch = try beginRead(index) else { return nil }
    do throws(Errno) {
      try readFromStore(batch.start, batch.frames)
    } catch {
      endRead(batch, .failed)
      throw error
    }
    clearBeyondEnd(batch)
    let frame = batch.frames[Int(truncatingIfNeeded: index &- batch.start)]
    // Two references are ours now, the tree's and the batch's: one more for the caller.
    Frames.retain(frame)
    endRead(batch, .succeeded)
    return frame
  }

  private struct ReadBatch {
    var start: UInt64
    var frames: [PageFrameNumber]
  }

  /// Puts busy pages into the tree, each with a second reference of the batch's: truncation may take the first.
  private func beginRead(_ index: UInt64) throws(Errno) -> ReadBatch? {
    let limit = pageCount
    var frames: [PageFrameNumber] = []
    frames.reserveCapacity(Self.largestReadWindow)
    var start = index
    try ObjectPages.preload()
    let outcome: Result<Void, Errno> = pages.withLock { pages in
      guard pages.find(index) == .absent, index < limit else { return .success(()) }
      let isSequential = index == pages.nextRead && index != 0
      let count =
        isSequential
        ? min(max(pages.readWindow * 2, Self.firstReadWindow), Self.largestReadWindow) : Self.firstReadWindow
      if !isSequential {
        // Somewhere in the middle, usually a fault: what lies around it is as likely as what follows.
        let lowest = index & ~UInt64(Self.firstReadWindow - 1)
        while start > lowest, pages.find(start &- 1) == .absent { start &-= 1 }
      }
      var end = start
      while end < limit, end &- start < UInt64(count), pages.find(end) == .absent { end &+= 1 }
      end = max(end, index &+ 1)
      var stock = FrameStock()
      defer { stock.release() }
      // From the wanted page on first, so that a shortage hits the others.
      var position = start
      do throws(Errno) {
        while position < end {
          let frame = try stock.next(wanted: Int(truncatingIfNeeded: end &- position))
          guard pages.insert(frame, at: position, busy: true) else {
            Frames.release(frame)
            throw .ENOMEM
          }
          frames.append(frame)
          Frames.retain(frame)
          enlist(frame, position)
          position &+= 1
        }
      } catch {
        if position <= index {
          for (offset, frame) in frames.enumerated() {
            _ = pages.remove(at: start &+ UInt64(offset))
            Frames.release(frame)
            Frames.release(frame)
          }
          frames = []
          return .failure(error)
        }
      }
      pages.nextRead = position
      pages.readWindow = frames.count
      return .success(())
    }
    countPages(frames.count)
    switch outcome {
    case .failure(let error): throw error
    case .success: return frames.isEmpty ? nil : ReadBatch(start: start, frames: frames)
    }
  }

  private enum ReadOutcome { case succeeded, failed }

  private func endRead(_ batch: ReadBatch, _ outcome: ReadOutcome) {
    var removed = 0
    pages.withLock { pages in
      for (offset, frame) in batch.frames.enumerated() {
        let index = batch.start &+ UInt64(offset)
        guard pages.tree[index] == ObjectPages.value(frame, busy: true) else { continue }
        switch outcome {
        case .succeeded: pages.tree.replace(at: index, with: ObjectPages.value(frame, busy: false))
        case .failed:
          _ = pages.remove(at: index)
          Frames.release(frame)
          removed += 1
        }
      }
    }
    countPages(-removed)
    ready.wakeAll()
    for frame in batch.frames { Frames.release(frame) }
  }

  /// What lies behind the end of the contents is zero, whatever the store left there.
  private func clearBeyondEnd(_ batch: ReadBatch) {
    let end = size
    for (offset, frame) in batch.frames.enumerated() {
      let start = (batch.start &+ UInt64(offset)) &* pageSize
      if start &+ pageSize <= end { continue }
      Frames.clear(frame, from: end > start ? Int(truncatingIfNeeded: end &- start) : 0)
    }
  }

  /// Reads absent pages from the store, at most 2 MiB, for readahead(2) and MADV_WILLNEED. Errors end it silently.
  @export(interface)
  public func readAhead(from start: UInt64, count: UInt64) {
    guard hasStore else { return }
    let end = min(start &+ min(count, 512), pageCount)
    var index = start
    while index < end {
      if pages.withLock({ $0.find(index) == .absent }) {
        do throws(Errno) {
          if let frame = try readIn(index) { Frames.release(frame) }
        } catch {
          return
        }
      }
      index &+= 1
    }
  }

  // MARK: Removing pages

  /// Takes the pages [start, end) out of the tree and hands each frame, with its reference, to `body`.
  func removePages(from start: UInt64, to end: UInt64, _ body: (PageFrameNumber) -> Void) {
    var position = start
    var removed = 0
    var swapped = 0
    var dirty = 0
    while position < end {
      // In steps, so that the lock is not held long.
      let next: UInt64? = pages.withLock { pages in
        for _ in 0..<256 {
          guard let (index, value) = pages.tree.next(from: position), index < end else { return nil }
          if case .swapped(let entry) = ObjectPages.page(value) {
            pages.removeSwapped(at: index, entry)
            swapped += 1
          } else if let (frame, wasDirty) = pages.remove(at: index) {
            removed += 1
            if wasDirty { dirty += 1 }
            body(frame)
          }
          position = index &+ 1
        }
        return position
      }
      guard let next, next != 0 else { break }
      position = next
      Thread.checkRescheduleUnlessLocked()
    }
    countPages(-removed)
    unpromisePages(removed + swapped)
    huge?.leaving.add(removed, ordering: .relaxed)
    guard dirty > 0 else { return }
    Counters.add(-dirty, to: Counters.dirtyPages)
    Thread.current.transfers.cancelled &+= UInt64(dirty) &* pageSize
    let hold = pages.withLock { leaveDirtyObjects(&$0) }
    withExtendedLifetime(hold) {}
  }
}
