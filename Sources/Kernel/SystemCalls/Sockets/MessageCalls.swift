// Sending and receiving: sendto(2), sendmsg(2), sendmmsg(2), recvfrom(2), recvmsg(2), recvmmsg(2).

import FileSystem
import KernelCore
import LinuxABI
import Process
import Scheduling
import Sockets
import VirtualMemory

/// The calls that move messages.
public enum MessageCalls {
  private static var urgent: Coverage { .partial("no urgent data (MSG_OOB)") }

  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(44, "sendto", urgent, "fd:d buf:B count:u flags:x address:p size:u", sendTo),
      SystemCall(45, "recvfrom", urgent, "fd:d buf:b count:u flags:x address:p size:p", receiveFrom),
      SystemCall(46, "sendmsg", urgent, "fd:d message:p flags:x") { frame throws(Errno) in
        let use = try frame.descriptors.getForUse(frame.int(0))
        return Int64(try send(try SocketArguments.file(use), frame.a1, frame.int(2), &frame))
      },
      SystemCall(47, "recvmsg", urgent, "fd:d message:p flags:x") { frame throws(Errno) in
        let use = try frame.descriptors.getForUse(frame.int(0))
        return Int64(try receive(try SocketArguments.file(use), frame.a1, frame.int(2), &frame))
      },
      SystemCall(299, "recvmmsg", urgent, "fd:d messages:p count:u flags:x timeout:p", receiveMany),
      SystemCall(307, "sendmmsg", urgent, "fd:d messages:p count:u flags:x", sendMany),
    ]
  }

  /// sizeof(struct mmsghdr), and where it says how many bytes were moved.
  private static let stride: UInt64 = 64
  private static let countPlace: UInt64 = 56

  // MARK: Sending

  private static func flags(_ value: Int32, _ file: SocketFile) -> MessageFlags {
    var flags = MessageFlags(rawValue: value)
    if file.isNonBlocking { flags.insert(.dontWait) }
    return flags
  }

  private static func send(
    _ file: SocketFile, _ message: inout OutgoingMessage, _ frame: inout SystemCallFrame
  ) throws(Errno) -> Int {
    if message.flags.rawValue & MSG_NOSIGNAL != 0 || !file.raisesBrokenPipe { frame.suppressesPipeSignal = true }
    return try file.socket.send(&message)
  }

  static func sendTo(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    let buffer = try FileArguments.buffer(frame.a1, frame.a2)
    var message = OutgoingMessage(buffer, flags: flags(frame.int(3), file))
    if frame.a4 != 0 { message.destination = try SocketArguments.address(frame.a4, frame.int(5)) }
    return Int64(try send(file, &message, &frame))
  }

  /// sendmsg(2) of the struct msghdr at `place`.
  private static func send(
    _ file: SocketFile, _ place: UInt64, _ flagBits: Int32, _ frame: inout SystemCallFrame
  ) throws(Errno) -> Int {
    guard flagBits & MSG_CMSG_COMPAT == 0 else { throw .EINVAL }
    let header = try SocketArguments.Header(place)
    var message = OutgoingMessage(try header.buffer(), flags: flags(flagBits, file))
    if header.nameLength > 0 { message.destination = try SocketArguments.address(header.name, header.nameLength) }
    message.control = try header.controlMessages()
    return try send(file, &message, &frame)
  }

  static func sendMany(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    guard frame.int(3) & MSG_CMSG_COMPAT == 0 else { throw .EINVAL }
    let limit = min(UInt64(frame.uint(2)), UInt64(IOV_MAX))
    var done: UInt64 = 0
    do throws(Errno) {
      while done < limit {
        let place = frame.a1 &+ (done &* stride)
        let count = try send(file, place, frame.int(3), &frame)
        try UserMemory.write(UInt32(truncatingIfNeeded: count), to: place &+ countPlace)
        done += 1
        Thread.checkReschedule()
      }
    } catch {
      if done == 0 { throw error }
    }
    return Int64(done)
  }

  // MARK: Receiving

  static func receiveFrom(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    let buffer = try FileArguments.buffer(frame.a1, frame.a2)
    var message = IncomingMessage(buffer, flags: flags(frame.int(3), file))
    defer { message.dropControl() }
    let count = try file.socket.receive(&message)
    if frame.a4 != 0 { try SocketArguments.write(message.source, to: frame.a4, length: frame.a5) }
    return Int64(count)
  }

  /// recvmsg(2) into the struct msghdr at `place`.
  private static func receive(
    _ file: SocketFile, _ place: UInt64, _ flagBits: Int32, _ frame: inout SystemCallFrame
  ) throws(Errno) -> Int {
    guard flagBits & MSG_CMSG_COMPAT == 0 else { throw .EINVAL }
    let header = try SocketArguments.Header(place)
    var message = IncomingMessage(try header.buffer(), flags: flags(flagBits, file))
    // What has got a descriptor has a reference of its own.
    defer { message.dropControl() }
    let count = try file.socket.receive(&message)
    let closeOnExec = flagBits & MSG_CMSG_CLOEXEC != 0
    var control = SocketArguments.ControlWriter(header, closeOnExec: closeOnExec)
    try control.write(message.control, frame)
    if header.name != 0 { try SocketArguments.write(message.source, to: header.name, length: place &+ 8) }
    // The program gets the flag that it gave about its descriptors back.
    let result = message.resultFlags.union(control.flags).rawValue | (flagBits & MSG_CMSG_CLOEXEC)
    try UserMemory.write(result, to: place &+ 48)
    try UserMemory.write(UInt64(control.written), to: place &+ 40)
    return count
  }

  /// recvmmsg(2): the time-out is looked at between two messages only, as on Linux.
  static func receiveMany(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let deadline: Instant = frame.a4 == 0 ? .never : Instant.now().advanced(by: try Timespec.read(frame.a4))
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = try SocketArguments.file(use)
    guard frame.int(3) & MSG_CMSG_COMPAT == 0 else { throw .EINVAL }
    if let error = file.socket.takeError() { throw error }
    let limit = min(UInt64(frame.uint(2)), UInt64(IOV_MAX))
    var flagBits = frame.int(3) & ~MSG_WAITFORONE
    var done: UInt64 = 0
    do throws(Errno) {
      while done < limit {
        let place = frame.a1 &+ (done &* stride)
        let count = try receive(file, place, flagBits, &frame)
        try UserMemory.write(UInt32(truncatingIfNeeded: count), to: place &+ countPlace)
        done += 1
        if frame.int(3) & MSG_WAITFORONE != 0 { flagBits |= MSG_DONTWAIT }
        if Instant.now() >= deadline { break }
        Thread.checkReschedule()
      }
    } catch {
      guard done > 0 else { throw error }
      // The next call reports it.
      if error != .EAGAIN, error != .ERESTARTSYS { file.socket.setError(error) }
    }
    if frame.a4 != 0 {
      try UserMemory.write(Timespec.timespec(Nanoseconds(deadline.nanoseconds(since: .now()))), to: frame.a4)
    }
    return Int64(done)
  }
}
