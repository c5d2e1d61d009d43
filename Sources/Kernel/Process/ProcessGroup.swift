// Process groups and sessions: the units of job control (POSIX.1 3.295, 3.344; credentials(7)). Both are named by the
// process identifier of their first member, which stays reserved while the group or session exists.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI

/// A process group. All fields are guarded by the lock of `ProcessTable`.
public final class ProcessGroup {
  public let identifier: Int32
  public let session: Session
  let members = IntrusiveList<GroupMembers>()

  init(identifier: Int32, session: Session) {
    self.identifier = identifier
    self.session = session
  }

  /// Whether no member has a parent outside the group in the same session: nobody is left who could continue its
  /// stopped members, and terminal stop signals are not delivered (POSIX.1 2.4.3).
  func isOrphaned(ignoring leaving: Process? = nil) -> Bool {
    !hasMember { member in
      guard member !== leaving, !member.isZombie, let parent = member.parent, parent !== ProcessTable.reaper else {
        return false
      }
      return parent.group !== self && parent.group.session === session
    }
  }

  func hasStoppedMember(besides leaving: Process) -> Bool { hasMember { $0 !== leaving && $0.isStopped } }

  private func hasMember(_ condition: (Process) -> Bool) -> Bool {
    var isFound = false
    members.visit { member in
      isFound = condition(member)
      return !isFound
    }
    return isFound
  }
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
