// Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2); and access(2).

import Identity
import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// A time for utimensat(2).
public enum TimeChange: Sendable {
  case now, omit
  case set(FileTime)
}

extension FileTree {
  /// chmod(2) of a file that has been found.
  @export(interface)
  public static func changeMode(_ place: Path, _ permissions: UInt32, by caller: Caller) throws(Errno) {
    if place.mount.isReadOnly { throw .EROFS }
    let inode = place.inode
    if inode.kind == .symbolicLink { throw .EOPNOTSUPP }
    let control = try inode.accessControl()
    guard caller.owns(control) else { throw .EPERM }
    var permissions = permissions & 0o7777
    if permissions & S_ISGID != 0, !caller.credentials.isMember(of: control.owner.group),
      !caller.credentials.has(.keepSetIDBits)
    {
      permissions &= ~S_ISGID
    }
    try inode.setAttributes(AttributeChange(permissions: permissions))
    inode.notify(.attributes, place.dentry)
  }

  /// chown(2) of a file that has been found; nil leaves an id as it is.
  @export(interface)
  public static func changeOwner(_ place: Path, user: UInt32?, group: UInt32?, by caller: Caller) throws(Errno) {
    if place.mount.isReadOnly { throw .EROFS }
    let inode = place.inode
    let control = try inode.accessControl()
    let credentials = caller.credentials
    if !credentials.has(.changeOwner) {
      let isOwner = credentials.fileSystemUser == control.owner.user
      if let user, !(isOwner && user == control.owner.user) { throw .EPERM }
      if let group, !(isOwner && (group == control.owner.group || credentials.isMember(of: group))) { throw .EPERM }
      if user == nil, group == nil, !caller.owns(control) { throw .EPERM }
    }
    var change = AttributeChange(user: user, group: group)
    // A file that changes hands loses its set-id bits (chown(2), NOTES) and capabilities.
    if inode.kind != .directory {
      change.permissions = withoutSetID(control.permissions)
      try dropCapabilities(inode)
    }
    try inode.setAttributes(change)
    inode.notify(.attributes, place.dentry)
  }

  /// The permissions without set-user-id, and without set-group-id where it means that (group execute is on); nil when
  /// nothing changes.
  private static func withoutSetID(_ permissions: UInt32) -> UInt32? {
    var result = permissions & ~S_ISUID
    if result & S_IXGRP != 0 { result &= ~S_ISGID }
    return result == permissions ? nil : result
  }

  /// Writing to a file takes its capabilities away, and its set-id bits unless the writer is privileged (write(2),
  /// chmod(2)).
  @export(interface)
  public static func dropPrivileges(_ inode: Inode, by caller: Caller) throws(Errno) {
    guard inode.kind == .regular else { return }
    try dropCapabilities(inode)
    guard !caller.credentials.has(.keepSetIDBits) else { return }
    let permissions = try inode.accessControl().permissions
    guard permissions & (S_ISUID | S_ISGID) != 0, let new = withoutSetID(permissions) else { return }
    try inode.setAttributes(AttributeChange(permissions: new))
  }

  /// utimensat(2) of a file that has been found.
  @export(interface)
  public static func changeTimes(_ place: Path, access: TimeChange, modify: TimeChange, by caller: Caller)
    throws(Errno)
  {
    if case .omit = access, case .omit = modify { return }
    if place.mount.isReadOnly { throw .EROFS }
    let inode = place.inode
    let control = try inode.accessControl()
    if !caller.owns(control) {
      guard case .now = access, case .now = modify else { throw .EPERM }
      try caller.check(.write, control, kind: inode.kind)
    }
    let now = FileTime.now()
    try inode.setAttributes(
      AttributeChange(accessTime: time(access, now), modifyTime: time(modify, now), changeTime: now))
    inode.notify(.attributes, place.dentry)
  }

  private static func time(_ change: TimeChange, _ now: FileTime) -> FileTime? {
    switch change {
    case .now: now
    case .omit: nil
    case .set(let time): time
    }
  }

  /// truncate(2) of a file that has been found.
  @export(interface)
  public static func truncate(_ place: Path, to size: UInt64, by caller: Caller) throws(Errno) {
    let inode = place.inode
    if inode.kind == .directory { throw .EISDIR }
    guard inode.kind == .regular else { throw .EINVAL }
    if place.mount.isReadOnly { throw .EROFS }
    try caller.check(.write, try inode.accessControl(), kind: .regular)
    if inode.writers.load(ordering: .acquiring) < 0 { throw .ETXTBSY }
    try resize(inode, to: size, by: caller)
    inode.notify(.modify, place.dentry)
  }

  /// Gives a regular file a new size; the right to do so has been checked.
  @export(interface)
  public static func resize(_ inode: Inode, to size: UInt64, by caller: Caller) throws(Errno) {
    guard size <= RegularFile.maximumSize else { throw .EFBIG }
    try dropPrivileges(inode, by: caller)
    let lock = inode.lock
    lock.acquire()
    defer { lock.release() }
    let now = FileTime.now()
    try inode.setAttributes(AttributeChange(size: size, modifyTime: now, changeTime: now))
  }

  /// fallocate(2) of an open file.
  @export(interface)
  public static func allocate(_ inode: Inode, _ mode: AllocationMode, offset: UInt64, length: UInt64, by caller: Caller)
    throws(Errno)
  {
    try dropPrivileges(inode, by: caller)
    let lock = inode.lock
    lock.acquire()
    defer { lock.release() }
    try inode.allocate(mode, offset: offset, length: length)
  }

  /// access(2) with the ids that `caller` has (the real ones unless AT_EACCESS).
  @export(interface)
  public static func checkAccess(_ place: Path, _ wanted: AccessMode, by caller: Caller) throws(Errno) {
    let inode = place.inode
    if wanted.contains(.execute), inode.kind == .regular, place.mount.flags.contains(.noExecute) { throw .EACCES }
    if wanted.contains(.write), place.mount.superblock.isReadOnly, isStored(inode.kind) { throw .EROFS }
    try caller.check(wanted, try inode.accessControl(), kind: inode.kind)
    if wanted.contains(.write), place.mount.isReadOnly, isStored(inode.kind) { throw .EROFS }
  }
}
