// Asking about files: stat(2), statx(2), statfs(2), access(2), readlink(2).

import Block
import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Questions about files.
public enum StatusCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(4, "stat", .full, "path:s result:p") { frame throws(Errno) in
        try status(try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame), frame.a1)
      },
      SystemCall(5, "fstat", .full, "fd:d result:p", fileStatus),
      SystemCall(6, "lstat", .full, "path:s result:p") { frame throws(Errno) in
        try status(try FileArguments.resolve(AT_FDCWD, frame.a0, flags: AT_SYMLINK_NOFOLLOW, frame), frame.a1)
      },
      SystemCall(21, "access", .full, "path:s mode:o") { frame throws(Errno) in
        try access(AT_FDCWD, frame.a0, frame.int(1), flags: 0, frame)
      },
      SystemCall(89, "readlink", .full, "path:s buf:b size:u") { frame throws(Errno) in
        try readLink(AT_FDCWD, frame.a0, frame.a1, frame.int(2), frame)
      },
      SystemCall(137, "statfs", .full, "path:s result:p") { frame throws(Errno) in
        try fileSystemStatus(try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame), frame.a1)
      },
      SystemCall(138, "fstatfs", .full, "fd:d result:p") { frame throws(Errno) in
        try fileSystemStatus(try frame.descriptors.get(frame.int(0)).file.path, frame.a1)
      },
      SystemCall(262, "newfstatat", .full, "dir:D path:s result:p flags:x", statusAt),
      SystemCall(267, "readlinkat", .full, "dir:D path:s buf:b size:u") { frame throws(Errno) in
        try readLink(frame.int(0), frame.a1, frame.a2, frame.int(3), frame)
      },
      SystemCall(269, "faccessat", .full, "dir:D path:s mode:o") { frame throws(Errno) in
        try access(frame.int(0), frame.a1, frame.int(2), flags: 0, frame)
      },
      SystemCall(332, "statx", .full, "dir:D path:s flags:x mask:x result:p", extendedStatus),
      SystemCall(439, "faccessat2", .full, "dir:D path:s mode:o flags:x") { frame throws(Errno) in
        try access(frame.int(0), frame.a1, frame.int(2), flags: frame.int(3), frame)
      },
    ]
  }

  // MARK: stat(2)

  private static func status(_ place: Path, _ target: UInt64) throws(Errno) -> Int64 {
    try UserMemory.write(convert(try place.inode.attributes()), to: target)
    return 0
  }

  static func fileStatus(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.get(frame.int(0))
    let file = use.file
    try UserMemory.write(convert(try file.inode.attributes()), to: frame.a1)
    return 0
  }

  static func statusAt(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(3)
    guard flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) == 0 else {
      throw .EINVAL
    }
    return try status(try FileArguments.resolve(frame.int(0), frame.a1, flags: flags, frame), frame.a2)
  }

  private static func convert(_ attributes: Attributes) -> linux_stat {
    var result = linux_stat()
    result.st_dev = attributes.device.encoded
    result.st_ino = attributes.number
    result.st_nlink = attributes.linkCount
    result.st_mode = attributes.mode
    result.st_uid = attributes.owner.user
    result.st_gid = attributes.owner.group
    result.st_rdev = attributes.specialDevice.encoded
    result.st_size = Int64(truncatingIfNeeded: attributes.size)
    result.st_blksize = Int64(truncatingIfNeeded: attributes.blockSize)
    result.st_blocks = Int64(truncatingIfNeeded: attributes.blocks)
    result.st_atime_seconds = attributes.accessTime.seconds
    result.st_atime_nanoseconds = Int64(attributes.accessTime.nanoseconds)
    result.st_mtime_seconds = attributes.modifyTime.seconds
    result.st_mtime_nanoseconds = Int64(attributes.modifyTime.nanoseconds)
    result.st_ctime_seconds = attributes.changeTime.seconds
    result.st_ctime_nanoseconds = Int64(attributes.changeTime.nanoseconds)
    return result
  }

  // MARK: statx(2)

  static func extendedStatus(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(2)
    guard frame.uint(3) & STATX__RESERVED == 0, flags & AT_STATX_SYNC_TYPE != AT_STATX_SYNC_TYPE,
      flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) == 0
    else { throw .EINVAL }
    let place = try FileArguments.resolve(frame.int(0), frame.a1, flags: flags, frame)
    let attributes = try place.inode.attributes()
    var result = linux_statx()
    result.stx_mask = STATX_BASIC_STATS | STATX_MNT_ID
    result.stx_blksize = UInt32(truncatingIfNeeded: attributes.blockSize)
    result.stx_nlink = UInt32(truncatingIfNeeded: attributes.linkCount)
    result.stx_uid = attributes.owner.user
    result.stx_gid = attributes.owner.group
    result.stx_mode = UInt16(truncatingIfNeeded: attributes.mode)
    result.stx_ino = attributes.number
    result.stx_size = attributes.size
    result.stx_blocks = attributes.blocks
    result.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT | attributes.knownFlags
    result.stx_attributes = attributes.flags
    if place.isMountRoot { result.stx_attributes |= STATX_ATTR_MOUNT_ROOT }
    result.stx_atime = timestamp(attributes.accessTime)
    result.stx_mtime = timestamp(attributes.modifyTime)
    result.stx_ctime = timestamp(attributes.changeTime)
    if let birth = attributes.birthTime {
      result.stx_btime = timestamp(birth)
      result.stx_mask |= STATX_BTIME
    }
    result.stx_rdev_major = attributes.specialDevice.major
    result.stx_rdev_minor = attributes.specialDevice.minor
    result.stx_dev_major = attributes.device.major
    result.stx_dev_minor = attributes.device.minor
    result.stx_mnt_id = place.mount.identifier
    if frame.uint(3) & STATX_DIOALIGN != 0, let alignment = directAlignment(place.inode, attributes) {
      result.stx_mask |= STATX_DIOALIGN
      result.stx_dio_mem_align = alignment
      result.stx_dio_offset_align = alignment
    }
    try UserMemory.write(result, to: frame.a4)
    return 0
  }

  /// What direct transfers of a file, or of the device that it names, must be multiples of.
  private static func directAlignment(_ inode: Inode, _ attributes: Attributes) -> UInt32? {
    guard inode.kind == .blockDevice else { return inode.directAlignment }
    return BlockDevices.find(attributes.specialDevice).map { UInt32($0.limits.logicalBlockSize) }
  }

  private static func timestamp(_ time: FileTime) -> linux_statx_timestamp {
    linux_statx_timestamp(tv_sec: time.seconds, tv_nsec: time.nanoseconds, padding: 0)
  }

  // MARK: statfs(2)

  private static func fileSystemStatus(_ place: Path, _ target: UInt64) throws(Errno) -> Int64 {
    let superblock = place.mount.superblock
    let statistics = try superblock.statistics()
    var result = linux_statfs()
    result.f_type = statistics.magic
    result.f_bsize = Int64(truncatingIfNeeded: statistics.blockSize)
    result.f_blocks = statistics.blocks
    result.f_bfree = statistics.freeBlocks
    result.f_bavail = statistics.availableBlocks
    result.f_files = statistics.files
    result.f_ffree = statistics.freeFiles
    result.f_fsid = (Int32(truncatingIfNeeded: superblock.device.minor), Int32(superblock.device.major))
    result.f_namelen = Int64(truncatingIfNeeded: statistics.nameLimit)
    result.f_frsize = Int64(truncatingIfNeeded: statistics.blockSize)
    // ST_VALID, and the mount's flags, whose lower bits are the same as MS_*; ST_RELATIME is another.
    var flags = Int64(place.mount.flags.rawValue & 0x40f) | 0x20
    if place.mount.isReadOnly { flags |= 1 }
    if place.mount.flags.contains(.relativeAccessTime) { flags |= 0x1000 }
    result.f_flags = flags
    try UserMemory.write(result, to: target)
    return 0
  }

  // MARK: access(2), readlink(2)

  private static func access(
    _ directory: Int32, _ address: UInt64, _ mode: Int32, flags: Int32, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    guard mode & ~7 == 0, flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 else { throw .EINVAL }
    var caller = frame.caller
    // access(2) asks for the real user, whose capabilities count only when that is root.
    if flags & AT_EACCESS == 0 { caller = caller.with(caller.credentials.forAccessCheck()) }
    let path = address == 0 && flags & AT_EMPTY_PATH != 0 ? ByteString() : try FileArguments.path(address)
    var options: WalkOptions = []
    if flags & AT_SYMLINK_NOFOLLOW != 0 { options.insert(.noFollow) }
    if flags & AT_EMPTY_PATH != 0 { options.insert(.emptyPath) }
    let base = try FileArguments.base(directory, path, frame)
    let place = try PathWalk.resolve(path, from: base, options, by: caller)
    if mode != F_OK {
      try FileTree.checkAccess(place, AccessMode(rawValue: UInt32(mode)), by: caller)
    }
    return 0
  }

  private static func readLink(
    _ directory: Int32, _ address: UInt64, _ target: UInt64, _ size: Int32, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    guard size > 0 else { throw .EINVAL }
    let path = try FileArguments.path(address)
    // readlinkat(2): an empty path means the link that the descriptor (O_PATH | O_NOFOLLOW) refers to.
    let place = try PathWalk.resolve(
      path, from: try FileArguments.base(directory, path, frame),
      directory == AT_FDCWD ? .noFollow : [.noFollow, .emptyPath], by: frame.caller)
    guard place.inode.kind == .symbolicLink else { throw path.isEmpty ? .ENOENT : .EINVAL }
    let text: ByteString
    switch try place.inode.followLinkText(by: frame.caller) {
    case .text(let link): text = link
    case .path(let destination): text = PathWalk.describe(destination, from: frame.caller.root).text
    }
    let bytes = Array(text.bytes.prefix(Int(size)))
    try UserMemory.copyOut(to: target, bytes)
    return Int64(bytes.count)
  }
}

extension Inode {
  /// What readlink(2) shows: the link's own text where it has one (magic links of /proc do), else its destination.
  fileprivate func followLinkText(by caller: Caller) throws(Errno) -> LinkTarget {
    do throws(Errno) {
      return .text(try readLink())
    } catch {
      guard error == .EINVAL else { throw error }
      return try followLink(by: caller)
    }
  }
}
