// The lock of the memory allocators. KernelCore's SpinLock is an object and comes from the heap; this one is a word
// within memory that the allocator lays out itself, so it works before there is a heap.

import KernelCore
import Synchronization

/// A spin lock in place. Zeroed memory is a free lock.
struct AllocatorLock: ~Copyable {
  private let held: Atomic<UInt32>

  init() { held = Atomic(0) }

  @inline(__always) func acquire() {
    if !held.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged { wait() }
  }

  @inline(__always) func release() { held.store(0, ordering: .releasing) }

  @inline(never) private func wait() {
    var spin = SpinWait()
    repeat {
      while held.load(ordering: .relaxed) != 0 { spin.pause() }
    } while !held.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
  }
}
