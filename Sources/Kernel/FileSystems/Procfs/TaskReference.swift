// How a file of /proc/PID remembers whom it is about: by number and start time, so that it neither keeps a process alive
// nor confuses it with a later one of the same number.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling

/// A process or thread, if it still exists.
struct TaskReference {
  /// Whether the process as a whole is meant, or one thread of it.
  enum Scope { case process, thread }

  let identifier: Int32
  let scope: Scope
  private let started: Instant

  /// - Throws: ENOENT when there is no such process or thread.
  init(_ identifier: Int32, as scope: Scope) throws(Errno) {
    self.identifier = identifier
    self.scope = scope
    if let process = ProcessTable.process(identifier), scope == .process {
      started = process.startTime
    } else if let task = ProcessTable.task(identifier) {
      started = scope == .process ? task.process.startTime : task.startTime
    } else {
      throw .ENOENT
    }
  }

  /// The process, and a thread that stands for it: the one that is meant, or the leader; nil for process 1, which is part
  /// of the kernel.
  ///
  /// - Throws: ESRCH when it has gone.
  func resolve() throws(Errno) -> (process: Process, task: Task?) {
    if scope == .process, let process = ProcessTable.process(identifier) {
      guard process.startTime == started else { throw .ESRCH }
      return (process, process.anyTask ?? process.leader)
    }
    guard let task = ProcessTable.task(identifier) else { throw .ESRCH }
    guard (scope == .process ? task.process.startTime : task.startTime) == started else { throw .ESRCH }
    return (task.process, task)
  }

  /// A thread, for files that need one.
  func task() throws(Errno) -> Task {
    guard let task = try resolve().task else { throw .ESRCH }
    return task
  }

  /// Whose the files are: the effective ids of the process, or root when it does not want to be looked at (prctl(2),
  /// PR_SET_DUMPABLE).
  var owner: Owner {
    guard let found = try? resolve(), let task = found.task, found.process.dumpable == 1 else { return .root }
    let credentials = task.sharedCredentials
    return Owner(user: credentials.effectiveUser, group: credentials.effectiveGroup)
  }

  /// The inode number of the directory.
  var number: UInt64 { Self.number(identifier, scope) }

  static func number(_ identifier: Int32, _ scope: Scope) -> UInt64 {
    (scope == .process ? 1 << 40 : 1 << 41) | UInt64(UInt32(bitPattern: identifier)) << 8
  }
}
