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
        327, "preadv2", .partial("RWF_NOWAIT for files with pages only"), "fd:d vec:p count:u offset:i", preadv2),
      SystemCall(
        328, "pwritev2", .partial("RWF_NOWAIT is refused"), "fd:d vec:p count:u offset:i", pwritev2),
    ]
  }

  // MARK: Reading

  static func read(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    return try read(file, &buffer, at: nil, frame)
  }

  static func pread(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try read(file, &buffer, at: offset, frame)
  }

  static func readv(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = use.file
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    return try read(file, &buffer, at: nil, frame)
  }

  static func preadv(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try read(file, &buffer, at: offset, frame)
  }

  /// preadv2(2): an offset of -1 means the position.
  static func preadv2(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a3 != .max { _ = try FileArguments.offset(frame.a3) }
    let use = try FileArguments.readable(frame.int(0), frame)
    let file = frame.a3 == .max ? use.file : try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    if frame.a3 != .max { try FileArguments.check(frame.a3, buffer, of: file) }
    return try read(file, &buffer, at: frame.a3 == .max ? nil : frame.a3, frame, try options(frame))
  }

  @inline(__always)
  private static func read(
    _ file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?, _ frame: SystemCallFrame,
    _ options: TransferOptions = []
  ) throws(Errno) -> Int64 {
    frame.task.transfers.readCalls &+= 1
    let count = options.isEmpty ? try file.read(&buffer, at: offset) : try file.read(&buffer, at: offset, options)
    if count > 0 {
      frame.task.transfers.read &+= UInt64(count)
      file.didRead()
    }
    return Int64(count)
  }

  /// The RWF_ flags of preadv2(2) and pwritev2(2). There is nothing to poll for RWF_HIPRI.
  private static func options(_ frame: SystemCallFrame) throws(Errno) -> TransferOptions {
    let flags = frame.int(5)
    guard flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND) == 0 else {
      throw .EOPNOTSUPP
    }
    guard flags & (RWF_APPEND | RWF_NOAPPEND) != RWF_APPEND | RWF_NOAPPEND else { throw .EINVAL }
    var options: TransferOptions = []
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 { options.insert(.dataSync) }
    if flags & RWF_NOWAIT != 0 { options.insert(.noWait) }
    if flags & RWF_APPEND != 0 { options.insert(.append) }
    if flags & RWF_NOAPPEND != 0 { options.insert(.noAppend) }
    return options
  }

  /// A file with a position, or ESPIPE.
  private static func positioned(_ use: borrowing FileUse) throws(Errno) -> OpenFile {
    guard use.file.position != nil else { throw .ESPIPE }
    return use.file
  }

  // MARK: Writing

  static func write(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.writable(frame.int(0), &frame)
    let file = use.file
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    return try write(file, &buffer, at: nil, frame)
  }

  static func pwrite(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.writable(frame.int(0), &frame)
    let file = try positioned(use)
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try write(file, &buffer, at: offset, frame)
  }

  static func writev(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try FileArguments.writable(frame.int(0), &frame)
    let file = use.file
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    return try write(file, &buffer, at: nil, frame)
  }

  static func pwritev(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let offset = try FileArguments.offset(frame.a3)
    let use = try FileArguments.writable(frame.int(0), &frame)
    let file = try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    try FileArguments.check(offset, buffer, of: file)
    return try write(file, &buffer, at: offset, frame)
  }

  static func pwritev2(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a3 != .max { _ = try FileArguments.offset(frame.a3) }
    let use = try FileArguments.writable(frame.int(0), &frame)
    let file = frame.a3 == .max ? use.file : try positioned(use)
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    if frame.a3 != .max { try FileArguments.check(frame.a3, buffer, of: file) }
    return try write(file, &buffer, at: frame.a3 == .max ? nil : frame.a3, frame, try options(frame))
  }

  private static func write(
    _ file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?, _ frame: SystemCallFrame,
    _ options: TransferOptions = []
  ) throws(Errno) -> Int64 {
    frame.task.transfers.writeCalls &+= 1
    let count = try move(to: file, &buffer, at: offset, frame, options)
    frame.task.transfers.written &+= UInt64(count)
    return count
  }

  /// Writes, with the limits of the process: RLIMIT_FSIZE (getrlimit(2)) and the loss of set-id bits.
  static func move(
    to file: OpenFile, _ buffer: inout TransferBuffer, at offset: UInt64?, _ frame: SystemCallFrame,
    _ options: TransferOptions = []
  ) throws(Errno) -> Int64 {
    var limit = RegularFile.maximumSize
    if file.inode.kind == .regular, file.position != nil {
      if buffer.remaining > 0 { try FileTree.dropPrivileges(file.inode, by: frame.caller) }
      if options.contains(.noAppend), try file.inode.isAppendOnly() { throw .EPERM }
      limit = min(limit, frame.process.limit(.fileSize))
    }
    let count: Int
    do throws(Errno) { count = try file.write(&buffer, at: offset, options, below: limit) } catch {
      if error == .EFBIG, limit < RegularFile.maximumSize { raiseSizeLimit(frame) }
      throw error
    }
    if count > 0 { file.didWrite() }
    return Int64(count)
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
