// A socket: the kernel object below an open file (socket(7)). Families subclass it and answer what they can; the defaults are the
// errors that Linux gives for what a family lacks. A connection that has not been
// accepted has no file: its holder closes it.
//
// What all families share is here: options (`Socket+Options.swift`), the pending error, time-outs and waiting.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// A socket of some family.
open class Socket {
  /// AF_…
  public final let family: Int32
  /// SOCK_…
  public final let type: Int32
  public final let protocolNumber: Int32
  public final let namespace = NetworkNamespace.initial
  /// Woken when there may be something to receive or to accept, and at every change of state.
  public final let readable = WaitQueue()
  /// What the socket may have under way; its queue is woken when there is room, and at every change of state.
  public final let budget = SendBudget(limit: SocketLimits.defaultSendBuffer.value)
  final let options = SpinLock(SocketOptions(), rank: .socketOptions)
  private final let errorNumber = Atomic<Int32>(0)
  private final let isClosed = Atomic<Bool>(false)
  private final let account = Thread.current.account
  /// SO_COOKIE.
  public final let cookie: UInt64
  private static let nextCookie = Atomic<UInt64>(1)
  /// The number of the file's inode; 0 while there is none.
  public final let inodeNumber = Atomic<UInt64>(0)
  private static var kernelBytes: Int { 1024 }

  @export(interface)
  public init(family: Int32, type: Int32, protocol number: Int32) {
    self.family = family
    self.type = type
    protocolNumber = number
    cookie = Self.nextCookie.add(1, ordering: .relaxed).oldValue
    account.charge(Self.kernelBytes)
  }

  deinit {
    LockOrder.mayWait()
    account.release(Self.kernelBytes)
  }

  // MARK: What families answer

  /// bind(2).
  open func bind(_ address: SocketAddress) throws(Errno) { throw .EOPNOTSUPP }
  /// listen(2); the backlog is within net.core.somaxconn.
  open func listen(_ backlog: Int) throws(Errno) { throw .EOPNOTSUPP }
  /// accept(2): a connected socket without a file.
  open func accept(waits: Bool) throws(Errno) -> Socket { throw .EOPNOTSUPP }
  /// connect(2).
  open func connect(_ address: SocketAddress, waits: Bool) throws(Errno) { throw .EOPNOTSUPP }
  /// getsockname(2).
  open func localAddress() throws(Errno) -> SocketAddress { throw .EOPNOTSUPP }
  /// getpeername(2).
  /// - Throws: ENOTCONN.
  open func peerAddress() throws(Errno) -> SocketAddress { throw .EOPNOTSUPP }
  /// sendmsg(2): takes bytes from the message's buffer.
  /// - Returns: how many.
  open func send(_ message: inout OutgoingMessage) throws(Errno) -> Int { throw .EOPNOTSUPP }
  /// recvmsg(2): fills in the message.
  /// - Returns: what recvmsg returns: how many bytes, or with MSG_TRUNC how long the message was.
  open func receive(_ message: inout IncomingMessage) throws(Errno) -> Int { throw .EOPNOTSUPP }
  /// shutdown(2).
  open func shutdown(receiving: Bool, sending: Bool) throws(Errno) { throw .EOPNOTSUPP }
  /// setsockopt(2) of another level than SOL_SOCKET.
  open func setOption(level: Int32, _ name: Int32, _ value: [UInt8]) throws(Errno) { throw .EOPNOTSUPP }
  /// getsockopt(2) of another level than SOL_SOCKET; at most `limit` bytes are of use.
  open func option(level: Int32, _ name: Int32, limit: Int) throws(Errno) -> [UInt8] { throw .EOPNOTSUPP }
  /// An ioctl(2) that the layer does not know.
  open func control(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 { throw .ENOTTY }
  /// Bytes that can be received (FIONREAD).
  open func receivableBytes() throws(Errno) -> Int { throw .ENOTTY }
  /// What would not block now, apart from the pending error.
  open func readiness() -> PollEvents { [] }
  /// More queues than `readable` and the budget's that are woken when `readiness` may have changed.
  open func pollQueues(_ add: (WaitQueue) -> Void) {}
  /// The last use has ended. Called once.
  open func didClose() {}
  /// Whether accept(2) may be called (SO_ACCEPTCONN).
  open var isListening: Bool { false }
  /// SO_PEERCRED; nil when there was never a peer.
  open var peerIdentity: PeerIdentity? { nil }
  /// Whether the family gives senders' identities (SO_PASSCRED, SO_PASSPIDFD).
  open var passesIdentities: Bool { false }
  /// Whether SO_PEEK_OFF may be set.
  open var supportsPeekOffset: Bool { false }
  /// Whether SO_REUSEPORT may be set.
  open var supportsPortSharing: Bool { false }
  /// Bytes that wait to be received, for the out-of-memory policy: without waiting.
  open var heldBytes: Int { 0 }

  // MARK: Life

  /// Ends the socket; a second call does nothing. No spin lock may be held.
  @export(interface)
  public final func close() {
    if !isClosed.exchange(true, ordering: .acquiringAndReleasing) { didClose() }
  }

  // MARK: Errors and waiting

  /// The error that the next call reports (SO_ERROR), once.
  @export(interface)
  public final func takeError() -> Errno? {
    guard errorNumber.load(ordering: .sequentiallyConsistent) != 0 else { return nil }
    let number = errorNumber.exchange(0, ordering: .sequentiallyConsistent)
    return number == 0 ? nil : Errno(rawValue: number)
  }

  @export(interface)
  public final func setError(_ error: Errno) { errorNumber.store(error.rawValue, ordering: .sequentiallyConsistent) }

  public final var hasError: Bool { errorNumber.load(ordering: .sequentiallyConsistent) != 0 }

  /// Wakes all waiters and pollers of the socket: its state has changed.
  @export(interface)
  public final func stateChanged() {
    readable.wakeAll()
    budget.writable.wakeAll()
  }

  /// When a call that begins now gives up (SO_RCVTIMEO, SO_SNDTIMEO).
  @export(interface)
  public final func deadline(receiving: Bool) -> Instant {
    let interval = options.withLock { receiving ? $0.receiveTimeout : $0.sendTimeout }
    return interval == .zero ? .never : Instant.now().advanced(by: interval)
  }

  /// Waits on `queue` until `condition` holds.
  ///
  /// - Throws: EAGAIN at the deadline. When a signal comes first: ERESTARTSYS, or EINTR for a wait with a time-out, which
  ///   is never begun again (signal(7)).
  @export(interface)
  public final func wait(
    on queue: WaitQueue, until deadline: Instant, exclusive: Bool = false, _ condition: () -> Bool
  ) throws(Errno) {
    do throws(Errno) {
      try queue.wait(.interruptible, until: deadline, exclusive: exclusive, condition)
    } catch {
      if error == .ETIMEDOUT { throw .EAGAIN }
      if error == .ERESTARTSYS, deadline != .never { throw .EINTR }
      throw error
    }
  }

  /// Waits until poll(2) would call the socket writable.
  ///
  /// - Throws: EAGAIN at SO_SNDTIMEO; ERESTARTSYS, EINTR.
  @export(interface)
  public final func waitUntilWritable() throws(Errno) {
    try wait(on: budget.writable, until: deadline(receiving: false)) {
      hasError || !readiness().isDisjoint(with: [.writable, .hangUp])
    }
  }

  /// Waits until another message may be sent.
  ///
  /// - Parameter isOver: whether waiting has no sense any more.
  /// - Throws: EAGAIN without `waits`, or at the deadline; ERESTARTSYS, EINTR.
  @export(interface)
  public final func waitForBudget(waits: Bool, until deadline: Instant, unless isOver: () -> Bool) throws(Errno) {
    if budget.hasRoom { return }
    guard waits else { throw .EAGAIN }
    try wait(on: budget.writable, until: deadline) { budget.hasRoom || isOver() }
  }
}
