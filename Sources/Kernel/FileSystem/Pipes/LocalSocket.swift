// socketpair(2) of the local family: two ends joined for good. Streams carry bytes; datagrams and sequenced packets keep
// the boundaries of messages. Names, listening and passing descriptors belong to the network rooms.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// What travels from one end to the other.
private final class MessageQueue {
  struct State {
    /// For streams, neighbouring writes are joined.
    var messages: [[UInt8]] = []
    /// Bytes of the first message that have been read (streams).
    var consumed = 0
    var size = 0
    /// What the messages cost the kernel: their bytes and an object each.
    var footprint: Int { size + messages.count * MessageQueue.overhead }
    var isWriterClosed = false
    var isReaderClosed = false
  }
  private let state = SpinLock(State(), rank: .pipe)
  /// Who pays for the messages.
  private let account = Thread.current.account
  let readable = WaitQueue()
  let writable = WaitQueue()
  static var capacity: Int { 212_992 }
  /// Counted for each message besides its bytes, so that small ones do not cost many times what is counted.
  static var overhead: Int { 512 }

  deinit { account.release(state.withLock { $0.footprint }) }

  /// Looks at the messages, or changes them, which changes what is charged.
  func withState<Result>(_ body: (inout State) -> Result) -> Result {
    state.withLock { state in
      let before = state.footprint
      defer { if state.footprint != before { account.charge(state.footprint - before) } }
      return body(&state)
    }
  }

  func closeReader() {
    withState { state in
      state.isReaderClosed = true
      state.messages = []
      state.size = 0
    }
    wake()
  }

  func closeWriter() {
    withState { $0.isWriterClosed = true }
    wake()
  }

  private func wake() {
    readable.wakeAll()
    writable.wakeAll()
  }
}

/// One end of a socket pair.
public final class LocalSocket: OpenFile {
  public enum Style: Sendable { case stream, datagram, sequencedPackets }

  public let style: Style
  private let incoming: MessageQueue
  private let outgoing: MessageQueue

  private init(_ style: Style, incoming: MessageQueue, outgoing: MessageQueue, flags: OpenFlags) {
    self.style = style
    self.incoming = incoming
    self.outgoing = outgoing
    super.init(
      path: AnonymousFiles.makePath(
        kind: .socket, name: "socket", permissions: 0o777, on: AnonymousFiles.sockets),
      flags: flags.intersection(.nonBlocking).union(.readWrite), isSeekable: false)
  }

  /// socketpair(2).
  @export(interface)
  public static func pair(_ style: Style, flags: OpenFlags) -> (OpenFile, OpenFile) {
    let left = MessageQueue()
    let right = MessageQueue()
    return (
      LocalSocket(style, incoming: left, outgoing: right, flags: flags),
      LocalSocket(style, incoming: right, outgoing: left, flags: flags)
    )
  }

  public override var localSocket: LocalSocket? { self }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    return try receive(&buffer, .take, waits: !isNonBlocking).count
  }

  public override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    return try send(&buffer, waits: !isNonBlocking)
  }

  /// Whether a receive removes what it returns (MSG_PEEK does not).
  public enum ReceiveMode: Sendable { case take, peek }

  /// recv(2): the bytes that were copied, and the length of the message they came from.
  @export(interface)
  public func receive(
    _ buffer: inout TransferBuffer, _ mode: ReceiveMode, waits: Bool
  ) throws(Errno) -> (count: Int, messageLength: Int) {
    let limit = buffer.remaining
    if limit == 0, style == .stream { return (0, 0) }
    var found: (bytes: [UInt8], length: Int)?
    var isEnd = false
    let check = { [self] () -> Bool in
      incoming.withState { state in
        found = takeMessage(&state, limit, mode)
        isEnd = found == nil && (state.isWriterClosed || state.isReaderClosed)
        return found != nil || isEnd
      }
    }
    if !check() {
      guard waits else { throw .EAGAIN }
      try incoming.readable.wait(.interruptible, check)
    }
    guard let found else { return (0, 0) }
    if mode == .take { incoming.writable.wakeAll() }
    try buffer.copyOut(ByteString(found.bytes))
    return (found.bytes.count, found.length)
  }

  private func takeMessage(_ state: inout MessageQueue.State, _ limit: Int, _ mode: ReceiveMode)
    -> (bytes: [UInt8], length: Int)?
  {
    guard let first = state.messages.first else { return nil }
    let available = first.count - state.consumed
    let count = min(limit, available)
    let bytes = Array(first[state.consumed..<state.consumed + count])
    guard mode == .take else { return (bytes, available) }
    if style == .stream, count < available {
      state.consumed += count
      state.size -= count
    } else {
      state.messages.removeFirst()
      state.size -= available
      state.consumed = 0
    }
    return (bytes, available)
  }

  /// send(2).
  /// - Throws: EPIPE when the other end is closed (ECONNREFUSED for datagrams), EMSGSIZE, EAGAIN.
  @export(interface)
  public func send(_ buffer: inout TransferBuffer, waits: Bool) throws(Errno) -> Int {
    if style != .stream {
      guard buffer.remaining <= MessageQueue.capacity else { throw .EMSGSIZE }
      try KernelMemory.admit(bytes: buffer.remaining)
      let message = try buffer.copyIn(count: buffer.remaining)
      try post(message, waits: waits)
      return message.count
    }
    var sent = 0
    while buffer.remaining > 0 {
      let part: [UInt8]
      do throws(Errno) {
        try KernelMemory.admit(bytes: min(buffer.remaining, 32768))
        part = try buffer.copyIn(count: min(buffer.remaining, 32768))
        try post(part, waits: waits)
      } catch {
        if sent > 0 { return sent }
        throw error
      }
      sent += part.count
    }
    return sent
  }

  private func post(_ message: [UInt8], waits: Bool) throws(Errno) {
    var failure: Errno?
    let attempt = { [self] () -> Bool in
      outgoing.withState { state in
        if state.isReaderClosed || state.isWriterClosed {
          failure = style == .datagram && !state.isWriterClosed ? .ECONNREFUSED : .EPIPE
          return true
        }
        let footprint = state.footprint + message.count + MessageQueue.overhead
        guard state.messages.isEmpty || footprint <= MessageQueue.capacity else { return false }
        state.messages.append(message)
        state.size += message.count
        return true
      }
    }
    if !attempt() {
      guard waits else { throw .EAGAIN }
      try outgoing.writable.wait(.interruptible, attempt)
    }
    if let failure { throw failure }
    outgoing.readable.wakeAll()
  }

  /// shutdown(2): 0 stops receiving, 1 sending, 2 both.
  @export(interface)
  public func shutdown(_ how: Int32) throws(Errno) {
    guard how >= 0, how <= 2 else { throw .EINVAL }
    if how != 1 { incoming.closeReader() }
    if how != 0 { outgoing.closeWriter() }
  }

  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    guard request == FIONREAD else { throw .ENOTTY }
    let count = incoming.withState { state in
      style == .stream ? state.size : state.messages.first?.count ?? 0
    }
    try UserMemory.write(Int32(truncatingIfNeeded: count), to: argument)
    return 0
  }

  public override func poll() -> PollEvents {
    var events: PollEvents = []
    let (hasData, inputEnded) = incoming.withState {
      (!$0.messages.isEmpty, $0.isWriterClosed || $0.isReaderClosed)
    }
    let (room, outputEnded) = outgoing.withState {
      (MessageQueue.capacity - $0.footprint, $0.isReaderClosed || $0.isWriterClosed)
    }
    if hasData || inputEnded { events.formUnion(.readable) }
    if inputEnded { events.formUnion(.readHangUp) }
    if inputEnded, outputEnded { events.formUnion(.hangUp) }
    if room > MessageQueue.capacity / 2 || outputEnded { events.formUnion(.writable) }
    return events
  }

  public override func pollQueues(_ add: (WaitQueue) -> Void) {
    add(incoming.readable)
    add(outgoing.writable)
  }

  public override var isPollable: Bool { true }

  public override func close() {
    incoming.closeReader()
    outgoing.closeWriter()
  }

  public override var heldBytes: Int { incoming.withState { $0.footprint } }

  public override var displayName: ByteString? {
    var text = TextBuffer()
    text.append("socket:[")
    text.append(decimal: inode.number)
    text.append("]")
    return text.byteString
  }
}
