// A spin lock that owns its data: the state can be reached only with the lock held. The kernel is never preempted in
// kernel mode, so a holder runs until it releases; on a machine under a hypervisor the CPU itself may lose its time
// slice, which is why long spins tell the machine (`SpinWait`).

import Synchronization

/// Mutual exclusion between CPUs for short critical sections that do not sleep.
public final class SpinLock<State> {
  private let held = Atomic<Bool>(false)
  private var state: State
  private let rank: LockRank

  public init(_ state: State, rank: LockRank) {
    self.state = state
    self.rank = rank
  }

  /// Runs `body` with the lock held.
  ///
  /// - Locks: `rank`; everything the caller holds must rank higher.
  @inline(__always)
  public final func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    acquire()
    defer { release() }
    return try body(&state)
  }

  /// Runs `body` if the lock is free now; nil when another CPU holds it.
  @inline(__always)
  public final func withLockIfFree<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard held.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else { return nil }
    LockOrder.acquired(rank)
    defer { release() }
    return try body(&state)
  }

  @inline(__always)
  private func acquire() {
    LockOrder.acquiring(rank)
    if !held.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged { wait() }
    LockOrder.acquired(rank)
  }

  @inline(__always)
  private func release() {
    LockOrder.released(rank)
    held.store(false, ordering: .releasing)
  }

  @inline(never)
  private func wait() {
    var spin = SpinWait()
    repeat {
      while held.load(ordering: .relaxed) { spin.pause() }
    } while !held.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
  }
}
