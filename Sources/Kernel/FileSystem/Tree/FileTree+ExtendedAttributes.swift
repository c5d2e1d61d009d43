// Extended attributes (xattr(7)): who may read and write which name space.

import Identity
import KernelCore
import LinuxABI

extension FileTree {
  /// getxattr(2).
  @export(interface)
  public static func extendedAttribute(_ place: Path, _ name: ByteString, by caller: Caller) throws(Errno)
    -> ByteString
  {
    try checkAttribute(place, name, .read, by: caller)
    return try place.inode.extendedAttribute(name)
  }

  /// setxattr(2).
  @export(interface)
  public static func setExtendedAttribute(
    _ place: Path, _ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode, by caller: Caller
  ) throws(Errno) {
    if place.mount.isReadOnly { throw .EROFS }
    try checkAttribute(place, name, .write, by: caller)
    try place.inode.withLock { () throws(Errno) in
      try place.inode.setExtendedAttribute(name, value, mode)
    }
    place.inode.notify(.attributes, place.dentry)
  }

  /// removexattr(2).
  @export(interface)
  public static func removeExtendedAttribute(_ place: Path, _ name: ByteString, by caller: Caller) throws(Errno) {
    if place.mount.isReadOnly { throw .EROFS }
    try checkAttribute(place, name, .write, by: caller)
    try place.inode.withLock { () throws(Errno) in try place.inode.removeExtendedAttribute(name) }
    place.inode.notify(.attributes, place.dentry)
  }

  /// listxattr(2): the names that the caller may see.
  @export(interface)
  public static func extendedAttributeNames(_ place: Path, by caller: Caller) throws(Errno) -> [ByteString] {
    let names = try place.inode.extendedAttributeNames()
    return caller.credentials.has(.systemAdministration) ? names : names.filter { !$0.hasPrefix("trusted.") }
  }

  /// Linux: xattr_permission.
  private static func checkAttribute(_ place: Path, _ name: ByteString, _ access: AccessMode, by caller: Caller)
    throws(Errno)
  {
    let inode = place.inode
    if name.hasPrefix("security.") || name.hasPrefix("system.") { return }
    if name.hasPrefix("trusted.") {
      guard caller.credentials.has(.systemAdministration) else { throw access == .write ? .EPERM : .ENODATA }
      return
    }
    guard name.hasPrefix("user.") else { throw .EOPNOTSUPP }
    let control = try inode.accessControl()
    guard inode.kind == .regular || inode.kind == .directory else { throw access == .write ? .EPERM : .ENODATA }
    if inode.kind == .directory, control.permissions & S_ISVTX != 0, access == .write, !caller.owns(control) {
      throw .EPERM
    }
    try caller.check(access, control, kind: inode.kind)
  }
}
