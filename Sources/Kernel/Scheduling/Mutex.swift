// A sleeping lock with one owner that owns its data. Uncontended it costs one atomic operation each way; a contended
// one spins for a moment (the owner usually runs on another CPU and is about to release), then sleeps.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// Mutual exclusion for critical sections that may sleep.
public final class Mutex<State> {
  private let lock: SleepLock
  fileprivate var state: State

  public init(_ state: State, rank: LockRank) {
    self.state = state
    lock = SleepLock(rank)
  }

  /// Runs `body` with the lock held. Not recursive: a thread that takes it twice is a kernel bug and panics.
  @inline(__always)
  public final func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock.acquire()
    defer { lock.release() }
    return try body(&state)
  }
}

extension Mutex {
  /// Runs `body` without the lock: for the end of its owner, when nobody else can have it.
  @inline(__always)
  public final func withLastUse(_ body: (inout State) -> Void) { body(&state) }
}

/// The lock itself, for the cases in which the section is not a closure.
public final class SleepLock {
  /// 0: free, 1: held, 2: held with waiters.
  private let word = Atomic<UInt32>(0)
  private let waiters = WaitQueue()
  private var owner: ObjectIdentifier?
  private let rank: LockRank

  @export(interface)
  public init(_ rank: LockRank) { self.rank = rank }

  @inline(__always)
  public func acquire() {
    SleepLockOrder.acquiring(rank)
    if !word.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged { wait() }
    SleepLockOrder.acquired(rank)
    #if hasFeature(Embedded)
      owner = ObjectIdentifier(Thread.current)
    #endif
  }

  @inline(__always)
  public func tryAcquire() -> Bool {
    guard word.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged else { return false }
    SleepLockOrder.acquired(rank)
    #if hasFeature(Embedded)
      owner = ObjectIdentifier(Thread.current)
    #endif
    return true
  }

  @inline(__always)
  public func release() {
    owner = nil
    SleepLockOrder.released(rank)
    if word.exchange(0, ordering: .sequentiallyConsistent) == 2 { waiters.wakeOne() }
  }

  @export(interface)
  func wait() {
    if owner == ObjectIdentifier(Thread.current) { panic("a thread locks a mutex that it owns") }
    for spin in 0..<(CPU.count > 1 ? 100 : 0) {
      if word.load(ordering: .relaxed) == 0,
        word.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
      {
        return
      }
      machine_pause(UInt64(spin))
    }
    // Uninterruptible and without a deadline, so the wait cannot fail.
    try? waiters.wait(.uninterruptible, exclusive: true) {
      word.exchange(2, ordering: .sequentiallyConsistent) == 0
    }
  }
}
