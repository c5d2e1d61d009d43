// mount(2), umount2(2), pivot_root(2).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Calls that change the tree of mounts.
public enum MountCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(155, "pivot_root", .full, "new:s old:s", pivotRoot),
      SystemCall(
        165, "mount", .partial("propagation types are accepted, nothing propagates"),
        "source:s target:s type:s flags:x data:p", mount),
      SystemCall(166, "umount2", .partial("no MNT_EXPIRE"), "target:s flags:x", unmount),
    ]
  }

  /// A string argument that may be NULL.
  private static func text(_ address: UInt64, limit: Int = PATH_MAX) throws(Errno) -> ByteString? {
    address == 0 ? nil : try UserMemory.copyInString(from: address, limit: limit)
  }

  static func mount(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var flags = frame.a3
    // Very old programs put a magic number into the upper half.
    if flags & 0xffff_0000 == 0xc0ed_0000 { flags &= 0xffff }
    let type = try text(frame.a2)
    let source = try text(frame.a0)
    let data = try text(frame.a4) ?? ByteString()
    let caller = frame.caller
    let target = try PathWalk.resolve(try FileArguments.path(frame.a1), by: caller)
    guard caller.credentials.has(.systemAdministration) else { throw .EPERM }
    let namespace = frame.task.fileSystemContext.namespace
    var mountFlags = MountFlags(rawValue: flags)
    // relatime is the default (mount(8)).
    if flags & (MS_NOATIME | MS_STRICTATIME) == 0 { mountFlags.insert(.relativeAccessTime) }
    if flags & (MS_REMOUNT | MS_BIND) == MS_REMOUNT | MS_BIND {
      try namespace.remount(target, flags: mountFlags)
    } else if flags & MS_REMOUNT != 0 {
      guard target.isMountRoot else { throw .EINVAL }
      try target.mount.superblock.remount(options: data)
      try namespace.remount(target, flags: mountFlags)
    } else if flags & MS_BIND != 0 {
      guard let source, !source.isEmpty else { throw .EINVAL }
      let place = try PathWalk.resolve(source, by: caller)
      try namespace.bind(place, at: target, flags & MS_REC != 0 ? .recursive : .single)
    } else if flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE) != 0 {
      // Every mount is private: what else is asked for changes nothing that could be seen without namespaces.
      guard target.isMountRoot else { throw .EINVAL }
    } else if flags & MS_MOVE != 0 {
      guard let source, !source.isEmpty else { throw .EINVAL }
      try namespace.move(try PathWalk.resolve(source, by: caller), to: target)
    } else {
      guard let type else { throw .EINVAL }
      let superblock = try FileSystemTypes.mount(
        type, source: source ?? ByteString("none"), options: data, flags: mountFlags)
      try namespace.attach(Mount(superblock: superblock, flags: mountFlags), at: target)
    }
    return 0
  }

  static func unmount(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(1)
    guard flags & ~(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) == 0 else { throw .EINVAL }
    let caller = frame.caller
    let options: WalkOptions = flags & UMOUNT_NOFOLLOW != 0 ? .noFollow : []
    let place = try PathWalk.resolve(try FileArguments.path(frame.a0), options, by: caller)
    guard place.isMountRoot else { throw .EINVAL }
    guard caller.credentials.has(.systemAdministration) else { throw .EPERM }
    try frame.task.fileSystemContext.namespace.unmount(place, flags: flags)
    return 0
  }

  static func pivotRoot(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let caller = frame.caller
    guard caller.credentials.has(.systemAdministration) else { throw .EPERM }
    let new = try PathWalk.resolve(try FileArguments.path(frame.a0), .directory, by: caller)
    let old = try PathWalk.resolve(try FileArguments.path(frame.a1), .directory, by: caller)
    let context = frame.task.fileSystemContext
    try context.namespace.pivot(to: new, putOld: old, from: caller.root)
    // Every process whose root or working directory is the old root is moved to the new one (pivot_root(2)).
    for process in ProcessTable.processes() {
      for task in process.tasks { task.sharedFileSystemContext.replaceRoot(caller.root, with: new) }
    }
    return 0
  }
}
