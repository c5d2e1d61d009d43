// From names to places (path_resolution(7)). A walk goes component by component through the dentry cache, asks the file
// system for what is not cached, crosses mounts, and follows symbolic links by putting the link's text in front of the
// rest of the path.

import KernelCore
import LinuxABI

/// How a walk treats its path.
public struct WalkOptions: OptionSet, Sendable {
  public let rawValue: UInt32
  @inline(__always)
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Do not follow a symbolic link that is the last component (O_NOFOLLOW, AT_SYMLINK_NOFOLLOW).
  public static var noFollow: WalkOptions { WalkOptions(rawValue: 1 << 0) }
  /// The result must be a directory (ENOTDIR).
  public static var directory: WalkOptions { WalkOptions(rawValue: 1 << 1) }
  /// An empty path means the starting place (AT_EMPTY_PATH).
  public static var emptyPath: WalkOptions { WalkOptions(rawValue: 1 << 2) }
  // openat2(2)
  public static var noMountCrossing: WalkOptions { WalkOptions(rawValue: 1 << 3) }
  public static var noMagicLinks: WalkOptions { WalkOptions(rawValue: 1 << 4) }
  public static var noSymbolicLinks: WalkOptions { WalkOptions(rawValue: 1 << 5) }
  public static var beneath: WalkOptions { WalkOptions(rawValue: 1 << 6) }
  public static var inRoot: WalkOptions { WalkOptions(rawValue: 1 << 7) }
  /// Only through the dentry cache (EAGAIN).
  public static var cached: WalkOptions { WalkOptions(rawValue: 1 << 8) }

  /// The options of openat2(2)'s `resolve`; nil for unknown or contradictory bits.
  @export(interface)
  public init?(resolve: UInt64) {
    let known =
      RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED
    guard resolve & ~known == 0 else { return nil }
    guard resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) != RESOLVE_BENEATH | RESOLVE_IN_ROOT else { return nil }
    var options: WalkOptions = []
    if resolve & RESOLVE_NO_XDEV != 0 { options.insert(.noMountCrossing) }
    if resolve & RESOLVE_NO_MAGICLINKS != 0 { options.insert(.noMagicLinks) }
    if resolve & RESOLVE_NO_SYMLINKS != 0 { options.formUnion([.noSymbolicLinks, .noMagicLinks]) }
    if resolve & RESOLVE_BENEATH != 0 { options.insert(.beneath) }
    if resolve & RESOLVE_IN_ROOT != 0 { options.insert(.inRoot) }
    if resolve & RESOLVE_CACHED != 0 { options.insert(.cached) }
    self = options
  }
}

/// Resolving paths.
public enum PathWalk {
  /// The place that `path` names; it exists.
  ///
  /// - Parameter base: where a relative path starts; nil: the caller's working directory.
  /// - Throws: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV, what file systems throw.
  /// - Locks: sleeps; takes directories' locks one at a time.
  @export(interface)
  public static func resolve(
    _ path: ByteString, from base: Path? = nil, _ options: WalkOptions = [], by caller: Caller
  ) throws(Errno) -> Path {
    if path.isEmpty, options.contains(.emptyPath) {
      let place = base ?? caller.workingDirectory
      if options.contains(.directory), place.inode.kind != .directory { throw .ENOTDIR }
      return place
    }
    var walker = try PathWalker(path, from: base, options, by: caller)
    return try walker.finish()
  }

  /// The directory that holds the last component of `path`, and that component.
  @export(interface)
  public static func resolveParent(
    _ path: ByteString, from base: Path? = nil, _ options: WalkOptions = [], by caller: Caller
  ) throws(Errno) -> ParentAndName {
    var walker = try PathWalker(path, from: base, options, by: caller)
    let last = try walker.walkToLast()
    try walker.checkScope(walker.place)
    return ParentAndName(
      parent: walker.place, name: last.kind == .name ? walker.name(last) : ByteString(), kind: last.kind,
      hasTrailingSlash: last.hasTrailingSlash)
  }

  /// Looks `name` up in the directory `parent`, which the caller may search.
  /// - Returns: a dentry, maybe of an absent file.
  @export(interface)
  public static func lookup(_ name: ByteString, in parent: Path) throws(Errno) -> Dentry {
    try PathWalker.lookup(
      parent.dentry, name.bytes, 0..<name.count, hash: DentryTable.hash(name.bytes, 0..<name.count), [])
  }

  /// Whether `path` is `root` or below it, through mounts.
  @export(interface)
  public static func isReachable(_ path: Path, from root: Path) -> Bool {
    var path = path
    while path.mount !== root.mount {
      guard let above = MountNamespace.place(of: path.mount) else { return false }
      path = above
    }
    return DentryCache.isSame(path.dentry, orBelow: root.dentry)
  }

  /// The absolute path of a place as seen from `root` (getcwd(2), /proc links).
  ///
  /// - Returns: the text, and whether it reaches up to `root`; " (deleted)" is not appended.
  @export(interface)
  public static func describe(_ place: Path, from root: Path) -> (text: ByteString, isReachable: Bool) {
    var parts: [ByteString] = []
    var mount = place.mount
    var dentry = place.dentry
    var isReachable = true
    while !(dentry === root.dentry && mount === root.mount) {
      if dentry === mount.root {
        guard let above = MountNamespace.place(of: mount) else {
          isReachable = mount === root.mount
          break
        }
        mount = above.mount
        dentry = above.dentry
        continue
      }
      let (name, parent, _) = DentryCache.place(of: dentry)
      guard let parent else {
        isReachable = false
        break
      }
      parts.append(name)
      dentry = parent
    }
    var text: [UInt8] = []
    for part in parts.reversed() {
      text.append(0x2f)
      text.append(contentsOf: part.bytes)
    }
    if text.isEmpty { text = [0x2f] }
    return (ByteString(text), isReachable)
  }
}

/// What `resolveParent` found.
public struct ParentAndName {
  public var parent: Path
  public var name: ByteString
  public var kind: LastComponent
  public var hasTrailingSlash: Bool
}

/// What the last component of a path is.
public enum LastComponent: Sendable {
  case name
  case dot
  case dotDot
  /// There is none: the path is "/".
  case root
}
