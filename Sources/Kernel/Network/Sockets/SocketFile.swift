// The open file of a socket: read(2), write(2), poll(2) and ioctl(2) in terms of the socket below.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// An open file over a socket.
public final class SocketFile: OpenFile {
  public let socket: Socket

  @export(interface)
  public init(_ socket: Socket, flags: OpenFlags, owner: Owner = .root) {
    self.socket = socket
    let path = AnonymousFiles.makePath(
      kind: .socket, name: "socket", permissions: 0o777, owner: owner, on: AnonymousFiles.sockets)
    socket.inodeNumber.store(path.inode.number, ordering: .releasing)
    super.init(path: path, flags: flags.intersection(.nonBlocking).union(.readWrite), isSeekable: false)
  }

  // MARK: Transfer

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    // read(2) of no bytes asks nothing of the socket.
    if buffer.remaining == 0 { return 0 }
    var message = IncomingMessage(buffer, flags: isNonBlocking ? .dontWait : [])
    defer {
      message.dropControl()
      buffer = message.buffer
    }
    return try socket.receive(&message)
  }

  public override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    var message = OutgoingMessage(buffer, flags: isNonBlocking ? .dontWait : [])
    defer { buffer = message.buffer }
    return try socket.send(&message)
  }

  /// Writes what there is room for, without waiting, whatever the file's flags say.
  ///
  /// - Throws: EAGAIN when there is none.
  @export(interface)
  public func writeNow(_ buffer: inout TransferBuffer) throws(Errno) -> Int {
    var message = OutgoingMessage(buffer, flags: .dontWait)
    defer { buffer = message.buffer }
    return try socket.send(&message)
  }

  // MARK: Control and readiness

  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    let value: Int
    switch request {
    case FIONREAD: value = try socket.receivableBytes()
    case SIOCOUTQ: value = socket.budget.usedBytes
    case FIOGETOWN, SIOCGPGRP: value = Int(signalOwner.load(ordering: .relaxed))
    case FIOSETOWN, SIOCSPGRP:
      signalOwner.store(try UserMemory.read(argument, as: Int32.self), ordering: .relaxed)
      return 0
    default: return try socket.control(request, argument)
    }
    try UserMemory.write(Int32(clamping: value), to: argument)
    return 0
  }

  public override func poll() -> PollEvents {
    let events = socket.readiness()
    return socket.hasError ? events.union(.error) : events
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) {
    add(socket.readable)
    add(socket.budget.writable)
    socket.pollQueues(add)
  }

  public override var isPollable: Bool { true }
  /// Only streams raise SIGPIPE.
  public override var raisesBrokenPipe: Bool { socket.type == SOCK_STREAM }
  public override func close() { socket.close() }
  public override var heldBytes: Int { socket.heldBytes }

  public override var displayName: ByteString? {
    var text = TextBuffer()
    text.append("socket:[")
    text.append(decimal: inode.number)
    text.append("]")
    return text.byteString
  }
}
