// Sockets and connections: socket(2), socketpair(2), bind(2), listen(2), accept(2), connect(2), names, options, shutdown(2). What
// a call means is the family's business (room Sockets).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Sockets
import Synchronization
import VirtualMemory

/// The socket calls.
public enum SocketCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(41, "socket", .partial("AF_UNIX only"), "family:i type:x protocol:i", make),
      SystemCall(42, "connect", .full, "fd:d address:p size:u", connect),
      SystemCall(43, "accept", .full, "fd:d address:p size:p") { frame throws(Errno) in try accept(0, &frame) },
      SystemCall(48, "shutdown", .full, "fd:d how:i", shutdown),
      SystemCall(49, "bind", .full, "fd:d address:p size:u", bind),
      SystemCall(50, "listen", .full, "fd:d backlog:i", listen),
      SystemCall(51, "getsockname", .full, "fd:d address:p size:p") { frame throws(Errno) in
        let use = try frame.descriptors.getForUse(frame.int(0))
        let address = try SocketArguments.file(use).socket.localAddress()
        try SocketArguments.write(address, to: frame.a1, length: frame.a2)
        return 0
      },
      SystemCall(52, "getpeername", .full, "fd:d address:p size:p") { frame throws(Errno) in
        let use = try frame.descriptors.getForUse(frame.int(0))
        let address = try SocketArguments.file(use).socket.peerAddress()
        try SocketArguments.write(address, to: frame.a1, length: frame.a2)
        return 0
      },
      SystemCall(53, "socketpair", .full, "family:i type:x protocol:i fds:p", pair),
      SystemCall(54, "setsockopt", .partial("no filters"), "fd:d level:i option:i value:p size:u", setOption),
      SystemCall(55, "getsockopt", .partial("no filters"), "fd:d level:i option:i value:p size:p", getOption),
      SystemCall(288, "accept4", .full, "fd:d address:p size:p flags:x") { frame throws(Errno) in
        try accept(frame.int(3), &frame)
      },
    ]
  }

  /// What the family rooms ask about the caller.
  static func installUser() {
    SocketUser.ofRunningThread = {
      guard let task = Task.running else { return nil }
      return SocketUser(
        pid: task.process.pid, process: task.process, caller: task.caller, descriptors: task.descriptors,
        descriptorLimit: task.process.limit(.openFiles), findProcess: { ProcessTable.process($0) })
    }
  }

  // MARK: Making

  /// The type of a new socket, and the flags beside it.
  ///
  /// - Throws: EINVAL for unknown flags.
  private static func type(_ value: Int32) throws(Errno) -> (Int32, OpenFlags, closeOnExec: Bool) {
    guard value & ~(SOCK_TYPE_MASK | O_CLOEXEC | O_NONBLOCK) == 0 else { throw .EINVAL }
    return (value & SOCK_TYPE_MASK, OpenFlags(rawValue: value & O_NONBLOCK), value & O_CLOEXEC != 0)
  }

  static func make(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (type, flags, closeOnExec) = try type(frame.int(1))
    let socket = try AddressFamilies.makeSocket(frame.int(0), type: type, protocol: frame.int(2))
    return try install(socket, flags, closeOnExec: closeOnExec, frame)
  }

  /// Gives a socket a file and that a descriptor; without one the socket is closed.
  private static func install(
    _ socket: Socket, _ flags: OpenFlags, closeOnExec: Bool, _ frame: SystemCallFrame,
    _ prepare: () throws(Errno) -> Void = {}
  ) throws(Errno) -> Int64 {
    let file = SocketFile(socket, flags: flags, owner: frame.caller.fileSystemOwner)
    file.acquire()
    defer { file.release() }
    try prepare()
    return Int64(try frame.descriptors.insert(file, closeOnExec: closeOnExec))
  }

  static func pair(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (type, flags, closeOnExec) = try type(frame.int(1))
    let (left, right) = try AddressFamilies.makePair(frame.int(0), type: type, protocol: frame.int(2))
    let owner = frame.caller.fileSystemOwner
    try PipeCalls.installPair(
      SocketFile(left, flags: flags, owner: owner), SocketFile(right, flags: flags, owner: owner),
      closeOnExec: closeOnExec, frame.a3, frame)
    return 0
  }

  // MARK: Connecting

  static func bind(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try SocketArguments.file(use).socket
    try socket.bind(try SocketArguments.address(frame.a1, frame.int(2)))
    return 0
  }

  static func listen(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try SocketArguments.file(use).socket
    let limit = socket.namespace.longestBacklog.value
    try socket.listen(min(Int(frame.uint(1)), limit))
    return 0
  }

  static func connect(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    try file.socket.connect(try SocketArguments.address(frame.a1, frame.int(2)), waits: !file.isNonBlocking)
    return 0
  }

  private static func accept(_ flags: Int32, _ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard flags & ~(O_CLOEXEC | O_NONBLOCK) == 0 else { throw .EINVAL }
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    // Without a number for it a connection stays where it is.
    guard frame.descriptors.hasFreeNumber else { throw .EMFILE }
    let socket = try file.socket.accept(waits: !file.isNonBlocking)
    let (place, lengthPlace) = (frame.a1, frame.a2)
    return try install(socket, OpenFlags(rawValue: flags & O_NONBLOCK), closeOnExec: flags & O_CLOEXEC != 0, frame) {
      () throws(Errno) in
      guard place != 0 else { return }
      let address = (try? socket.peerAddress()) ?? SocketAddress(family: socket.family)
      try SocketArguments.write(address, to: place, length: lengthPlace)
    }
  }

  static func shutdown(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try SocketArguments.file(use).socket
    let how = frame.int(1)
    guard how >= SHUT_RD, how <= SHUT_RDWR else { throw .EINVAL }
    try socket.shutdown(receiving: how != SHUT_WR, sending: how != SHUT_RD)
    return 0
  }

  // MARK: Options

  static func setOption(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try SocketArguments.file(use).socket
    let count = frame.int(4)
    guard count >= 0 else { throw .EINVAL }
    // No option is longer.
    let value = try UserMemory.copyIn(from: frame.a3, count: min(Int(count), 4096))
    try socket.set(level: frame.int(1), frame.int(2), value, by: frame.credentials)
    return 0
  }

  static func getOption(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try SocketArguments.file(use).socket
    let room = try UserMemory.read(frame.a4, as: Int32.self)
    guard room >= 0 else { throw .EINVAL }
    let value: [UInt8]
    if frame.int(1) == SOL_SOCKET, frame.int(2) == SO_PEERPIDFD {
      value = try peerProcess(socket, frame)
    } else {
      value = try socket.value(level: frame.int(1), frame.int(2), limit: Int(room))
    }
    if frame.int(1) == SOL_SOCKET, frame.int(2) == SO_PEERGROUPS, value.count > Int(room) {
      try UserMemory.write(Int32(clamping: value.count), to: frame.a4)
      throw .ERANGE
    }
    let count = min(value.count, Int(room))
    try UserMemory.copyOut(to: frame.a3, Array(value.prefix(count)))
    try UserMemory.write(Int32(clamping: count), to: frame.a4)
    return 0
  }

  /// SO_PEERPIDFD: a new descriptor.
  ///
  /// - Throws: ENODATA without a peer; ESRCH when it has been waited for.
  private static func peerProcess(_ socket: Socket, _ frame: SystemCallFrame) throws(Errno) -> [UInt8] {
    guard let process = socket.peerIdentity?.process as? Process else { throw .ENODATA }
    let descriptor = try OpenCalls.install(ProcessFile(process, flags: .readWrite), closeOnExec: true, frame)
    return ControlMessage.word(UInt32(truncatingIfNeeded: descriptor))
  }
}
