// Where threads wait for something to happen. A queue knows nothing of the condition: the waiter tests it, and the code
// that changes it wakes the queue. Entries can also be observers that do something else than wake a thread (epoll).

import DataStructures
import KernelCore
import LinuxABI
import Synchronization

/// A waiter on a queue. The plain one wakes the thread that made it.
open class WaitEntry {
  public final let thread: Thread
  /// Whether a wake-up of one waiter stops here; observers see every event.
  public final let isExclusive: Bool
  fileprivate final var links = ListLinks<WaitEntry>()
  /// Set by a wake-up, cleared by the waiter before it looks at its condition again: the store must be visible before
  /// that look, or a waker that saw the old value would pass it over.
  fileprivate final let wasWoken = Atomic<Bool>(false)

  @export(interface)
  public init(exclusive: Bool = false) {
    thread = Thread.current
    isExclusive = exclusive
  }

  /// Called when the queue is woken, with the queue's lock held: it must not sleep, nor touch the queue.
  open func wake() { thread.wake() }
}

/// The place of an entry in its queue: it enters and leaves in constant time, however many wait.
private enum Waiters: ListMembership {
  static func links(of entry: WaitEntry) -> ListLinks<WaitEntry> { entry.links }
  static func setLinks(_ links: ListLinks<WaitEntry>, of entry: WaitEntry) { entry.links = links }
}

/// A queue of waiters, first come first served. An entry is in one queue at a time.
public final class WaitQueue {
  private let entries = SpinLock(IntrusiveList<Waiters>(), rank: .waitQueue)
  /// How many entries there are, readable without the lock: waking an empty queue costs one load.
  private let count = Atomic<Int>(0)

  @export(interface)
  public init() {}

  /// Whether no thread waits.
  public var isEmpty: Bool { count.load(ordering: .sequentiallyConsistent) == 0 }

  /// Sleeps until `condition` holds. It is tested before sleeping and after each wake-up and may take spin locks.
  ///
  /// - Throws: ETIMEDOUT at `deadline`, ERESTARTSYS when a signal is pending that `mode` respects.
  @export(interface)
  public func wait(
    _ mode: SleepMode = .interruptible, until deadline: Instant = .never, exclusive: Bool = false,
    _ condition: () -> Bool
  ) throws(Errno) {
    if condition() { return }
    let entry = WaitEntry(exclusive: exclusive)
    add(entry)
    defer { remove(entry) }
    do throws(Errno) {
      try Thread.sleep(mode, until: deadline) {
        if condition() { return true }
        entry.wasWoken.store(false, ordering: .sequentiallyConsistent)
        return condition()
      }
    } catch {
      // A wake-up meant for one waiter must not die with one that gives up.
      if exclusive && entry.wasWoken.load(ordering: .sequentiallyConsistent) { wakeOne() }
      throw error
    }
  }

  /// Puts `entry` at the end of the queue.
  @export(interface)
  public func add(_ entry: WaitEntry) {
    entries.withLock { entries in
      guard !entry.links.isLinked else { return }
      entries.append(entry)
      count.store(entries.count, ordering: .sequentiallyConsistent)
    }
  }

  /// Takes `entry` out; nothing happens when it isn't in the queue. Its `wake` is not called after the return.
  @export(interface)
  public func remove(_ entry: WaitEntry) {
    entries.withLock { entries in
      guard entry.links.isLinked else { return }
      entries.remove(entry)
      count.store(entries.count, ordering: .sequentiallyConsistent)
    }
  }

  /// Wakes all waiters that are not exclusive and the first exclusive one; whether there was an exclusive one.
  @export(interface) @discardableResult
  public func wakeOne() -> Bool { wake(exclusive: 1) > 0 }

  /// Wakes all waiters.
  @export(interface)
  public func wakeAll() { _ = wake(exclusive: .max) }

  /// Wakes all waiters that are not exclusive and up to `limit` exclusive ones; how many of these there were.
  @export(interface) @discardableResult
  public func wake(exclusive limit: Int) -> Int {
    if isEmpty { return 0 }
    return entries.withLock { entries in
      var woken = 0
      entries.visit { entry in
        if entry.isExclusive {
          if woken == limit || entry.wasWoken.load(ordering: .sequentiallyConsistent) { return true }
          woken += 1
        }
        entry.wasWoken.store(true, ordering: .sequentiallyConsistent)
        entry.wake()
        return true
      }
      return woken
    }
  }
}
