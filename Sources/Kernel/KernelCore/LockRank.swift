// The lock order of the kernel, in one place. A thread may take a lock only if its rank is lower than the rank of every
// spin lock that it holds already: locks are taken from the top of this list to its bottom. Debug builds check it.
// Sleeping locks (Scheduling's Mutex and SharedMutex) have their own order, documented in each room's README; no
// sleeping lock is taken under a spin lock.

/// A place in the lock order; a thread takes locks of falling rank.
public struct LockRank: Comparable, Sendable {
  public let order: UInt8
  /// Several locks of this rank may be held, in an order that their room's README tells.
  let nests: Bool

  public init(order: UInt8, nests: Bool = false) {
    self.order = order
    self.nests = nests
  }

  public static func < (left: LockRank, right: LockRank) -> Bool { left.order < right.order }
}

extension LockRank {
  // Top: taken first.
  public static var process: LockRank { LockRank(order: 200) }
  public static var signals: LockRank { LockRank(order: 190) }
  public static var signalActions: LockRank { LockRank(order: 188) }
  public static var task: LockRank { LockRank(order: 186) }
  public static var futex: LockRank { LockRank(order: 180, nests: true) }
  public static var fileSystem: LockRank { LockRank(order: 160) }
  public static var mount: LockRank { LockRank(order: 155) }
  public static var dentry: LockRank { LockRank(order: 150) }
  public static var inode: LockRank { LockRank(order: 145) }
  public static var descriptors: LockRank { LockRank(order: 140) }
  public static var pipe: LockRank { LockRank(order: 135) }
  public static var terminal: LockRank { LockRank(order: 130) }
  public static var device: LockRank { LockRank(order: 120) }
  public static var addressSpace: LockRank { LockRank(order: 110) }
  // The list of objects that reclaim visits, and the areas that map an object.
  public static var reclaim: LockRank { LockRank(order: 108) }
  public static var objectMappings: LockRank { LockRank(order: 107) }
  public static var pageTable: LockRank { LockRank(order: 105) }
  // The page tables that an object's mappings share.
  public static var objectTables: LockRank { LockRank(order: 102) }
  public static var pageCache: LockRank { LockRank(order: 100) }
  // The list of objects with dirty pages.
  public static var dirtyObjects: LockRank { LockRank(order: 99) }
  // Swap areas with the swap cache, and reclaim's lists of page frames.
  public static var swap: LockRank { LockRank(order: 98) }
  public static var sleepLock: LockRank { LockRank(order: 80) }
  // Waking a queue of a file's wakes those of the epolls that watch it, one within the other; loops of them are refused.
  public static var waitQueue: LockRank { LockRank(order: 70, nests: true) }
  public static var eventPoll: LockRank { LockRank(order: 68) }
  public static var timer: LockRank { LockRank(order: 60) }
  public static var runQueue: LockRank { LockRank(order: 50, nests: true) }
  public static var pageLists: LockRank { LockRank(order: 45) }
  // The pool of huge pages, to which a frame returns under any lock that its last reference is dropped under.
  public static var hugePages: LockRank { LockRank(order: 42) }
  public static var slab: LockRank { LockRank(order: 40) }
  public static var zone: LockRank { LockRank(order: 30) }
  public static var log: LockRank { LockRank(order: 10) }
  // Bottom: taken last.
}
