// Names: mkdir(2), rmdir(2), link(2), unlink(2), symlink(2), rename(2), mknod(2), getdents64(2), chdir(2), getcwd(2).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Calls that change and list directories.
public enum DirectoryCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(78, "getdents", .full, "fd:d buf:p count:u") { frame throws(Errno) in
        try list(frame, .old)
      },
      SystemCall(79, "getcwd", .full, "buf:p size:u", workingDirectory),
      SystemCall(80, "chdir", .full, "path:s", changeDirectory),
      SystemCall(81, "fchdir", .full, "fd:d", changeToOpenDirectory),
      SystemCall(82, "rename", .full, "old:s new:s") { frame throws(Errno) in
        try rename(AT_FDCWD, frame.a0, AT_FDCWD, frame.a1, 0, frame)
      },
      SystemCall(83, "mkdir", .full, "path:s mode:o") { frame throws(Errno) in
        try makeDirectory(AT_FDCWD, frame.a0, frame.uint(1), frame)
      },
      SystemCall(84, "rmdir", .full, "path:s") { frame throws(Errno) in
        try FileTree.removeDirectory(try FileArguments.path(frame.a0), by: frame.caller)
        return 0
      },
      SystemCall(86, "link", .full, "old:s new:s") { frame throws(Errno) in
        try link(AT_FDCWD, frame.a0, AT_FDCWD, frame.a1, 0, frame)
      },
      SystemCall(87, "unlink", .full, "path:s") { frame throws(Errno) in
        try FileTree.unlink(try FileArguments.path(frame.a0), by: frame.caller)
        return 0
      },
      SystemCall(88, "symlink", .full, "target:s path:s") { frame throws(Errno) in
        try makeLink(frame.a0, AT_FDCWD, frame.a1, frame)
      },
      SystemCall(95, "umask", .full, "mask:o") { frame throws(Errno) in
        Int64(frame.task.fileSystemContext.setUmask(frame.uint(0)))
      },
      SystemCall(133, "mknod", .full, "path:s mode:o device:x") { frame throws(Errno) in
        try makeNode(AT_FDCWD, frame.a0, frame.uint(1), frame.a2, frame)
      },
      SystemCall(161, "chroot", .full, "path:s", changeRoot),
      SystemCall(217, "getdents64", .full, "fd:d buf:p count:u") { frame throws(Errno) in
        try list(frame, .new)
      },
      SystemCall(258, "mkdirat", .full, "dir:D path:s mode:o") { frame throws(Errno) in
        try makeDirectory(frame.int(0), frame.a1, frame.uint(2), frame)
      },
      SystemCall(259, "mknodat", .full, "dir:D path:s mode:o device:x") { frame throws(Errno) in
        try makeNode(frame.int(0), frame.a1, frame.uint(2), frame.a3, frame)
      },
      SystemCall(263, "unlinkat", .full, "dir:D path:s flags:x", unlinkAt),
      SystemCall(264, "renameat", .full, "old_dir:D old:s new_dir:D new:s") { frame throws(Errno) in
        try rename(frame.int(0), frame.a1, frame.int(2), frame.a3, 0, frame)
      },
      SystemCall(265, "linkat", .full, "old_dir:D old:s new_dir:D new:s flags:x") { frame throws(Errno) in
        try link(frame.int(0), frame.a1, frame.int(2), frame.a3, frame.int(4), frame)
      },
      SystemCall(266, "symlinkat", .full, "target:s dir:D path:s") { frame throws(Errno) in
        try makeLink(frame.a0, frame.int(1), frame.a2, frame)
      },
      SystemCall(316, "renameat2", .full, "old_dir:D old:s new_dir:D new:s flags:x") { frame throws(Errno) in
        try rename(frame.int(0), frame.a1, frame.int(2), frame.a3, frame.uint(4), frame)
      },
    ]
  }

  // MARK: Entries

  private static func makeDirectory(_ directory: Int32, _ address: UInt64, _ mode: UInt32, _ frame: SystemCallFrame)
    throws(Errno) -> Int64
  {
    let path = try FileArguments.path(address)
    let base = try FileArguments.base(directory, path, frame)
    try FileTree.makeDirectory(path, from: base, permissions: mode, by: frame.caller)
    return 0
  }

  /// mknod(2): the kind comes with the mode; 0 means a regular file.
  private static func makeNode(
    _ directory: Int32, _ address: UInt64, _ mode: UInt32, _ device: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    let kind: FileKind
    switch mode & S_IFMT {
    case 0, S_IFREG: kind = .regular
    case S_IFCHR: kind = .characterDevice
    case S_IFBLK: kind = .blockDevice
    case S_IFIFO: kind = .fifo
    case S_IFSOCK: kind = .socket
    case S_IFDIR: throw .EPERM
    default: throw .EINVAL
    }
    let path = try FileArguments.path(address)
    let base = try FileArguments.base(directory, path, frame)
    // The device number is 32 bits wide here.
    let number = kind.isDevice ? DeviceNumber(encoded: UInt64(UInt32(truncatingIfNeeded: device))) : .none
    try FileTree.makeNode(path, from: base, kind: kind, permissions: mode, device: number, by: frame.caller)
    return 0
  }

  private static func makeLink(_ text: UInt64, _ directory: Int32, _ address: UInt64, _ frame: SystemCallFrame)
    throws(Errno) -> Int64
  {
    let target = try FileArguments.path(text)
    let path = try FileArguments.path(address)
    let base = try FileArguments.base(directory, path, frame)
    try FileTree.makeSymbolicLink(path, from: base, to: target, by: frame.caller)
    return 0
  }

  private static func link(
    _ oldDirectory: Int32, _ old: UInt64, _ newDirectory: Int32, _ new: UInt64, _ flags: Int32,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    guard flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) == 0 else { throw .EINVAL }
    // linkat(2): naming a file by its descriptor alone is a privilege.
    if flags & AT_EMPTY_PATH != 0, !frame.credentials.has(.readSearchAccess) { throw .ENOENT }
    let walk = (flags & AT_SYMLINK_FOLLOW != 0 ? 0 : AT_SYMLINK_NOFOLLOW) | flags & AT_EMPTY_PATH
    let source = try FileArguments.resolve(oldDirectory, old, flags: walk, frame)
    let path = try FileArguments.path(new)
    let base = try FileArguments.base(newDirectory, path, frame)
    try FileTree.link(source, to: path, from: base, by: frame.caller)
    return 0
  }

  static func unlinkAt(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(2) & ~AT_REMOVEDIR == 0 else { throw .EINVAL }
    let path = try FileArguments.path(frame.a1)
    let base = try FileArguments.base(frame.int(0), path, frame)
    if frame.int(2) == AT_REMOVEDIR {
      try FileTree.removeDirectory(path, from: base, by: frame.caller)
    } else {
      try FileTree.unlink(path, from: base, by: frame.caller)
    }
    return 0
  }

  private static func rename(
    _ oldDirectory: Int32, _ old: UInt64, _ newDirectory: Int32, _ new: UInt64, _ flags: UInt32,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    let options = RenameFlags(rawValue: flags)
    guard flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) == 0 else { throw .EINVAL }
    if options.contains(.exchange), !options.isDisjoint(with: [.noReplace, .whiteout]) { throw .EINVAL }
    if options.contains(.whiteout), !frame.credentials.has(.makeNodes) { throw .EPERM }
    let oldPath = try FileArguments.path(old)
    let newPath = try FileArguments.path(new)
    try FileTree.rename(
      oldPath, from: try FileArguments.base(oldDirectory, oldPath, frame), to: newPath,
      from: try FileArguments.base(newDirectory, newPath, frame), options, by: frame.caller)
    return 0
  }

  // MARK: Listing

  /// The two layouts of directory entries: linux_dirent has the type in its last byte, linux_dirent64 before the name.
  private enum Layout { case old, new }

  private static func list(_ frame: SystemCallFrame, _ layout: Layout) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    // One call gives so much: the answer is one array of the kernel's.
    let room = Int(min(frame.uint(2), 1 << 16))
    // Entries are collected here first: writing to the program may sleep, which `emit` must not.
    var output: [UInt8] = []
    output.reserveCapacity(min(room, 4096))
    var isTooSmall = false
    try file.readDirectory { entry in
      let header = layout == .new ? 19 : 18
      let length = (header + entry.name.count + (layout == .new ? 1 : 2) + 7) / 8 * 8
      guard output.count + length <= room else {
        isTooSmall = output.isEmpty
        return false
      }
      let type = entry.kind?.directoryEntryType ?? DT_UNKNOWN
      output.append(number: entry.number)
      output.append(number: entry.cookie)
      output.append(number: UInt16(length))
      if layout == .new { output.append(type) }
      output.append(contentsOf: entry.name.bytes)
      let padding = length - header - entry.name.count
      for index in 1...padding { output.append(layout == .old && index == padding ? type : 0) }
      return true
    }
    if isTooSmall { throw .EINVAL }
    try UserMemory.copyOut(to: frame.a1, output)
    return Int64(output.count)
  }

  // MARK: Working directory and root

  static func workingDirectory(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let caller = frame.caller
    if caller.workingDirectory.dentry.isDeleted { throw .ENOENT }
    var (text, isReachable) = PathWalk.describe(caller.workingDirectory, from: caller.root)
    if !isReachable { text = ByteString("(unreachable)") + text }
    text.bytes.append(0)
    guard text.count <= PATH_MAX else { throw .ENAMETOOLONG }
    guard UInt64(text.count) <= frame.a1 else { throw .ERANGE }
    try UserMemory.copyOut(to: frame.a0, text.bytes)
    return Int64(text.count)
  }

  static func changeDirectory(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let caller = frame.caller
    let place = try PathWalk.resolve(try FileArguments.path(frame.a0), .directory, by: caller)
    try caller.check(.search, try place.inode.accessControl(), kind: .directory)
    frame.task.fileSystemContext.setWorkingDirectory(place)
    return 0
  }

  static func changeToOpenDirectory(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let place = try frame.descriptors.get(frame.int(0)).file.path
    guard place.inode.kind == .directory else { throw .ENOTDIR }
    try frame.caller.check(.search, try place.inode.accessControl(), kind: .directory)
    frame.task.fileSystemContext.setWorkingDirectory(place)
    return 0
  }

  static func changeRoot(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let caller = frame.caller
    let place = try PathWalk.resolve(try FileArguments.path(frame.a0), .directory, by: caller)
    try caller.check(.search, try place.inode.accessControl(), kind: .directory)
    guard caller.credentials.has(.changeRoot) else { throw .EPERM }
    frame.task.fileSystemContext.setRoot(place)
    return 0
  }
}
