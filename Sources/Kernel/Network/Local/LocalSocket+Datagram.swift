// Datagrams and sequenced packets: whole messages. A datagram's receiver is looked up for each message, unless the socket is
// connected.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Sockets
import VirtualMemory

extension LocalSocket {
  // MARK: Sending

  /// What became of a packet at its receiver.
  private enum Delivery { case done, full, closed, ended, forbidden }

  func sendDatagram(_ message: inout OutgoingMessage) throws(Errno) -> Int {
    try bindIfIdentified()
    var name: LocalName?
    if let destination = message.destination { name = try LocalName(destination) }
    if name == nil, state.withLock({ $0.peer }) == nil { throw .ENOTCONN }
    let count = message.buffer.remaining
    guard count <= budget.limit - 32 else { throw .EMSGSIZE }
    let details = try LocalControl.prepare(message.control)
    do throws(Errno) {
      let waits = !message.flags.contains(.dontWait)
      let deadline = deadline(receiving: false)
      let isEnded = { [self] in state.withLock { $0.sendingEnded } }
      if isEnded() { throw .EPIPE }
      try waitForBudget(waits: waits, until: deadline, unless: isEnded)
      if isEnded() { throw .EPIPE }
      let packet = try PacketBuffer.make(count, from: &message.buffer, budget: budget)
      packet.source = state.withLock { $0.address }
      try deliver(packet, details, to: name, waits, deadline)
    } catch {
      if let details { DescriptorsInFlight.drop(details) }
      throw error
    }
    return count
  }

  /// Finds the receiver and gives it the packet, waiting for room.
  private func deliver(
    _ packet: PacketBuffer, _ details: MessageDetails?, to name: LocalName?, _ waits: Bool, _ deadline: Instant
  ) throws(Errno) {
    while true {
      let receiver: LocalSocket
      if let name {
        receiver = try find(name, by: try SocketUser.current().caller)
      } else {
        guard let peer = state.withLock({ $0.peer }) else { throw .ENOTCONN }
        receiver = peer
      }
      if packet.attachment == nil {
        let isAsked =
          passesCredentials || receiver.passesCredentials || passesProcess || receiver.passesProcess
        let identity = isAsked ? try LocalControl.senderIdentity() : nil
        LocalControl.attach(details, to: packet, identity: identity ?? nil)
      }
      if receiver.wantsTimestamps, packet.timestamp == 0 { packet.timestamp = Clock.realtimeNanoseconds }
      if let details { DescriptorsInFlight.willDeliver(details, to: receiver) }
      switch receiver.take(packet, from: self) {
      case .done:
        receiver.readable.wakeAll()
        return
      case .ended: throw .EPIPE
      case .forbidden: throw .EPERM
      case .closed:
        if hasConnections { throw .EPIPE }
        // A name may belong to another socket by now; a peer that is gone stays gone.
        if name == nil {
          setDatagramPeer(nil, nil)
          throw .ECONNREFUSED
        }
      case .full:
        guard waits else { throw .EAGAIN }
        try wait(on: receiver.space, until: deadline) { receiver.hasRoom(for: self) }
      }
    }
  }

  private func take(_ packet: PacketBuffer, from sender: LocalSocket) -> Delivery {
    state.withLock { state in
      if state.isDead { return .closed }
      if let peer = state.peer, peer !== sender { return .forbidden }
      if state.receivingEnded { return .ended }
      // Two sockets that send to each other are bounded by their budgets.
      if sender !== self, state.peer == nil, state.isFull { return .full }
      state.queue.append(packet)
      state.queuedBytes += packet.count
      return .done
    }
  }

  // MARK: Receiving

  func receiveDatagram(_ message: inout IncomingMessage) throws(Errno) -> Int {
    let peeks = message.flags.contains(.peek)
    let wanted = message.buffer.remaining
    var found: (packet: PacketBuffer, skipped: Int)?
    var wasFull = false
    var ended = false
    let look = { [self] () -> Bool in
      state.withLock { state in
        ended = state.receivingEnded
        if peeks {
          found = peekDatagram(&state)
        } else {
          wasFull = state.isFull
          found = state.takeFirst().map { ($0, 0) }
        }
        return found != nil || ended || hasError
      }
    }
    if let error = takeError() { throw error }
    if !look() || found == nil {
      if found == nil, !ended, let error = takeError() { throw error }
      let waits = !message.flags.contains(.dontWait)
      if !ended, waits { try wait(on: readable, until: deadline(receiving: true), look) }
      if found == nil {
        if !ended, let error = takeError() { throw error }
        // The end of a connection; a datagram socket without one has nothing more to say, if it was ready to wait.
        if ended, waits || hasConnections { return 0 }
        throw .EAGAIN
      }
    }
    guard let (packet, skipped) = found else { throw .EAGAIN }
    if !peeks, wasFull { space.wakeAll() }
    return try finish(packet, skipped, wanted, peeks, &message)
  }

  /// The first packet that a peek has not passed over, and where in it the peek goes on.
  private func peekDatagram(_ state: inout State) -> (PacketBuffer, Int)? {
    var offset = peekOffset ?? 0
    var found: PacketBuffer?
    state.queue.visit { packet in
      if peekOffset != nil, offset >= packet.count, offset > 0 || packet.wasPeeked {
        offset -= packet.count
        return true
      }
      packet.wasPeeked = true
      found = packet
      return false
    }
    return found.map { ($0, offset) }
  }

  /// Copies a packet to the program.
  private func finish(
    _ packet: PacketBuffer, _ skipped: Int, _ wanted: Int, _ peeks: Bool, _ message: inout IncomingMessage
  ) throws(Errno) -> Int {
    let rest = packet.count - skipped
    let size = min(rest, wanted)
    do throws(Errno) { try packet.copy(from: skipped, size, to: &message.buffer) } catch {
      if !peeks { LocalControl.drop(packet) }
      throw error
    }
    if size < rest { message.resultFlags.insert(.truncated) }
    movePeekOffset(by: peeks ? size : -packet.count)
    message.source = packet.source
    if wantsTimestamps, packet.timestamp != 0 { message.control.append(timestampMessage(packet.timestamp)) }
    var received = ReceivedDetails()
    received.identity = LocalControl.details(of: packet)?.identity
    LocalControl.take(packet, peeks: peeks, into: &received)
    LocalControl.tell(&received, to: &message, of: self)
    return message.flags.contains(.truncated) ? rest : size
  }
}
