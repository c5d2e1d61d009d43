// One walk along a path. The walker stops before each last component, so that its users can look at it, create it, or
// push a symbolic link's text and go on.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// The state of a walk.
struct PathWalker {
  let caller: Caller
  let options: WalkOptions
  /// Where absolute paths start and ".." ends: the caller's root, or the start for RESOLVE_IN_ROOT and RESOLVE_BENEATH.
  let root: Path
  private(set) var place: Path
  private var text: [UInt8]
  private var position = 0
  /// Paths that were interrupted by a symbolic link, innermost last.
  private var pending: [(text: [UInt8], position: Int)] = []
  private var linksFollowed = 0
  /// For walks that must not leave `root`: the state of the tree when the walk began.
  private let start: TreeVersion?

  /// MAXSYMLINKS of Linux.
  static var linkLimit: Int { 40 }

  struct Last {
    var kind: LastComponent
    var range: Range<Int>
    var hash: UInt32
    var hasTrailingSlash: Bool
  }

  init(_ path: ByteString, from base: Path?, _ options: WalkOptions, by caller: Caller) throws(Errno) {
    guard !path.isEmpty else { throw .ENOENT }
    guard path.count < PATH_MAX else { throw .ENAMETOOLONG }
    self.caller = caller
    self.options = options
    text = path.bytes
    let isScoped = options.contains(.inRoot) || options.contains(.beneath)
    start = isScoped ? .now : nil
    place = base ?? caller.workingDirectory
    root = isScoped ? place : caller.root
    guard path.bytes[0] == 0x2f else { return }
    if options.contains(.beneath) { throw .EXDEV }
    place = root
  }

  func name(_ last: Last) -> ByteString { ByteString(text[last.range]) }

  private mutating func jumpToRoot() throws(Errno) {
    if options.contains(.beneath) { throw .EXDEV }
    if options.contains(.noMountCrossing), root.mount !== place.mount { throw .EXDEV }
    place = root
  }

  /// Whether what the walk has found may be used. A rename may have moved a directory that the walk had passed out of
  /// `root`: RESOLVE_BENEATH and RESOLVE_IN_ROOT promise that the result is below.
  ///
  /// - Throws: EXDEV.
  func checkScope(_ found: Path) throws(Errno) {
    guard start != nil, !PathWalk.isReachable(found, from: root) else { return }
    throw .EXDEV
  }

  /// Walks to the end, following a link there unless `noFollow`.
  mutating func finish() throws(Errno) -> Path {
    while true {
      let last = try walkToLast()
      switch last.kind {
      case .root, .dot: break
      case .dotDot: try stepUp()
      case .name:
        let found = try lookup(last)
        guard let inode = found.dentry.inode else { throw .ENOENT }
        if inode.kind == .symbolicLink,
          last.hasTrailingSlash || !options.contains(.noFollow)
        {
          if try followLast(found) { continue }
        } else {
          place = found
        }
      }
      let kind = place.inode.kind
      if last.hasTrailingSlash || options.contains(.directory), kind != .directory { throw .ENOTDIR }
      try checkScope(place)
      return place
    }
  }

  /// Walks up to the last component, which may be in the text of a link; `place` is the directory to find it in.
  mutating func walkToLast() throws(Errno) -> Last {
    while true {
      skipSlashes()
      while position == text.count, let outer = pending.popLast() {
        text = outer.text
        position = outer.position
        skipSlashes()
      }
      guard position < text.count else {
        return Last(kind: .root, range: 0..<0, hash: 0, hasTrailingSlash: false)
      }
      let (range, hash) = takeComponent()
      let directory = place.inode
      guard directory.kind == .directory else { throw .ENOTDIR }
      try caller.check(.search, try directory.accessControl(), kind: .directory)
      let kind = classify(range)
      let (isLast, hasTrailingSlash) = lookAhead()
      if isLast { return Last(kind: kind, range: range, hash: hash, hasTrailingSlash: hasTrailingSlash) }
      switch kind {
      case .dot, .root: continue
      case .dotDot: try stepUp()
      case .name:
        let found = try lookup(Last(kind: .name, range: range, hash: hash, hasTrailingSlash: true))
        guard let inode = found.dentry.inode else { throw .ENOENT }
        if inode.kind == .symbolicLink {
          _ = try follow(found)
        } else {
          place = found
        }
      }
    }
  }

  private mutating func skipSlashes() {
    while position < text.count, text[position] == 0x2f { position += 1 }
  }

  private mutating func takeComponent() -> (Range<Int>, UInt32) {
    let start = position
    while position < text.count, text[position] != 0x2f { position += 1 }
    return (start..<position, DentryTable.hash(text, start..<position))
  }

  private func classify(_ range: Range<Int>) -> LastComponent {
    guard text[range.lowerBound] == 0x2e else { return .name }
    if range.count == 1 { return .dot }
    return range.count == 2 && text[range.lowerBound + 1] == 0x2e ? .dotDot : .name
  }

  /// Whether only slashes are left, and whether there is one.
  private func lookAhead() -> (isLast: Bool, hasTrailingSlash: Bool) {
    var hasSlash = false
    for index in position..<text.count {
      if text[index] != 0x2f { return (false, true) }
      hasSlash = true
    }
    for outer in pending {
      for index in outer.position..<outer.text.count {
        if outer.text[index] != 0x2f { return (false, true) }
        hasSlash = true
      }
    }
    return (true, hasSlash)
  }

  // MARK: Steps

  /// What the component names, mounts crossed; the dentry may be of an absent file.
  func lookup(_ last: Last) throws(Errno) -> Path {
    let dentry = try Self.lookup(place.dentry, text, last.range, hash: last.hash, options)
    let found = Path(mount: place.mount, dentry: dentry)
    guard dentry.isMountPoint else { return found }
    let crossed = MountNamespace.crossDown(found)
    if options.contains(.noMountCrossing), crossed.mount !== place.mount { throw .EXDEV }
    return crossed
  }

  static func lookup(
    _ parent: Dentry, _ text: [UInt8], _ range: Range<Int>, hash: UInt32, _ options: WalkOptions
  ) throws(Errno) -> Dentry {
    guard let directory = parent.inode else { throw .ENOENT }
    if let dentry = DentryCache.find(parent, text, range, hash: hash) {
      if !directory.superblock.needsRevalidation { return dentry }
      if try directory.revalidate(dentry.name, dentry.inode) { return dentry }
      if dentry.isMountPoint { return dentry }
      DentryCache.drop(dentry, isDeleted: false)
    }
    if options.contains(.cached) { throw .EAGAIN }
    guard range.count <= NAME_MAX else { throw .ENAMETOOLONG }
    DentryCache.misses.add(1, ordering: .relaxed)
    let lock = directory.lock
    lock.acquire()
    defer { lock.release() }
    return try lookupLocked(parent, directory, text, range, hash: hash)
  }

  /// As `lookup`, with the directory's lock held.
  static func lookupLocked(
    _ parent: Dentry, _ directory: Inode, _ text: [UInt8], _ range: Range<Int>, hash: UInt32
  ) throws(Errno) -> Dentry {
    if let dentry = DentryCache.find(parent, text, range, hash: hash) { return dentry }
    guard range.count <= NAME_MAX else { throw .ENAMETOOLONG }
    let name = ByteString(text[range])
    let inode: Inode?
    do throws(Errno) {
      inode = try directory.lookup(name)
    } catch {
      guard error == .ENOENT else { throw error }
      inode = nil
    }
    return DentryCache.insert(parent, name, inode)
  }

  /// Walks one "..".
  ///
  /// - Throws: EXDEV where the options forbid the step. EAGAIN when a directory or mount has moved since a walk that must not
  ///   leave `root` began: its ".." may lead past `root` then (openat2(2)). ENOENT when the directory has been moved out
  ///   of what is mounted here.
  mutating func stepUp() throws(Errno) {
    var here = place
    while true {
      if here == root {
        if options.contains(.beneath) { throw .EXDEV }
        break
      }
      if here.dentry !== here.mount.root {
        guard let parent = DentryCache.parent(of: here.dentry) else { break }
        here = Path(mount: here.mount, dentry: parent)
        // A mount shows its part of the file system only, also when a directory that was in use has left that part.
        if here.mount.showsPart, !DentryCache.isSame(parent, orBelow: here.mount.root) { throw .ENOENT }
        break
      }
      guard let above = MountNamespace.place(of: here.mount) else {
        if options.contains(.beneath) { throw .EXDEV }
        break
      }
      here = above
    }
    here = MountNamespace.crossDown(here)
    if options.contains(.noMountCrossing), here.mount !== place.mount { throw .EXDEV }
    // The parent was read under the lock of the cache, the mount under that of the forest.
    if let start, start != .now { throw .EAGAIN }
    place = here
  }

  /// As `follow`, for a link that is the last component: in world-writable directories, only links of the
  /// caller and of the directory's owner are followed (fs.protected_symlinks).
  mutating func followLast(_ path: Path) throws(Errno) -> Bool {
    try FileProtection.checkFollow(path.inode, in: place.inode, by: caller)
    return try follow(path)
  }

  /// Follows the link at `path`; whether there is text to walk now (a magic link leads to its place at once).
  mutating func follow(_ path: Path) throws(Errno) -> Bool {
    guard !options.contains(.noSymbolicLinks), !path.mount.flags.contains(.noSymbolicLinks) else { throw .ELOOP }
    linksFollowed += 1
    guard linksFollowed <= Self.linkLimit else { throw .ELOOP }
    switch try path.inode.followLink(by: caller) {
    case .path(let target):
      if options.contains(.noMagicLinks) { throw .ELOOP }
      if options.contains(.beneath) || options.contains(.inRoot) { throw .EXDEV }
      if options.contains(.noMountCrossing), target.mount !== place.mount { throw .EXDEV }
      place = target
      return false
    case .text(let link):
      guard !link.isEmpty else { throw .ENOENT }
      pending.append((text, position))
      text = link.bytes
      position = 0
      if link.bytes[0] == 0x2f { try jumpToRoot() }
      return true
    }
  }
}

/// How often directories and mounts have moved.
private struct TreeVersion: Equatable {
  var moves: UInt64
  var mounts: UInt64

  static var now: TreeVersion {
    TreeVersion(
      moves: DentryCache.moves.load(ordering: .acquiring), mounts: MountNamespace.changes.load(ordering: .acquiring))
  }
}
