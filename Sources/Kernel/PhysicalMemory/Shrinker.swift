// What rooms above register so that memory they could do without comes back when it is short: the page cache, the
// caches of file names and inodes. The allocator knows nothing about them (they lie above the scheduler); it calls them
// on behalf of callers who may sleep.

import KernelCore
import Synchronization

/// A cache that can give up memory.
public protocol Shrinker: AnyObject {
  /// Frees about this many page frames, if it can; returns how many it freed. May sleep.
  func reclaim(frames: Int) -> Int
  /// Gives up all that is not in use (/proc/sys/vm/drop_caches); caches of pages have a way of their own. May sleep.
  func dropAll()
}

extension Shrinker {
  public func dropAll() {}
}

/// All shrinkers.
public enum Shrinkers {
  private static let registered = SpinLock<[any Shrinker]>([], rank: .shrinkers)
  private static let isRunning = Atomic<Bool>(false)
  // Until something is registered, not even the lock above is made: it comes from the heap.
  private static let isEmpty = Atomic<Bool>(true)

  /// Adds a cache, which cannot be removed. Caches are asked in the order in which they were added.
  @export(interface) public static func register(_ shrinker: any Shrinker) {
    registered.withLock { $0.append(shrinker) }
    isEmpty.store(false, ordering: .releasing)
  }

  /// Empties the caches of objects.
  @export(interface) public static func dropAll() {
    for shrinker in registered.withLock({ $0 }) { shrinker.dropAll() }
  }

  /// Asks the caches for `frames` page frames; returns how many were freed. A call from within a shrinker, and one
  /// while another thread is reclaiming, returns 0. May sleep.
  @export(interface) public static func reclaim(frames: Int) -> Int { reclaimIfFree(frames: frames) ?? 0 }

  /// The same; nil while another thread is reclaiming: what it finds may be enough for others too.
  @export(interface) public static func reclaimIfFree(frames: Int) -> Int? {
    LockOrder.mayWait()
    guard !isEmpty.load(ordering: .acquiring) else { return 0 }
    guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else { return nil }
    defer { isRunning.store(false, ordering: .releasing) }
    var freed = 0
    for shrinker in registered.withLock({ $0 }) where freed < frames {
      freed += max(0, shrinker.reclaim(frames: frames - freed))
    }
    return freed
  }
}
