// A socket of AF_UNIX (unix(7)). Everything that is sent goes straight into the receiver's queue; the sender's budget bounds how
// much. Two ends of a connection refer to each other until one is closed.
//
// One spin lock guards a socket's state; a thread holds that of one socket only, except from a listening socket to a connection
// in its queue. What one end does to the other it does after it has changed itself.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Sockets
import Synchronization

/// A local socket.
final class LocalSocket: Socket {
  enum Phase { case unconnected, listening, connected }

  struct State {
    var phase = Phase.unconnected
    /// The other end; for datagrams, where they go by default.
    var peer: LocalSocket?
    /// The socket is closed: nothing comes into its queues any more.
    var isDead = false
    /// shutdown(2), by this end or by the other.
    var receivingEnded = false
    var sendingEnded = false
    let queue = IntrusiveList<PacketQueue>()
    var queuedBytes = 0
    /// Of a listening socket: connections that have not been accepted.
    let pending = IntrusiveList<PendingConnections>()
    /// How many may wait: connections of a listening socket, datagrams of a receiver.
    var backlog = NetworkNamespace.initial.longestDatagramQueue.value
    /// The name, and the file that it is in the tree.
    var address: SocketAddress?
    var place: Path?
    /// Of a listening socket: the identity of the process that called listen(2).
    var owner: PeerIdentity?
    var peerIdentity: PeerIdentity?

    var isFull: Bool { queue.count > backlog }

    /// Takes the first packet out of the queue.
    mutating func takeFirst() -> PacketBuffer? {
      guard let packet = queue.popFirst() else { return nil }
      queuedBytes -= packet.remaining
      return packet
    }
  }

  let state = SpinLock(State(), rank: .socket)
  /// Held by what changes the connection or the name.
  let control = SleepLock(.socketControl)
  /// Held by the reader of a stream.
  let reader = SleepLock(.socketReader)
  /// Woken when the queue or the backlog is not full any more, and at the end.
  let space = WaitQueue()
  /// Tells the writers of this socket when the peer of its datagrams has room.
  lazy var relay = SpaceRelay(budget.writable)

  // Guarded by the lock of `DescriptorsInFlight`.
  /// How many messages carry a descriptor of this socket, and the file that they carry.
  var inFlight = 0
  var inFlightFile: OpenFile?
  var flightLinks = ListLinks<LocalSocket>()
  var visit = CollectorVisit()

  fileprivate var listLinks = ListLinks<LocalSocket>()
  fileprivate var pendingLinks = ListLinks<LocalSocket>()

  init(type: Int32, protocol number: Int32) {
    super.init(family: AF_UNIX, type: type, protocol: number)
    LocalSocketList.add(self)
  }

  /// Whether there are connections: listen(2), accept(2), and two ends that know of each other.
  var hasConnections: Bool { type != SOCK_DGRAM }

  // MARK: Names and connections

  override func bind(_ address: SocketAddress) throws(Errno) { try takeName(address) }
  override func listen(_ backlog: Int) throws(Errno) { try beginListening(backlog) }
  override func accept(waits: Bool) throws(Errno) -> Socket { try acceptConnection(waits: waits) }
  override func connect(_ address: SocketAddress, waits: Bool) throws(Errno) {
    try makeConnection(address, waits: waits)
  }

  override func localAddress() throws(Errno) -> SocketAddress {
    state.withLock { $0.address } ?? SocketAddress(family: AF_UNIX)
  }

  override func peerAddress() throws(Errno) -> SocketAddress {
    guard let peer = state.withLock({ $0.peer }) else { throw .ENOTCONN }
    return try peer.localAddress()
  }

  // MARK: The end

  override func didClose() {
    LocalSocketList.remove(self)
    var peer: LocalSocket?
    var place: Path?
    var address: SocketAddress?
    let wasUnread = state.withLock { state in
      state.isDead = true
      state.receivingEnded = true
      state.sendingEnded = true
      state.phase = .unconnected
      swap(&state.peer, &peer)
      swap(&state.place, &place)
      address = state.address
      return !state.queue.isEmpty
    }
    giveUpName(address, place)
    if let peer {
      if hasConnections { peer.otherEndClosed(isReset: wasUnread || isPending) } else { peer.space.remove(relay) }
    }
    stateChanged()
    space.wakeAll()
    while let packet = state.withLock({ $0.takeFirst() }) {
      LocalControl.drop(packet)
      Thread.checkReschedule()
    }
    while let connection = state.withLock({ $0.pending.popFirst() }) {
      connection.close()
      Thread.checkReschedule()
    }
    DescriptorsInFlight.collectIfNeeded()
  }

  /// Whether the connection has not been accepted yet.
  var isPending: Bool { inodeNumber.load(ordering: .acquiring) == 0 }

  private func otherEndClosed(isReset: Bool) {
    state.withLock { state in
      state.receivingEnded = true
      state.sendingEnded = true
      if isReset { setError(.ECONNRESET) }
    }
    stateChanged()
  }

  override func shutdown(receiving: Bool, sending: Bool) throws(Errno) {
    let peer = state.withLock { state in
      if receiving { state.receivingEnded = true }
      if sending { state.sendingEnded = true }
      return state.peer
    }
    if let peer, hasConnections {
      peer.state.withLock { state in
        if sending { state.receivingEnded = true }
        if receiving { state.sendingEnded = true }
      }
      peer.stateChanged()
    }
    stateChanged()
    space.wakeAll()
  }

  // MARK: Readiness

  override func readiness() -> PollEvents {
    var events: PollEvents = []
    let (phase, peer) = state.withLock { state in
      if state.receivingEnded { events.formUnion([.readable, .readHangUp]) }
      if state.receivingEnded, state.sendingEnded { events.formUnion(.hangUp) }
      if !state.queue.isEmpty || !state.pending.isEmpty { events.formUnion(.readable) }
      return (state.phase, state.peer)
    }
    if hasConnections, phase == .unconnected { events.formUnion(.hangUp) }
    guard phase != .listening, budget.isWritable else { return events }
    // The peer tells by the relay when it has room.
    if type == SOCK_DGRAM, let peer, !peer.hasRoom(for: self) { return events }
    return events.union([.writable, PollEvents(rawValue: POLLWRBAND)])
  }

  /// Whether a datagram of `sender` finds room in the queue. Two sockets that send to each other need none: their budgets bound them.
  func hasRoom(for sender: LocalSocket) -> Bool {
    state.withLock { state in state.peer === sender || !state.isFull || state.isDead }
  }

  override var isListening: Bool { state.withLock { $0.phase == .listening } }
  override var peerIdentity: PeerIdentity? { state.withLock { $0.peerIdentity } }
  override var passesIdentities: Bool { true }
  override var supportsPeekOffset: Bool { true }
  override var supportsPortSharing: Bool { false }
  override var heldBytes: Int { state.withLock { $0.queuedBytes + $0.queue.count * 768 } }

  override func receivableBytes() throws(Errno) -> Int {
    try state.withLock { state throws(Errno) in
      if state.phase == .listening { throw .EINVAL }
      return hasConnections ? state.queuedBytes : state.queue.first?.remaining ?? 0
    }
  }

  // MARK: Transfer

  override func send(_ message: inout OutgoingMessage) throws(Errno) -> Int {
    if message.flags.contains(.outOfBand) { throw .EOPNOTSUPP }
    switch type {
    case SOCK_STREAM: return try sendStream(&message)
    case SOCK_SEQPACKET:
      guard state.withLock({ $0.phase == .connected }) else { throw .ENOTCONN }
      message.destination = nil
      return try sendDatagram(&message)
    default: return try sendDatagram(&message)
    }
  }

  override func receive(_ message: inout IncomingMessage) throws(Errno) -> Int {
    if message.flags.contains(.outOfBand) { throw .EOPNOTSUPP }
    switch type {
    case SOCK_STREAM: return try receiveStream(&message)
    case SOCK_SEQPACKET:
      guard state.withLock({ $0.phase == .connected }) else { throw .ENOTCONN }
      return try receiveDatagram(&message)
    default: return try receiveDatagram(&message)
    }
  }
}

/// Wakes the writers of a socket when another one has room.
final class SpaceRelay: WaitEntry {
  private let target: WaitQueue

  init(_ target: WaitQueue) {
    self.target = target
    super.init()
  }

  override func wake() { target.wakeAll() }
}

/// A place in the queue of connections that have not been accepted.
enum PendingConnections: ListMembership {
  static func links(of socket: LocalSocket) -> ListLinks<LocalSocket> { socket.pendingLinks }
  static func setLinks(_ links: ListLinks<LocalSocket>, of socket: LocalSocket) { socket.pendingLinks = links }
}

/// All local sockets that are open, for /proc/net/unix.
enum LocalSocketList: ListMembership {
  static func links(of socket: LocalSocket) -> ListLinks<LocalSocket> { socket.listLinks }
  static func setLinks(_ links: ListLinks<LocalSocket>, of socket: LocalSocket) { socket.listLinks = links }

  private static let all = SpinLock(IntrusiveList<LocalSocketList>(), rank: .socketNames)

  static func add(_ socket: LocalSocket) { all.withLock { $0.append(socket) } }
  static func remove(_ socket: LocalSocket) { all.withLock { $0.remove(socket) } }
  static var count: Int { all.withLock { $0.count } }

  /// The first sockets, `limit` at most; the array is made before the lock is taken.
  static func snapshot(limit: Int) -> [LocalSocket] {
    var result: [LocalSocket] = []
    result.reserveCapacity(limit)
    all.withLock { list in
      list.visit { socket in
        guard result.count < limit else { return false }
        result.append(socket)
        return true
      }
    }
    return result
  }
}
