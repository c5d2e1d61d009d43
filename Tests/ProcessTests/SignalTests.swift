import CLinuxABI
import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import Process

@Suite struct SignalTests {
  @Test func `a standard signal is pending once, and the first one's information stands`() {
    var pending = PendingSignals()
    #expect(pending.add(.user(SIGUSR1, pid: 7, uid: 0), payer: .root, room: true) == .queued)
    #expect(pending.add(.user(SIGUSR1, pid: 8, uid: 0), payer: .root, room: true) == .merged)
    #expect(pending.take(from: .all)?.senderPid == 7)
    #expect(pending.take(from: .all) == nil)
  }

  @Test func `real-time signals queue in order of arrival`() {
    var pending = PendingSignals()
    for value in Int32(1)...5 {
      _ = pending.add(.user(40, pid: value, uid: 0, code: SI_QUEUE), payer: .root, room: true)
    }
    for value in Int32(1)...5 { #expect(pending.take(from: .all)?.senderPid == value) }
    #expect(pending.set.isEmpty)
  }

  @Test func `faults come before lower numbers, and lower numbers before higher ones`() {
    var pending = PendingSignals()
    for signal in [SIGTERM, SIGHUP, Int32(50), SIGSEGV] { _ = pending.add(.kernel(signal), payer: .root, room: true) }
    #expect([SIGSEGV, SIGHUP, SIGTERM, 50].allSatisfy { pending.take(from: .all)?.signal == $0 })
  }

  @Test func `a full queue refuses sigqueue, and keeps the fact of a kill`() {
    var pending = PendingSignals()
    #expect(pending.add(.user(40, pid: 1, uid: 0, code: SI_QUEUE), payer: .root, room: false) == .refused)
    #expect(pending.add(.user(40, pid: 1, uid: 0), payer: .root, room: false) == .recordedWithoutInformation)
    #expect(pending.set.contains(40))
    #expect(
      pending.add(.user(SIGUSR1, pid: 1, uid: 0, code: SI_QUEUE), payer: .root, room: false)
        == .recordedWithoutInformation)
    #expect(pending.take(from: .all) == SignalInformation(signal: SIGUSR1, code: SI_USER))
    #expect(pending.take(from: .all) == SignalInformation(signal: 40, code: SI_USER))
    #expect(pending.set.isEmpty && pending.count == 0)
  }

  @Test func `the user who gets signals pays for those in the queue, and for no others`() {
    let user = KernelAccount(user: 4321)
    var pending = PendingSignals()
    for value in Int32(1)...10 {
      _ = pending.add(.user(40, pid: value, uid: 0, code: SI_QUEUE), payer: user, room: true)
    }
    _ = pending.add(.user(41, pid: 1, uid: 0), payer: user, room: false)
    #expect(user.queuedSignals == 10 && user.bytes == 10 * QueuedSignal.kernelBytes)
    _ = pending.take(from: .all)
    #expect(user.queuedSignals == 9 && user.bytes == 9 * QueuedSignal.kernelBytes)
    pending.remove(SignalSet(40))
    #expect(user.queuedSignals == 0 && user.bytes == 0 && pending.set == SignalSet(41))
    _ = pending.add(.kernel(40), payer: user, room: true)
    pending.removeAll()
    #expect(user.queuedSignals == 0 && user.bytes == 0 && pending.set.isEmpty)
  }

  /// The queue against a list of entries, with random sends, takes and removals.
  @Test func `the queue behaves as a list of entries does`() {
    var random = SeededGenerator("signal queue")
    var pending = PendingSignals()
    var model: [SignalInformation] = []
    for step in 0..<SeededGenerator.steps(20_000) {
      switch random.next() % 8 {
      case 0..<4:
        let signal = Int32(random.next() % 64) + 1
        let information = SignalInformation.user(signal, pid: Int32(step), uid: 0, code: SI_QUEUE)
        let isMerged = signal < SIGRTMIN && model.contains { $0.signal == signal }
        let outcome = pending.add(information, payer: .root, room: true)
        #expect(outcome == (isMerged ? .merged : .queued), "seed \(random.seed)")
        if !isMerged { model.append(information) }
      case 4..<7:
        let wanted = SignalSet(rawValue: random.next())
        let candidates = model.filter { wanted.contains($0.signal) }
        let isFault = { (s: Int32) in SignalSet.synchronous.contains(s) }
        let best = candidates.map(\.signal).min { (isFault($0) ? 0 : 1, $0) < (isFault($1) ? 0 : 1, $1) }
        let expected = candidates.first { $0.signal == best }
        #expect(pending.take(from: wanted) == expected, "seed \(random.seed)")
        if let expected { model.remove(at: model.firstIndex(of: expected)!) }
      default:
        let gone = SignalSet(rawValue: random.next() & random.next() & random.next())
        pending.remove(gone)
        model.removeAll { gone.contains($0.signal) }
      }
      #expect(pending.count == model.count, "seed \(random.seed)")
      let set = model.reduce(into: SignalSet()) { $0.insert($1.signal) }
      #expect(pending.set == set, "seed \(random.seed)")
    }
  }

  @Test func `SIGKILL and SIGSTOP cannot be in an action's mask`() {
    let action = SignalAction(handler: 4096, flags: 0, restorer: 0, mask: .all)
    #expect(!action.mask.contains(SIGKILL) && !action.mask.contains(SIGSTOP) && action.mask.contains(SIGTERM))
  }

  @Test func `SA_RESETHAND restores the default when the handler is taken`() {
    let actions = SignalActions()
    _ = actions.exchange(
      SIGUSR1, SignalAction(handler: 4096, flags: SA_RESETHAND, restorer: 0, mask: SignalSet()))
    #expect(actions.takeForDelivery(SIGUSR1).handler == 4096)
    #expect(actions.action(SIGUSR1).handler == SIG_DFL)
  }

  @Test func `exec keeps ignored signals and drops handlers`() {
    let actions = SignalActions()
    _ = actions.exchange(SIGINT, SignalAction(handler: SIG_IGN, flags: 0, restorer: 0, mask: SignalSet()))
    _ = actions.exchange(SIGTERM, SignalAction(handler: 4096, flags: 0, restorer: 0, mask: SignalSet()))
    let next = actions.copyForExec()
    #expect(next.action(SIGINT).handler == SIG_IGN && next.action(SIGTERM).handler == SIG_DFL)
  }

  @Test func `interrupted calls restart as signal(7) says`() {
    let restarting = SignalAction(handler: 4096, flags: SA_RESTART, restorer: 0, mask: SignalSet())
    let plain = SignalAction(handler: 4096, flags: 0, restorer: 0, mask: SignalSet())
    func after(_ error: Errno, _ handler: SignalAction?) -> RestartDecision {
      .after(result: -Int64(error.rawValue), handler: handler)
    }
    #expect(after(.ERESTARTSYS, nil) == .again)
    #expect(after(.ERESTARTSYS, restarting) == .again)
    #expect(after(.ERESTARTSYS, plain) == .interrupted)
    #expect(after(.ERESTARTNOINTR, plain) == .again)
    #expect(after(.ERESTARTNOHAND, restarting) == .interrupted)
    #expect(after(.ERESTARTNOHAND, nil) == .again)
    #expect(after(.ERESTART_RESTARTBLOCK, nil) == .continued)
    #expect(after(.ERESTART_RESTARTBLOCK, restarting) == .interrupted)
    #expect(after(.EINTR, nil) == .finished)
    #expect(RestartDecision.after(result: 512, handler: nil) == .finished)
  }

  @Test func `wait statuses have Linux's encodings`() {
    #expect(WaitStatus.exited(3).rawValue == 0x300)
    #expect(WaitStatus.exited(256 + 7).rawValue == 0x700)
    #expect(WaitStatus.killed(SIGKILL).rawValue == 9)
    #expect(WaitStatus.stopped(SIGTSTP).rawValue == 0x147f)
    #expect(WaitStatus.continued.rawValue == 0xffff)
    #expect(WaitStatus.exited(3).childCode == (CLD_EXITED, 3))
    #expect(WaitStatus.killed(SIGSEGV).childCode == (CLD_KILLED, SIGSEGV))
    #expect(WaitStatus.stopped(SIGSTOP).childCode == (CLD_STOPPED, SIGSTOP))
    #expect(WaitStatus.continued.childCode == (CLD_CONTINUED, SIGCONT))
  }

  @Test func `the frame's structures have the sizes of the x86-64 ABI`() {
    #expect(MemoryLayout<linux_siginfo>.size == 128)
    #expect(MemoryLayout<linux_sigcontext>.size == 256)
    #expect(MemoryLayout<linux_ucontext>.size == 304)
    #expect(MemoryLayout<linux_rt_sigframe>.size == 440)
    #expect(MemoryLayout<linux_signalfd_siginfo>.size == 128)
    #expect(MemoryLayout<linux_rusage>.size == 144)
    #expect(MemoryLayout<linux_sysinfo>.size == 112)
  }

  @Test func `a process that never dies is never chosen, and the adjustment counts in thousandths of memory`() {
    #expect(OutOfMemoryKiller.badness(pages: 100, totalPages: 1000, adjustment: -1000) == nil)
    #expect(OutOfMemoryKiller.badness(pages: 100, totalPages: 1000, adjustment: 0) == 100)
    #expect(OutOfMemoryKiller.badness(pages: 100, totalPages: 1000, adjustment: 500) == 600)
    #expect(OutOfMemoryKiller.badness(pages: 1, totalPages: 1000, adjustment: -500) == 1)
  }
}
