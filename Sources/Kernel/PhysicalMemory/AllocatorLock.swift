// The lock of the memory allocators. KernelCore's SpinLock is an object and comes from the heap; this one lies
// within memory that the allocator lays out itself, so it works before there is a heap.

import KernelCore
import Synchronization

/// A spin lock in place.
struct AllocatorLock: ~Copyable {
  private let held = Atomic<UInt32>(0)
  private let rank: LockRank

  init(_ rank: LockRank) { self.rank = rank }

  @inline(__always) func acquire() {
    LockOrder.acquiring(rank)
    if !held.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged { wait() }
    LockOrder.acquired(rank)
  }

  @inline(__always) func release() {
    LockOrder.released(rank)
    held.store(0, ordering: .releasing)
  }

  @inline(never) private func wait() {
    var spin = SpinWait()
    repeat {
      while held.load(ordering: .relaxed) != 0 { spin.pause() }
    } while !held.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
  }
}
