// Who sleeps on which futex: a fixed hash table of queues, each with its own lock (futex(7), futex(2)).
//
// A waiter enters the queue first and looks at the word afterwards, without the lock, because reading user memory may
// fault and sleep. A waker changes the word first and looks at the queue afterwards. So a waiter that still finds the
// expected value is in the queue already when a waker comes: no wake-up is lost. A waiter that finds another value and
// was woken meanwhile reports the wake-up, which then is as if it had come a moment later.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// The identity of a futex: memory that is shared between spaces is the same futex wherever it is mapped.
public struct FutexKey: Equatable, Sendable {
  /// The identity of the address space, or of the memory object.
  var object: UInt64
  /// The user address, or the offset in the object.
  var offset: UInt64

  init(object: UInt64, offset: UInt64) {
    self.object = object
    self.offset = offset
  }

  func bucket(of count: Int) -> Int {
    var hash = object &* 0x9e37_79b9_7f4a_7c15 ^ (offset >> 2) &* 0xff51_afd7_ed55_8ccd
    hash ^= hash >> 29
    return Int(truncatingIfNeeded: hash & UInt64(count - 1))
  }
}

/// A thread's place in a futex queue; every task has one, as it waits for one futex at a time.
@safe final class FutexWaiter {
  // SAFETY: the waiter is a part of its task, and out of every queue before the task ends.
  var thread: Unmanaged<Thread>?
  /// Guarded by the lock of the bucket in which the waiter is.
  var key = FutexKey(object: 0, offset: 0)
  var bitset: UInt32 = 0
  /// Keeps the object of a shared futex alive while its identity is in the queue.
  var holder: AnyObject?
  /// The bucket, -1 when the waiter is in none. A requeue moves it under the locks of both.
  let bucket = Atomic<Int>(-1)

  init() { unsafe thread = nil }

  var isQueued: Bool { bucket.load(ordering: .acquiring) >= 0 }
}

/// The queues.
struct FutexTable {
  static let bucketCount = 256

  private let buckets: [SpinLock<[FutexWaiter]>]

  init() {
    buckets = (0..<FutexTable.bucketCount).map { _ in SpinLock([FutexWaiter](), rank: .futex) }
  }

  /// Puts a waiter at the end of the queue of `key`.
  func enqueue(_ waiter: FutexWaiter, _ key: FutexKey, bitset: UInt32) {
    let index = key.bucket(of: FutexTable.bucketCount)
    buckets[index].withLock { queue in
      waiter.key = key
      waiter.bitset = bitset
      waiter.bucket.store(index, ordering: .releasing)
      queue.append(waiter)
    }
  }

  /// Takes a waiter out; false when a waker has done so before.
  func dequeue(_ waiter: FutexWaiter) -> Bool {
    while true {
      let index = waiter.bucket.load(ordering: .acquiring)
      guard index >= 0 else { return false }
      let result: Bool? = buckets[index].withLock { queue in
        // A requeue may have moved the waiter meanwhile: look again.
        guard waiter.bucket.load(ordering: .relaxed) == index else { return nil }
        queue.removeAll { $0 === waiter }
        waiter.bucket.store(-1, ordering: .releasing)
        return true
      }
      if let result { return result }
    }
  }

  /// Wakes up to `count` waiters of `key` whose bit sets meet `bitset`, the oldest first.
  func wake(_ key: FutexKey, count: Int, bitset: UInt32) -> Int {
    guard count > 0 else { return 0 }
    return buckets[key.bucket(of: FutexTable.bucketCount)].withLock { queue in
      FutexTable.wake(&queue, key, count, bitset)
    }
  }

  private static func wake(_ queue: inout [FutexWaiter], _ key: FutexKey, _ count: Int, _ bitset: UInt32) -> Int {
    if queue.isEmpty { return 0 }
    var woken = 0
    var index = 0
    while index < queue.count && woken < count {
      let waiter = queue[index]
      guard waiter.key == key, waiter.bitset & bitset != 0 else {
        index += 1
        continue
      }
      queue.remove(at: index)
      // The thread may go on, enter another queue, and even end, as soon as this is stored: it is kept alive until it
      // has been woken.
      // SAFETY: a waiter in a queue is a part of a living task.
      let thread = unsafe waiter.thread?.takeUnretainedValue()
      waiter.bucket.store(-1, ordering: .releasing)
      thread?.wake()
      woken += 1
    }
    return woken
  }

  /// Wakes up to `wakeCount` waiters of `from` and moves up to `moveCount` others to `to`.
  ///
  /// - Returns: how many were woken, and how many moved.
  func requeue(_ from: FutexKey, wakeCount: Int, to: FutexKey, moveCount: Int) -> (woken: Int, moved: Int) {
    let source = from.bucket(of: FutexTable.bucketCount)
    let target = to.bucket(of: FutexTable.bucketCount)
    let woken = wake(from, count: wakeCount, bitset: .max)
    guard moveCount > 0, from != to else { return (woken, 0) }
    if source == target {
      let moved = buckets[source].withLock { queue in
        var moved = 0
        for waiter in queue where waiter.key == from && moved < moveCount {
          waiter.key = to
          moved += 1
        }
        return moved
      }
      return (woken, moved)
    }
    // Two locks of one rank: the lower index first.
    let moved = buckets[min(source, target)].withLock { low in
      buckets[max(source, target)].withLock { high in
        source < target
          ? FutexTable.move(&low, from, &high, to, target, moveCount)
          : FutexTable.move(&high, from, &low, to, target, moveCount)
      }
    }
    return (woken, moved)
  }

  private static func move(
    _ source: inout [FutexWaiter], _ from: FutexKey, _ target: inout [FutexWaiter], _ to: FutexKey, _ targetIndex: Int,
    _ limit: Int
  ) -> Int {
    var moved = 0
    source.removeAll { waiter in
      guard waiter.key == from, moved < limit else { return false }
      waiter.key = to
      waiter.bucket.store(targetIndex, ordering: .releasing)
      target.append(waiter)
      moved += 1
      return true
    }
    return moved
  }

  /// How many waiters there are; for tests.
  var count: Int { buckets.reduce(0) { $0 + $1.withLock { $0.count } } }
}
