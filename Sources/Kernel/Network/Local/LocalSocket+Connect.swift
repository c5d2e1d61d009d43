// Names and connections: bind(2), listen(2), connect(2), accept(2).
//
// connect(2) puts the other end of the new connection into the queue of the listening socket, ready for use: the caller may
// send before anybody has accepted.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Sockets
import VirtualMemory

extension LocalSocket {
  // MARK: Names

  func takeName(_ address: SocketAddress) throws(Errno) {
    if LocalName.isAutomatic(address) { return try bindAutomatically() }
    let name = try LocalName(address)
    let caller = try SocketUser.current().caller
    control.acquire()
    defer { control.release() }
    guard state.withLock({ $0.address }) == nil else { throw .EINVAL }
    switch name {
    case .abstract(let bytes): try AbstractNames.add(bytes, self)
    case .path(let path):
      let place: Path
      do throws(Errno) { place = try FileTree.makeSocket(path, by: caller) } catch {
        throw error == .EEXIST ? .EADDRINUSE : error
      }
      place.mount.enter()
      place.inode.bindSocket(self)
      state.withLock { $0.place = place }
    }
    state.withLock { $0.address = name.address }
  }

  /// Gives a socket without a name an abstract one (unix(7), "Autobind feature").
  func bindAutomatically() throws(Errno) {
    control.acquire()
    defer { control.release() }
    guard state.withLock({ $0.address }) == nil else { return }
    let name = LocalName.abstract(try AbstractNames.addAutomatic(self))
    state.withLock { $0.address = name.address }
  }

  /// A socket that shows identities needs a name that answers can go to.
  func bindIfIdentified() throws(Errno) {
    guard passesCredentials || passesProcess else { return }
    if state.withLock({ $0.address }) == nil { try bindAutomatically() }
  }

  /// The socket is closed. Another end of an accepted connection shows the same name, and owns none.
  func giveUpName(_ address: SocketAddress?, _ place: Path?) {
    if let place {
      if place.inode.boundSocket === self { place.inode.bindSocket(nil) }
      place.mount.leave()
    } else if let address, let name = try? LocalName(address), case .abstract(let bytes) = name {
      AbstractNames.remove(bytes, self)
    }
  }

  /// The open socket that has a name.
  ///
  /// - Throws: ECONNREFUSED when no open socket has it, though a file of that name may exist; EACCES without the right to write to the
  ///   file; EPROTOTYPE for a path of another type; what a walk to the file throws.
  func find(_ name: LocalName, by caller: Caller) throws(Errno) -> LocalSocket {
    let found: LocalSocket?
    switch name {
    case .abstract(let bytes): found = AbstractNames.find(bytes, type: type)
    case .path(let path):
      let place = try PathWalk.resolve(path, by: caller)
      try caller.check(.write, try place.inode.accessControl(), kind: place.inode.kind)
      guard place.inode.kind == .socket else { throw .ECONNREFUSED }
      found = place.inode.boundSocket as? LocalSocket
    }
    guard let found else { throw .ECONNREFUSED }
    guard found.type == type else { throw .EPROTOTYPE }
    return found
  }

  // MARK: Listening

  func beginListening(_ backlog: Int) throws(Errno) {
    guard hasConnections else { throw .EOPNOTSUPP }
    let owner = try SocketUser.current().identity
    control.acquire()
    defer { control.release() }
    try state.withLock { state throws(Errno) in
      guard state.address != nil, state.phase != .connected else { throw .EINVAL }
      state.phase = .listening
      state.backlog = backlog
      state.owner = owner
      state.peerIdentity = owner
    }
    stateChanged()
    space.wakeAll()
  }

  func acceptConnection(waits: Bool) throws(Errno) -> LocalSocket {
    guard hasConnections else { throw .EOPNOTSUPP }
    guard isListening else { throw .EINVAL }
    var connection: LocalSocket?
    var wasFull = false
    var isOver = false
    let take = { [self] () -> Bool in
      state.withLock { state in
        wasFull = state.pending.count > state.backlog
        connection = state.pending.popFirst()
        isOver = state.receivingEnded
        return connection != nil || isOver
      }
    }
    if !take() {
      guard waits else { throw .EAGAIN }
      try wait(on: readable, until: deadline(receiving: true), exclusive: true, take)
    }
    guard let connection else { throw .EINVAL }
    if wasFull { space.wakeAll() }
    return connection
  }

  // MARK: Connecting

  func makeConnection(_ address: SocketAddress, waits: Bool) throws(Errno) {
    guard hasConnections else { return try connectDatagrams(address) }
    let name = try LocalName(address)
    try bindIfIdentified()
    let user = try SocketUser.current()
    let deadline = deadline(receiving: false)
    let connection = LocalSocket(type: type, protocol: protocolNumber)
    do throws(Errno) {
      while true {
        let other = try find(name, by: user.caller)
        if try enter(connection, other, user) {
          other.readable.wakeOne()
          return
        }
        guard waits else { throw .EAGAIN }
        try wait(on: other.space, until: deadline, exclusive: true) {
          other.state.withLock { $0.isDead || $0.receivingEnded || $0.pending.count <= $0.backlog }
        }
      }
    } catch {
      connection.close()
      throw error
    }
  }

  /// Puts a connection with this socket into the queue of a listening one.
  ///
  /// - Returns: false when the queue is full, or the other socket has just been closed.
  /// - Throws: ECONNREFUSED, EISCONN, EINVAL.
  private func enter(_ connection: LocalSocket, _ other: LocalSocket, _ user: SocketUser) throws(Errno) -> Bool {
    control.acquire()
    defer { control.release() }
    let (isListening, otherAddress, owner) = other.state.withLock {
      ($0.phase == .listening && !$0.receivingEnded, $0.address, $0.owner)
    }
    guard isListening else { throw .ECONNREFUSED }
    switch state.withLock({ $0.phase }) {
    case .unconnected: break
    case .connected: throw .EISCONN
    case .listening: throw .EINVAL
    }
    let identity = user.identity
    connection.state.withLock { state in
      state.phase = .connected
      state.peer = self
      state.peerIdentity = identity
      state.address = otherAddress
    }
    let isIn = other.state.withLock { state in
      guard state.phase == .listening, !state.receivingEnded, state.pending.count <= state.backlog else { return false }
      state.pending.append(connection)
      return true
    }
    guard isIn else {
      var former: LocalSocket?
      connection.state.withLock { state in
        state.phase = .unconnected
        state.address = nil
        swap(&state.peer, &former)
      }
      return false
    }
    // The accepting side may already have sent data or closed: its state is left as it is.
    state.withLock { state in
      state.phase = .connected
      state.peer = connection
      state.peerIdentity = owner
    }
    return true
  }

  /// connect(2) of a datagram socket: where messages go, and whose are received; AF_UNSPEC undoes it.
  private func connectDatagrams(_ address: SocketAddress) throws(Errno) {
    guard address.count >= 2 else { throw .EINVAL }
    if address.family == AF_UNSPEC { return setDatagramPeer(nil, nil) }
    let name = try LocalName(address)
    try bindIfIdentified()
    let user = try SocketUser.current()
    let other = try find(name, by: user.caller)
    let isAllowed = other.state.withLock { state in state.peer == nil || state.peer === self }
    guard isAllowed else { throw .EPERM }
    setDatagramPeer(other, user.identity)
  }

  /// Exchanges the peer of a datagram socket.
  func setDatagramPeer(_ peer: LocalSocket?, _ identity: PeerIdentity?) {
    control.acquire()
    defer { control.release() }
    var former: LocalSocket? = peer
    state.withLock { state in
      swap(&state.peer, &former)
      state.phase = peer == nil ? .unconnected : .connected
      state.peerIdentity = identity
    }
    if former !== peer {
      if let former {
        former.space.remove(relay)
        disconnected(from: former)
      }
      peer?.space.add(relay)
    }
    stateChanged()
  }

  /// Drops what the former peer sent; a peer that was connected to this socket gets ECONNRESET.
  private func disconnected(from former: LocalSocket) {
    while let packet = state.withLock({ $0.takeFirst() }) { LocalControl.drop(packet) }
    space.wakeAll()
    if former.state.withLock({ $0.peer === self && !$0.isDead }) {
      former.setError(.ECONNRESET)
      former.stateChanged()
    }
  }

  /// socketpair(2).
  static func join(_ left: LocalSocket, _ right: LocalSocket) throws(Errno) {
    let identity = try SocketUser.current().identity
    for (socket, peer) in [(left, right), (right, left)] {
      socket.state.withLock { state in
        state.phase = .connected
        state.peer = peer
        state.peerIdentity = identity
      }
      if socket.type == SOCK_DGRAM { peer.space.add(socket.relay) }
    }
  }
}
