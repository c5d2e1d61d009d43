// The flags of a file (ioctl_iflags(2), chattr(1)): immutable, append-only, and hints to the file system.

import Identity
import KernelCore
import LinuxABI
import Scheduling

extension FileTree {
  /// FS_IOC_SETFLAGS of an open file.
  @export(interface)
  public static func setFlags(_ place: Path, _ flags: UInt32, by caller: Caller) throws(Errno) {
    if place.mount.isReadOnly { throw .EROFS }
    let inode = place.inode
    guard caller.owns(try inode.accessControl()) else { throw .EPERM }
    let lock = inode.lock
    lock.acquire()
    defer { lock.release() }
    let changed = flags ^ (try inode.flags())
    if changed & (FS_IMMUTABLE_FL | FS_APPEND_FL) != 0, !caller.credentials.has(.linuxImmutable) { throw .EPERM }
    try inode.setFlags(flags)
  }

  /// Whether a file's flags allow it to be opened for writing: an immutable one never is, and what is in an append-only one must
  /// stay (Linux: inode_permission, may_open).
  static func checkFlags(_ inode: Inode, _ flags: OpenFlags) throws(Errno) {
    guard inode.kind == .regular else { return }
    let held = try inode.attributes().flags
    if held & STATX_ATTR_IMMUTABLE != 0 { throw .EPERM }
    if held & STATX_ATTR_APPEND != 0, flags.contains(.truncate) || !flags.contains(.append) { throw .EPERM }
  }
}

extension Inode {
  /// Whether the file can only become longer (chattr +a).
  @export(interface)
  public final func isAppendOnly() throws(Errno) -> Bool {
    guard kind == .regular else { return false }
    return try attributes().flags & STATX_ATTR_APPEND != 0
  }
}
