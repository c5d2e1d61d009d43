// Write-back: changed pages go to the store. The tags of the tree drive it; see ObjectPages for the states of a page.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension MemoryObject {
  /// Writes the pages of a range of bytes that are changed now to the store, and waits until they and those that others
  /// are storing already are there.
  ///
  /// - Throws: the store's errors; pages that were not written stay dirty.
  @export(interface)
  public func writeBack(_ range: Range<UInt64> = 0..<UInt64.max) throws(Errno) {
    guard hasStore, !range.isEmpty else { return }
    let first = range.lowerBound / pageSize
    let last = (range.upperBound &- 1) / pageSize
    let errorsBefore = pages.withLock { $0.writeErrors }
    choose(first, last)
    var index = first
    while let batch = takeChosen(from: index, through: last) {
      // The tag went first, now the right to write: a write in between is in the frame before it is stored, one after
      // faults and sets the tag again.
      protectPages(batch.start, batch.start &+ UInt64(batch.frames.count))
      var failure: Errno?
      do throws(Errno) { try writeToStore(batch.start, batch.frames) } catch { failure = error }
      finish(batch, failure)
      if let failure { throw failure }
      index = batch.start &+ UInt64(batch.frames.count)
    }
    waitForWriteBack(first, last)
    try throwWriteError(since: errorsBefore)
  }

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

  private struct WriteBatch {
    var start: UInt64 = 0
    var frames: [PageFrameNumber] = []
  }

  /// The next run of chosen pages, at most 128 KiB, in flight from now on, with a reference each; nil when none is left.
  private func takeChosen(from start: UInt64, through last: UInt64) -> WriteBatch? {
    var batch = WriteBatch()
    batch.frames.reserveCapacity(Self.largestReadWindow)
    while true {
      let inFlight = pages.withLock { collect(&batch, $0.tree, from: start, through: last) }
      Counters.add(-batch.frames.count, to: Counters.dirtyPages)
      if !batch.frames.isEmpty { return batch }
      // Two writes of a page must not overtake each other.
      guard let inFlight else { return nil }
      waitForWriteBack(inFlight, inFlight)
    }
  }

  /// Fills an empty batch; else, the page that has to be waited for.
  private func collect(
    _ batch: inout WriteBatch, _ tree: RadixTree, from start: UInt64, through last: UInt64
  ) -> UInt64? {
    while let (index, value) = tree.next(from: start, tagged: ObjectPages.chosenTag), index <= last {
      if tree.hasTag(ObjectPages.writeBackTag, at: index) { return index }
      // Somebody else has come before us.
      guard tree.clearTag(ObjectPages.dirtyTag, at: index) else {
        tree.clearTag(ObjectPages.chosenTag, at: index)
        continue
      }
      batch.start = index
      take(&batch, tree, index, value)
      break
    }
    guard !batch.frames.isEmpty else { return nil }
    var next = batch.start
    while next < last, batch.frames.count < Self.largestReadWindow {
      next &+= 1
      guard tree.hasTag(ObjectPages.chosenTag, at: next), !tree.hasTag(ObjectPages.writeBackTag, at: next),
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
    batch.frames.append(frame)
  }

  /// The batch is not in flight any more: clean, or dirty again.
  private func finish(_ batch: WriteBatch, _ failure: Errno?) {
    var dirty = 0
    pages.withLock { pages in
      for (offset, frame) in batch.frames.enumerated() {
        let index = batch.start &+ UInt64(offset)
        // Truncation may have taken the page away, and another may be in its place.
        guard case .ready(frame) = pages.find(index) else { continue }
        pages.tree.clearTag(ObjectPages.writeBackTag, at: index)
        if failure != nil, pages.tree.setTag(ObjectPages.dirtyTag, at: index) { dirty += 1 }
      }
      if let failure {
        pages.writeErrors += 1
        pages.lastWriteError = failure
      }
    }
    Counters.add(dirty, to: Counters.dirtyPages)
    ready.wakeAll()
    for frame in batch.frames { Frames.release(frame) }
  }

  /// Waits until the pages of a range of bytes that are being stored are there.
  ///
  /// - Throws: the store's errors of that time.
  @export(interface)
  public func waitForWriteBack(_ range: Range<UInt64>) throws(Errno) {
    guard hasStore, !range.isEmpty else { return }
    let errorsBefore = pages.withLock { $0.writeErrors }
    waitForWriteBack(range.lowerBound / pageSize, (range.upperBound &- 1) / pageSize)
    try throwWriteError(since: errorsBefore)
  }

  private func throwWriteError(since errorsBefore: Int) throws(Errno) {
    let failure: Errno? = pages.withLock { $0.writeErrors == errorsBefore ? nil : $0.lastWriteError }
    if let failure { throw failure }
  }

  /// Returns when none of the pages is in flight.
  func waitForWriteBack(_ first: UInt64, _ last: UInt64) {
    func isStored() -> Bool {
      !pages.withLock { $0.hasTag(ObjectPages.writeBackTag, from: first, through: last) }
    }
    if isStored() { return }
    // Uninterruptible and without a deadline: it cannot fail. Whoever stores the pages wakes us.
    try? ready.wait(.uninterruptible) { isStored() }
  }
}
