// Sockets, as far as there are any: socketpair(2) of the local family, and the calls that work on its ends. No other
// family exists, so socket(2) says that.

import FileSystem
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// The socket calls.
public enum SocketCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(41, "socket", .partial("no address family"), "family:i type:x protocol:i") { _ throws(Errno) in
        throw .EAFNOSUPPORT
      },
      SystemCall(44, "sendto", .partial("socket pairs only"), "fd:d buf:B count:u flags:x address:p size:u", send),
      SystemCall(45, "recvfrom", .partial("socket pairs only"), "fd:d buf:b count:u flags:x address:p size:p", receive),
      SystemCall(
        46, "sendmsg", .partial("socket pairs only, no control messages"), "fd:d message:p flags:x", sendMessage),
      SystemCall(
        47, "recvmsg", .partial("socket pairs only, no control messages"), "fd:d message:p flags:x", receiveMessage),
      SystemCall(48, "shutdown", .partial("socket pairs only"), "fd:d how:i") { frame throws(Errno) in
        let use = try frame.descriptors.getForUse(frame.int(0))
        try socket(use).shutdown(frame.int(1))
        return 0
      },
      SystemCall(51, "getsockname", .partial("socket pairs only"), "fd:d address:p size:p", name),
      SystemCall(52, "getpeername", .partial("socket pairs only"), "fd:d address:p size:p", name),
      SystemCall(53, "socketpair", .partial("no descriptor passing"), "family:i type:x protocol:i fds:p", pair),
      SystemCall(
        55, "getsockopt", .partial("SO_TYPE, SO_ERROR, SO_DOMAIN, SO_PROTOCOL"),
        "fd:d level:i option:i value:p size:p", getOption),
    ]
  }

  private static let dontWait: Int32 = 0x40  // MSG_DONTWAIT
  private static let noSignal: Int32 = 0x4000  // MSG_NOSIGNAL
  private static let peek: Int32 = 0x2  // MSG_PEEK
  private static let truncated: Int32 = 0x20  // MSG_TRUNC

  private static func socket(_ use: borrowing FileUse) throws(Errno) -> LocalSocket {
    guard let socket = use.file.localSocket else { throw .ENOTSOCK }
    return socket
  }

  static func pair(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(0) == 1 else { throw frame.int(0) == 2 || frame.int(0) == 10 ? .EOPNOTSUPP : .EAFNOSUPPORT }
    let type = frame.int(1)
    guard type & ~(0xf | O_CLOEXEC | O_NONBLOCK) == 0 else { throw .EINVAL }
    let style: LocalSocket.Style
    switch type & 0xf {
    case 1: style = .stream
    case 2: style = .datagram
    case 5: style = .sequencedPackets
    default: throw .ESOCKTNOSUPPORT
    }
    guard frame.int(2) == 0 || frame.int(2) == 1 else { throw .EPROTONOSUPPORT }
    let (left, right) = LocalSocket.pair(style, flags: OpenFlags(rawValue: type & O_NONBLOCK))
    try PipeCalls.installPair(left, right, closeOnExec: type & O_CLOEXEC != 0, frame.a3, frame)
    return 0
  }

  // MARK: Transfer

  static func send(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try socket(use)
    if frame.a4 != 0 { throw .EISCONN }
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    return try send(socket, &buffer, frame.int(3), &frame)
  }

  private static func send(
    _ socket: LocalSocket, _ buffer: inout TransferBuffer, _ flags: Int32, _ frame: inout SystemCallFrame
  ) throws(Errno) -> Int64 {
    guard flags & ~(dontWait | noSignal) == 0 else { throw .EOPNOTSUPP }
    if flags & noSignal != 0 { frame.suppressesPipeSignal = true }
    return Int64(try socket.send(&buffer, waits: flags & dontWait == 0 && !socket.isNonBlocking))
  }

  static func receive(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try socket(use)
    var buffer = try FileArguments.buffer(frame.a1, frame.a2)
    let result = try receive(socket, &buffer, frame.int(3))
    // The ends have no names: an address of length 0.
    if frame.a4 != 0, frame.a5 != 0 { try UserMemory.write(UInt32(0), to: frame.a5) }
    return result.count
  }

  private static func receive(_ socket: LocalSocket, _ buffer: inout TransferBuffer, _ flags: Int32) throws(Errno)
    -> (count: Int64, isTruncated: Bool)
  {
    // MSG_CMSG_CLOEXEC (0x40000000) and MSG_WAITALL (0x100) are accepted; the latter does not wait for more.
    guard flags & ~(dontWait | noSignal | peek | truncated | 0x4000_0000 | 0x100) == 0 else { throw .EOPNOTSUPP }
    let (count, length) = try socket.receive(
      &buffer, flags & peek != 0 ? .peek : .take, waits: flags & dontWait == 0 && !socket.isNonBlocking)
    let isTruncated = socket.style != .stream && length > count
    return (Int64(flags & truncated != 0 && isTruncated ? length : count), isTruncated)
  }

  /// The fields of struct msghdr that matter here: name at 0, vectors at 16 and 24, control at 32 and 40, flags at 48.
  static func sendMessage(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try socket(use)
    let header = try UserMemory.copyIn(from: frame.a1, count: 56)
    if FileArguments.word(header, 0) != 0, UInt32(truncatingIfNeeded: FileArguments.word(header, 8)) != 0 {
      throw .EISCONN
    }
    if FileArguments.word(header, 40) != 0 { throw .EOPNOTSUPP }
    guard FileArguments.word(header, 24) <= UInt64(IOV_MAX) else { throw .EMSGSIZE }
    var buffer = try FileArguments.vectors(FileArguments.word(header, 16), FileArguments.word(header, 24))
    return try send(socket, &buffer, frame.int(2), &frame)
  }

  static func receiveMessage(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try socket(use)
    let header = try UserMemory.copyIn(from: frame.a1, count: 56)
    guard FileArguments.word(header, 24) <= UInt64(IOV_MAX) else { throw .EMSGSIZE }
    var buffer = try FileArguments.vectors(FileArguments.word(header, 16), FileArguments.word(header, 24))
    let result = try receive(socket, &buffer, frame.int(2))
    // No name, no control messages.
    try UserMemory.write(UInt32(0), to: frame.a1 &+ 8)
    try UserMemory.write(UInt64(0), to: frame.a1 &+ 40)
    try UserMemory.write(result.isTruncated ? truncated : 0, to: frame.a1 &+ 48)
    return result.count
  }

  // MARK: Names and options

  /// Both ends are nameless: the address is the family alone.
  static func name(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    _ = try socket(use)
    let room = try UserMemory.read(frame.a2, as: Int32.self)
    guard room >= 0 else { throw .EINVAL }
    try UserMemory.copyOut(to: frame.a1, Array([UInt8(1), 0].prefix(Int(room))))
    try UserMemory.write(Int32(2), to: frame.a2)
    return 0
  }

  static func getOption(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let socket = try socket(use)
    guard frame.int(1) == 1 else { throw .EOPNOTSUPP }
    let value: Int32
    switch frame.int(2) {
    case 3: value = socket.style == .stream ? 1 : socket.style == .datagram ? 2 : 5  // SO_TYPE
    case 4: value = 0  // SO_ERROR
    case 38: value = 0  // SO_PROTOCOL
    case 39: value = 1  // SO_DOMAIN
    default: throw .ENOPROTOOPT
    }
    guard try UserMemory.read(frame.a4, as: Int32.self) >= 4 else { throw .EINVAL }
    try UserMemory.write(value, to: frame.a3)
    try UserMemory.write(Int32(4), to: frame.a4)
    return 0
  }
}
