// Finding and making the pages of an object: look-up, reading from the store with readahead, fresh pages.

import DataStructures
import KernelCore
import LinuxABI
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
      guard case .ready(let frame) = lookUp(index) else { return nil }
      return frame
    }
    return try page(index) {
      Counters.add(1, to: Counters.majorFaults)
      onMajorFault()
    }
  }

  /// What is at `index`; a ready page comes with a reference.
  @inline(__always)
  func lookUp(_ index: UInt64) -> ObjectPages.Page {
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

  // MARK: Making pages

  /// A page of zeros at `index`, with a reference for the caller; nil when somebody else made one meanwhile, or the
  /// object became shorter.
  private func insertFresh(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    let frame = try Frames.allocateZeroed()
    do throws(Errno) { try promisePage() } catch {
      Frames.release(frame)
      throw error
    }
    let isInserted = pages.withLock { pages in
      guard pages.find(index) == .absent, index < pageCount else { return false }
      pages.insert(frame, at: index, busy: false)
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

  /// Memory without a store is promised page by page, unless that happened when the object was made.
  ///
  /// - Throws: ENOSPC, for giving memory up would not help.
  func promisePage() throws(Errno) {
    guard chargesPages else { return }
    do throws(Errno) { try CommitAccounting.commit(1) } catch { throw .ENOSPC }
  }

  func unpromisePages(_ count: Int) {
    if chargesPages { CommitAccounting.uncommit(count) }
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
          frames.append(frame)
          pages.insert(frame, at: position, busy: true)
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
        case .succeeded: pages.insert(frame, at: index, busy: false)
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

  // MARK: Dirty pages

  /// The page at `index` differs from the store from now on.
  func markDirty(_ index: UInt64) {
    guard hasStore else { return }
    let isNew = pages.withLock { pages in
      guard pages.find(index) != .absent, !pages.tree.hasTag(ObjectPages.dirtyTag, at: index) else { return false }
      pages.tree.setTag(ObjectPages.dirtyTag, at: index)
      return true
    }
    if isNew { Counters.add(1, to: Counters.dirtyPages) }
  }

  /// Whether a page waits to be written back.
  public var isDirty: Bool { @export(interface) get { pages.withLock { $0.tree.hasTag(ObjectPages.dirtyTag) } } }

  // MARK: Removing pages

  /// Takes the pages [start, end) out of the tree and hands each frame, with its reference, to `body`.
  func removePages(from start: UInt64, to end: UInt64, _ body: (PageFrameNumber) -> Void) {
    var position = start
    var removed = 0
    var dirty = 0
    while position < end {
      // In steps, so that the lock is not held long.
      let next: UInt64? = pages.withLock { pages in
        for _ in 0..<256 {
          guard let (index, _) = pages.tree.next(from: position), index < end else { return nil }
          if let (frame, wasDirty) = pages.remove(at: index) {
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
    }
    countPages(-removed)
    unpromisePages(removed)
    huge?.leaving.add(removed, ordering: .relaxed)
    Counters.add(-dirty, to: Counters.dirtyPages)
  }
}
