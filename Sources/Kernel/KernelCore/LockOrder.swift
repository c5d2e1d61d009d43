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
      count(rank, 1)
    #endif
  }

  @inline(__always)
  static func released(_ rank: LockRank) {
    #if hasFeature(Embedded)
      CPU.adjustLockDepth(-1)
    #endif
    #if LOCK_ORDER
      count(rank, -1)
    #endif
  }

  #if LOCK_ORDER
    // A CPU writes its own only.
    /// How many locks of each rank each CPU holds.
    private nonisolated(unsafe) static var counts = InlineArray<16_384, Int8>(repeating: 0)
    /// The ranks of which it holds any, a bit each.
    private nonisolated(unsafe) static var held = InlineArray<256, UInt64>(repeating: 0)

    private static func count(_ rank: LockRank, _ change: Int8) {
      let place = CPU.currentIndex << 8 | Int(rank.order)
      counts[place] += change
      let bit: UInt64 = 1 << UInt64(place & 63)
      if counts[place] > 0 { held[place >> 6] |= bit } else { held[place >> 6] &= ~bit }
    }

    private static func check(_ rank: LockRank) {
      let place = CPU.currentIndex << 8 | Int(rank.order)
      let bit: UInt64 = 1 << UInt64(place & 63)
      var wrong = held[place >> 6] & (rank.nests ? bit - 1 : bit | (bit - 1))
      for lower in CPU.currentIndex << 2..<place >> 6 { wrong |= held[lower] }
      guard wrong == 0 else { report(rank) }
    }

    private static func report(_ rank: LockRank) -> Never {
      let first = CPU.currentIndex << 8
      let lowest = (0...Int(rank.order)).first { counts[first | $0] > 0 } ?? 0
      panic { line in
        line.append("a lock of rank ")
        line.append(decimal: Int(rank.order))
        line.append(" is taken while one of rank ")
        line.append(decimal: lowest)
        line.append(" is held (LockRank.swift)")
      }
    }
  #endif
}
