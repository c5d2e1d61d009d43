// The order of sleeping locks: a thread keeps the ranks of those that it holds, as a CPU does those of spin locks, in builds that
// check the order (KernelCore's LockOrder).

import KernelCore

enum SleepLockOrder {
  /// A thread is about to wait for a sleeping lock.
  @inline(__always)
  static func acquiring(_ rank: LockRank) {
    #if LOCK_ORDER
      LockOrder.mayWait()
      Thread.current.heldLocks.check(rank)
    #endif
  }

  @inline(__always)
  static func acquired(_ rank: LockRank) {
    #if LOCK_ORDER
      Thread.current.heldLocks.count(rank, 1)
    #endif
  }

  @inline(__always)
  static func released(_ rank: LockRank) {
    #if LOCK_ORDER
      Thread.current.heldLocks.count(rank, -1)
    #endif
  }
}
