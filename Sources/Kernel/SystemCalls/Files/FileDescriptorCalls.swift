// Descriptors: close(2), dup(2), fcntl(2), flock(2).

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import Synchronization
import VirtualMemory

/// Calls about descriptors and locks.
public enum FileDescriptorCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(3, "close", .full, "fd:d", close),
      SystemCall(32, "dup", .full, "fd:d", duplicate),
      SystemCall(33, "dup2", .full, "fd:d to:d", duplicateTo),
      SystemCall(
        72, "fcntl", .partial("no leases, no directory notification, no SIGIO"), "fd:d command:i argument:x", control),
      SystemCall(73, "flock", .full, "fd:d operation:x", lockFile),
      SystemCall(292, "dup3", .full, "fd:d to:d flags:F", duplicateWithFlags),
      SystemCall(436, "close_range", .full, "first:u last:u flags:x", closeRange),
    ]
  }

  static func close(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try frame.descriptors.close(frame.int(0))
    return 0
  }

  static func closeRange(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.uint(2)
    guard flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) == 0, frame.uint(0) <= frame.uint(1) else {
      throw .EINVAL
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 { frame.task.unshare(files: true, directories: false) }
    frame.descriptors.close(
      from: frame.uint(0), through: frame.uint(1), marking: flags & CLOSE_RANGE_CLOEXEC != 0)
    return 0
  }

  static func duplicate(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.get(frame.int(0))
    return Int64(try frame.descriptors.insert(use.file))
  }

  static func duplicateTo(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.int(0) == frame.int(1) {
      _ = try frame.descriptors.get(frame.int(0))
    } else {
      try frame.descriptors.duplicate(frame.int(0), to: frame.int(1), closeOnExec: false)
    }
    return Int64(frame.int(1))
  }

  static func duplicateWithFlags(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(2) & ~O_CLOEXEC == 0, frame.int(0) != frame.int(1) else { throw .EINVAL }
    try frame.descriptors.duplicate(frame.int(0), to: frame.int(1), closeOnExec: frame.int(2) != 0)
    return Int64(frame.int(1))
  }

  // MARK: fcntl(2)

  static func control(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let descriptor = frame.int(0)
    let command = frame.int(1)
    let table = frame.descriptors
    let use = try table.get(descriptor)
    let file = use.file
    switch command {
    case F_DUPFD, F_DUPFD_CLOEXEC:
      let minimum = frame.int(2)
      guard minimum < table.limit else { throw .EINVAL }
      return Int64(try table.insert(file, closeOnExec: command == F_DUPFD_CLOEXEC, from: minimum))
    case F_GETFD: return try table.isCloseOnExec(descriptor) ? 1 : 0
    case F_SETFD:
      try table.setCloseOnExec(descriptor, frame.int(2) & FD_CLOEXEC != 0)
      return 0
    case F_GETFL: return Int64(file.flags.rawValue)
    default: break
    }
    // A handle of O_PATH knows no other commands.
    if file.flags.contains(.path) { throw .EBADF }
    switch command {
    case F_SETFL: return try setFlags(file, frame)
    case F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW:
      return try lockRecord(file, command, frame)
    case F_GETOWN: return Int64(file.signalOwner.load(ordering: .relaxed))
    case F_SETOWN:
      guard frame.int(2) != .min else { throw .EINVAL }
      file.signalOwner.store(frame.int(2), ordering: .relaxed)
      return 0
    case F_GETSIG: return 0
    case F_SETSIG: return frame.a2 <= 64 ? 0 : try refuse(.EINVAL)
    case F_GETLEASE: return Int64(F_UNLCK)
    case F_SETPIPE_SZ, F_GETPIPE_SZ:
      guard let pipe = file.pipe else { throw .EBADF }
      if command == F_GETPIPE_SZ { return Int64(pipe.capacity) }
      let limit = frame.credentials.has(.resources) ? Int.max : Pipe.maximumCapacity
      guard frame.a2 <= UInt64(UInt32.max) else { throw .EINVAL }
      return Int64(try pipe.resize(frame.uint(2), limit: limit))
    case F_GET_SEALS:
      guard let seals = file.inode.seals else { throw .EINVAL }
      return Int64(seals.current)
    case F_ADD_SEALS:
      guard let seals = file.inode.seals else { throw .EINVAL }
      guard file.flags.allowsWriting else { throw .EPERM }
      let object = file.inode.memoryObject
      try seals.add(frame.uint(2)) { object?.denyWritableMappings() ?? true }
      return 0
    default: throw .EINVAL
    }
  }

  private static func refuse(_ error: Errno) throws(Errno) -> Int64 { throw error }

  private static func setFlags(_ file: OpenFile, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    let new = OpenFlags(rawValue: frame.int(2))
    if new.contains(.noAccessTime), !file.flags.contains(.noAccessTime) {
      guard frame.caller.owns(try file.inode.accessControl()) else { throw .EPERM }
    }
    if file.flags.contains(.append), !new.contains(.append), try file.inode.isAppendOnly() { throw .EPERM }
    // For pipes it is another mode.
    if new.contains(.direct), file.pipe == nil, !file.inode.acceptsDirect { throw .EINVAL }
    file.setFlags(
      new, mask: OpenFlags(rawValue: O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT | FASYNC))
    return 0
  }

  // MARK: Locks

  private static func lockRecord(_ file: OpenFile, _ command: Int32, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    var request = try UserMemory.read(frame.a2, as: linux_flock.self)
    let isDescription = command >= F_OFD_GETLK
    // fcntl(2): l_pid must be 0 for locks of open file descriptions.
    if isDescription, request.l_pid != 0 { throw .EINVAL }
    let (start, end) = try range(request, file)
    let owner: LockOwner =
      isDescription ? .file(ObjectIdentifier(file)) : .table(ObjectIdentifier(frame.descriptors))
    let lock = RecordLock(
      owner: owner, isExclusive: request.l_type == F_WRLCK, start: start, end: end,
      processID: isDescription ? -1 : frame.process.pid)
    if command == F_GETLK || command == F_OFD_GETLK {
      guard request.l_type == F_RDLCK || request.l_type == F_WRLCK else { throw .EINVAL }
      guard let conflict = file.inode.conflictingLock(with: lock) else {
        request.l_type = F_UNLCK
        try UserMemory.write(request, to: frame.a2)
        return 0
      }
      request.l_type = conflict.isExclusive ? F_WRLCK : F_RDLCK
      request.l_whence = Int16(SEEK_SET)
      request.l_start = Int64(clamping: conflict.start)
      request.l_len = conflict.end == .max ? 0 : Int64(clamping: conflict.end - conflict.start + 1)
      request.l_pid = conflict.processID
      try UserMemory.write(request, to: frame.a2)
      return 0
    }
    switch request.l_type {
    case F_UNLCK: try file.inode.unlockRecord(owner: owner, start: start, end: end)
    case F_RDLCK, F_WRLCK:
      if lock.isExclusive ? !file.flags.allowsWriting : !file.flags.allowsReading { throw .EBADF }
      try file.inode.lockRecord(lock, waits: command == F_SETLKW || command == F_OFD_SETLKW)
      // Another thread may have closed the descriptor while this one waited, which takes the process's locks away: a lock
      // that comes after that would never be removed.
      if !isDescription, !frame.descriptors.refers(frame.int(0), to: file) {
        try file.inode.unlockRecord(owner: owner, start: 0, end: .max)
        throw .EBADF
      }
    default: throw .EINVAL
    }
    return 0
  }

  /// The bytes that a struct flock names.
  /// - Throws: EINVAL before the start of the file, EOVERFLOW beyond the largest offset.
  private static func range(_ request: linux_flock, _ file: OpenFile) throws(Errno) -> (UInt64, UInt64) {
    let base: Int64
    switch Int32(request.l_whence) {
    case SEEK_SET: base = 0
    case SEEK_CUR: base = Int64(clamping: file.position?.current ?? 0)
    case SEEK_END: base = Int64(clamping: try file.inode.size())
    default: throw .EINVAL
    }
    let (start, overflow) = base.addingReportingOverflow(request.l_start)
    if overflow { throw .EOVERFLOW }
    guard start >= 0 else { throw .EINVAL }
    if request.l_len == 0 { return (UInt64(start), .max) }
    if request.l_len > 0 {
      let (end, overflow) = start.addingReportingOverflow(request.l_len - 1)
      if overflow { throw .EOVERFLOW }
      return (UInt64(start), UInt64(end))
    }
    // A negative length means the bytes before the start.
    let (first, underflow) = start.addingReportingOverflow(request.l_len)
    guard !underflow, first >= 0 else { throw .EINVAL }
    return (UInt64(first), UInt64(start) - 1)
  }

  static func lockFile(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    let operation = frame.int(1)
    switch operation & ~LOCK_NB {
    case LOCK_UN: file.inode.unlockWhole(file)
    case LOCK_SH, LOCK_EX:
      try file.inode.lockWhole(
        file, isExclusive: operation & ~LOCK_NB == LOCK_EX, waits: operation & LOCK_NB == 0)
    default: throw .EINVAL
    }
    return 0
  }
}
