// Who uses a socket: what SO_PEERCRED, SCM_CREDENTIALS and their relatives tell, and what a family needs of the caller. Sockets
// are used by read(2) and write(2) too, which know no process; so the layer asks for the running one when a family
// wants to know.

import FileSystem
import Identity
import KernelCore
import LinuxABI

/// A process as its peers see it.
public final class PeerIdentity {
  /// 0 for nobody in particular.
  public let pid: Int32
  public let user: UInt32
  public let group: UInt32
  /// Supplementary groups.
  public let groups: [UInt32]
  /// The process, for a room above that makes a pidfd of it.
  public let process: AnyObject?

  @export(interface)
  public init(pid: Int32, user: UInt32, group: UInt32, groups: [UInt32] = [], process: AnyObject? = nil) {
    self.pid = pid
    self.user = user
    self.group = group
    self.groups = groups
    self.process = process
  }

  /// The identity of a message that carries none: the overflow user and group.
  public static let unknown = PeerIdentity(pid: 0, user: 65534, group: 65534)

  /// struct ucred.
  public var bytes: [UInt8] {
    @export(interface) get {
      ControlMessage.word(UInt32(bitPattern: pid)) + ControlMessage.word(user) + ControlMessage.word(group)
    }
  }

  /// Whether bytes of the two writers may be joined in one read of a stream.
  @export(interface)
  public func isSame(as other: PeerIdentity) -> Bool {
    pid == other.pid && user == other.user && group == other.group
  }
}

/// The process that runs, as families see it.
public struct SocketUser {
  public var pid: Int32
  public var process: AnyObject?
  public var caller: Caller
  /// The table that descriptors of messages are from.
  public var descriptors: DescriptorTable
  /// RLIMIT_NOFILE.
  public var descriptorLimit: UInt64
  /// Finds a process: SCM_CREDENTIALS may name another.
  public var findProcess: (Int32) -> AnyObject?

  @export(interface)
  public init(
    pid: Int32, process: AnyObject?, caller: Caller, descriptors: DescriptorTable, descriptorLimit: UInt64,
    findProcess: @escaping (Int32) -> AnyObject?
  ) {
    self.pid = pid
    self.process = process
    self.caller = caller
    self.descriptors = descriptors
    self.descriptorLimit = descriptorLimit
    self.findProcess = findProcess
  }

  public var credentials: Credentials { caller.credentials }

  /// The effective identity.
  public var identity: PeerIdentity {
    @export(interface) get {
      PeerIdentity(
        pid: pid, user: credentials.effectiveUser, group: credentials.effectiveGroup, groups: credentials.groups,
        process: process)
    }
  }

  /// Installed by SystemCalls.
  public nonisolated(unsafe) static var ofRunningThread: (() -> SocketUser?)?

  /// The user of the running thread.
  ///
  /// - Throws: ESRCH for a thread of the kernel.
  @export(interface)
  public static func current() throws(Errno) -> SocketUser {
    guard let user = ofRunningThread?() else { throw .ESRCH }
    return user
  }
}
