// How a file of /proc/PID remembers which process it is about: by number and start time, so that it neither keeps a process alive
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

  /// The process, and a thread that stands for it: the one that is meant, or the leader, also when that has ended before others;
  /// nil for process 1, which is part of the kernel.
  ///
  /// - Throws: ESRCH when it has gone.
  func resolve() throws(Errno) -> (process: Process, task: Task?) {
    if scope == .process, let process = ProcessTable.process(identifier) {
      guard process.startTime == started else { throw .ESRCH }
      return (process, process.leader ?? process.anyTask)
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

  /// Whose the files are: the effective ids of the process, or root when others may not look into it (prctl(2),
  /// PR_SET_DUMPABLE).
  ///
  /// - Parameter showsIdentity: for world-searchable directories, whose owner always shows the effective ids.
  func owner(showsIdentity: Bool) -> Owner {
    guard let task = try? resolve().task else { return .root }
    let exposure = task.exposure
    guard showsIdentity || exposure.isDumpable || exposure.addressSpace == nil else { return .root }
    return Owner(user: exposure.credentials.effectiveUser, group: exposure.credentials.effectiveGroup)
  }

  // MARK: Access

  /// Whether the task that runs may look into the process or thread. Process 1 is root's.
  func isAccessible(by credentials: Credentials? = nil) -> Bool {
    guard let reader = Task.running, let found = try? resolve() else { return false }
    guard let target = found.task else { return (credentials ?? reader.credentials).has(.trace) }
    return reader.mayAccess(target, as: .fileSystem, with: credentials)
  }

  /// - Throws: `refusal` when the task that runs may not look into the process or thread.
  func requireAccess(by credentials: Credentials? = nil, else refusal: Errno = .EACCES) throws(Errno) {
    guard isAccessible(by: credentials) else { throw refusal }
  }

  /// Whether a mount of procfs hides the process from the task that runs (`ProcOptions`).
  func isHidden(on superblock: Superblock, from level: ProcOptions.Hiding) -> Bool {
    guard let options = (superblock as? ProcSuperblock)?.options, options.hiding != .off else { return false }
    return options.hides(self, from: level)
  }

  /// Whether the process is the one that asks.
  var isOwn: Bool {
    guard let reader = Task.running else { return false }
    return (try? resolve().process) === reader.process
  }

  /// The inode number of the directory.
  var number: UInt64 { Self.number(identifier, scope) }

  static func number(_ identifier: Int32, _ scope: Scope) -> UInt64 {
    (scope == .process ? 1 << 40 : 1 << 41) | UInt64(UInt32(bitPattern: identifier)) << 8
  }
}
