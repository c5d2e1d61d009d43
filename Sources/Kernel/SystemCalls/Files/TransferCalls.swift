// read(2), write(2) and their vector and positioned forms, lseek(2), ioctl(2).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// Moving bytes between files and programs.
public enum TransferCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(0, "read", .full, "fd:d buf:b count:u", read),
      SystemCall(1, "write", .full, "fd:d buf:B count:u", write),
      SystemCall(8, "lseek", .full, "fd:d offset:i whence:i", seek),
      SystemCall(16, "ioctl", .full, "fd:d request:x argument:p", ioctl),
      SystemCall(17, "pread64", .full, "fd:d buf:b count:u offset:i", pread),
      SystemCall(18, "pwrite64", .full, "fd:d buf:B count:u offset:i", pwrite),
      SystemCall(19, "readv", .full, "fd:d vec:p count:u", readv),
      SystemCall(20, "writev", .full, "fd:d vec:p count:u", writev),
      SystemCall(295, "preadv", .full, "fd:d vec:p count:u offset:i", preadv),
      SystemCall(296, "pwritev", .full, "fd:d vec:p count:u offset:i", pwritev),
      SystemCall(
        327, "preadv2", .partial("RWF_HIPRI and RWF_NOWAIT are refused"), "fd:d vec:p count:u offset:i", preadv2),
      SystemCall(
        328, "pwritev2", .partial("RWF_HIPRI and RWF_NOWAIT are refused"), "fd:d vec:p count:u offset:i", pwritev2),
    ]
  }

  // MARK: Reading

  static func read(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    return try read(file, &buffer, at: nil)
  }

  static func pread(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try read(file, &buffer, at: offset)
  }

  static func readv(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    return try read(file, &buffer, at: nil)
  }

  static func preadv(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try read(file, &buffer, at: offset)
  }

  /// preadv2(2): an offset of -1 means the position.
  static func preadv2(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a3 != .max { _ = try FileArguments.offset(frame.a3) }
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = frame.a3 == .max ? use.file : try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    guard frame.int(5) == 0 else { throw .EOPNOTSUPP }
    if frame.a3 != .max { try FileArguments.check(frame.a3, buffer, of: file) }
    return try read(file, &buffer, at: frame.a3 == .max ? nil : frame.a3)
  }

  @inline(__always)
  private static func read(_ file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int64
  {
    let count = try file.read(&buffer, at: offset)
    if count > 0 { file.didRead() }
    return Int64(count)
  }

  /// A file with a position, or ESPIPE.
  private static func positioned(_ use: borrowing FileUse) throws(Errno) -> OpenFile {
    guard use.file.position != nil else { throw .ESPIPE }
    return use.file
  }

  // MARK: Writing

  static func write(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.writable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    return try write(file, &buffer, at: nil, frame)
  }

  static func pwrite(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.writable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try write(file, &buffer, at: offset, frame)
  }

  static func writev(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.writable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    return try write(file, &buffer, at: nil, frame)
  }

  static func pwritev(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.writable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try write(file, &buffer, at: offset, frame)
  }

  /// RWF_DSYNC and RWF_SYNC synchronise after the write; RWF_APPEND writes at the end.
  static func pwritev2(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a3 != .max { _ = try FileArguments.offset(frame.a3) }
    let use = try FileArguments.writable(frame.int(0), frame)
    let file = frame.a3 == .max ? use.file : try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    let flags = frame.int(5)
    guard flags & ~0x16 == 0 else { throw .EOPNOTSUPP }
    var offset: UInt64? = frame.a3 == .max ? nil : frame.a3
    if flags & 0x10 != 0 { offset = try file.inode.size() }
    let count = try write(file, &buffer, at: offset, frame)
    if flags & 0x6 != 0 { try file.sync() }
    return count
  }

  /// Writes, with the limits of the process: RLIMIT_FSIZE and the loss of set-id bits.
  static func write(
    _ file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    if file.inode.kind == .regular, file.position != nil {
      try FileTree.dropPrivileges(file.inode, by: frame.caller)
      let limit = frame.process.limit(.fileSize)
      if limit != ResourceLimit.infinity { try restrict(file, &buffer, at: offset, limit, frame) }
    }
    let count = try file.write(&buffer, at: offset)
    if count > 0 { file.didWrite() }
    return Int64(count)
  }

  /// RLIMIT_FSIZE (getrlimit(2)): a write that begins beyond the limit raises SIGXFSZ and fails; others are cut short.
  private static func restrict(
    _ file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?, _ limit: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) {
    let start: UInt64
    if file.flags.contains(.append) {
      start = try file.inode.size()
    } else {
      start = offset ?? file.position?.current ?? 0
    }
    guard buffer.remaining > 0 else { return }
    guard start < limit else {
      raiseSizeLimit(frame)
      throw .EFBIG
    }
    _ = buffer.limit(to: Int(clamping: limit - start))
  }

  static func raiseSizeLimit(_ frame: SystemCallFrame) {
    let sender = SignalInformation.user(SIGXFSZ, pid: frame.process.pid, uid: frame.credentials.realUser)
    Signals.send(sender, to: frame.task)
  }

  // MARK: Position and control

  static func seek(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard frame.int(2) >= SEEK_SET, frame.int(2) <= SEEK_HOLE else { throw .EINVAL }
    return Int64(truncatingIfNeeded: try file.seek(Int64(bitPattern: frame.a1), from: frame.int(2)))
  }

  /// ioctl(2): requests about the descriptor are answered here, all others by the file.
  static func ioctl(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let descriptor = frame.int(0)
    let use = try frame.descriptors.getForUse(descriptor)
    let file = use.file
    let request = frame.uint(1)
    switch request {
    case FIOCLEX:
      try frame.descriptors.setCloseOnExec(descriptor, true)
      return 0
    case FIONCLEX:
      try frame.descriptors.setCloseOnExec(descriptor, false)
      return 0
    case FIONBIO:
      let isOn = try UserMemory.read(frame.a2, as: Int32.self) != 0
      file.setFlags(isOn ? .nonBlocking : [], mask: .nonBlocking)
      return 0
    case FIOASYNC:
      let isOn = try UserMemory.read(frame.a2, as: Int32.self) != 0
      let async = OpenFlags(rawValue: FASYNC)
      file.setFlags(isOn ? async : [], mask: async)
      return 0
    case TIOCGPTPEER:
      let flags = OpenFlags(rawValue: frame.int(2))
      let peer = try file.openPeer(flags, by: frame.caller)
      return try OpenCalls.install(peer, closeOnExec: flags.contains(.closeOnExec), frame)
    case FS_IOC_GETFLAGS where file.inode.kind == .regular || file.inode.kind == .directory:
      try UserMemory.write(try file.inode.flags(), to: frame.a2)
      return 0
    case FS_IOC_SETFLAGS where file.inode.kind == .regular || file.inode.kind == .directory:
      try FileTree.setFlags(file.path, try UserMemory.read(frame.a2, as: UInt32.self), by: frame.caller)
      return 0
    default:
      return try file.ioctl(request, frame.a2)
    }
  }
}
