// Giving back page-cache memory: a clock over the objects that have a store. An object that was used since the hand came
// by last is spared once; then its clean pages go, first those that no program maps, in a second round the mapped ones.

import KernelCore
import PhysicalMemory
import Synchronization

/// The page cache's shrinker.
public final class Reclaim: Shrinker {
  @safe private struct Clock {
    /// Objects with a store, not retained: one that ends leaves the list first, under the lock.
    var objects: [Unmanaged<MemoryObject>] = unsafe []
    var hand = 0
  }
  private static let clock = SpinLock(Clock(), rank: .reclaim)

  /// Clean pages that are left to the programs. Without them a machine whose memory is full of private pages would
  /// read the same few pages of program text for ever, each evicted for the next, and nothing would ever fail: that
  /// is the time for the out-of-memory policy.
  private let floor: Int

  init(floor: Int = 0) { self.floor = floor }

  /// Makes the page cache give back memory when it is short, all but 1/32 of memory or 8 MiB. Called once, at boot.
  @export(interface)
  public static func initialize() {
    Shrinkers.register(Reclaim(floor: min(MemoryStatistics.snapshot().total / 32, 2048)))
  }

  /// Pages that could be read again from where they came from.
  private static var cleanPages: Int {
    let statistics = VirtualMemoryStatistics.snapshot()
    return statistics.cachedPages - statistics.sharedMemoryPages - statistics.dirtyPages
  }

  static func register(_ object: MemoryObject) {
    clock.withLock { clock in
      object.reclaimIndex = unsafe clock.objects.count
      unsafe clock.objects.append(Unmanaged.passUnretained(object))
    }
  }

  static func unregister(_ object: MemoryObject) {
    clock.withLock { clock in
      let index = object.reclaimIndex
      let last = unsafe clock.objects.removeLast()
      if unsafe index < clock.objects.count {
        unsafe clock.objects[index] = last
        // SAFETY: in the list, hence alive.
        unsafe last._withUnsafeGuaranteedRef { $0.reclaimIndex = index }
      }
    }
  }

  /// Frees about `frames` clean pages.
  @export(interface)
  public func reclaim(frames: Int) -> Int {
    let frames = min(frames, Self.cleanPages - floor)
    var freed = 0
    for round in 0..<3 where freed < frames {
      let count = Self.clock.withLock { unsafe $0.objects.count }
      for _ in 0..<count where freed < frames {
        // The lock is let go after each object, so that files can be opened and closed meanwhile.
        freed += Self.clock.withLock { Self.visitNext(&$0, round, frames - freed) }
      }
    }
    return freed
  }

  private static func visitNext(_ clock: inout Clock, _ round: Int, _ wanted: Int) -> Int {
    guard unsafe !clock.objects.isEmpty else { return 0 }
    clock.hand = unsafe (clock.hand + 1) % clock.objects.count
    // SAFETY: in the list, hence not freed; an object whose end has begun waits for the lock in `unregister`.
    return unsafe clock.objects[clock.hand]._withUnsafeGuaranteedRef { object in
      if round == 0, object.isReferenced.exchange(false, ordering: .relaxed) { return 0 }
      if round == 2 { object.unmapPages(0, .max) }
      return object.dropClean(limit: wanted, .unused)
    }
  }
}
