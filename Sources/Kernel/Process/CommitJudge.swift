// Who may use the memory that strict overcommit accounting keeps for administrators.

import Identity
import VirtualMemory

/// The judge of privilege, installed in VirtualMemory.
final class CommitJudge: CommitPrivilege {
  var currentIsAdministrator: Bool { Task.running?.credentials.has(.systemAdministration) ?? true }
}
