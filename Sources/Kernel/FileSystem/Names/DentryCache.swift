// The dentry cache: which names of which directories are known. One lock guards all tables, names and parents; critical
// sections are a hash look-up long. A bounded number of dentries is kept; a clock hand passes over them and drops those
// that nobody used since its last round and nobody refers to, with the directories that only they kept.
//
// Ownership: the slots of the clock own the cached dentries; the parents' tables refer to them without owning. A slot
// that holds the only reference belongs to a dentry not in use, and no look-up can find it while the lock is held.

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization

/// The cache of names.
public enum DentryCache {
  /// How many dentries are kept at most, besides those in use.
  public nonisolated(unsafe) static var limit: Int = {
    // One for each four pages of a small machine; 16,384 while the size of its memory is not known.
    let memory = MemoryStatistics.snapshot().total
    return memory > 1 ? min(max(memory / 4, 1024), 16384) : 16384
  }()
  static let lock = SpinLock(Clock(), rank: .dentry)
  /// Counts changes of parents (rename(2)). Written under the lock: a walk that saw a parent under the lock and the same
  /// number as before has seen no directory in motion.
  static let moves = Atomic<UInt64>(0)
  /// Look-ups that had to ask a file system.
  public static let misses = Atomic<UInt64>(0)

  /// The cached dentries in the order of the clock. There are no empty slots: the last dentry moves to where one has gone.
  struct Clock {
    var slots: [Dentry] = []
    var hand = 0
  }

  /// How many dentries are cached.
  public static var count: Int { lock.withLock { $0.slots.count } }

  /// The cached child of `parent` with the name `path[range]`.
  @inline(__always)
  static func find(_ parent: Dentry, _ path: [UInt8], _ range: Range<Int>, hash: UInt32) -> Dentry? {
    lock.withLock { _ in
      guard let dentry = parent.children?.find(path, range, hash: hash) else { return nil }
      dentry.wasUsed = true
      return dentry
    }
  }

  /// Makes a dentry for a look-up's result and keeps it when the result may be kept; the caller holds the parent
  /// directory's lock.
  static func insert(_ parent: Dentry, _ name: ByteString, _ inode: Inode?) -> Dentry {
    let hash = DentryTable.hash(name.bytes, 0..<name.count)
    let dentry = Dentry(parent: parent, name: name, hash: hash, inode: inode)
    let keeps = inode?.isCacheable ?? (parent.inode?.cachesAbsence ?? false)
    guard keeps, !parent.isDeleted else { return dentry }
    var victims = Victims()
    lock.withLock { clock in
      if clock.slots.count >= limit { evict(&clock, &victims) }
      enter(dentry, &clock)
    }
    return dentry
  }

  /// A name has gone or changed its meaning: walks do not find the dentry any more. What is below it stays reachable
  /// for those who hold it.
  static func drop(_ dentry: Dentry, isDeleted: Bool) {
    lock.withLock { clock in
      unhash(dentry, &clock)
      if isDeleted { dentry.isDeleted = true }
    }
  }

  /// Gives the dentry a new place. The caller holds both directories' locks and has dropped what was there.
  static func move(_ dentry: Dentry, to parent: Dentry, as name: ByteString) {
    var oldParent: Dentry?
    lock.withLock { clock in
      moves.add(1, ordering: .relaxed)
      unhash(dentry, &clock)
      oldParent = dentry.parent
      dentry.parent = parent
      dentry.name = name
      dentry.nameHash = DentryTable.hash(name.bytes, 0..<name.count)
      if dentry.inode?.isCacheable ?? false { enter(dentry, &clock) }
    }
    // The old parent's reference is dropped here, outside the lock.
    withExtendedLifetime(oldParent) {}
  }

  /// Swaps the places of two dentries (RENAME_EXCHANGE).
  static func exchange(_ left: Dentry, _ right: Dentry) {
    lock.withLock { clock in
      moves.add(1, ordering: .relaxed)
      unhash(left, &clock)
      unhash(right, &clock)
      (left.parent, right.parent) = (right.parent, left.parent)
      (left.name, right.name) = (right.name, left.name)
      (left.nameHash, right.nameHash) = (right.nameHash, left.nameHash)
      if left.inode?.isCacheable ?? false { enter(left, &clock) }
      if right.inode?.isCacheable ?? false { enter(right, &clock) }
    }
  }

  /// The parent of a dentry, nil for a root.
  @inline(__always)
  public static func parent(of dentry: Dentry) -> Dentry? { lock.withLock { _ in dentry.parent } }

  /// The name and parent of a dentry at one moment.
  @export(interface)
  public static func place(of dentry: Dentry) -> (name: ByteString, parent: Dentry?, isDeleted: Bool) {
    lock.withLock { _ in (dentry.name, dentry.parent, dentry.isDeleted) }
  }

  /// Whether `dentry` is `ancestor` or below it in the same file system.
  static func isSame(_ dentry: Dentry, orBelow ancestor: Dentry) -> Bool {
    lock.withLock { _ in
      var place: Dentry? = dentry
      while let current = place {
        if current === ancestor { return true }
        place = current.parent
      }
      return false
    }
  }

  /// Drops every dentry of a file system. The hand's place does not matter here: one pass from the end sees all, because
  /// what moves to an earlier slot comes from a later one, and directories go with the last of their children.
  static func evictAll(of superblock: Superblock) {
    var index = Int.max
    repeat {
      var victims: [Dentry] = []
      lock.withLock { clock in
        index = min(index, clock.slots.count)
        for _ in 0..<min(slotsInPass, index) {
          index -= 1
          var next = index < clock.slots.count ? clock.slots[index] : nil
          while let dentry = next, dentry.isHashed, dentry.isOf(superblock), dentry.children?.count ?? 0 == 0 {
            unhash(dentry, &clock)
            victims.append(dentry)
            next = dentry.parent
          }
        }
      }
    } while index > 0
  }

  /// /proc/sys/vm/vfs_cache_pressure: how many names are given up for memory, in percent of the usual number.
  public static let pressure = Atomic<Int>(100)

  /// How often all names were forgotten on request: what file systems remember of names besides is of no use since then.
  public static let drops = Atomic<UInt64>(0)

  /// Forgets all names not in use.
  @export(interface)
  public static func dropUnused() {
    drops.add(1, ordering: .relaxed)
    shrink(.max)
  }

  /// Forgets up to `target` unused names; for memory pressure.
  /// - Returns: how many were dropped.
  @export(interface) @discardableResult
  public static func shrink(_ target: Int) -> Int {
    var dropped = 0
    // Two turns of the hand see every name without its mark of use; the target may be any number (vfs_cache_pressure).
    let passes = 2 + count / victimsInPass + 2 * count / slotsInPass
    for _ in 0..<min(passes, max(1, target / victimsInPass)) {
      var victims = Victims()
      lock.withLock { evict(&$0, &victims) }
      dropped += victims.count
      if dropped >= target { break }
    }
    return dropped
  }

  // MARK: Under the lock

  /// Slots that the hand passes at once, under the lock, and dentries that go with them.
  private static let slotsInPass = 64
  private static let victimsInPass = 16

  /// Dentries that were taken out; they die outside the lock. Without memory of the heap: there is hardly any now.
  private struct Victims {
    private var dentries = InlineArray<16, Dentry?>(repeating: nil)
    private(set) var count = 0

    mutating func append(_ dentry: Dentry) {
      dentries[count] = dentry
      count += 1
    }
  }

  private static func enter(_ dentry: Dentry, _ clock: inout Clock) {
    guard !dentry.isHashed, let parent = dentry.parent else { return }
    if parent.children == nil { parent.children = DentryTable() }
    parent.children?.insert(dentry)
    dentry.cacheSlot = clock.slots.count
    clock.slots.append(dentry)
  }

  private static func unhash(_ dentry: Dentry, _ clock: inout Clock) {
    guard dentry.isHashed, let parent = dentry.parent else { return }
    parent.children?.remove(dentry)
    // A large table is not kept for names that have gone.
    if parent.children?.isOversized ?? false { parent.children = nil }
    let slot = dentry.cacheSlot
    dentry.cacheSlot = -1
    let last = clock.slots.removeLast()
    guard last !== dentry else { return }
    last.cacheSlot = slot
    clock.slots[slot] = last
  }

  /// Whether nobody but its slot refers to a dentry, and no other inode to its inode.
  @inline(__always)
  private static func isUnused(_ slot: inout Dentry) -> Bool {
    isKnownUniquelyReferenced(&slot) && slot.inode?.dependents ?? 0 == 0
  }

  /// Passes the hand over some slots and takes out what is unused; the victims die outside the lock.
  private static func evict(_ clock: inout Clock, _ victims: inout Victims) {
    for _ in 0..<slotsInPass where !clock.slots.isEmpty {
      if clock.hand >= clock.slots.count { clock.hand = 0 }
      // Children keep their parent alive, so a directory with cached entries is never the only reference.
      guard !clock.slots[clock.hand].takeUse(), isUnused(&clock.slots[clock.hand]) else {
        clock.hand += 1
        continue
      }
      evict(at: clock.hand, &clock, &victims)
      if victims.count >= victimsInPass { return }
    }
  }

  /// Takes out an unused dentry, and the directories above that nothing else keeps: a deep tree goes in one turn of the
  /// hand. The hand waits where a pass ends before the chain does.
  private static func evict(at slot: Int, _ clock: inout Clock, _ victims: inout Victims) {
    var slot = slot
    while true {
      let dentry = clock.slots[slot]
      unhash(dentry, &clock)
      victims.append(dentry)
      // A parent with a slot outlives the reference that is given up here.
      guard let above = dentry.parent?.cacheSlot, above >= 0, !(dentry.parent?.takeUse() ?? true) else { return }
      dentry.parent = nil
      guard isUnused(&clock.slots[above]) else {
        // The victim's inode may be the last that depends on it: then the next turn takes it out.
        if clock.slots[above].inode?.dependents == 1 { clock.hand = above }
        return
      }
      guard victims.count < victimsInPass else {
        clock.hand = above
        return
      }
      slot = above
    }
  }
}
