// Counts the spin locks that this CPU holds: nobody may sleep with one held (`Thread.sleep` looks). Debug builds, which
// unit tests are, and images built with LOCK_ORDER=1 also keep their ranks and stop at the first lock that is taken out of
// order (LockRank): a deadlock which may come once in a million runs is found the first time its two locks meet.

import Machine

enum LockOrder {
  /// A CPU is about to wait for a lock.
  @inline(__always)
  static func acquiring(_ rank: LockRank) {
    #if LOCK_ORDER
      check(rank)
    #endif
  }

  @inline(__always)
  static func acquired(_ rank: LockRank) {
    #if hasFeature(Embedded)
      CPU.adjustLockDepth(1)
    #endif
    #if LOCK_ORDER
      held[CPU.currentIndex * 256 + Int(rank.order)] += 1
    #endif
  }

  @inline(__always)
  static func released(_ rank: LockRank) {
    #if hasFeature(Embedded)
      CPU.adjustLockDepth(-1)
    #endif
    #if LOCK_ORDER
      held[CPU.currentIndex * 256 + Int(rank.order)] -= 1
    #endif
  }

  #if LOCK_ORDER
    /// How many locks of each rank each CPU holds. A CPU writes its own counts only.
    private nonisolated(unsafe) static var held = InlineArray<16_384, UInt8>(repeating: 0)

    @inline(never)
    private static func check(_ rank: LockRank) {
      let first = CPU.currentIndex * 256
      let last = Int(rank.order)
      for order in 0...last where held[first + order] > 0 && (order < last || !rank.nests) {
        panic("a lock of rank \(last) is taken while one of rank \(order) is held (LockRank.swift)")
      }
    }
  #endif
}
