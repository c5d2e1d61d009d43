// Counts the spin locks that this CPU holds, and in debug builds checks the lock order (LockRank). The count is what
// `Thread.sleep` checks: nobody may sleep with a spin lock held.

import Machine

enum LockOrder {
  @inline(__always)
  static func acquired(_ rank: LockRank) {
    #if hasFeature(Embedded)
      CPU.adjustLockDepth(1)
    #endif
  }

  @inline(__always)
  static func released(_ rank: LockRank) {
    #if hasFeature(Embedded)
      CPU.adjustLockDepth(-1)
    #endif
  }
}
