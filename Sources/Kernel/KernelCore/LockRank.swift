// The lock order of the kernel, in one place. A thread may take a lock only if its rank is lower than the rank of every
// lock that it holds already: locks are taken from the top of this list to its bottom. Debug builds check it. Sleeping locks
// (Scheduling's Mutex and SharedMutex) are above all spin locks: none is taken under one.

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
  // Top: taken first. Sleeping locks.
  // Held while what a pipe holds is written to a file. Two pipes are locked in the order of their addresses.
  public static var pipeRing: LockRank { LockRank(order: 252, nests: true) }
  // What changes a socket's connection or name: held while its name is made in a directory. What a pipe holds may be written to
  // a socket that gets its name thereby.
  public static var socketControl: LockRank { LockRank(order: 251) }
  public static var filePosition: LockRank { LockRank(order: 250) }
  // One reader of a stream at a time: held while its bytes are copied to a program.
  public static var socketReader: LockRank { LockRank(order: 249) }
  public static var generatedText: LockRank { LockRank(order: 248) }
  public static var rename: LockRank { LockRank(order: 242) }
  // A directory's lock, then that of what is in it.
  public static var directory: LockRank { LockRank(order: 240, nests: true) }
  public static var file: LockRank { LockRank(order: 238) }
  public static var copyUp: LockRank { LockRank(order: 236) }
  public static var overlayTables: LockRank { LockRank(order: 234) }
  public static var blockWrite: LockRank { LockRank(order: 232) }
  public static var hostTerminal: LockRank { LockRank(order: 230) }
  // Taken by the last close of a file, which may happen under the lock of a directory of /proc.
  public static var pollControl: LockRank { LockRank(order: 226) }
  // Descriptors in messages: counted at each change, and searched for cycles when a socket is closed for good.
  public static var descriptorsInFlight: LockRank { LockRank(order: 224) }
  // The parent's, then the child's.
  public static var areas: LockRank { LockRank(order: 220, nests: true) }
  public static var hugeFaults: LockRank { LockRank(order: 218) }
  public static var serverSizes: LockRank { LockRank(order: 210) }

  // Spin locks.
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
  // A listening socket, then a connection that waits to be accepted.
  public static var socket: LockRank { LockRank(order: 138, nests: true) }
  public static var socketNames: LockRank { LockRank(order: 137) }
  public static var socketOptions: LockRank { LockRank(order: 136) }
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
  // Waking a queue of a file's wakes those of the epolls that watch it, one within the other; loops of them are refused.
  public static var waitQueue: LockRank { LockRank(order: 70, nests: true) }
  public static var eventPoll: LockRank { LockRank(order: 68) }
  public static var timer: LockRank { LockRank(order: 60) }
  public static var runQueue: LockRank { LockRank(order: 50, nests: true) }
  public static var pageLists: LockRank { LockRank(order: 45) }
  // Kernel stacks that are kept for the next thread, and the caches that can give memory up.
  public static var kernelStacks: LockRank { LockRank(order: 44) }
  public static var shrinkers: LockRank { LockRank(order: 43) }
  // The pool of huge pages, to which a frame returns under any lock that its last reference is dropped under.
  public static var hugePages: LockRank { LockRank(order: 42) }
  public static var slab: LockRank { LockRank(order: 40) }
  public static var zone: LockRank { LockRank(order: 30) }
  public static var log: LockRank { LockRank(order: 10) }
  // Bottom: taken last.
}
