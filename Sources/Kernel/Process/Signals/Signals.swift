// Sending signals. One lock, `Process.signals`, guards the queues of a process and of its threads; a send is one section
// under it: undo what the signal contradicts, drop what is ignored, queue, and tell a thread that can take it.

import DataStructures
import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling
import Synchronization

/// The ways to send a signal.
public enum Signals {
  /// Sends to a process: any of its threads that does not block the signal takes it, `preferred` before others.
  ///
  /// Callable from timers and with the process table locked; it does not sleep.
  /// - Returns: false when the queue is full and the signal is one that must not get lost (EAGAIN of sigqueue(3)).
  /// - Locks: `signals`.
  @export(interface) @discardableResult
  public static func send(
    _ information: SignalInformation, to process: Process, preferring preferred: Task? = nil
  ) -> Bool {
    let limit = process.limit(.pendingSignals)
    return process.signals.withLock { state in
      post(information, to: nil, of: process, &state, limit: limit, preferring: preferred)
    }
  }

  /// Sends to one thread.
  @export(interface) @discardableResult
  public static func send(_ information: SignalInformation, to task: Task) -> Bool {
    let limit = task.process.limit(.pendingSignals)
    return task.process.signals.withLock { state in
      post(information, to: task, of: task.process, &state, limit: limit)
    }
  }

  /// Sends to all members of a process group.
  ///
  /// - Throws: ESRCH when the group does not exist.
  @export(interface)
  public static func send(_ information: SignalInformation, toGroup identifier: Int32) throws(Errno) {
    try ProcessTable.state.withLock { state throws(Errno) in
      guard let group = state.identifiers[identifier]?.group else { throw .ESRCH }
      group.members.visit { member in
        send(information, to: member)
        return true
      }
    }
  }

  /// Raises a fault of the thread itself. A fault that is blocked or ignored ends the process, for the program could
  /// not go on from it.
  @export(interface)
  public static func force(_ information: SignalInformation, on task: Task) {
    let signal = information.signal
    let action = task.actions.action(signal)
    task.process.signals.withLock { state in
      if task.blocked.contains(signal) || action.handler == SIG_IGN {
        var reset = action
        reset.handler = SIG_DFL
        _ = task.actions.exchange(signal, reset)
        task.blocked.remove(signal)
      }
      task.pending.remove(SignalSet(signal))
      _ = post(information, to: task, of: task.process, &state, limit: nil)
    }
  }

  // MARK: Under the lock

  /// Queues a signal and tells who takes it. Without a limit there is room at any rate, for a fault's cause must not get lost.
  private static func post(
    _ information: SignalInformation, to task: Task?, of process: Process, _ state: inout ProcessSignals,
    limit: UInt64?,
    preferring preferred: Task? = nil
  ) -> Bool {
    let signal = information.signal
    guard let reference = task ?? state.tasks.first else { return true }
    cancelOpposite(of: signal, process, &state)
    let action = reference.actions.action(signal)
    if signal == SIGKILL {
      process.markExit(.killed(SIGKILL), &state)
      return true
    }
    let isAwaited = state.tasks.contains { $0.awaited.contains(signal) }
    if action.ignores(signal) && !reference.blocked.contains(signal) && !isAwaited { return true }
    let payer = KernelAccount(user: reference.sharedCredentials.realUser)
    let room = limit.map { hasRoom(for: information, payer, $0) } ?? true
    let outcome =
      task?.pending.add(information, payer: payer, room: room)
      ?? state.shared.add(information, payer: payer, room: room)
    if outcome == .refused { return false }
    process.signalArrivals.wakeAll()
    guard let target = task ?? chooseTarget(signal, state, preferred) else { return true }
    guard target.wants(signal) else { return true }
    // A stopped process ends only when it is continued (signal(7)), unless by SIGKILL.
    if action.isFatal(signal), !target.awaited.contains(signal), !state.isStopped {
      // No handler can run: every thread may end at once, those in uninterruptible places as soon as they can.
      process.markExit(.killed(signal), &state)
    } else {
      target.demandAttention(Attention.signal)
    }
    return true
  }

  /// Whether `payer` may have another signal in its queues. The limit does not bind standard signals of kill(2) and the kernel.
  private static func hasRoom(for information: SignalInformation, _ payer: KernelAccount, _ limit: UInt64) -> Bool {
    if payer.isExceeded || FrameAllocator.isNearlyEmpty { return false }
    return information.signal < SIGRTMIN && information.code >= 0 || payer.queuedSignals < limit
  }

  /// A thread that takes the signal: `preferred`, else the first that does not block it.
  private static func chooseTarget(_ signal: Int32, _ state: ProcessSignals, _ preferred: Task?) -> Task? {
    if let preferred, preferred.wants(signal) { return preferred }
    for task in state.tasks where task.wants(signal) { return task }
    return nil
  }

  /// SIGCONT takes back pending stops and continues the process, even when it is blocked or ignored; a stop signal takes
  /// back a pending SIGCONT (POSIX.1 2.4.1).
  private static func cancelOpposite(of signal: Int32, _ process: Process, _ state: inout ProcessSignals) {
    if signal == SIGCONT {
      state.shared.remove(.stops)
      for task in state.tasks { task.pending.remove(.stops) }
      process.markContinued(&state)
    } else if SignalSet.stops.contains(signal) {
      state.shared.remove(SignalSet(SIGCONT))
      for task in state.tasks { task.pending.remove(SignalSet(SIGCONT)) }
    }
  }
}

extension Task {
  /// Whether the thread would take `signal` now. Under `process.signals`.
  func wants(_ signal: Int32) -> Bool {
    if attention.load(ordering: .relaxed) & Attention.exit != 0 { return false }
    return !blocked.contains(signal) || awaited.contains(signal)
  }

  /// Sets bits of `attention`, and brings the thread to where it looks at them.
  func demandAttention(_ bits: UInt32) {
    attention.bitwiseOr(bits, ordering: .sequentiallyConsistent)
    if self === Thread.current { return }
    wake()
    // In user mode on another CPU it would not notice.
    if isRunnable, lastCPU != CPU.currentIndex { machine_cpu_kick(UInt64(lastCPU)) }
  }

  /// Recomputes `Attention.signal` after a change of queues or mask. Under `process.signals`.
  func recomputePending(_ state: ProcessSignals) {
    let deliverable = pending.set.union(state.shared.set).subtracting(blocked)
    if deliverable.isEmpty && savedMask == nil {
      attention.bitwiseAnd(~Attention.signal, ordering: .sequentiallyConsistent)
    } else {
      attention.bitwiseOr(Attention.signal, ordering: .sequentiallyConsistent)
    }
  }
}

// MARK: Permission

extension Signals {
  /// kill(2): the sender's real or effective user is the target's real or saved one, or it has CAP_KILL; SIGCONT may
  /// always be sent within a session.
  @export(interface)
  public static func maySend(_ signal: Int32, from sender: Task, to target: Process) -> Bool {
    mayOverrule(sender, target)
      || signal == SIGCONT && sender.process.sessionIdentifier == target.sessionIdentifier
  }

  private static func mayOverrule(_ sender: Task, _ target: Process) -> Bool {
    if sender.process === target { return true }
    let mine = sender.credentials
    if mine.has(.kill) { return true }
    guard let task = target.anyTask ?? target.leader else { return false }
    let theirs = task.sharedCredentials
    return mine.effectiveUser == theirs.savedUser || mine.effectiveUser == theirs.realUser
      || mine.realUser == theirs.savedUser || mine.realUser == theirs.realUser
  }

  /// Several processes as kill(2) names them.
  public enum Crowd: Sendable {
    case group(Int32)
    /// All processes but process 1 and the sender's own.
    case everybodyElse
  }

  /// kill(2) of several processes: sends to all that `sender` may signal, in one section under the lock of the process
  /// table, so that no process which is just being forked escapes.
  ///
  /// - Throws: ESRCH for no target, EPERM when none of them may be signalled.
  /// - Locks: the process table's, `signals`.
  @export(interface)
  public static func send(_ information: SignalInformation, to crowd: Crowd, by sender: Task) throws(Errno) {
    try ProcessTable.state.withLock { state throws(Errno) in
      var isAnybody = false
      var isPermitted = false
      let visit = { (target: Process) in
        isAnybody = true
        let isSameSession = sender.process.group.session === target.group.session
        guard mayOverrule(sender, target) || information.signal == SIGCONT && isSameSession else { return }
        isPermitted = true
        if information.signal != 0 { send(information, to: target) }
      }
      switch crowd {
      case .group(let identifier):
        state.identifiers[identifier]?.group?.members.visit { member in
          visit(member)
          return true
        }
      case .everybodyElse:
        for identifier in state.identifiers.identifiers {
          guard let process = state.identifiers[identifier]?.process else { continue }
          if process !== ProcessTable.reaper && process !== sender.process { visit(process) }
        }
      }
      guard isAnybody else { throw .ESRCH }
      guard isPermitted else { throw .EPERM }
    }
  }
}
