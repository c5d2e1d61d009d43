// Counts the spin locks that this CPU holds: a thread must not sleep with one held (`Thread.sleep` looks). Debug builds, which
// unit tests are, and images built with LOCK_ORDER=1 also keep the ranks of all locks, and stop at the first one that is taken
// out of order (LockRank), and at the first wait under a spin lock: a deadlock which may come once in a million runs is found
// the first time its two locks meet.

public enum LockOrder {
  // MARK: Spin locks

  /// A CPU is about to wait for a spin lock.
  @inline(__always)
  public static func acquiring(_ rank: LockRank) {
    #if LOCK_ORDER
      held[CPU.currentIndex].check(rank)
    #endif
  }

  @inline(__always)
  public static func acquired(_ rank: LockRank) {
    CPU.adjustLockDepth(1)
    #if LOCK_ORDER
      held[CPU.currentIndex].count(rank, 1)
    #endif
  }

  @inline(__always)
  public static func released(_ rank: LockRank) {
    CPU.adjustLockDepth(-1)
    #if LOCK_ORDER
      held[CPU.currentIndex].count(rank, -1)
    #endif
  }

  // MARK: Waiting

  /// The caller may sleep, or wait for a process of the host, now or another time: it holds no spin lock.
  @inline(__always)
  public static func mayWait() {
    #if LOCK_ORDER
      if let lowest = held[CPU.currentIndex].lowest { reportWait(lowest) }
    #endif
  }

  /// The caller takes memory: it may take the locks for it, now or another time.
  @inline(__always)
  public static func allocates() {
    #if LOCK_ORDER
      held[CPU.currentIndex].check(.slab)
    #endif
  }

  #if LOCK_ORDER
    // A CPU uses its own only.
    private nonisolated(unsafe) static var held = InlineArray<64, HeldLocks>(repeating: HeldLocks())

    @inline(never)
    fileprivate static func report(_ rank: LockRank, _ lowest: Int) -> Never {
      panic { line in
        line.append("a lock of rank ")
        line.append(decimal: Int(rank.order))
        line.append(" is taken while one of rank ")
        line.append(decimal: lowest)
        line.append(" is held (LockRank.swift)")
      }
    }

    @inline(never)
    private static func reportWait(_ lowest: Int) -> Never {
      panic { line in
        line.append("a wait with a spin lock of rank ")
        line.append(decimal: lowest)
        line.append(" held (LockRank.swift)")
      }
    }
  #endif
}

#if LOCK_ORDER
  /// The locks that a CPU holds, or a thread, by their ranks.
  public struct HeldLocks {
    private var counts = InlineArray<256, Int8>(repeating: 0)
    /// The ranks of which there are any, a bit each.
    private var present = InlineArray<4, UInt64>(repeating: 0)

    public init() {}

    /// The lowest rank of them.
    public var lowest: Int? {
      for word in 0..<4 where present[word] != 0 { return word << 6 | present[word].trailingZeroBitCount }
      return nil
    }

    /// Panics if a lock of this rank is not to be taken by who holds these.
    public func check(_ rank: LockRank) {
      if let lowest, lowest < rank.order || (lowest == rank.order && !rank.nests) { LockOrder.report(rank, lowest) }
    }

    public mutating func count(_ rank: LockRank, _ change: Int8) {
      let place = Int(rank.order)
      counts[place] &+= change
      let bit: UInt64 = 1 << UInt64(place & 63)
      if counts[place] > 0 { present[place >> 6] |= bit } else { present[place >> 6] &= ~bit }
    }
  }
#endif
