// Extended attributes (xattr(7)): the rule of each name space. `user.` follows the permission bits, `trusted.` and
// `security.` take capabilities. Access control lists (`system.posix_acl_*`) have no effect in Apus; so they can be neither
// stored nor read, because a list that is stored and not obeyed would be a lie.

import Identity
import KernelCore
import LinuxABI
import Synchronization

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
    try FileCapabilities.validate(name, value)
    try checkAttribute(place, name, .write, by: caller)
    // Before the attribute is there: a writer that comes between looks for it in vain, but one that comes later looks.
    if name == FileCapabilities.attribute {
      place.inode.capabilityPresence.store(CapabilityPresence.possible, ordering: .releasing)
    }
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
    let isAdministrator = caller.credentials.has(.systemAdministration)
    return try place.inode.extendedAttributeNames().filter { name in
      switch AttributeSpace(name) {
      case .user, .security: true
      case .trusted: isAdministrator
      case .system, .unknown: false
      }
    }
  }

  /// Whether the caller may read or write the attribute.
  private static func checkAttribute(_ place: Path, _ name: ByteString, _ access: AccessMode, by caller: Caller)
    throws(Errno)
  {
    let inode = place.inode
    let space = AttributeSpace(name)
    switch space {
    case .system: throw .EOPNOTSUPP
    case .security:
      // Every user may read them. CAP_SETFCAP is for capabilities, CAP_SYS_ADMIN for all others.
      if access == .write {
        let needed = name == FileCapabilities.attribute ? Capability.setFileCapabilities : .systemAdministration
        guard caller.credentials.has(needed) else { throw .EPERM }
      }
    case .trusted:
      guard caller.credentials.has(.systemAdministration) else { throw access == .write ? .EPERM : .ENODATA }
    case .user, .unknown:
      let control = try inode.accessControl()
      if space == .user {
        // The bits of other kinds of files do not tell who may use disk space for attributes.
        guard inode.kind == .regular || inode.kind == .directory else { throw access == .write ? .EPERM : .ENODATA }
        if inode.kind == .directory, control.permissions & S_ISVTX != 0, access == .write, !caller.owns(control) {
          throw .EPERM
        }
      }
      try caller.check(access, control, kind: inode.kind)
      guard space == .user else { throw .EOPNOTSUPP }
    }
    guard name.count > space.prefixLength else { throw .EINVAL }
  }
}

/// The name spaces of xattr(7).
private enum AttributeSpace {
  case user, trusted, security, system, unknown

  init(_ name: ByteString) {
    if name.hasPrefix("user.") {
      self = .user
    } else if name.hasPrefix("trusted.") {
      self = .trusted
    } else if name.hasPrefix("security.") {
      self = .security
    } else {
      self = name.hasPrefix("system.") ? .system : .unknown
    }
  }

  var prefixLength: Int {
    switch self {
    case .user: 5
    case .trusted: 8
    case .security: 9
    case .system: 7
    case .unknown: 0
    }
  }
}
