// Process groups and sessions: the units of job control (POSIX.1 3.295, 3.344; credentials(7)). Both are named by the
// process identifier of their first member, which stays reserved while the group or session exists.

import FileSystem
import KernelCore
import LinuxABI

/// A process group. All fields are guarded by the lock of `ProcessTable`.
public final class ProcessGroup {
  public let identifier: Int32
  public let session: Session
  public internal(set) var members: [Process] = []

  init(identifier: Int32, session: Session) {
    self.identifier = identifier
    self.session = session
  }

  /// Whether no member has a parent outside the group in the same session: nobody is left who could continue its
  /// stopped members, and terminal stop signals are not delivered (POSIX.1 2.4.3).
  func isOrphaned(ignoring leaving: Process? = nil) -> Bool {
    for member in members where member !== leaving && !member.isZombie {
      guard let parent = member.parent, parent.pid != ProcessTable.reaperPid else { continue }
      if parent.group !== self && parent.group.session === session { return false }
    }
    return true
  }

  func hasStoppedMember(besides leaving: Process) -> Bool { members.contains { $0 !== leaving && $0.isStopped } }
}

/// A session: process groups that share a controlling terminal.
public final class Session {
  public let identifier: Int32
  /// The controlling terminal. Guarded by the lock of `ProcessTable`.
  public internal(set) var terminal: ControllingTerminal?
  /// How many groups the session has. Guarded by the lock of `ProcessTable`.
  var groupCount = 0

  init(identifier: Int32) { self.identifier = identifier }
}
