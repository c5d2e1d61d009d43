// renameat2(2). Two directories are locked, ancestors first, and directories move only under the file system's rename
// lock, so that the tree above both stays as it is while loops are looked for.

import KernelCore
import LinuxABI
import Scheduling

extension FileTree {
  /// renameat2(2).
  @export(interface)
  public static func rename(
    _ oldPath: ByteString, from oldBase: Path? = nil, to newPath: ByteString, from newBase: Path? = nil,
    _ flags: RenameFlags = [], by caller: Caller
  ) throws(Errno) {
    let old = try PathWalk.resolveParent(oldPath, from: oldBase, by: caller)
    let new = try PathWalk.resolveParent(newPath, from: newBase, by: caller)
    guard old.parent.mount === new.parent.mount else { throw .EXDEV }
    guard old.kind == .name else { throw .EBUSY }
    guard new.kind == .name else { throw flags.contains(.noReplace) ? .EEXIST : .EBUSY }
    if old.parent.mount.isReadOnly { throw .EROFS }

    let rename = Rename(old: old, new: new, flags: flags, caller: caller)
    let renameLock = old.parent.mount.superblock.renameLock
    let isSameDirectory = old.parent.inode === new.parent.inode
    if !isSameDirectory { renameLock.acquire() }
    defer { if !isSameDirectory { renameLock.release() } }
    let (first, second) = rename.locks()
    first.acquire()
    defer { first.release() }
    second?.acquire()
    defer { second?.release() }
    try rename.perform()
  }
}

/// One rename with both directories locked.
private struct Rename {
  let old: ParentAndName
  let new: ParentAndName
  let flags: RenameFlags
  let caller: Caller

  private var oldDirectory: Inode { old.parent.inode }
  private var newDirectory: Inode { new.parent.inode }

  /// The locks to take, in order: an ancestor before what is below it, else by address.
  func locks() -> (SleepLock, SleepLock?) {
    if oldDirectory === newDirectory { return (oldDirectory.lock, nil) }
    let newIsFirst: Bool
    if DentryCache.isSame(new.parent.dentry, orBelow: old.parent.dentry) {
      newIsFirst = false
    } else if DentryCache.isSame(old.parent.dentry, orBelow: new.parent.dentry) {
      newIsFirst = true
    } else {
      newIsFirst = ObjectIdentifier(newDirectory) < ObjectIdentifier(oldDirectory)
    }
    return newIsFirst ? (newDirectory.lock, oldDirectory.lock) : (oldDirectory.lock, newDirectory.lock)
  }

  func perform() throws(Errno) {
    let source = try FileTree.lookupLocked(old.parent.dentry, old.name)
    guard let inode = source.inode else { throw .ENOENT }
    let target = try FileTree.lookupLocked(new.parent.dentry, new.name)
    if flags.contains(.noReplace), target.inode != nil { throw .EEXIST }
    if flags.contains(.exchange), target.inode == nil { throw .ENOENT }
    try checkTrailingSlashes(inode, target.inode)
    // The source must not be an ancestor of the target, nor the other way round.
    if DentryCache.isSame(new.parent.dentry, orBelow: source) { throw .EINVAL }
    if target.inode != nil, DentryCache.isSame(old.parent.dentry, orBelow: target) {
      throw flags.contains(.exchange) ? .EINVAL : .ENOTEMPTY
    }
    // rename(2): two names of one file: nothing happens.
    if target.inode === inode { return }
    try checkPermissions(inode, target.inode)
    if source.isMountPoint || target.isMountPoint { throw .EBUSY }
    try inode.willMove()
    if flags.contains(.exchange) { try target.inode?.willMove() }
    try oldDirectory.rename(old.name, into: newDirectory, as: new.name, flags)
    inode.didMove(into: newDirectory, as: new.name)
    if flags.contains(.exchange) {
      target.inode?.didMove(into: oldDirectory, as: old.name)
    } else {
      target.inode?.wasReplaced(as: new.name, in: newDirectory)
    }
    finish(source, inode, consume target)
  }

  private func checkTrailingSlashes(_ inode: Inode, _ replaced: Inode?) throws(Errno) {
    if flags.contains(.exchange) {
      if new.hasTrailingSlash, let replaced, replaced.kind != .directory { throw .ENOTDIR }
    }
    guard inode.kind != .directory else { return }
    if old.hasTrailingSlash || (!flags.contains(.exchange) && new.hasTrailingSlash) { throw .ENOTDIR }
  }

  private func checkPermissions(_ inode: Inode, _ replaced: Inode?) throws(Errno) {
    let isDirectory = inode.kind == .directory
    try FileTree.checkDelete(oldDirectory, inode, by: caller)
    if let replaced {
      try FileTree.checkDelete(newDirectory, replaced, by: caller)
      if !flags.contains(.exchange) {
        if isDirectory, replaced.kind != .directory { throw .ENOTDIR }
        if !isDirectory, replaced.kind == .directory { throw .EISDIR }
      }
    } else {
      _ = try FileTree.checkCreate(new.parent, inode.kind, 0, by: caller)
    }
    // Moving a directory to another parent changes its "..".
    guard oldDirectory !== newDirectory else { return }
    if isDirectory { try caller.check(.write, try inode.accessControl(), kind: .directory) }
    if flags.contains(.exchange), let replaced, replaced.kind == .directory {
      try caller.check(.write, try replaced.accessControl(), kind: .directory)
    }
  }

  private func finish(_ source: Dentry, _ inode: Inode, _ target: consuming Dentry) {
    if flags.contains(.exchange) {
      DentryCache.exchange(source, target)
    } else {
      DentryCache.drop(target, isDeleted: target.inode != nil)
      DentryCache.move(source, to: new.parent.dentry, as: new.name)
    }
    let other = target.inode
    noteMove(of: inode, from: oldDirectory, old.name, to: newDirectory, new.name)
    if !flags.contains(.exchange) {
      if other != nil { FileTree.noteRemoved(consume target) }
      inode.notify(.moveSelf)
    } else if let other {
      inode.notify(.moveSelf)
      noteMove(of: other, from: newDirectory, new.name, to: oldDirectory, old.name)
      other.notify(.moveSelf)
    }
  }

  private func noteMove(
    of inode: Inode, from source: Inode, _ oldName: ByteString, to target: Inode, _ newName: ByteString
  ) {
    let cookie = Inode.makeEventCookie()
    let isDirectory = inode.kind == .directory
    source.notify(.movedFrom, name: oldName, cookie: cookie, isDirectory: isDirectory)
    target.notify(.movedTo, name: newName, cookie: cookie, isDirectory: isDirectory)
  }
}
