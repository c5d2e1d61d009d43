// Descriptors in messages that have not been received (SCM_RIGHTS). They are counted for each user, and cycles of them are
// collected: a local socket whose only references are messages in queues that no process can reach would never be closed.
//
// The collector is a mark and sweep over the sockets in flight. A socket all of whose references are messages is a
// *candidate*. References from the queues of candidates are subtracted; a candidate that keeps some is referred to from
// a queue that a process can read, or by a message in no queue, and so is alive with all that its own queue
// holds. The rest is garbage: its queues are emptied, which closes it.
//
// A cycle is closed by a message that carries a socket to a receiver which is in flight itself. Until there has been one the collector
// has nothing to do.
//
// One sleeping lock makes this exact. Under it descriptors enter messages and leave them, and the collector runs. A candidate has
// no descriptor, so no process reads from its queue, and none can come into being while the lock is held, because that takes a
// message out of flight. Messages enter and leave queues without the lock: what is in no queue counts as alive.

import DataStructures
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Scheduling
import Sockets

/// Where the collector stands with a socket.
struct CollectorVisit {
  enum Mark { case none, candidate, alive }
  var mark = Mark.none
  /// References that no queue of a candidate accounts for.
  var unexplained = 0
  var links = ListLinks<LocalSocket>()
}

/// The local sockets in messages, and the collector's list of some.
enum SocketsInFlight: ListMembership {
  static func links(of socket: LocalSocket) -> ListLinks<LocalSocket> { socket.flightLinks }
  static func setLinks(_ links: ListLinks<LocalSocket>, of socket: LocalSocket) { socket.flightLinks = links }
}
enum VisitedSockets: ListMembership {
  static func links(of socket: LocalSocket) -> ListLinks<LocalSocket> { socket.visit.links }
  static func setLinks(_ links: ListLinks<LocalSocket>, of socket: LocalSocket) { socket.visit.links = links }
}

enum DescriptorsInFlight {
  private struct Flights {
    let sockets = IntrusiveList<SocketsInFlight>()
    /// Whether there may be a cycle. The message that closes one carries a socket to a receiver that is in flight itself: what
    /// is sent to others makes chains only. It stays set until no socket is in flight.
    var mayHaveCycles = false
  }
  private static let flights = Scheduling.Mutex(Flights(), rank: .descriptorsInFlight)

  // MARK: Entering and leaving

  /// Puts files, of which the caller has references, into a message. On failure the references end.
  ///
  /// - Throws: ETOOMANYREFS when the user has as many descriptors in flight as a process may have open.
  static func add(_ files: [OpenFile], to details: MessageDetails, by user: SocketUser) throws(Errno) {
    if !mayAdd(details.account, user) { collectIfNeeded() }
    guard mayAdd(details.account, user) else {
      for file in files { file.release() }
      throw .ETOOMANYREFS
    }
    details.account.countDescriptorsInFlight(files.count)
    flights.withLock { flights in
      details.files = files
      for file in files {
        guard let socket = socket(of: file) else { continue }
        socket.inFlight += 1
        guard socket.inFlight == 1 else { continue }
        socket.inFlightFile = file
        flights.sockets.append(socket)
      }
    }
  }

  /// A message is about to go to `receiver`; its descriptors have been counted, so that of two messages that close a cycle
  /// together one sees the other.
  static func willDeliver(_ details: MessageDetails, to receiver: LocalSocket) {
    flights.withLock { flights in
      guard receiver.inFlight > 0 || receiver.isPending else { return }
      for file in details.files where socket(of: file) != nil { flights.mayHaveCycles = true }
    }
  }

  private static func mayAdd(_ account: KernelAccount, _ user: SocketUser) -> Bool {
    UInt64(max(0, account.descriptorsInFlight)) <= user.descriptorLimit || user.credentials.has(.resources)
      || user.credentials.has(.systemAdministration)
  }

  private static func socket(of file: OpenFile) -> LocalSocket? { (file as? SocketFile)?.socket as? LocalSocket }

  /// Takes the files of a message for a receiver, with their references; one that peeks gets references of its own.
  static func take(_ details: MessageDetails, peeks: Bool) -> [OpenFile] {
    var files: [OpenFile] = []
    flights.withLock { flights in
      files = details.files
      if peeks {
        for file in files { file.acquire() }
      } else {
        details.files = []
        leave(files, &flights)
      }
    }
    if !peeks { details.account.countDescriptorsInFlight(-files.count) }
    return files
  }

  private static func leave(_ files: [OpenFile], _ flights: inout Flights) {
    for file in files {
      guard let socket = socket(of: file) else { continue }
      socket.inFlight -= 1
      guard socket.inFlight == 0 else { continue }
      // The caller has the file: nothing ends here.
      socket.inFlightFile = nil
      flights.sockets.remove(socket)
      if flights.sockets.isEmpty { flights.mayHaveCycles = false }
    }
  }

  /// Drops the descriptors of a message that will not be received.
  static func drop(_ details: MessageDetails) {
    let files = take(details, peeks: false)
    guard !files.isEmpty else { return }
    let dropped = MessageDetails(account: details.account)
    dropped.files = files
    release(dropped)
  }

  // MARK: Releasing

  /// A thread that releases files of messages. The last reference to a socket drops the messages in its queue, with more
  /// files, and so on: they are put on the list of the thread's first release, so that the stack stays flat.
  private final class Releaser {
    let thread = ObjectIdentifier(Thread.current)
    var waiting: MessageDetails?
    var links = ListLinks<Releaser>()
  }
  private enum Releasers: ListMembership {
    static func links(of releaser: Releaser) -> ListLinks<Releaser> { releaser.links }
    static func setLinks(_ links: ListLinks<Releaser>, of releaser: Releaser) { releaser.links = links }
  }
  private static let releasers = SpinLock(IntrusiveList<Releasers>(), rank: .socketNames)

  private static func release(_ details: MessageDetails) {
    let releaser = Releaser()
    let isNested = releasers.withLock { releasers in
      var own: Releaser?
      releasers.visit { other in
        if other.thread == releaser.thread { own = other }
        return own == nil
      }
      guard let own else {
        releasers.append(releaser)
        return false
      }
      details.next = own.waiting
      own.waiting = details
      return true
    }
    if isNested { return }
    var current: MessageDetails? = details
    while let next = current {
      for file in next.files { file.release() }
      next.files = []
      Thread.checkReschedule()
      current = releasers.withLock { _ in
        let following = releaser.waiting
        releaser.waiting = following?.next
        following?.next = nil
        return following
      }
    }
    releasers.withLock { $0.remove(releaser) }
  }

  // MARK: The collector

  /// Collects cycles, if there may be any.
  static func collectIfNeeded() {
    let garbage = flights.withLock { flights -> IntrusiveList<PacketQueue>? in
      guard flights.mayHaveCycles else { return nil }
      return sweep(flights.sockets)
    }
    while let packet = garbage?.popFirst() { LocalControl.drop(packet) }
  }

  /// - Returns: the packets of unreachable sockets.
  private static func sweep(_ sockets: IntrusiveList<SocketsInFlight>) -> IntrusiveList<PacketQueue>? {
    let candidates = IntrusiveList<VisitedSockets>()
    sockets.visit { socket in
      guard let file = socket.inFlightFile, file.referenceCount == socket.inFlight else { return true }
      socket.visit.mark = .candidate
      socket.visit.unexplained = socket.inFlight
      candidates.append(socket)
      return true
    }
    guard !candidates.isEmpty else { return nil }
    candidates.visit { candidate in
      forEachCandidate(inQueuesOf: candidate) { $0.visit.unexplained -= 1 }
      Thread.checkReschedule()
      return true
    }
    let alive = IntrusiveList<VisitedSockets>()
    func revive(_ socket: LocalSocket) {
      socket.visit.mark = .alive
      candidates.remove(socket)
      alive.append(socket)
    }
    candidates.visit { candidate in
      if candidate.visit.unexplained > 0 { revive(candidate) }
      return true
    }
    while let socket = alive.popFirst() {
      forEachCandidate(inQueuesOf: socket) { revive($0) }
      Thread.checkReschedule()
      socket.visit.mark = .none
    }
    let garbage = IntrusiveList<PacketQueue>()
    while let socket = candidates.popFirst() {
      socket.visit.mark = .none
      takePackets(of: socket, into: garbage)
    }
    return garbage
  }

  /// Calls `body` for each reference to a candidate from the queues of `socket` and of its connections that wait.
  private static func forEachCandidate(inQueuesOf socket: LocalSocket, _ body: (LocalSocket) -> Void) {
    func visit(_ queue: IntrusiveList<PacketQueue>) {
      queue.visit { packet in
        guard let details = LocalControl.details(of: packet) else { return true }
        for file in details.files {
          if let target = self.socket(of: file), target.visit.mark == .candidate { body(target) }
        }
        return true
      }
    }
    socket.state.withLock { state in
      visit(state.queue)
      state.pending.visit { connection in
        connection.state.withLock { visit($0.queue) }
        return true
      }
    }
  }

  private static func takePackets(of socket: LocalSocket, into garbage: IntrusiveList<PacketQueue>) {
    socket.state.withLock { state in
      while let packet = state.queue.popFirst() { garbage.append(packet) }
      state.queuedBytes = 0
      state.pending.visit { connection in
        connection.state.withLock { state in
          while let packet = state.queue.popFirst() { garbage.append(packet) }
          state.queuedBytes = 0
        }
        return true
      }
    }
  }
}
