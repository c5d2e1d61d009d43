// The tree of mounts that a group of processes sees: mount(2), umount2(2), pivot_root(2). Mounts are few and change
// rarely: each keeps its children in an array, and one lock guards the whole forest.

import KernelCore
import LinuxABI
import Synchronization

/// A tree of mounts.
public final class MountNamespace {
  static let lock = SpinLock((), rank: .mount)
  /// Counts changes of the forest. Written under the lock.
  static let changes = Atomic<UInt64>(0)
  public private(set) var root: Mount

  /// Makes a namespace whose root is `superblock`.
  @export(interface)
  public init(root superblock: Superblock, flags: MountFlags = []) {
    root = Mount(superblock: superblock, flags: flags)
    _ = DentryShrinker.isRegistered
  }

  public var rootPath: Path { Path(mount: root, dentry: root.root) }

  /// The mounts, parents before children, for /proc/PID/mountinfo.
  @export(interface)
  public func mounts() -> [Mount] {
    Self.lock.withLock { _ in Self.tree(below: root) }
  }

  /// Where the mount is: the mount point in its parent; nil for the root.
  @export(interface)
  public static func place(of mount: Mount) -> Path? {
    lock.withLock { _ in
      guard let parent = mount.parent, let point = mount.mountPoint else { return nil }
      return Path(mount: parent, dentry: point)
    }
  }

  /// The root of what is mounted on `path`, through stacks of mounts; `path` itself when nothing is.
  @inline(__always)
  static func crossDown(_ path: Path) -> Path { path.dentry.isMountPoint ? crossDownSlowly(path) : path }

  private static func crossDownSlowly(_ path: Path) -> Path {
    lock.withLock { _ in
      var path = path
      while path.dentry.isMountPoint, let mount = path.mount.children.first(where: { $0.mountPoint === path.dentry }) {
        path = Path(mount: mount, dentry: mount.root)
      }
      return path
    }
  }

  // MARK: Changes; the callers have checked CAP_SYS_ADMIN

  /// Puts a mount on `path`, which a walk has returned (so the topmost mount there is meant).
  @export(interface)
  public func attach(_ mount: Mount, at path: Path) throws(Errno) {
    do throws(Errno) {
      guard (mount.root.inode?.kind == .directory) == (path.inode.kind == .directory) else { throw .ENOTDIR }
      guard !path.dentry.isDeleted else { throw .ENOENT }
    } catch {
      // A mount that has no place goes, and its file system with the last one.
      Self.detachTree(mount)
      throw error
    }
    Self.lock.withLock { _ in Self.link(mount, at: path) }
  }

  /// A second mount of the tree at `source` (MS_BIND), with what is mounted below it when `isRecursive`.
  @export(interface)
  public func bind(_ source: Path, at target: Path, _ depth: BindDepth) throws(Errno) {
    let copy = Mount(superblock: source.mount.superblock, root: source.dentry, flags: source.mount.flags)
    if depth == .recursive {
      Self.lock.withLock { _ in Self.copyChildren(of: source.mount, below: source.dentry, to: copy) }
    }
    try attach(copy, at: target)
  }

  private static func copyChildren(of mount: Mount, below dentry: Dentry, to copy: Mount) {
    var pairs = [(mount, dentry, copy)]
    while let (original, dentry, copy) = pairs.popLast() {
      for child in original.children {
        guard let point = child.mountPoint, DentryCache.isSame(point, orBelow: dentry) else { continue }
        let twin = Mount(superblock: child.superblock, root: child.root, flags: child.flags)
        link(twin, at: Path(mount: copy, dentry: point))
        pairs.append((child, child.root, twin))
      }
    }
  }

  /// Moves a mount (MS_MOVE).
  @export(interface)
  public func move(_ source: Path, to target: Path) throws(Errno) {
    guard source.isMountRoot, source.mount !== root else { throw .EINVAL }
    guard (source.inode.kind == .directory) == (target.inode.kind == .directory) else { throw .ENOTDIR }
    try Self.lock.withLock { _ throws(Errno) in
      var above: Mount? = target.mount
      while let mount = above {
        if mount === source.mount { throw .ELOOP }
        above = mount.parent
      }
      Self.unlink(source.mount)
      Self.link(source.mount, at: target)
    }
  }

  /// umount2(2) of the mount whose root is `path`.
  @export(interface)
  public func unmount(_ path: Path, flags: Int32) throws(Errno) {
    guard path.isMountRoot else { throw .EINVAL }
    let mount = path.mount
    guard mount !== root else { throw .EINVAL }
    try Self.lock.withLock { _ throws(Errno) in
      guard mount.parent != nil else { throw .EINVAL }
      if flags & MNT_DETACH == 0 {
        guard mount.children.isEmpty, mount.users.load(ordering: .sequentiallyConsistent) == 0 else { throw .EBUSY }
      }
      Self.unlink(mount)
    }
    try? mount.superblock.sync()
    Self.detachTree(mount)
  }

  /// New flags of one mount (MS_REMOUNT with MS_BIND), or of the mount and its file system.
  @export(interface)
  public func remount(_ path: Path, flags: MountFlags) throws(Errno) {
    guard path.isMountRoot else { throw .EINVAL }
    path.mount.setFlags(flags)
  }

  /// pivot_root(2): `newRoot` becomes the root, the old root is moved to `putOld`, which is at or below it.
  @export(interface)
  public func pivot(to newRoot: Path, putOld: Path, from oldRoot: Path) throws(Errno) {
    guard newRoot.inode.kind == .directory, putOld.inode.kind == .directory else { throw .ENOTDIR }
    guard newRoot.isMountRoot, oldRoot.isMountRoot else { throw .EINVAL }
    guard newRoot.mount !== oldRoot.mount, putOld.mount !== oldRoot.mount else { throw .EBUSY }
    guard PathWalk.isReachable(putOld, from: newRoot), PathWalk.isReachable(newRoot, from: oldRoot) else {
      throw .EINVAL
    }
    let replacesNamespaceRoot = oldRoot.mount === root
    Self.lock.withLock { _ in
      let parent = oldRoot.mount.parent
      let point = oldRoot.mount.mountPoint
      Self.unlink(newRoot.mount)
      if !replacesNamespaceRoot { Self.unlink(oldRoot.mount) }
      Self.link(oldRoot.mount, at: putOld)
      if let parent, let point { Self.link(newRoot.mount, at: Path(mount: parent, dentry: point)) }
      if replacesNamespaceRoot { root = newRoot.mount }
    }
  }

  // MARK: Under the lock

  private static func link(_ mount: Mount, at path: Path) {
    changes.add(1, ordering: .relaxed)
    mount.parent = path.mount
    mount.mountPoint = path.dentry
    path.dentry.mountCount.add(1, ordering: .relaxed)
    path.mount.children.append(mount)
  }

  private static func unlink(_ mount: Mount) {
    changes.add(1, ordering: .relaxed)
    mount.mountPoint?.mountCount.subtract(1, ordering: .relaxed)
    if let parent = mount.parent { parent.children.removeAll { $0 === mount } }
    mount.parent = nil
    mount.mountPoint = nil
  }

  /// Takes a detached tree of mounts apart, children first; without the lock, because file systems may sleep.
  private static func detachTree(_ mount: Mount) {
    let tree = lock.withLock { _ in
      let tree = Self.tree(below: mount)
      for mount in tree.dropFirst().reversed() { unlink(mount) }
      return tree
    }
    for mount in tree.reversed() { mount.didDetach() }
  }

  /// A mount and all that are below it, parents before children.
  private static func tree(below mount: Mount) -> [Mount] {
    var result = [mount]
    var index = 0
    while index < result.count {
      result.append(contentsOf: result[index].children)
      index += 1
    }
    return result
  }
}

/// Whether a bind mount takes the mounts below its source along (MS_REC).
public enum BindDepth: Sendable { case single, recursive }
