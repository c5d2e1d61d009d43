// Making entries: mkdir(2), mknod(2), symlink(2), link(2); and what all changes of directories share.

import Identity
import KernelCore
import LinuxABI
import Scheduling

extension FileTree {
  /// mkdir(2).
  @export(interface)
  public static func makeDirectory(
    _ path: ByteString, from base: Path? = nil, permissions: UInt32, by caller: Caller
  ) throws(Errno) {
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    let mode = permissions & 0o1777 & ~caller.umask
    try makeEntry(target, .directory, mode, by: caller) { (directory, mode, owner) throws(Errno) in
      try directory.makeDirectory(target.name, permissions: mode, owner: owner)
    }
  }

  /// Makes a directory to be mounted on that its file system knows nothing of: it is found while something is mounted on it, and
  /// not listed.
  ///
  /// - Parameter directory: what is found, of another file system.
  /// - Throws: EEXIST when there is something of that name.
  @export(interface)
  public static func makePlaceholder(_ path: ByteString, _ directory: Inode, by caller: Caller) throws(Errno) -> Path {
    let target = try PathWalk.resolveParent(path, by: caller)
    guard target.kind == .name else { throw .EEXIST }
    let lock = target.parent.inode.lock
    lock.acquire()
    defer { lock.release() }
    let existing = try lookupLocked(target.parent.dentry, target.name)
    guard existing.inode == nil else { throw .EEXIST }
    DentryCache.drop(existing, isDeleted: false)
    return Path(
      mount: target.parent.mount, dentry: DentryCache.insert(target.parent.dentry, target.name, directory))
  }

  /// mknod(2).
  @export(interface)
  public static func makeNode(
    _ path: ByteString, from base: Path? = nil, kind: FileKind, permissions: UInt32, device: DeviceNumber,
    by caller: Caller
  ) throws(Errno) {
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    let mode = permissions & 0o7777 & ~caller.umask
    try makeEntry(target, kind, mode, by: caller) { (directory, mode, owner) throws(Errno) in
      if kind == .regular { return try directory.create(target.name, permissions: mode, owner: owner) }
      let isWhiteout = kind == .characterDevice && device == .none
      if kind.isDevice, !isWhiteout, !caller.credentials.has(.makeNodes) { throw .EPERM }
      return try directory.makeNode(target.name, kind: kind, permissions: mode, device: device, owner: owner)
    }
  }

  /// Makes the file of a socket (bind(2)) and returns its place.
  ///
  /// - Throws: EEXIST, and what all calls that make names throw.
  @export(interface)
  public static func makeSocket(_ path: ByteString, by caller: Caller) throws(Errno) -> Path {
    let target = try PathWalk.resolveParent(path, by: caller)
    let dentry = try makeEntry(target, .socket, 0o777 & ~caller.umask, by: caller) {
      (directory, mode, owner) throws(Errno) in
      try directory.makeNode(target.name, kind: .socket, permissions: mode, device: .none, owner: owner)
    }
    return Path(mount: target.parent.mount, dentry: dentry)
  }

  /// symlink(2).
  @export(interface)
  public static func makeSymbolicLink(
    _ path: ByteString, from base: Path? = nil, to text: ByteString, by caller: Caller
  ) throws(Errno) {
    guard !text.isEmpty else { throw .ENOENT }
    guard text.count < PATH_MAX else { throw .ENAMETOOLONG }
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    try makeEntry(target, .symbolicLink, 0o777, by: caller) { (directory, _, owner) throws(Errno) in
      try directory.makeSymbolicLink(target.name, target: text, owner: owner)
    }
  }

  /// link(2): a name for the file at `source`, which a walk has found.
  @export(interface)
  public static func link(_ source: Path, to path: ByteString, from base: Path? = nil, by caller: Caller)
    throws(Errno)
  {
    let target = try PathWalk.resolveParent(path, from: base, by: caller)
    let inode = source.inode
    try makeEntry(target, inode.kind, nil, by: caller) { (directory, _, _) throws(Errno) in
      guard source.mount === target.parent.mount else { throw .EXDEV }
      guard inode.kind != .directory else { throw .EPERM }
      try FileProtection.checkLink(inode, by: caller)
      // A file whose last name is gone stays nameless, unless it never had one (O_TMPFILE).
      try directory.link(inode, as: target.name)
      inode.notify(.attributes)
      return inode
    }
  }

  // MARK: Shared

  /// Makes one entry: checks, locks the directory, lets `make` make it, and keeps the dentry.
  ///
  /// - Parameter mode: of the new file; nil for a link, which changes none.
  @discardableResult
  private static func makeEntry(
    _ target: ParentAndName, _ kind: FileKind, _ mode: UInt32?, by caller: Caller,
    _ make: (Inode, UInt32, Owner) throws(Errno) -> Inode
  ) throws(Errno) -> Dentry {
    guard target.kind == .name else { throw .EEXIST }
    let parent = target.parent
    let directory = parent.inode
    let lock = directory.lock
    lock.acquire()
    defer { lock.release() }
    let existing = try lookupLocked(parent.dentry, target.name)
    guard existing.inode == nil else { throw .EEXIST }
    guard directory.acceptsEntries else { throw .ENOENT }
    // Only a directory may be named with a slash at the end (Linux: filename_create).
    if target.hasTrailingSlash, kind != .directory { throw .ENOENT }
    if parent.mount.isReadOnly { throw .EROFS }
    let (owner, checked) = try checkCreate(parent, kind, mode ?? 0, by: caller)
    let inode = try make(directory, checked, owner)
    return replace(existing, with: inode, in: parent.dentry, target.name, .create)
  }

  /// The entry of a directory whose lock is held.
  static func lookupLocked(_ parent: Dentry, _ name: ByteString) throws(Errno) -> Dentry {
    guard let directory = parent.inode else { throw .ENOENT }
    let hash = DentryTable.hash(name.bytes, 0..<name.count)
    if let known = DentryCache.find(parent, name.bytes, 0..<name.count, hash: hash) {
      if !directory.superblock.needsRevalidation { return known }
      if try directory.revalidate(name, known.inode) || known.isMountPoint { return known }
      DentryCache.drop(known, isDeleted: false)
    }
    return try PathWalker.lookupLocked(parent, directory, name.bytes, 0..<name.count, hash: hash)
  }

  /// Whether the caller may add an entry here, and whose and how accessible the new file will be (inode(7)).
  static func checkCreate(_ parent: Path, _ kind: FileKind, _ mode: UInt32, by caller: Caller) throws(Errno)
    -> (Owner, UInt32)
  {
    // Nothing can be made in a directory that has been removed.
    if parent.dentry.isDeleted { throw .ENOENT }
    let control = try parent.inode.accessControl()
    try caller.check([.write, .search], control, kind: .directory)
    var owner = caller.fileSystemOwner
    var mode = mode
    if control.permissions & S_ISGID != 0 {
      owner.group = control.owner.group
      if kind == .directory {
        mode |= S_ISGID
      } else if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP, !caller.credentials.isMember(of: owner.group),
        !caller.credentials.has(.keepSetIDBits)
      {
        mode &= ~S_ISGID
      }
    }
    return (owner, mode)
  }

  /// The dentry of a new file takes the place of the one that said it was absent.
  static func replace(
    _ absent: Dentry, with inode: Inode, in parent: Dentry, _ name: ByteString, _ event: FileEvents
  ) -> Dentry {
    DentryCache.drop(absent, isDeleted: false)
    let dentry = DentryCache.insert(parent, name, inode)
    parent.inode?.notify(event, name: name, isDirectory: inode.kind == .directory)
    return dentry
  }
}
