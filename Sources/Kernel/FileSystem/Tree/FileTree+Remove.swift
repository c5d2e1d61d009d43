// Removing entries: unlink(2), rmdir(2).

import Synchronization
import Identity
import KernelCore
import LinuxABI
import Scheduling

extension FileTree {
  /// unlink(2).
  @export(interface)
  public static func unlink(_ path: ByteString, from base: Path? = nil, by caller: Caller) throws(Errno) {
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    guard target.kind == .name else { throw .EISDIR }
    try remove(target, by: caller) { (directory, victim, inode) throws(Errno) in
      if target.hasTrailingSlash { throw inode.kind == .directory ? .EISDIR : .ENOTDIR }
      try checkDelete(directory, inode, by: caller)
      if inode.kind == .directory { throw .EISDIR }
      if victim.isMountPoint { throw .EBUSY }
      try directory.unlink(target.name, inode)
    }
  }

  /// rmdir(2).
  @export(interface)
  public static func removeDirectory(_ path: ByteString, from base: Path? = nil, by caller: Caller) throws(Errno) {
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    switch target.kind {
    case .name: break
    case .dot: throw .EINVAL
    case .dotDot: throw .ENOTEMPTY
    case .root: throw .EBUSY
    }
    try remove(target, by: caller) { (directory, victim, inode) throws(Errno) in
      try checkDelete(directory, inode, by: caller)
      guard inode.kind == .directory else { throw .ENOTDIR }
      if victim.isMountPoint { throw .EBUSY }
      // Nobody may create anything inside between the check for emptiness and the end.
      let lock = inode.lock
      lock.acquire()
      defer { lock.release() }
      try directory.removeDirectory(target.name, inode)
      victim.isDeleted = true
    }
  }

  /// Looks the entry up with the directory locked and lets `body` remove it.
  private static func remove(
    _ target: ParentAndName, by caller: Caller, _ body: (Inode, Dentry, Inode) throws(Errno) -> Void
  ) throws(Errno) {
    let parent = target.parent
    let directory = parent.inode
    if parent.mount.isReadOnly { throw .EROFS }
    let victim = try directory.withLock { () throws(Errno) -> Dentry in
      let victim = try lookupLocked(parent.dentry, target.name)
      guard let inode = victim.inode else { throw .ENOENT }
      try body(directory, victim, inode)
      DentryCache.drop(victim, isDeleted: true)
      return victim
    }
    let isDirectory = victim.inode?.kind == .directory
    noteRemoved(consume victim)
    directory.notify(.delete, name: target.name, isDirectory: isDirectory)
  }

  /// Tells the watches of a file that it has lost a name, perhaps the last.
  static func noteRemoved(_ victim: consuming Dentry) {
    guard InotifyFile.watchCount.load(ordering: .relaxed) != 0, let inode = victim.inode else { return }
    if inode.kind != .directory { inode.notify(.attributes) }
    if inode.kind == .directory || (try? inode.attributes().linkCount) == 0 { victim.wasLastName = true }
  }

  /// Whether the caller may take `victim` out of the directory (Linux: may_delete): write permission, and in a sticky
  /// directory ownership of one of them.
  static func checkDelete(_ directory: Inode, _ victim: Inode, by caller: Caller) throws(Errno) {
    let control = try directory.accessControl()
    try caller.check([.write, .search], control, kind: .directory)
    guard control.permissions & S_ISVTX != 0, caller.credentials.fileSystemUser != control.owner.user else { return }
    if !caller.owns(try victim.accessControl()) { throw .EPERM }
  }
}
