// Bringing content to where it is kept, sizes, and hints: fsync(2), sync(2), truncate(2), fallocate(2), fadvise(2).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Sizes and synchronisation.
public enum SyncCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(74, "fsync", .full, "fd:d", fsync),
      SystemCall(75, "fdatasync", .full, "fd:d", fsync),
      SystemCall(76, "truncate", .full, "path:s length:i", truncate),
      SystemCall(77, "ftruncate", .full, "fd:d length:i", fileTruncate),
      SystemCall(162, "sync", .full, "", syncAll),
      SystemCall(187, "readahead", .full, "fd:d offset:i count:u", readAhead),
      SystemCall(221, "fadvise64", .full, "fd:d offset:i length:u advice:i", advise),
      SystemCall(277, "sync_file_range", .full, "fd:d offset:i count:u flags:x", syncRange),
      SystemCall(
        285, "fallocate", .partial("no collapsing and inserting of ranges"), "fd:d mode:x offset:i length:i", allocate),
      SystemCall(306, "syncfs", .full, "fd:d", syncFileSystem),
    ]
  }

  static func fsync(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    try use.file.sync()
    return 0
  }

  /// sync(2) cannot fail.
  static func syncAll(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    for mount in frame.task.fileSystemContext.namespace.mounts() { try? mount.superblock.sync() }
    return 0
  }

  static func syncFileSystem(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try frame.descriptors.getForUse(frame.int(0)).file.path.mount.superblock.sync()
    return 0
  }

  static func syncRange(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard frame.uint(3) & ~7 == 0 else { throw .EINVAL }
    let offset = try FileArguments.offset(frame.a1)
    let count = try FileArguments.offset(frame.a2)
    guard offset <= UInt64(Int64.max) - count else { throw .EINVAL }
    switch file.inode.kind {
    case .regular, .blockDevice, .directory, .symbolicLink: break
    default: throw .ESPIPE
    }
    guard frame.uint(3) != 0, let object = file.inode.memoryObject else { return 0 }
    let range = offset..<(count == 0 ? .max : offset + count)
    // SYNC_FILE_RANGE_WRITE: writing waits as well. The other flags only wait for what is on its way.
    if frame.uint(3) & 2 != 0 { try object.writeBack(range) } else { try object.waitForWriteBack(range) }
    return 0
  }

  static func truncate(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let size = try FileArguments.offset(frame.a1)
    let caller = frame.caller
    let place = try PathWalk.resolve(try FileArguments.path(frame.a0), by: caller)
    try checkLimit(place.inode, size, frame)
    try FileTree.truncate(place, to: size, by: caller)
    return 0
  }

  static func fileTruncate(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let size = try FileArguments.offset(frame.a1)
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard file.inode.kind == .regular, file.position != nil, file.flags.allowsWriting else { throw .EINVAL }
    try checkLimit(file.inode, size, frame)
    try FileTree.resize(file.inode, to: size, by: frame.caller)
    file.didWrite()
    return 0
  }

  private static func checkLimit(_ inode: Inode, _ size: UInt64, _ frame: SystemCallFrame) throws(Errno) {
    let limit = frame.process.limit(.fileSize)
    guard inode.kind == .regular, limit != ResourceLimit.infinity, size > limit, size > (try inode.size()) else {
      return
    }
    TransferCalls.raiseSizeLimit(frame)
    throw .EFBIG
  }

  static func allocate(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    let offset = try FileArguments.offset(frame.a2)
    let length = try FileArguments.offset(frame.a3)
    guard length > 0 else { throw .EINVAL }
    let mode: AllocationMode
    switch frame.int(1) {
    case 0: mode = .allocate
    case FALLOC_FL_KEEP_SIZE: mode = .allocateKeepingSize
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: mode = .punchHole
    case FALLOC_FL_ZERO_RANGE: mode = .zero
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: mode = .zeroKeepingSize
    default: throw .EOPNOTSUPP
    }
    guard file.flags.allowsWriting else { throw .EBADF }
    switch file.inode.kind {
    case .regular where file.position != nil: break
    case .fifo: throw .ESPIPE
    case .directory: throw .EISDIR
    default: throw .ENODEV
    }
    guard offset <= UInt64(Int64.max) - length else { throw .EFBIG }
    if mode == .allocate || mode == .zero { try checkLimit(file.inode, offset + length, frame) }
    try FileTree.allocate(file.inode, mode, offset: offset, length: length, by: frame.caller)
    file.didWrite()
    return 0
  }

  static func readAhead(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    guard file.inode.kind == .regular, let object = file.inode.memoryObject, frame.a2 <= UInt64(Int64.max) else {
      throw .EINVAL
    }
    object.readAhead(from: frame.a1 / 4096, count: min(frame.a2, 1 << 21) / 4096)
    return 0
  }

  /// posix_fadvise(2): advice that asks for reading ahead is followed; the rest is for the cache to decide.
  static func advise(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    if file.inode.kind == .fifo { throw .ESPIPE }
    guard frame.a2 <= UInt64(Int64.max), frame.int(3) >= 0, frame.int(3) <= 5 else { throw .EINVAL }
    if frame.int(3) == 3, let object = file.inode.memoryObject {
      object.readAhead(from: frame.a1 / 4096, count: min(frame.a2, 1 << 21) / 4096)
    }
    return 0
  }
}
