// Whether one process may look into another: the rule of ptrace(2), "Ptrace access mode checking". /proc/PID and every
// system call that reaches into another process ask here.
//
// What the rule looks at (identity, dumpable attribute, address space) changes together at execve(2), under the lock of
// the task's resources; `Exposure` is read under the same lock. So a check never sees the old identity with the new
// program.

import Identity
import KernelCore
import LinuxABI
import Synchronization
import VirtualMemory

/// Which of the caller's ids are compared with the target's.
public enum AccessIdentity: Sendable {
  /// The file-system ids, and the effective capabilities: /proc and other names of files (PTRACE_MODE_FSCREDS).
  case fileSystem
  /// The real ids, and the permitted capabilities: calls that name a process by number (PTRACE_MODE_REALCREDS).
  case real
}

/// What an access check looks at, at one moment.
public struct Exposure {
  public let credentials: Credentials
  /// nil when the task has ended.
  public let addressSpace: AddressSpace?
  /// PR_SET_DUMPABLE is 1.
  public let isDumpable: Bool
  /// The number of the program; each execve(2) gives another.
  public let program: UInt64
}

extension Task {
  /// What others are judged by when they ask for access to this task.
  ///
  /// - Locks: the task's resources.
  public var exposure: Exposure {
    @export(interface) get {
      resources.withLock { _ in
        Exposure(
          credentials: credentials, addressSpace: addressSpace, isDumpable: process.dumpable == 1,
          program: process.programNumber.load(ordering: .relaxed))
      }
    }
  }

  /// Whether this task, which runs, may look into `target` and change it. Linux distinguishes reading from attaching for
  /// security modules only, of which Apus has none.
  ///
  /// - Parameter credentials: the caller's identity where that is not the task's own (access(2)).
  @export(interface)
  public func mayAccess(_ target: Task, as identity: AccessIdentity, with credentials: Credentials? = nil) -> Bool {
    mayAccess(target.exposure, of: target.process, as: identity, with: credentials)
  }

  /// As above, for a caller that goes on with what was judged.
  @export(interface)
  public func mayAccess(
    _ target: Exposure, of process: Process, as identity: AccessIdentity, with credentials: Credentials? = nil
  ) -> Bool {
    if process === self.process { return true }
    let mine = credentials ?? self.credentials
    if mine.has(.trace) { return true }
    if target.addressSpace != nil, !target.isDumpable { return false }
    let (user, group) =
      identity == .real ? (mine.realUser, mine.realGroup) : (mine.fileSystemUser, mine.fileSystemGroup)
    let capabilities = identity == .real ? mine.permitted : mine.effective
    return target.credentials.isEntirely(user: user, group: group)
      && target.credentials.permitted.isSubset(of: capabilities)
  }
}

extension Credentials {
  /// Whether real, effective and saved ids are all these: a program that has, or can get back, no other identity.
  @export(interface)
  public func isEntirely(user: UInt32, group: UInt32) -> Bool {
    realUser == user && effectiveUser == user && savedUser == user
      && realGroup == group && effectiveGroup == group && savedGroup == group
  }
}
