// Taking signals on the way back to user mode: what Linux calls get_signal and handle_signal.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

extension Task {
  /// Does everything that `attention` asks for. Afterwards either the task is exiting, or user code may run.
  func handleAttention() {
    while true {
      let bits = attention.load(ordering: .sequentiallyConsistent)
      if bits & Attention.exit != 0 {
        isExiting = true
        return
      }
      if bits & Attention.stop != 0 {
        stopHere()
        continue
      }
      guard bits & Attention.signal != 0 else { return }
      deliverSignals()
      if isExiting { return }
    }
  }

  /// Takes signals until a handler is set up or none is left.
  private func deliverSignals() {
    while attention.load(ordering: .relaxed) & (Attention.exit | Attention.stop) == 0 {
      guard let information = takeSignal(from: blocked.complement) else {
        finishInterruptedCall(handler: nil)
        process.signals.withLock { state in
          if let mask = savedMask {
            savedMask = nil
            blocked = mask
          }
          recomputePending(state)
        }
        return
      }
      let signal = information.signal
      let action = actions.takeForDelivery(signal)
      if action.handler == SIG_IGN { continue }
      if action.handler == SIG_DFL {
        takeDefaultAction(signal)
        if isExiting { return }
        continue
      }
      finishInterruptedCall(handler: action)
      do throws(Errno) {
        try pushFrameWhenPossible(information, action)
        blockDuringHandler(signal, action)
      } catch {
        // No stack to run the handler on: Linux forces SIGSEGV, fatal when it was SIGSEGV's own handler.
        if signal == SIGSEGV { _ = actions.exchange(SIGSEGV, SignalAction()) }
        Signals.force(.kernel(SIGSEGV), on: self)
      }
    }
  }

  /// Sets a handler up. Where memory for the stack is missing it is not the program's fault: that comes as by a write of its own.
  private func pushFrameWhenPossible(_ information: SignalInformation, _ action: SignalAction) throws(Errno) {
    do throws(Errno) { try pushSignalFrame(information, action) } catch {
      let top = signalStack(action)
      var page = (top &- Self.largestSignalFrame) & ~4095
      while page < top {
        do throws(FaultFailure) {
          try runningAddressSpace.handleFault(at: page, access: .write)
          page &+= 4096
        } catch {
          guard error == .outOfMemory else { break }
          OutOfMemoryKiller.shared.endCurrent(self)
          if hasFatalSignal { throw .EFAULT }
        }
      }
      try pushSignalFrame(information, action)
    }
  }

  /// Takes the next signal of `wanted` out of the thread's queue or the process's.
  func takeSignal(from wanted: SignalSet) -> SignalInformation? {
    var information = process.signals.withLock { state in
      let information = pending.take(from: wanted) ?? state.shared.take(from: wanted)
      recomputePending(state)
      return information
    }
    if information?.code == SI_TIMER { process.timers.delivered(&information!) }
    return information
  }

  private func takeDefaultAction(_ signal: Int32) {
    switch DefaultAction.of(signal) {
    case .ignore, .continue: return
    case .stop:
      // Terminal stops are not for orphaned groups: nobody could continue them.
      if signal != SIGSTOP {
        let isOrphaned = ProcessTable.state.withLock { _ in process.group.isOrphaned() }
        if isOrphaned { return }
      }
      process.beginStop(signal)
    case .terminate, .coreDump:
      process.beginExit(.killed(signal))
      isExiting = true
    }
  }

  private func blockDuringHandler(_ signal: Int32, _ action: SignalAction) {
    process.signals.withLock { state in
      savedMask = nil
      blocked = blocked.union(action.mask)
      if !action.has(SA_NODEFER) { blocked.insert(signal) }
      blocked = blocked.subtracting(.unblockable)
      recomputePending(state)
    }
  }

  /// Signals that wait because they are blocked (sigpending(2)).
  @export(interface)
  public func pendingSignals() -> SignalSet {
    process.signals.withLock { pending.set.union($0.shared.set).intersection(blocked) }
  }

  /// Whether a signal of `set` waits, for the thread or the process.
  func hasPending(of set: SignalSet) -> Bool {
    process.signals.withLock { !pending.set.union($0.shared.set).intersection(set).isEmpty }
  }

  /// sigaction(2): sets an action, and forgets pending signals that it ignores (POSIX.1 2.4.3).
  @export(interface)
  public func setAction(_ signal: Int32, _ action: SignalAction) -> SignalAction {
    let old = actions.exchange(signal, action)
    if action.ignores(signal) {
      process.signals.withLock { state in
        state.shared.remove(SignalSet(signal))
        for task in state.tasks {
          task.pending.remove(SignalSet(signal))
        }
        recomputePending(state)
      }
    }
    return old
  }

  /// sigtimedwait(2): takes a signal of `set`, waiting for one until `deadline`.
  ///
  /// - Throws: EAGAIN when none came in time; EINTR when another one did.
  @export(interface)
  public func waitForSignal(of set: SignalSet, until deadline: Instant) throws(Errno) -> SignalInformation {
    let set = set.subtracting(.unblockable)
    var taken = takeSignal(from: set)
    if let taken { return taken }
    process.signals.withLock { _ in awaited = set }
    defer { process.signals.withLock { _ in awaited = SignalSet() } }
    do throws(Errno) {
      try Thread.sleep(.interruptible, until: deadline) {
        taken = takeSignal(from: set)
        return taken != nil
      }
    } catch {
      throw error == .ETIMEDOUT ? .EAGAIN : .EINTR
    }
    guard let taken else { throw .EINTR }
    return taken
  }

  /// Changes the signal mask; SIGKILL and SIGSTOP stay open. Other threads take over process signals that this one
  /// blocks now.
  @export(interface)
  public func setMask(_ mask: SignalSet) {
    process.signals.withLock { state in
      let mask = mask.subtracting(.unblockable)
      let newlyBlocked = mask.subtracting(blocked).intersection(state.shared.set)
      blocked = mask
      recomputePending(state)
      guard !newlyBlocked.isEmpty else { return }
      for task in state.tasks where task !== self && !newlyBlocked.subtracting(task.blocked).isEmpty {
        task.demandAttention(Attention.signal)
      }
    }
  }

  /// Runs `body` under a temporary mask (ppoll(2), pselect(2), epoll_pwait(2)); nil leaves the mask alone. When a signal
  /// ends `body`, the mask stays for the delivery: the handler runs under it, and the old one returns after the handler.
  @export(interface)
  public func withTemporaryMask(_ mask: SignalSet?, _ body: () throws(Errno) -> Int64) throws(Errno) -> Int64 {
    guard let mask else { return try body() }
    let former = blocked
    setMask(mask)
    do throws(Errno) {
      let result = try body()
      setMask(former)
      return result
    } catch {
      if error.rawValue >= Errno.ERESTARTSYS.rawValue || error == .EINTR {
        keepMaskUntilDelivery(former)
      } else {
        setMask(former)
      }
      throw error
    }
  }

  /// Lets the present mask be in force until the next signal is taken, and `former` come back then.
  func keepMaskUntilDelivery(_ former: SignalSet) {
    process.signals.withLock { state in
      savedMask = former
      recomputePending(state)
    }
  }
}

extension SignalSet {
  /// All signals that are not in the set.
  public var complement: SignalSet { SignalSet(rawValue: ~rawValue) }
}
