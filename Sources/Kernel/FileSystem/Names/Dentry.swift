// A name in a directory, as the dentry cache remembers it: with its inode, or as known to be absent. A dentry keeps its
// parent alive; the cache (DentryCache) keeps the dentry.

import KernelCore
import LinuxABI
import Synchronization

/// An entry of a directory, or the root of a file system.
///
/// `parent`, `name`, the slot and the table of children are guarded by the cache's lock; `inode` never changes.
public final class Dentry {
  /// nil: the name is known to be absent.
  public let inode: Inode?
  public internal(set) var parent: Dentry?
  public internal(set) var name: ByteString
  var nameHash: UInt32
  /// Whether the name was removed while the dentry was in use (getcwd fails, /proc shows " (deleted)").
  public internal(set) var isDeleted = false
  /// Whether it was the last name of its file. Then the end of the dentry, which may come much later than that of the name, is
  /// the end of the file for its watches (IN_DELETE_SELF).
  var wasLastName = false
  /// Set by each hit, cleared by the clock of the cache.
  var wasUsed = true
  /// The slot of the cache that owns this dentry, -1 when it is not cached.
  var cacheSlot = -1
  /// Whether a walk finds the dentry under its parent.
  var isHashed: Bool { cacheSlot >= 0 }
  /// The next one in the same chain of the parent's table.
  var nextInTable = DentryLink()
  /// The cached children, once there are any.
  var children: DentryTable?
  /// How many mounts cover this dentry, in all namespaces.
  let mountCount = Atomic<Int>(0)

  init(parent: Dentry, name: ByteString, hash: UInt32, inode: Inode?) {
    self.parent = parent
    self.name = name
    nameHash = hash
    self.inode = inode
  }

  /// The root of a file system, or of an anonymous file (a pipe, an eventfd).
  @export(interface)
  public init(root inode: Inode, name: ByteString = "/") {
    self.name = name
    nameHash = 0
    self.inode = inode
  }

  deinit {
    LockOrder.mayWait()
    if wasLastName { inode?.notify(.deleteSelf) }
  }

  public var isMountPoint: Bool {
    @inline(__always) get { mountCount.load(ordering: .relaxed) != 0 }
  }

  /// Takes the mark of use away; whether there was one.
  func takeUse() -> Bool {
    defer { wasUsed = false }
    return wasUsed
  }

  /// Whether the name is one of this file system, also when it is known to be absent.
  func isOf(_ superblock: Superblock) -> Bool { (inode ?? parent?.inode)?.superblock === superblock }
}
