// Streams: bytes in packets, whose borders show only where the sender's identity or descriptors change.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Sockets
import VirtualMemory

extension LocalSocket {
  /// The largest packet of a stream.
  private static var largestPacket: Int { 32768 }

  // MARK: Sending

  func sendStream(_ message: inout OutgoingMessage) throws(Errno) -> Int {
    let (peer, phase, ended) = state.withLock { ($0.peer, $0.phase, $0.sendingEnded) }
    if message.destination != nil { throw phase == .connected ? .EISCONN : .EOPNOTSUPP }
    guard let peer else { throw .ENOTCONN }
    var details = try LocalControl.prepare(message.control)
    var sent = 0
    do throws(Errno) {
      if ended { throw .EPIPE }
      let waits = !message.flags.contains(.dontWait)
      let deadline = deadline(receiving: false)
      while message.buffer.remaining > 0 {
        sent += try sendPacket(&message, to: peer, &details, waits, deadline)
      }
    } catch {
      if let details { DescriptorsInFlight.drop(details) }
      guard sent > 0 else { throw error }
      return sent
    }
    // Of a message without bytes nothing is sent.
    if let details { DescriptorsInFlight.drop(details) }
    return sent
  }

  private func sendPacket(
    _ message: inout OutgoingMessage, to peer: LocalSocket, _ details: inout MessageDetails?, _ waits: Bool,
    _ deadline: Instant
  ) throws(Errno) -> Int {
    let size = min(message.buffer.remaining, max(1, budget.limit / 2 - 64), Self.largestPacket)
    try waitForBudget(waits: waits, until: deadline) { [self] in state.withLock { $0.sendingEnded } }
    let packet = try PacketBuffer.make(size, from: &message.buffer, budget: budget)
    let identity =
      passesCredentials || peer.passesCredentials || passesProcess || peer.passesProcess
      ? try LocalControl.senderIdentity() : nil
    LocalControl.attach(details, to: packet, identity: identity ?? nil)
    if let details { DescriptorsInFlight.willDeliver(details, to: peer) }
    guard !state.withLock({ $0.sendingEnded }), peer.enqueue(packet) else { throw .EPIPE }
    details = nil
    peer.readable.wakeAll()
    return size
  }

  /// Puts a packet into this socket's queue.
  ///
  /// - Returns: false when no reader is left.
  private func enqueue(_ packet: PacketBuffer) -> Bool {
    state.withLock { state in
      guard !state.isDead, !state.receivingEnded else { return false }
      state.queue.append(packet)
      state.queuedBytes += packet.count
      return true
    }
  }

  // MARK: Receiving

  /// How far a read is.
  private struct Progress {
    var copied = 0
    let wanted: Int
    let target: Int
    let peeks: Bool
    let showsIdentity: Bool
    /// Where a peek begins.
    let skipped: Int
    var details = ReceivedDetails()
    var isDone = false
  }

  func receiveStream(_ message: inout IncomingMessage) throws(Errno) -> Int {
    guard state.withLock({ $0.phase == .connected }) else { throw .EINVAL }
    let peeks = message.flags.contains(.peek)
    var progress = Progress(
      wanted: message.buffer.remaining,
      target: lowWaterMark(message.buffer.remaining, waitsForAll: message.flags.contains(.waitAll)),
      peeks: peeks, showsIdentity: passesCredentials || passesProcess, skipped: peeks ? peekOffset ?? 0 : 0)
    let waits = !message.flags.contains(.dontWait)
    let deadline = deadline(receiving: true)
    do throws(Errno) {
      while true {
        reader.acquire()
        do throws(Errno) { try readPackets(&message, &progress) } catch {
          reader.release()
          throw error
        }
        reader.release()
        if progress.isDone || progress.copied >= max(progress.target, 1) { break }
        let ended = state.withLock { $0.receivingEnded }
        // What came between the look at the queue and at its end is read first.
        if hasBytes(at: progress.peeks ? progress.skipped + progress.copied : 0) { continue }
        if let error = takeError() { throw error }
        if ended { break }
        guard waits else { throw .EAGAIN }
        let position = progress.peeks ? progress.skipped + progress.copied : 0
        try wait(on: readable, until: deadline) { [self] in
          hasBytes(at: position) || hasError || state.withLock { $0.receivingEnded }
        }
      }
    } catch {
      guard progress.copied > 0 else {
        for file in progress.details.files { file.release() }
        throw error
      }
    }
    if let peer = state.withLock({ $0.peer }), let address = peer.state.withLock({ $0.address }) {
      message.source = address
    }
    LocalControl.tell(&progress.details, to: &message, of: self)
    return progress.copied
  }

  private func hasBytes(at position: Int) -> Bool { state.withLock { $0.queuedBytes > position } }

  /// Copies what is in the queue until enough is there, or what comes next must not be joined. The reader's lock is held, so
  /// that the packets stay where they are.
  ///
  /// - Throws: EFAULT when nothing could be copied.
  private func readPackets(_ message: inout IncomingMessage, _ progress: inout Progress) throws(Errno) {
    while !progress.isDone, progress.copied < progress.wanted || progress.wanted == 0 {
      guard let (packet, offset) = packet(at: progress.peeks ? progress.skipped + progress.copied : 0) else { return }
      let details = LocalControl.details(of: packet)
      guard progress.details.accepts(details) else {
        progress.isDone = true
        return
      }
      let size = min(packet.count - offset, progress.wanted - progress.copied)
      do throws(Errno) { try packet.copy(from: offset, size, to: &message.buffer) } catch {
        guard progress.copied > 0 else { throw error }
        progress.isDone = true
        return
      }
      if progress.showsIdentity, !progress.details.hasIdentity {
        progress.details.hasIdentity = true
        progress.details.identity = details?.identity
      }
      progress.copied += size
      let isRead = progress.peeks || consume(packet, size)
      if details != nil { LocalControl.take(packet, peeks: progress.peeks, into: &progress.details) }
      movePeekOffset(by: progress.peeks ? size : -size)
      progress.isDone = !isRead || !progress.details.files.isEmpty || progress.wanted == 0
      Thread.checkReschedule()
    }
  }

  /// The packet that holds the byte `position` places behind the front of the queue, and where in it.
  private func packet(at position: Int) -> (PacketBuffer, Int)? {
    state.withLock { state in
      var left = position
      var found: (PacketBuffer, Int)?
      state.queue.visit { packet in
        if left < packet.remaining {
          found = (packet, packet.consumed + left)
          return false
        }
        left -= packet.remaining
        return true
      }
      return found
    }
  }

  /// - Returns: whether the packet, which is the first, has been read to its end.
  private func consume(_ packet: PacketBuffer, _ size: Int) -> Bool {
    state.withLock { state in
      packet.consume(size)
      state.queuedBytes -= size
      guard packet.remaining == 0 else { return false }
      state.queue.remove(packet)
      return true
    }
  }
}
