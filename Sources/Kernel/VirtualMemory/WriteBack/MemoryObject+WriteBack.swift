// Write-back: changed pages go to the store, for those who wait for it (fsync, msync, sync) and for the flusher. The tags of the
// tree drive it; see ObjectPages for the states of a page. Nothing here allocates memory: it is what makes some free.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// A run of pages that is being stored, with a reference to each.
struct WriteBatch {
  static var capacity: Int { 32 }
  var start: UInt64 = 0
  private(set) var count = 0
  /// The first `count` are meant.
  var frames = InlineArray<32, PageFrameNumber>(repeating: PageFrameNumber(0))

  var end: UInt64 { start &+ UInt64(count) }

  mutating func append(_ frame: PageFrameNumber) {
    frames[count] = frame
    count += 1
  }
}

extension MemoryObject {
  /// Who learns of an error: every open file once, at its next fsync(2), or the caller alone, whose write it is.
  public enum ErrorAudience { case everybody, caller }

  /// Writes the pages of a range of bytes that are changed now to the store, and waits until they and those that others
  /// are storing already are there.
  ///
  /// - Throws: the store's errors; pages that were not written stay dirty, until the flusher has failed too.
  @export(interface)
  public func writeBack(
    _ range: Range<UInt64> = 0..<UInt64.max, tellingErrorsTo audience: ErrorAudience = .everybody
  ) throws(Errno) {
    guard hasStore, !range.isEmpty else { return }
    let first = range.lowerBound / pageSize
    let last = (range.upperBound &- 1) / pageSize
    let errorsBefore = writeErrors.count
    choose(first, last)
    var index = first
    while let batch = takeBatch(ObjectPages.chosenTag, from: index, through: last, .waitFor) {
      var failure: Errno?
      store(batch, whenFailing: .keepDirty, tellingErrorsTo: audience, &failure)
      if let failure { throw failure }
      index = batch.end
    }
    waitForWriteBack(first, last)
    if writeErrors.count != errorsBefore { throw writeErrors.last }
  }

  /// Writes about `limit` dirty pages for the flusher, going on where it stopped the last time.
  ///
  /// - Returns: how many are not dirty any more.
  func flush(limit: Int) -> Int {
    var position = pages.withLock { $0.flushPosition }
    var hasWrapped = position == 0
    var cleaned = 0
    while cleaned < limit {
      guard let batch = takeBatch(ObjectPages.dirtyTag, from: position, through: .max, .passOver) else {
        if hasWrapped { break }
        (hasWrapped, position) = (true, 0)
        continue
      }
      var failure: Errno?
      cleaned += store(batch, whenFailing: .giveUp, tellingErrorsTo: .everybody, &failure)
      position = batch.end
    }
    pages.withLock { $0.flushPosition = position }
    return cleaned
  }

  /// Waits until the pages of a range of bytes that are being stored are there.
  ///
  /// - Throws: the store's errors of that time.
  @export(interface)
  public func waitForWriteBack(_ range: Range<UInt64>) throws(Errno) {
    guard hasStore, !range.isEmpty else { return }
    let errorsBefore = writeErrors.count
    waitForWriteBack(range.lowerBound / pageSize, (range.upperBound &- 1) / pageSize)
    if writeErrors.count != errorsBefore { throw writeErrors.last }
  }

  /// Returns when none of the pages is in flight.
  func waitForWriteBack(_ first: UInt64, _ last: UInt64) {
    func isStored() -> Bool {
      !pages.withLock { $0.hasTag(ObjectPages.writeBackTag, from: first, through: last) }
    }
    if isStored() { return }
    // Uninterruptible and without a deadline: it cannot fail. The thread that stores the pages wakes this one.
    try? ready.wait(.uninterruptible) { isStored() }
  }

  /// Whether `frame` is still the page at `index`: for stores that are about to write it, after a truncation may have
  /// come in between.
  @export(interface)
  public func shows(_ frame: PageFrameNumber, at index: UInt64) -> Bool {
    pages.withLock { $0.find(index) == .ready(frame) }
  }

  // MARK: Batches

  /// Chooses the pages that are dirty now.
  private func choose(_ first: UInt64, _ last: UInt64) {
    var position: UInt64? = first
    while position != nil {
      // In steps, so that the lock is not held long.
      pages.withLock {
        _ = $0.tree.copyTag(
          ObjectPages.dirtyTag, to: ObjectPages.chosenTag, from: &position, through: last, limit: 1024)
      }
    }
  }

  /// Two writes of a page must not overtake each other: what to do about a page that is in flight already.
  private enum InFlight { case waitFor, passOver }

  /// The next run of dirty pages with the tag, in flight from now on; nil when none is left.
  private func takeBatch(
    _ tag: RadixTreeTag, from start: UInt64, through last: UInt64, _ inFlight: InFlight
  ) -> WriteBatch? {
    var start = start
    while true {
      var batch = WriteBatch()
      let obstacle = pages.withLock { collect(&batch, $0.tree, tag, from: start, through: last) }
      if batch.count > 0 {
        Counters.add(batch.count, to: Counters.writeBackPages)
        Counters.add(-batch.count, to: Counters.dirtyPages)
        return batch
      }
      guard let obstacle else { return nil }
      switch inFlight {
      case .waitFor: waitForWriteBack(obstacle, obstacle)
      case .passOver: start = obstacle &+ 1
      }
    }
  }

  /// Fills an empty batch; else, the page in flight that stands in the way.
  private func collect(
    _ batch: inout WriteBatch, _ tree: RadixTree, _ tag: RadixTreeTag, from start: UInt64, through last: UInt64
  ) -> UInt64? {
    while let (index, value) = tree.next(from: start, tagged: tag), index <= last {
      if tree.hasTag(ObjectPages.writeBackTag, at: index) { return index }
      // Another thread was first.
      guard tree.clearTag(ObjectPages.dirtyTag, at: index) else {
        tree.clearTag(ObjectPages.chosenTag, at: index)
        continue
      }
      batch.start = index
      take(&batch, tree, index, value)
      break
    }
    guard batch.count > 0 else { return nil }
    var next = batch.start
    while next < last, batch.count < WriteBatch.capacity {
      next &+= 1
      guard tree.hasTag(tag, at: next), !tree.hasTag(ObjectPages.writeBackTag, at: next),
        tree.clearTag(ObjectPages.dirtyTag, at: next)
      else { break }
      take(&batch, tree, next, tree[next])
    }
    return nil
  }

  private func take(_ batch: inout WriteBatch, _ tree: RadixTree, _ index: UInt64, _ value: UInt) {
    tree.clearTag(ObjectPages.chosenTag, at: index)
    tree.setTag(ObjectPages.writeBackTag, at: index)
    let frame = ObjectPages.frame(value)
    Frames.retain(frame)
    batch.append(frame)
  }

  // MARK: Storing

  /// What becomes of pages that cannot be written. The flusher gives them up, or nobody could ever use their memory for
  /// something else.
  private enum FailurePolicy { case keepDirty, giveUp }

  /// Stores a batch and gives up its references; returns how many of its pages are not dirty any more.
  @discardableResult
  private func store(
    _ batch: WriteBatch, whenFailing policy: FailurePolicy, tellingErrorsTo audience: ErrorAudience,
    _ failure: inout Errno?
  ) -> Int {
    // The tag went first, now the right to write: a write in between is in the frame before it is stored, one after
    // faults and sets the tag again.
    protectPages(batch.start, batch.end)
    do throws(Errno) { try writeToStore(batch) } catch {
      failure = error
      if audience == .everybody { writeErrors.note(error) }
    }
    let isGivenUp = failure.map { policy == .giveUp && !Self.mayPass($0) } ?? false
    return finish(batch, keepingDirty: failure != nil && !isGivenUp, isStored: failure == nil)
  }

  /// Errors that say nothing about the next attempt.
  private static func mayPass(_ error: Errno) -> Bool { error == .ENOMEM || error == .EINTR || error == .EAGAIN }

  /// The batch is not in flight any more.
  private func finish(_ batch: WriteBatch, keepingDirty: Bool, isStored: Bool) -> Int {
    var dirty = 0
    let hold: (any PageStore)? = pages.withLock { pages in
      for place in 0..<batch.count {
        let index = batch.start &+ UInt64(place)
        // Truncation may have taken the page away, and another may be in its place.
        guard case .ready(batch.frames[place]) = pages.find(index) else { continue }
        pages.tree.clearTag(ObjectPages.writeBackTag, at: index)
        if keepingDirty, setDirty(index, &pages) { dirty += 1 }
      }
      return leaveDirtyObjects(&pages)
    }
    Counters.add(dirty, to: Counters.dirtyPages)
    Counters.add(-batch.count, to: Counters.writeBackPages)
    if isStored { Counters.add(batch.count, to: Counters.written) }
    if !keepingDirty { Counters.add(batch.count, to: Counters.cleaned) }
    ready.wakeAll()
    for place in 0..<batch.count {
      let frame = batch.frames[place]
      // Reclaim came by while it was dirty, and is the next to see it.
      if !keepingDirty, frame.frame.flags.contains(.wantedClean) { PageLists.moveToEnd(frame) }
      Frames.release(frame)
    }
    withExtendedLifetime(hold) {}
    return keepingDirty ? batch.count - dirty : batch.count
  }

  // MARK: Becoming dirty and clean

  /// The page at `index` differs from the store from now on.
  func markDirty(_ index: UInt64) {
    guard hasStore else { return }
    let isNew = pages.withLock { pages in
      // A page that is being read was truncated away since it was written to.
      guard case .ready = pages.find(index) else { return false }
      return setDirty(index, &pages)
    }
    guard isNew else { return }
    Thread.current.transfers.dirtied &+= pageSize
    DirtyLimits.didDirty()
  }

  private func setDirty(_ index: UInt64, _ pages: inout ObjectPages) -> Bool {
    guard pages.tree.setTag(ObjectPages.dirtyTag, at: index) else { return false }
    if !pages.isListed { pages.isListed = enterDirtyObjects() }
    return true
  }

  /// Takes the object off the list of dirty ones if none of its pages is; what is returned is dropped without the lock.
  func leaveDirtyObjects(_ pages: inout ObjectPages) -> (any PageStore)? {
    guard pages.isListed, !pages.tree.hasTag(ObjectPages.dirtyTag) else { return nil }
    pages.isListed = false
    return DirtyObjects.remove(self)
  }

  /// Whether a page waits to be written back.
  public var isDirty: Bool { @export(interface) get { pages.withLock { $0.tree.hasTag(ObjectPages.dirtyTag) } } }

  /// Whether the store lacks something: a page is dirty, or on its way.
  public var hasUnstoredPages: Bool {
    @export(interface) get {
      pages.withLock { $0.tree.hasTag(ObjectPages.dirtyTag) || $0.tree.hasTag(ObjectPages.writeBackTag) }
    }
  }

  /// Which of the 64 pages from `first` on differ from the store, a bit for each.
  func unstored(from first: UInt64) -> UInt64 {
    pages.withLock { pages in
      guard pages.tree.hasTag(ObjectPages.dirtyTag) || pages.tree.hasTag(ObjectPages.writeBackTag) else { return 0 }
      var result: UInt64 = 0
      for index in 0..<64 as Range<UInt64> where pages.isUnstored(first &+ index) { result |= 1 << index }
      return result
    }
  }
}
