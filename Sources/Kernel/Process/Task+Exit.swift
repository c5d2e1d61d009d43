// The end of threads and processes. A thread gives back what it holds, tells those who wait for it, and leaves its
// process; the last one makes the process a zombie and tells the parent.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization
import VirtualMemory

extension Task {
  /// exit(2): this thread ends when it would next return to user mode.
  @export(interface)
  public func requestExit(code: Int32) {
    exitCode = .exited(code)
    demandAttention(Attention.exit)
  }

  /// The end, at the bottom of `run()`.
  func finish() {
    isExiting = true
    if addressSpace != nil {
      RobustList.release(of: self)
      clearTidAndWake()
    }
    notePeakMemory()
    releaseResources()
    leaveProcess()
  }

  /// set_tid_address(2): clears the word and wakes one waiter, which is how pthread_join learns of the end. Not for the
  /// last user of the address space: nobody is left to see it.
  private func clearTidAndWake() {
    guard clearChildTid != 0 else { return }
    let address = clearChildTid
    clearChildTid = 0
    do throws(Errno) {
      try UserMemory.write(UInt32(0), to: address)
      _ = try Futex.wake(address: address, count: 1, bitset: .max, scope: .shared)
    } catch {
      // The address is the program's: a bad one harms nobody.
    }
  }

  func notePeakMemory() {
    guard let addressSpace else { return }
    let peak = UInt64(addressSpace.statistics.peakResidentPages) * pageSize / 1024
    process.signals.withLock { $0.endedUsage.peakResidentKiB = max($0.endedUsage.peakResidentKiB, peak) }
  }

  /// Gives back the address space, the files, and the machine's thread.
  func releaseResources() {
    if user >= 0 {
      LockOrder.mayWait()
      machine_user_destroy(user)
      user = -1
    }
    exchangeAddressSpace(nil)?.threadEnded()
    vforkCompletion?.complete()
    vforkCompletion = nil
    descriptors.leave()
    let (former, context) = resources.withLock { _ in
      let held = (program, fileSystemContext)
      program = nil
      fileSystemContext = Task.endedContext ?? fileSystemContext
      return held
    }
    _ = consume former
    _ = consume context
    restart = nil
  }

  /// Leaves the process; the last thread ends it.
  private func leaveProcess() {
    let process = process
    var completedStop: Int32?
    var signals = PendingSignals(), sharedSignals = PendingSignals()
    let (isLast, status) = process.signals.withLock { state in
      state.tasks.removeAll { $0 === self }
      // Without exit_group(2) a process ends with the status of its leader's exit(2), whichever thread is the last.
      if process.leader === self { state.leaderStatus = exitCode }
      state.endedUsage.add(usage)
      // Signals for the process which this thread was to take go to the others.
      for task in state.tasks where !state.shared.set.subtracting(task.blocked).isEmpty {
        task.demandAttention(Attention.signal)
      }
      if attention.load(ordering: .relaxed) & Attention.stop != 0, state.tasksToStop > 0 {
        state.tasksToStop -= 1
        if state.tasksToStop == 0 { completedStop = state.stopSignal }
      }
      // Freed outside of the lock: there may be many.
      swap(&signals, &pending)
      if state.tasks.isEmpty { swap(&sharedSignals, &state.shared) }
      if state.soleSurvivor != nil && state.tasks.count == 1 { state.tasks[0].wake() }
      return (state.tasks.isEmpty, state.exitStatus ?? state.leaderStatus ?? exitCode)
    }
    // What was queued no longer counts when the parent sees the end.
    signals.removeAll()
    sharedSignals.removeAll()
    // Before the end of the process: then the identifier may be another one's at any time.
    ProcessTable.remove(self)
    if isLast {
      process.end(status)
    } else {
      if let completedStop { process.reportToParent(.stopped(completedStop)) }
    }
  }
}

extension Process {
  /// The last thread has gone: hands the children over, frees the terminal, becomes a zombie, and tells the parent.
  func end(_ status: WaitStatus) {
    timers.cancelAll()
    releaseTerminal()
    var isAutoReaped = false
    ProcessTable.withLock { state in
      let orphans = handOverChildren(&state)
      self.status = status
      isZombie = true
      continueOrphanedGroups(orphans)
      guard let parent else { return }
      tellParent()
      isAutoReaped = notify(parent, status)
      if isAutoReaped { ProcessTable.forget(self, &state) }
      parent.childEvents.wakeAll()
    }
    exitEvents.wakeAll()
    if pid == ProcessTable.firstPid { ProcessTable.commandEnded(status) }
  }

  /// Tells the parent; returns whether nobody will wait for this process (wait(2), NOTES: SIGCHLD ignored, SA_NOCLDWAIT).
  private func notify(_ parent: Process, _ status: WaitStatus) -> Bool {
    if parent === ProcessTable.reaper { return true }
    let action = parent.action(SIGCHLD)
    var isUnwanted = false
    if exitSignal == SIGCHLD {
      isUnwanted = action.handler == SIG_IGN || action.has(SA_NOCLDWAIT)
      if action.handler == SIG_IGN { return true }
    }
    if exitSignal != 0 { Signals.send(childInformation(exitSignal, status), to: parent) }
    return isUnwanted
  }

  /// Gives the children to the nearest living subreaper among the ancestors, or to process 1.
  private func handOverChildren(_ state: inout ProcessTable.State) -> [Process] {
    guard !children.isEmpty else { return [] }
    let heir = heirOfChildren()
    var orphans: [Process] = []
    while let child = children.first {
      child.leaveParent()
      heir.adopt(child, &state)
      orphans.append(child)
    }
    for child in orphans {
      child.exitSignal = SIGCHLD
      child.parentThread = 0
      child.sendParentDeathSignal()
      guard child.isZombie else { continue }
      if child.notify(heir, child.status) { ProcessTable.forget(child, &state) }
    }
    heir.childEvents.wakeAll()
    return orphans
  }

  private func heirOfChildren() -> Process {
    var ancestor = parent
    while let candidate = ancestor, candidate !== ProcessTable.reaper {
      if candidate.isSubreaper && !candidate.isZombie && candidate.anyTask != nil { return candidate }
      ancestor = candidate.parent
    }
    return ProcessTable.reaper
  }

  private func sendParentDeathSignal() {
    guard let leader, leader.parentDeathSignal != 0 else { return }
    Signals.send(.kernel(leader.parentDeathSignal), to: self)
  }

  /// Groups that become orphaned by this end, and have stopped members, get SIGHUP and SIGCONT (POSIX.1, _Exit). A group
  /// becomes orphaned only if this process was its tie to another group of the session: either as a member with its
  /// parent there, or as the parent of a member.
  private func continueOrphanedGroups(_ orphans: [Process]) {
    if let parent, parent.ties(group) { continueIfOrphaned(group) }
    for child in orphans where ties(child.group) { continueIfOrphaned(child.group) }
  }

  /// Whether a child of this process in `group` keeps that group from being orphaned.
  private func ties(_ group: ProcessGroup) -> Bool {
    self !== ProcessTable.reaper && self.group !== group && self.group.session === group.session
  }

  private func continueIfOrphaned(_ group: ProcessGroup) {
    guard group.isOrphaned(ignoring: self), group.hasStoppedMember(besides: self) else { return }
    group.members.visit { member in
      if member !== self {
        Signals.send(.kernel(SIGHUP), to: member)
        Signals.send(.kernel(SIGCONT), to: member)
      }
      return true
    }
  }

  /// A session leader's end takes the controlling terminal from its session.
  private func releaseTerminal() {
    let terminal: ControllingTerminal? = ProcessTable.state.withLock { _ in
      guard group.session.identifier == pid else { return nil }
      let terminal = group.session.terminal
      group.session.terminal = nil
      return terminal
    }
    terminal?.sessionEnded()
  }

  /// Removes the zombie that `parent` has waited for, and adds its times to the parent's. The times of a child that
  /// no thread waits for are lost (getrusage(2), RUSAGE_CHILDREN). Under the lock of ProcessTable.
  func reap(_ state: inout ProcessTable.State) {
    if let parent, parent !== ProcessTable.reaper {
      parent.childrenUsage.add(usage)
      parent.childrenUsage.add(childrenUsage)
    }
    ProcessTable.forget(self, &state)
  }
}

extension ProcessTable {
  /// The command that the machine was booted for.
  public static let firstPid: Int32 = 2

  /// The command has ended: so does the machine, with whatever still runs on it.
  static func commandEnded(_ status: WaitStatus) {
    powerOff(status)
  }

  /// Ends the machine with a wait status.
  @export(interface)
  public static func powerOff(_ status: WaitStatus) -> Never {
    firstProcessExited?(status)
    machine_power_off(UInt64(UInt32(bitPattern: status.rawValue)))
    while true { machine_idle(.max) }
  }
}
