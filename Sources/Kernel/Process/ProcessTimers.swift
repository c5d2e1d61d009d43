// The timers of a process: setitimer(2), POSIX timers (timer_create(2)), and the CPU-time limits. Wall-clock timers are
// timers of the scheduler; CPU time is compared each time the process comes back from user mode, while one is set.

import Identity
import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// An interval timer's setting.
public struct TimerSetting: Equatable, Sendable {
  /// Until the next expiry; 0 when the timer is off.
  public var value: Nanoseconds
  /// Between expiries; 0 for a single one.
  public var interval: Nanoseconds

  public init(value: Nanoseconds = .zero, interval: Nanoseconds = .zero) {
    self.value = value
    self.interval = interval
  }
}

/// A POSIX timer. All fields but the identity are guarded by the lock of `ProcessTimers`.
final class PosixTimer {
  let identifier: Int32
  let clock: Int32
  /// SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID.
  let notification: Int32
  let signal: Int32
  let value: UInt64
  let target: Int32
  var interval = Nanoseconds.zero
  var deadline = Instant.never
  /// Whether a signal of the timer is on its way.
  var isSignalled = false
  /// Expiries since that signal was sent, and the count that was delivered last.
  var overrun: UInt64 = 0
  var deliveredOverrun: Int32 = 0
  var timer: Timer?
  private let account = Thread.current.account
  static var kernelBytes: Int { 512 }

  init(identifier: Int32, clock: Int32, notification: Int32, signal: Int32, value: UInt64, target: Int32) {
    self.identifier = identifier
    self.clock = clock
    self.notification = notification
    self.signal = signal
    self.value = value
    self.target = target
    account.charge(Self.kernelBytes)
  }

  deinit { account.release(Self.kernelBytes) }
}

/// All timers of a process.
public final class ProcessTimers {
  private struct State {
    var real = TimerSetting()
    var realDeadline = Instant.never
    var realTimer: Timer?
    /// ITIMER_VIRTUAL and ITIMER_PROF: the CPU time at which they expire, 0 for never, and the interval.
    var virtualExpiry = Nanoseconds.zero, virtualInterval = Nanoseconds.zero
    var profileExpiry = Nanoseconds.zero, profileInterval = Nanoseconds.zero
    /// RLIMIT_CPU: the CPU time at which to send the next SIGXCPU, 0 for never.
    var limitWarning = Nanoseconds.zero
    var posix: [Int32: PosixTimer] = [:]
    var nextIdentifier: Int32 = 0
  }
  private let state = SpinLock(State(), rank: .task)
  private let watches = Atomic<Bool>(false)

  /// How often CPU time is compared while a timer of it is set, in nanoseconds.
  static let processorTimeGranularity: UInt64 = 1_000_000
  /// A repeating timer expires at most this often; what lies between is counted as overrun.
  private static let shortestPeriod = Nanoseconds(50_000)
  private static let timerLimit = 4096
  /// What timer_getoverrun(2) can report.
  private static let mostOverruns = UInt64(Int32.max)

  /// Whether CPU time must be compared.
  var watchesProcessorTime: Bool { watches.load(ordering: .relaxed) }

  /// What the timers cost the kernel, in bytes.
  var heldBytes: Int { state.withLock { $0.posix.count } * PosixTimer.kernelBytes }

  // MARK: ITIMER_REAL

  /// setitimer(ITIMER_REAL) and alarm(2); returns the setting before.
  @export(interface)
  public func setReal(_ new: TimerSetting, of process: Process) -> TimerSetting {
    let now = Instant.now()
    return state.withLock { state in
      let old = ProcessTimers.remaining(state.real.interval, state.realDeadline, now)
      state.real = new
      if new.value == .zero {
        state.realDeadline = .never
        state.realTimer?.cancel()
      } else {
        state.realDeadline = now.advanced(by: new.value)
        let timer = state.realTimer ?? Timer { [self] in realExpired(process) }
        state.realTimer = timer
        timer.start(at: state.realDeadline)
      }
      return old
    }
  }

  @export(interface)
  public func real() -> TimerSetting {
    let now = Instant.now()
    return state.withLock { ProcessTimers.remaining($0.real.interval, $0.realDeadline, now) }
  }

  private static func remaining(_ interval: Nanoseconds, _ deadline: Instant, _ now: Instant) -> TimerSetting {
    guard deadline != .never else { return TimerSetting(interval: interval) }
    // A timer that is about to expire is still running.
    return TimerSetting(value: max(Nanoseconds(1), deadline.since(now)), interval: interval)
  }

  private func realExpired(_ process: Process) {
    let now = Instant.now()
    let isDue: Bool = state.withLock { state in
      guard state.realDeadline <= now else { return false }
      if state.real.interval == .zero {
        state.realDeadline = .never
      } else {
        let period = max(state.real.interval, ProcessTimers.shortestPeriod)
        state.realDeadline = state.realDeadline.nextExpiry(every: period, after: now).instant
        state.realTimer?.start(at: state.realDeadline)
      }
      return true
    }
    if isDue { Signals.send(.kernel(SIGALRM), to: process) }
  }

  // MARK: CPU time

  /// setitimer(ITIMER_VIRTUAL or ITIMER_PROF); `time` is the CPU time used so far. Returns the setting before.
  @export(interface)
  public func setProcessorTimer(_ which: Int32, _ new: TimerSetting, at time: Nanoseconds) -> TimerSetting {
    state.withLock { state in
      let old = ProcessTimers.processorTimer(state, which, time)
      let expiry = new.value == .zero ? .zero : time + new.value
      if which == ITIMER_VIRTUAL {
        (state.virtualExpiry, state.virtualInterval) = (expiry, new.interval)
      } else {
        (state.profileExpiry, state.profileInterval) = (expiry, new.interval)
      }
      updateWatch(state)
      return old
    }
  }

  @export(interface)
  public func processorTimer(_ which: Int32, at time: Nanoseconds) -> TimerSetting {
    state.withLock { ProcessTimers.processorTimer($0, which, time) }
  }

  private static func processorTimer(_ state: State, _ which: Int32, _ time: Nanoseconds) -> TimerSetting {
    let (expiry, interval) =
      which == ITIMER_VIRTUAL
      ? (state.virtualExpiry, state.virtualInterval) : (state.profileExpiry, state.profileInterval)
    if expiry == .zero { return TimerSetting(interval: interval) }
    return TimerSetting(value: max(Nanoseconds(1), expiry - time), interval: interval)
  }

  /// RLIMIT_CPU changed: `seconds` of CPU time until SIGXCPU, 0 for no limit.
  @export(interface)
  public func setProcessorLimit(seconds: UInt64) {
    state.withLock { state in
      state.limitWarning = Nanoseconds(seconds: seconds)
      updateWatch(state)
    }
  }

  private func updateWatch(_ state: State) {
    let isNeeded = state.virtualExpiry != .zero || state.profileExpiry != .zero || state.limitWarning != .zero
    watches.store(isNeeded, ordering: .relaxed)
  }

  /// Compares the CPU time of the process of `task`, which has just run, with what is set, and sends what is due: to the
  /// thread that used the time, if it takes the signal, so that a profiler sees every thread.
  func checkProcessorTime(_ task: Task) {
    let process = task.process
    let usage = process.usage
    let (userTime, totalTime) = (Nanoseconds(usage.userTime), Nanoseconds(usage.totalTime))
    let hardLimit = process.limits[.processorTime].hard
    var due: [Int32] = []
    state.withLock { state in
      if state.virtualExpiry != .zero, userTime >= state.virtualExpiry {
        due.append(SIGVTALRM)
        state.virtualExpiry = state.virtualInterval == .zero ? .zero : userTime + state.virtualInterval
      }
      if state.profileExpiry != .zero, totalTime >= state.profileExpiry {
        due.append(SIGPROF)
        state.profileExpiry = state.profileInterval == .zero ? .zero : totalTime + state.profileInterval
      }
      if state.limitWarning != .zero, totalTime >= state.limitWarning {
        // The soft limit warns each second, the hard one kills (setrlimit(2)).
        due.append(totalTime.seconds >= hardLimit ? SIGKILL : SIGXCPU)
        state.limitWarning = totalTime + Nanoseconds(seconds: 1)
      }
      updateWatch(state)
    }
    for signal in due { Signals.send(.kernel(signal), to: process, preferring: task) }
  }

  // MARK: POSIX timers

  /// timer_create(2).
  ///
  /// - Throws: EAGAIN when the process has too many.
  @export(interface)
  public func create(
    clock: Int32, notification: Int32, signal: Int32, value: UInt64?, target: Int32
  ) throws(Errno) -> Int32 {
    try state.withLock { state throws(Errno) in
      guard state.posix.count < ProcessTimers.timerLimit else { throw .EAGAIN }
      while state.posix[state.nextIdentifier] != nil {
        state.nextIdentifier = state.nextIdentifier == .max ? 0 : state.nextIdentifier + 1
      }
      let identifier = state.nextIdentifier
      state.nextIdentifier = identifier == .max ? 0 : identifier + 1
      // Without a sigevent the value is the timer's identifier (timer_create(2)).
      state.posix[identifier] = PosixTimer(
        identifier: identifier, clock: clock, notification: notification, signal: signal,
        value: value ?? UInt64(identifier), target: target)
      return identifier
    }
  }

  /// timer_delete(2).
  @export(interface)
  public func delete(_ identifier: Int32) throws(Errno) {
    let removed: PosixTimer = try state.withLock { state throws(Errno) in
      guard let timer = state.posix.removeValue(forKey: identifier) else { throw .EINVAL }
      timer.timer?.cancel()
      timer.timer = nil
      timer.deadline = .never
      return timer
    }
    _ = removed
  }

  /// The clock of a timer.
  @export(interface)
  public func clock(of identifier: Int32) throws(Errno) -> Int32 {
    try state.withLock { state throws(Errno) in
      guard let timer = state.posix[identifier] else { throw .EINVAL }
      return timer.clock
    }
  }

  /// timer_settime(2): expires first at `deadline` (never: off), then every `interval`. Returns the setting before.
  @export(interface)
  public func set(
    _ identifier: Int32, deadline: Instant, interval: Nanoseconds, of process: Process
  ) throws(Errno) -> TimerSetting {
    let now = Instant.now()
    return try state.withLock { state throws(Errno) in
      guard let timer = state.posix[identifier] else { throw .EINVAL }
      let old = ProcessTimers.remaining(timer.interval, timer.deadline, now)
      timer.timer?.cancel()
      timer.interval = interval
      timer.deadline = deadline
      timer.isSignalled = false
      timer.overrun = 0
      if deadline != .never {
        let callback = timer.timer ?? Timer { [self] in posixExpired(identifier, process) }
        timer.timer = callback
        callback.start(at: deadline)
      }
      return old
    }
  }

  /// timer_gettime(2).
  @export(interface)
  public func setting(_ identifier: Int32) throws(Errno) -> TimerSetting {
    let now = Instant.now()
    return try state.withLock { state throws(Errno) in
      guard let timer = state.posix[identifier] else { throw .EINVAL }
      return ProcessTimers.remaining(timer.interval, timer.deadline, now)
    }
  }

  /// timer_getoverrun(2).
  @export(interface)
  public func overrun(_ identifier: Int32) throws(Errno) -> Int32 {
    try state.withLock { state throws(Errno) in
      guard let timer = state.posix[identifier] else { throw .EINVAL }
      return timer.deliveredOverrun
    }
  }

  private func posixExpired(_ identifier: Int32, _ process: Process) {
    let now = Instant.now()
    var information: SignalInformation?
    var target: Int32 = 0
    state.withLock { state in
      guard let timer = state.posix[identifier], timer.deadline <= now else { return }
      var expiries: UInt64 = 1
      if timer.interval == .zero {
        timer.deadline = .never
      } else {
        let next = timer.deadline.nextExpiry(
          every: timer.interval, after: now, notWithin: ProcessTimers.shortestPeriod)
        (timer.deadline, expiries) = (next.instant, next.expiries)
        timer.timer?.start(at: next.instant)
      }
      guard timer.notification != SIGEV_NONE else { return }
      if timer.isSignalled {
        timer.overrun = min(timer.overrun + min(expiries, Self.mostOverruns), Self.mostOverruns)
        return
      }
      timer.isSignalled = true
      timer.overrun = min(expiries - 1, Self.mostOverruns)
      target = timer.notification == SIGEV_THREAD_ID ? timer.target : 0
      information = .timer(timer.signal, identifier: identifier, overrun: 0, value: timer.value)
    }
    guard let information else { return }
    var isSent = true
    if target == 0 {
      isSent = Signals.send(information, to: process)
    } else if let task = ProcessTable.task(target), task.process === process {
      isSent = Signals.send(information, to: task)
    }
    // The next expiry tries again.
    if !isSent { state.withLock { $0.posix[identifier]?.isSignalled = false } }
  }

  /// A timer's signal is being taken: fills in how many expiries it stands for.
  func delivered(_ information: inout SignalInformation) {
    let identifier = Int32(truncatingIfNeeded: information.words.0)
    state.withLock { state in
      guard let timer = state.posix[identifier], timer.isSignalled else { return }
      timer.isSignalled = false
      timer.deliveredOverrun = Int32(clamping: timer.overrun)
      information.words.0 =
        information.words.0 & 0xffff_ffff | UInt64(UInt32(bitPattern: timer.deliveredOverrun)) << 32
      timer.overrun = 0
    }
  }

  // MARK: Ends

  /// execve(2) deletes the POSIX timers; the interval timers go on.
  func programChanged() {
    let removed = state.withLock { state in
      let removed = state.posix
      for timer in removed.values {
        timer.timer?.cancel()
        timer.timer = nil
      }
      state.posix = [:]
      return removed
    }
    _ = removed
  }

  /// The process ends.
  func cancelAll() {
    programChanged()
    let timer = state.withLock { state in
      let timer = state.realTimer
      timer?.cancel()
      state.realTimer = nil
      (state.virtualExpiry, state.profileExpiry, state.limitWarning) = (.zero, .zero, .zero)
      updateWatch(state)
      return timer
    }
    _ = timer
  }
}
