// Control messages of local sockets: descriptors (SCM_RIGHTS) and identities (SCM_CREDENTIALS, SCM_PIDFD). On their way they hang
// on the packet as `MessageDetails`.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Sockets

/// What a packet carries besides bytes.
final class MessageDetails {
  /// The sender; nil when neither side wanted to know.
  var identity: PeerIdentity?
  /// Files with a reference each, which passes to the caller that removes them. Guarded by the lock of `DescriptorsInFlight`.
  var files: [OpenFile] = []
  /// Whose the descriptors are.
  let account: KernelAccount
  /// The next one in a list of files to release (`DescriptorsInFlight`).
  var next: MessageDetails?

  init(account: KernelAccount) { self.account = account }
}

/// What a receiver has been given so far: of a stream it may come from several packets.
struct ReceivedDetails {
  var identity: PeerIdentity?
  var hasIdentity = false
  var files: [OpenFile] = []

  /// Whether bytes of this packet may be joined to what is there: they are not those of another sender.
  func accepts(_ details: MessageDetails?) -> Bool {
    guard hasIdentity else { return true }
    switch (identity, details?.identity) {
    case (nil, nil): return true
    case (let left?, let right?): return left.isSame(as: right)
    default: return false
    }
  }
}

enum LocalControl {
  /// What a packet says besides its bytes.
  static func details(of packet: PacketBuffer) -> MessageDetails? { packet.attachment as? MessageDetails }

  /// Takes a sender's control messages: descriptors are in flight from now on.
  ///
  /// - Returns: nil when there is nothing to carry.
  /// - Throws: EINVAL, EBADF, EPERM for a false identity, ESRCH, ETOOMANYREFS.
  static func prepare(_ control: [ControlMessage]) throws(Errno) -> MessageDetails? {
    guard !control.isEmpty else { return nil }
    let user = try SocketUser.current()
    var identity: PeerIdentity?
    var files: [OpenFile] = []
    do throws(Errno) {
      for message in control where message.level == SOL_SOCKET {
        switch message.type {
        case SCM_RIGHTS: try take(message.data, user, &files)
        case SCM_CREDENTIALS: identity = try claimedIdentity(message.data, user)
        default: throw .EINVAL
        }
      }
    } catch {
      for file in files { file.release() }
      throw error
    }
    guard identity != nil || !files.isEmpty else { return nil }
    let details = MessageDetails(account: KernelAccount(user: user.credentials.realUser))
    details.identity = identity
    if !files.isEmpty { try DescriptorsInFlight.add(files, to: details, by: user) }
    return details
  }

  private static func take(_ data: [UInt8], _ user: SocketUser, _ files: inout [OpenFile]) throws(Errno) {
    let count = data.count / 4
    guard files.count + count <= SCM_MAX_FD else { throw .EINVAL }
    for index in 0..<count {
      let descriptor = Int32(truncatingIfNeeded: ControlMessage.number(data, index * 4, 4))
      let use = try user.descriptors.get(descriptor)
      use.file.acquire()
      files.append(use.file)
    }
  }

  /// SCM_CREDENTIALS of a sender: what it says must be true, or it must be allowed to say something else (unix(7)).
  private static func claimedIdentity(_ data: [UInt8], _ user: SocketUser) throws(Errno) -> PeerIdentity {
    guard data.count == 12 else { throw .EINVAL }
    let pid = Int32(truncatingIfNeeded: ControlMessage.number(data, 0, 4))
    let uid = UInt32(truncatingIfNeeded: ControlMessage.number(data, 4, 4))
    let gid = UInt32(truncatingIfNeeded: ControlMessage.number(data, 8, 4))
    guard uid != .max, gid != .max else { throw .EINVAL }
    let own = user.credentials
    guard pid == user.pid || own.has(.systemAdministration),
      uid == own.realUser || uid == own.effectiveUser || uid == own.savedUser || own.has(.setUserID),
      gid == own.realGroup || gid == own.effectiveGroup || gid == own.savedGroup || own.has(.setGroupID)
    else { throw .EPERM }
    var process = user.process
    if pid != user.pid {
      process = user.findProcess(pid)
      guard process != nil else { throw .ESRCH }
    }
    return PeerIdentity(pid: pid, user: uid, group: gid, process: process)
  }

  /// The running process's real identity, which is what a message tells of its sender.
  static func senderIdentity() throws(Errno) -> PeerIdentity {
    let user = try SocketUser.current()
    return PeerIdentity(
      pid: user.pid, user: user.credentials.realUser, group: user.credentials.realGroup, process: user.process)
  }

  /// Gives a packet the details of its message. Descriptors go with the first packet only.
  static func attach(_ details: MessageDetails?, to packet: PacketBuffer, identity: PeerIdentity?) {
    if let details {
      if details.identity == nil { details.identity = identity }
      packet.attachment = details
    } else if let identity {
      let own = MessageDetails(account: .root)
      own.identity = identity
      packet.attachment = own
    }
  }

  /// Moves what a packet carries to a receiver; with `peeks` the receiver gets references of its own.
  static func take(_ packet: PacketBuffer, peeks: Bool, into received: inout ReceivedDetails) {
    guard let details = details(of: packet) else { return }
    received.files += DescriptorsInFlight.take(details, peeks: peeks)
  }

  /// Drops what a packet carries that will not be received.
  static func drop(_ packet: PacketBuffer) {
    if let details = details(of: packet) { DescriptorsInFlight.drop(details) }
  }

  /// Tells the receiver, as far as it asked.
  static func tell(_ received: inout ReceivedDetails, to message: inout IncomingMessage, of socket: LocalSocket) {
    if socket.passesCredentials {
      message.control.append(
        .data(level: SOL_SOCKET, type: SCM_CREDENTIALS, (received.identity ?? PeerIdentity.unknown).bytes))
    }
    if !received.files.isEmpty { message.control.append(.files(received.files)) }
    received.files = []
    if socket.passesProcess, let identity = received.identity { message.control.append(.process(identity)) }
  }
}
