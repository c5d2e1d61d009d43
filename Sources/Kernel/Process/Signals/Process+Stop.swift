// Stopping and continuing whole processes, and the beginning of their end. A stop is a request to every thread; the
// process is stopped when the last of them has come to rest.

import Identity
import KernelCore
import LinuxABI
import Scheduling
import Synchronization

extension Process {
  /// Begins the end of the process: every thread leaves, the parent learns `status`. The first status stands.
  @export(interface)
  public func beginExit(_ status: WaitStatus) {
    signals.withLock { markExit(status, &$0) }
  }

  /// Under `signals`.
  func markExit(_ status: WaitStatus, _ state: inout ProcessSignals) {
    if state.exitStatus == nil { state.exitStatus = status }
    // The end is the end of a stop as well.
    state.stopSignal = 0
    state.tasksToStop = 0
    for task in state.tasks { task.demandAttention(Attention.exit) }
  }

  /// Asks every thread to stop because of `signal`.
  func beginStop(_ signal: Int32) {
    signals.withLock { state in
      guard state.exitStatus == nil, state.stopSignal == 0 else { return }
      state.stopSignal = signal
      state.stopCount &+= 1
      state.tasksToStop = state.tasks.count
      for task in state.tasks { task.demandAttention(Attention.stop) }
    }
  }

  /// SIGCONT: takes back a stop. Under `signals`.
  func markContinued(_ state: inout ProcessSignals) {
    guard state.stopSignal != 0 else { return }
    if state.isStopped { state.mustReportContinuation = true }
    state.stopSignal = 0
    state.tasksToStop = 0
    for task in state.tasks {
      task.attention.bitwiseAnd(~Attention.stop, ordering: .sequentiallyConsistent)
      task.wake()
    }
  }

  /// Tells the parent of a stop or a continuation: a status for wait(2), and SIGCHLD unless it wants none.
  func reportToParent(_ status: WaitStatus) {
    ProcessTable.state.withLock { _ in
      guard let parent else { return }
      report = status
      tellParent()
      if !parent.action(SIGCHLD).has(SA_NOCLDSTOP) { Signals.send(childInformation(SIGCHLD, status), to: parent) }
      parent.childEvents.wakeAll()
    }
  }

  /// SIGCHLD's siginfo_t about this process. Under the lock of ProcessTable.
  func childInformation(_ signal: Int32, _ status: WaitStatus) -> SignalInformation {
    let (code, value) = status.childCode
    let usage = usage
    return .child(
      signal: signal, code: code, pid: pid, uid: leader?.sharedCredentials.realUser ?? 0, status: value,
      userTicks: ResourceUsage.ticks(usage.userTime), systemTicks: ResourceUsage.ticks(usage.systemTime))
  }

  /// The action of a signal; the default when no thread is left.
  func action(_ signal: Int32) -> SignalAction {
    signals.withLock { $0.tasks.first?.actions.action(signal) ?? SignalAction() }
  }
}

extension Task {
  /// Rests until the process is continued or must end.
  func stopHere() {
    let process = process
    let (count, completed): (UInt32, Int32?) = process.signals.withLock { state in
      attention.bitwiseAnd(~Attention.stop, ordering: .sequentiallyConsistent)
      guard state.stopSignal != 0, state.tasksToStop > 0 else { return (state.stopCount &- 1, nil) }
      state.tasksToStop -= 1
      return (state.stopCount, state.tasksToStop == 0 ? state.stopSignal : nil)
    }
    if let completed { process.reportToParent(.stopped(completed)) }
    try? Thread.sleep(.killable) {
      process.signals.withLock { $0.stopSignal == 0 || $0.stopCount != count }
    }
    let mustReport = process.signals.withLock { state in
      let mustReport = state.mustReportContinuation
      state.mustReportContinuation = false
      return mustReport
    }
    if mustReport { process.reportToParent(.continued) }
  }
}
