// Opening files (open(2), openat2(2)): finding or creating the file, checking that the caller may open it, truncating.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// The operations on the file tree, each on behalf of a caller: permission checks, locking, the dentry cache, events.
/// Relative paths start at `base`; nil is the caller's working directory. Errors come in the order in which Linux finds
/// them.
public enum FileTree {
  /// open(2).
  ///
  /// - Parameter permissions: of a new file, before the umask.
  @export(interface)
  public static func open(
    _ path: ByteString, from base: Path? = nil, _ flags: OpenFlags, permissions: UInt32 = 0,
    _ options: WalkOptions = [], by caller: Caller
  ) throws(Errno) -> OpenFile {
    if flags.rawValue & O_TMPFILE == O_TMPFILE {
      return try openTemporary(path, from: base, flags, permissions: permissions, options, by: caller)
    }
    var walker = try PathWalker(path, from: base, options, by: caller)
    var isNew = false
    let (place, hasTrailingSlash) = try find(&walker, flags, permissions, &isNew, by: caller)
    let inode = place.inode
    if flags.contains(.create), !isNew, inode.kind == .directory { throw .EISDIR }
    if hasTrailingSlash || flags.contains(.directory), inode.kind != .directory { throw .ENOTDIR }
    if flags.contains(.path) { return PathHandle(path: place, flags: flags) }
    if !isNew { try checkOpen(place, flags, by: caller) }
    return try finishOpen(place, flags, isNew: isNew, by: caller)
  }

  /// Opens what is at a place that has been found already: a magic link of /proc, a file handle.
  @export(interface)
  public static func open(_ place: Path, _ flags: OpenFlags, by caller: Caller) throws(Errno) -> OpenFile {
    if flags.contains(.directory), place.inode.kind != .directory { throw .ENOTDIR }
    if flags.contains(.path) { return PathHandle(path: place, flags: flags) }
    try checkOpen(place, flags, by: caller)
    return try finishOpen(place, flags, isNew: false, by: caller)
  }

  /// Opens a program for execve(2).
  /// - Throws: EACCES for what is no regular file, is not executable, or is on a noexec mount.
  @export(interface)
  public static func openProgram(
    _ path: ByteString, from base: Path? = nil, _ options: WalkOptions = [], by caller: Caller
  ) throws(Errno) -> OpenFile {
    let place = try PathWalk.resolve(path, from: base, options, by: caller)
    guard place.inode.kind != .symbolicLink else { throw .ELOOP }
    guard place.inode.kind == .regular, !place.mount.flags.contains(.noExecute) else { throw .EACCES }
    try caller.check(.execute, try place.inode.accessControl(), kind: .regular)
    return try place.inode.open(.readOnly, path: place, by: caller)
  }

  /// Walks to the file, creating it if asked and absent.
  private static func find(
    _ walker: inout PathWalker, _ flags: OpenFlags, _ permissions: UInt32, _ isNew: inout Bool, by caller: Caller
  ) throws(Errno) -> (Path, hasTrailingSlash: Bool) {
    while true {
      let last = try walker.walkToLast()
      switch last.kind {
      case .root, .dot, .dotDot:
        if flags.contains(.create) { throw flags.contains(.exclusive) ? .EEXIST : .EISDIR }
        if last.kind == .dotDot { try walker.stepUp() }
        try walker.checkScope(walker.place)
        return (walker.place, last.hasTrailingSlash)
      case .name: break
      }
      if flags.contains(.create), last.hasTrailingSlash { throw .EISDIR }
      var found = try walker.lookup(last)
      if found.dentry.inode == nil {
        guard flags.contains(.create) else { throw .ENOENT }
        try walker.checkScope(walker.place)
        let dentry = try create(walker.place, walker.name(last), permissions, &isNew, by: caller)
        found = MountNamespace.crossDown(Path(mount: found.mount, dentry: dentry))
        if isNew { return (found, false) }
      }
      if flags.contains(.create), flags.contains(.exclusive) { throw .EEXIST }
      guard found.inode.kind == .symbolicLink else {
        try walker.checkScope(found)
        if flags.contains(.create) {
          try FileProtection.checkReuse(found.inode, in: walker.place.inode, by: caller)
        }
        return (found, last.hasTrailingSlash)
      }
      if flags.contains(.noFollow), !last.hasTrailingSlash {
        if flags.contains(.path) {
          try walker.checkScope(found)
          return (found, false)
        }
        throw flags.contains(.directory) ? .ENOTDIR : .ELOOP
      }
      if !(try walker.followLast(found)) { return (walker.place, last.hasTrailingSlash) }
    }
  }

  private static func create(
    _ parent: Path, _ name: ByteString, _ permissions: UInt32, _ isNew: inout Bool, by caller: Caller
  ) throws(Errno) -> Dentry {
    let directory = parent.inode
    if parent.mount.isReadOnly { throw .EROFS }
    let lock = directory.lock
    lock.acquire()
    defer { lock.release() }
    let existing = try lookupLocked(parent.dentry, name)
    if existing.inode != nil { return existing }
    guard directory.acceptsEntries else { throw .ENOENT }
    let (owner, mode) = try checkCreate(parent, .regular, permissions & ~caller.umask & 0o7777, by: caller)
    let inode = try directory.create(name, permissions: mode, owner: owner)
    isNew = true
    noteAbsence(inode)
    return replace(existing, with: inode, in: parent.dentry, name, .create)
  }

  private static func openTemporary(
    _ path: ByteString, from base: Path?, _ flags: OpenFlags, permissions: UInt32, _ options: WalkOptions,
    by caller: Caller
  ) throws(Errno) -> OpenFile {
    let parent = try PathWalk.resolve(path, from: base, options.union(.directory), by: caller)
    if parent.mount.isReadOnly { throw .EROFS }
    let (owner, mode) = try checkCreate(parent, .regular, permissions & ~caller.umask & 0o7777, by: caller)
    let inode = try parent.inode.makeTemporary(permissions: mode, owner: owner)
    noteAbsence(inode)
    var name = TextBuffer()
    name.append("#")
    name.append(decimal: inode.number)
    let dentry = Dentry(parent: parent.dentry, name: name.byteString, hash: 0, inode: inode)
    dentry.isDeleted = true
    return try finishOpen(
      Path(mount: parent.mount, dentry: dentry), OpenFlags(rawValue: flags.rawValue & ~O_DIRECTORY), isNew: true,
      by: caller)
  }

  /// Whether the caller may open an existing file so (Linux: may_open).
  private static func checkOpen(_ place: Path, _ flags: OpenFlags, by caller: Caller) throws(Errno) {
    let inode = place.inode
    let writes = flags.allowsWriting || flags.contains(.truncate)
    switch inode.kind {
    case .symbolicLink: throw .ELOOP
    case .directory where writes: throw .EISDIR
    case .characterDevice, .blockDevice: if place.mount.flags.contains(.noDevices) { throw .EACCES }
    default: break
    }
    var wanted: AccessMode = []
    if flags.rawValue & O_ACCMODE != O_WRONLY { wanted.insert(.read) }
    if writes || flags.rawValue & O_ACCMODE == O_ACCMODE { wanted.insert(.write) }
    if wanted.contains(.write), place.mount.superblock.isReadOnly, isStored(inode.kind) { throw .EROFS }
    let control = try inode.accessControl()
    try caller.check(wanted, control, kind: inode.kind)
    if writes { try checkFlags(inode, flags) }
    if flags.contains(.noAccessTime), !caller.owns(control) { throw .EPERM }
    if wanted.contains(.write), place.mount.isReadOnly, isStored(inode.kind) { throw .EROFS }
  }

  /// Whether files of the kind live on the file system, so that a read-only mount protects them.
  static func isStored(_ kind: FileKind) -> Bool { kind == .regular || kind == .directory || kind == .symbolicLink }

  private static func finishOpen(_ place: Path, _ flags: OpenFlags, isNew: Bool, by caller: Caller) throws(Errno)
    -> OpenFile
  {
    let inode = place.inode
    if inode.kind == .regular, flags.allowsWriting || flags.contains(.truncate) {
      if inode.writers.load(ordering: .acquiring) < 0 { throw .ETXTBSY }
    }
    if flags.contains(.direct), !inode.acceptsDirect { throw .EINVAL }
    let truncates = flags.contains(.truncate) && !isNew && inode.kind == .regular
    if truncates { try resize(inode, to: 0, by: caller) }
    let file = try inode.open(flags, path: place, by: caller)
    inode.notify(.open, place.dentry)
    if truncates { inode.notify(.modify, place.dentry) }
    return file
  }
}

extension Inode {
  /// A program is being executed: nobody may write to the file until `allowWriting()`.
  /// - Throws: ETXTBSY while it is open for writing.
  @export(interface)
  public final func denyWriting() throws(Errno) {
    while true {
      let count = writers.load(ordering: .acquiring)
      guard count <= 0 else { throw .ETXTBSY }
      if writers.compareExchange(expected: count, desired: count - 1, ordering: .acquiringAndReleasing).exchanged {
        return
      }
    }
  }

  /// Takes back one `denyWriting()`.
  @export(interface)
  public final func allowWriting() { writers.add(1, ordering: .releasing) }
}
