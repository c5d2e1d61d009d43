// All processes and threads by identifier, and the one lock of the process tree: parents and children, groups and
// sessions, zombies. The lock is the first of the kernel's order; sections under it are short.
//
// Process 1 is the reaper: a process without threads, the parent of orphans. What it inherits is reaped at once. The
// command that the machine was booted for is process 2; when it ends, so does the machine.

import DataStructures
import Identity
import KernelCore
import LinuxABI
import Machine

/// How many threads a user may have (RLIMIT_NPROC of the process that makes another).
struct ProcessQuota {
  var user: UInt32
  var limit: UInt64
}

/// The table of processes.
public enum ProcessTable {
  public static let reaperPid: Int32 = 1

  /// How many threads there can be, those of all processes together. Set at boot (`pids`).
  public nonisolated(unsafe) static var taskLimit = 4096

  /// What one identifier names.
  struct Entry {
    var task: Task?
    var process: Process?
    var group: ProcessGroup?
    var session: Session?
    var isUnused: Bool { task == nil && process == nil && group == nil && session == nil }
  }

  struct State {
    var identifiers = IdentifierTable<Entry>()
    var processCount = 0
    /// Threads that have not ended.
    var taskCount = 0
    /// Threads of each user that have an identifier: zombies count, as on Linux.
    private var threadsOfUser: [UInt32: Int] = [:]
    private var threadCount = 0
    var forks: UInt64 = 0
    /// How often a process has got a parent.
    var adoptions: UInt64 = 0
    /// The leaders of reaped processes, linked by `nextForgotten`: what a thread holds is not given back under this lock.
    fileprivate var forgotten: Task?

    /// Throws EAGAIN when there are as many threads as the machine may have, or as the user of `quota` may have.
    func check(_ quota: ProcessQuota?) throws(Errno) {
      if threadCount >= ProcessTable.taskLimit { throw .EAGAIN }
      if let quota, UInt64(threadsOfUser[quota.user] ?? 0) >= quota.limit { throw .EAGAIN }
    }

    /// Counts a thread that has an identifier as its user's, or as another one's than before.
    mutating func count(_ task: Task) {
      uncount(task)
      let user = task.sharedCredentials.realUser
      threadsOfUser[user, default: 0] += 1
      threadCount += 1
      task.countedUser = user
    }

    /// The thread has no identifier any more.
    mutating func uncount(_ task: Task) {
      guard let user = task.countedUser else { return }
      task.countedUser = nil
      threadCount -= 1
      let rest = (threadsOfUser[user] ?? 1) - 1
      threadsOfUser[user] = rest == 0 ? nil : rest
    }

    /// Changes what an identifier names, and frees it when nothing is left.
    mutating func update(_ identifier: Int32, _ change: (inout Entry) -> Void) {
      var entry = identifiers[identifier] ?? Entry()
      change(&entry)
      identifiers[identifier] = entry.isUnused ? nil : entry
    }
  }

  static let state = SpinLock(State(), rank: .process)

  /// Runs `body`, which may forget processes, under the lock.
  static func withLock<Result>(_ body: (inout State) -> Result) -> Result {
    var forgotten: Task?
    let result = state.withLock { state in
      let result = body(&state)
      swap(&state.forgotten, &forgotten)
      return result
    }
    // One after the other: a long chain would end by recursion.
    while let task = forgotten {
      forgotten = task.nextForgotten
      task.nextForgotten = nil
    }
    return result
  }

  /// The parent of orphans, process 1.
  public static let reaper: Process = makeReaper()

  /// Called with the wait status of the first process (the command) when it has ended. Boot installs what must happen
  /// before the machine is switched off.
  public nonisolated(unsafe) static var firstProcessExited: ((WaitStatus) -> Void)?

  // MARK: Look-up

  /// The process whose leader has this identifier.
  @export(interface)
  public static func process(_ pid: Int32) -> Process? { state.withLock { $0.identifiers[pid]?.process } }

  /// The thread with this identifier.
  @export(interface)
  public static func task(_ tid: Int32) -> Task? { state.withLock { $0.identifiers[tid]?.task } }

  /// All processes by rising identifier, zombies included.
  @export(interface)
  public static func processes() -> [Process] {
    state.withLock { state in state.identifiers.identifiers.compactMap { state.identifiers[$0]?.process } }
  }

  /// The identifiers of a process's children, the oldest first, zombies included.
  @export(interface)
  public static func children(of process: Process) -> [Int32] {
    state.withLock { _ in
      var result: [Int32] = []
      process.children.visit { child in
        result.append(child.pid)
        return true
      }
      return result
    }
  }

  /// Counters for /proc/stat, /proc/loadavg and the tests that look for leaks.
  public struct Counters: Sendable {
    public var processes: Int
    public var threads: Int
    public var forksSinceBoot: UInt64
    public var lastPid: Int32
    public var identifiers: Int
  }

  @export(interface)
  public static func counters() -> Counters {
    state.withLock { state in
      Counters(
        processes: state.processCount, threads: state.taskCount, forksSinceBoot: state.forks,
        lastPid: state.identifiers.lastAllocated, identifiers: state.identifiers.count)
    }
  }

  // MARK: Threads come and go

  /// Whether another thread may be made. What the answer promises is checked again when the thread is entered; this saves
  /// the work for one that cannot be.
  ///
  /// - Throws: EAGAIN as for `add`.
  static func checkRoom(_ quota: ProcessQuota?) throws(Errno) {
    try state.withLock { state throws(Errno) in try state.check(quota) }
  }

  /// Enters a new thread of an existing process.
  ///
  /// - Throws: EAGAIN when the quota is used up or there is no free identifier.
  static func add(_ task: Task, quota: ProcessQuota?) throws(Errno) {
    try state.withLock { state throws(Errno) in
      try state.check(quota)
      task.tid = try state.identifiers.allocate(Entry(task: task))
      state.count(task)
      state.taskCount += 1
      state.forks += 1
    }
  }

  /// Removes a thread that has ended, unless it is its process's leader: that one goes when the process is reaped.
  static func remove(_ task: Task) {
    state.withLock { state in
      state.taskCount -= 1
      guard task.process.leader !== task else { return }
      state.update(task.tid) { $0.task = nil }
      state.uncount(task)
    }
  }

  /// The thread acts for another user.
  static func userChanged(of task: Task) { state.withLock { if task.countedUser != nil { $0.count(task) } } }

  /// exec by a thread that is not the leader: it becomes the leader and takes over the process's identifier.
  static func makeLeader(_ task: Task) {
    let former: Task? = state.withLock { state in
      let process = task.process
      let former = process.leader
      state.update(task.tid) { $0.task = nil }
      // The former leader may still be on its way out: what it removes must not be the new one's entry.
      former?.tid = 0
      if let former { state.uncount(former) }
      task.tid = process.pid
      process.leader = task
      state.update(process.pid) { $0.task = task }
      return former
    }
    // Released outside the lock: its last reference may be this one.
    _ = former
  }

  // MARK: Processes come and go

  /// Enters a new process with its first thread, as a child of `parent`, in the group of its maker (with CLONE_PARENT
  /// that is not the parent).
  ///
  /// - Parameter unlessSignalled: the thread that forks. A signal to its group comes under the same lock: either it has
  ///   arrived there, and the fork starts again after it, or it finds the new member too.
  /// - Throws: EAGAIN as for threads; ERESTARTNOINTR.
  static func add(
    _ process: Process, leader: Task, parent: Process, inGroupOf maker: Process, quota: ProcessQuota? = nil,
    unlessSignalled: Task? = nil
  ) throws(Errno) {
    try state.withLock { state throws(Errno) in
      if unlessSignalled?.hasPendingSignal ?? false { throw .ERESTARTNOINTR }
      try state.check(quota)
      let pid = try state.identifiers.allocate(Entry(task: leader, process: process))
      process.pid = pid
      leader.tid = pid
      process.leader = leader
      state.count(leader)
      parent.adopt(process, &state)
      process.group = maker.group
      maker.group.members.append(process)
      state.processCount += 1
      state.taskCount += 1
      state.forks += 1
    }
  }

  private static func makeReaper() -> Process {
    let session = Session(identifier: 0)
    let group = ProcessGroup(identifier: 0, session: session)
    let process = Process(group: group, limits: .init(threads: UInt64(max(taskLimit / 2, 1))))
    state.withLock { state in
      let pid = try? state.identifiers.allocate(Entry(process: process))
      process.pid = pid ?? reaperPid
      group.members.append(process)
      state.processCount += 1
    }
    return process
  }

  // MARK: Groups and sessions (setpgid(2), setsid(2))

  /// Makes `process` the leader of a new session and group.
  ///
  /// - Throws: EPERM when it leads a group already, or its identifier names one.
  @export(interface)
  public static func makeSession(_ process: Process) throws(Errno) -> Int32 {
    try state.withLock { state throws(Errno) in
      guard state.identifiers[process.pid]?.group == nil else { throw .EPERM }
      let session = Session(identifier: process.pid)
      state.update(process.pid) { $0.session = session }
      move(process, to: makeGroup(process.pid, session, &state), &state)
      return process.pid
    }
  }

  /// setpgid(2) by a thread of `caller`.
  @export(interface)
  public static func setGroup(of pid: Int32, to identifier: Int32, by caller: Process) throws(Errno) {
    guard identifier >= 0 else { throw .EINVAL }
    try state.withLock { state throws(Errno) in
      guard let process = pid == 0 ? caller : state.identifiers[pid]?.process else { throw .ESRCH }
      let target = identifier == 0 ? process.pid : identifier
      if process !== caller {
        guard process.parent === caller else { throw .ESRCH }
        guard process.group.session === caller.group.session else { throw .EPERM }
        guard !process.hasExecuted else { throw .EACCES }
      }
      guard process.group.session.identifier != process.pid else { throw .EPERM }
      if process.group.identifier == target { return }
      let group: ProcessGroup
      if let existing = state.identifiers[target]?.group {
        guard existing.session === process.group.session else { throw .EPERM }
        group = existing
      } else {
        guard target == process.pid else { throw .EPERM }
        group = makeGroup(target, process.group.session, &state)
      }
      move(process, to: group, &state)
    }
  }

  private static func makeGroup(_ identifier: Int32, _ session: Session, _ state: inout State) -> ProcessGroup {
    let group = ProcessGroup(identifier: identifier, session: session)
    session.groupCount += 1
    state.update(identifier) { $0.group = group }
    return group
  }

  private static func move(_ process: Process, to group: ProcessGroup, _ state: inout State) {
    leave(process.group, process, &state)
    process.group = group
    group.members.append(process)
  }

  private static func leave(_ group: ProcessGroup, _ process: Process, _ state: inout State) {
    group.members.remove(process)
    guard group.members.isEmpty, group.identifier != 0 else { return }
    state.update(group.identifier) { $0.group = nil }
    group.session.groupCount -= 1
    if group.session.groupCount == 0 { state.update(group.session.identifier) { $0.session = nil } }
  }

  /// Takes a reaped zombie out of the table; for use in `withLock`.
  static func forget(_ process: Process, _ state: inout State) {
    process.leaveParent()
    leave(process.group, process, &state)
    if let leader = process.leader {
      state.uncount(leader)
      leader.nextForgotten = state.forgotten
      state.forgotten = leader
    }
    process.leader = nil
    state.update(process.pid) { entry in
      entry.process = nil
      entry.task = nil
    }
    state.processCount -= 1
  }

  // MARK: The terminal's view

  /// The members of group `identifier`, nil when there is no such group.
  @export(interface)
  public static func members(ofGroup identifier: Int32) -> [Process]? {
    state.withLock { state in
      guard let group = state.identifiers[identifier]?.group else { return nil }
      var members: [Process] = []
      group.members.visit { member in
        members.append(member)
        return true
      }
      return members
    }
  }

  /// Reads or changes the fields of sessions and groups.
  @export(interface)
  public static func withTree<Result>(_ body: () -> Result) -> Result { state.withLock { _ in body() } }
}
