// A sleeping lock that many readers or one writer hold. Writers are preferred: a reader waits while a writer waits, so
// that a stream of page faults cannot starve mmap.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// Shared or exclusive access to the state it owns, for sections that may sleep.
public final class SharedMutex<State> {
  private let lock: SharedSleepLock
  private var state: State

  public init(_ state: State, rank: LockRank) {
    self.state = state
    lock = SharedSleepLock(rank)
  }

  /// Runs `body` while no writer is inside. Not recursive: a waiting writer would deadlock the second entry.
  @inline(__always)
  public final func withReadLock<Result, Failure: Error>(
    _ body: (borrowing State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock.acquireShared()
    defer { lock.releaseShared() }
    return try body(state)
  }

  /// Runs `body` if no writer is inside or waits; nil otherwise. Never sleeps: it may be called with a spin lock held.
  @inline(__always)
  public final func withReadLockIfFree<Result, Failure: Error>(
    _ body: (borrowing State) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard lock.acquireSharedIfFree() else { return nil }
    defer { lock.releaseShared() }
    return try body(state)
  }

  /// Runs `body` alone.
  @inline(__always)
  public final func withWriteLock<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock.acquireExclusive()
    defer { lock.releaseExclusive() }
    return try body(&state)
  }
}

/// The lock itself.
public final class SharedSleepLock {
  // Bits 0–29 count the readers, bit 30 is the writer; waiting writers are counted apart.
  private let word = Atomic<UInt32>(0)
  private let waitingWriters = Atomic<UInt32>(0)
  private let readers = WaitQueue()
  private let writers = WaitQueue()
  private static let writerBit: UInt32 = 1 << 30

  private let rank: LockRank

  @export(interface)
  public init(_ rank: LockRank) { self.rank = rank }

  @inline(__always)
  public func acquireShared() {
    SleepLockOrder.acquiring(rank)
    if waitingWriters.load(ordering: .relaxed) != 0 || !tryShared() { waitShared() }
    SleepLockOrder.acquired(rank)
  }

  @inline(__always)
  public func acquireSharedIfFree() -> Bool {
    guard waitingWriters.load(ordering: .relaxed) == 0 && tryShared() else { return false }
    SleepLockOrder.acquired(rank)
    return true
  }

  @inline(__always)
  private func tryShared() -> Bool {
    var value = word.load(ordering: .relaxed)
    while value & Self.writerBit == 0 {
      let result = word.weakCompareExchange(expected: value, desired: value &+ 1, ordering: .acquiring)
      if result.exchanged { return true }
      value = result.original
    }
    return false
  }

  @inline(__always)
  public func releaseShared() {
    SleepLockOrder.released(rank)
    let value = word.subtract(1, ordering: .sequentiallyConsistent).newValue
    if value == 0, waitingWriters.load(ordering: .sequentiallyConsistent) != 0 { writers.wakeOne() }
  }

  @inline(__always)
  public func acquireExclusive() {
    SleepLockOrder.acquiring(rank)
    if !word.compareExchange(expected: 0, desired: Self.writerBit, ordering: .acquiring).exchanged { waitExclusive() }
    SleepLockOrder.acquired(rank)
  }

  @inline(__always)
  public func releaseExclusive() {
    SleepLockOrder.released(rank)
    word.store(0, ordering: .sequentiallyConsistent)
    if waitingWriters.load(ordering: .sequentiallyConsistent) != 0 { writers.wakeOne() }
    readers.wakeAll()
  }

  @export(interface)
  func waitShared() {
    try? readers.wait(.uninterruptible) { waitingWriters.load(ordering: .sequentiallyConsistent) == 0 && tryShared() }
  }

  @export(interface)
  func waitExclusive() {
    waitingWriters.add(1, ordering: .sequentiallyConsistent)
    try? writers.wait(.uninterruptible, exclusive: true) {
      word.compareExchange(expected: 0, desired: Self.writerBit, ordering: .sequentiallyConsistent).exchanged
    }
    waitingWriters.subtract(1, ordering: .sequentiallyConsistent)
  }
}
