// timerfd_create(2): a timer that is read like a file. What is read is how often it has expired since the last read.

import DataStructures
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// The clocks that a timerfd can follow. The sandbox is never suspended: a clock that could wake it up counts as the one without.
public enum TimerClock: Sendable {
  case realtime, monotonic, boot, realtimeAlarm, bootAlarm

  var isRealtime: Bool { self == .realtime || self == .realtimeAlarm }
  var number: Int32 {
    switch self {
    case .realtime: CLOCK_REALTIME
    case .monotonic: CLOCK_MONOTONIC
    case .boot: CLOCK_BOOTTIME
    case .realtimeAlarm: CLOCK_REALTIME_ALARM
    case .bootAlarm: CLOCK_BOOTTIME_ALARM
    }
  }
}

/// A timerfd.
public final class TimerFile: OpenFile {
  private struct State {
    /// The time between expirations; 0: once.
    var interval = Nanoseconds.zero
    /// The next expiration, or the first that has not been read yet.
    var deadline = Instant.never
    /// Whether that has passed. The timer rests until a read, however short its interval is: all that expires
    /// meanwhile is found by calculation.
    var hasExpired = false
    /// What a read gets, besides what is found by calculation; 0: it waits.
    var ticks: UInt64 = 0
    /// The flags of timerfd_settime(2).
    var flags: Int32 = 0
    /// The time of a real-time clock that `deadline` stands for: it moves when the clock is set.
    var time: Nanoseconds?
    /// TFD_TIMER_CANCEL_ON_SET: whether the program learns that the clock was set, and whether it was.
    var isCancellable = false
    var isCancelled = false

    /// Whether the program is to learn of a cancellation now.
    mutating func takeCancellation() -> Bool {
      guard isCancellable, isCancelled else { return false }
      isCancelled = false
      return true
    }
  }
  private enum Reading { case nothing, cancelled, expirations(UInt64) }

  private let clock: TimerClock
  private let state = SpinLock(State(), rank: .pipe)
  private let queue = WaitQueue()
  private var alarm: Timer?
  fileprivate var links = ListLinks<TimerFile>()
  /// The timers that depend on what the real-time clock reads.
  private static let realtime = SpinLock(IntrusiveList<RealtimeTimers>(), rank: .fileSystem)

  @export(interface)
  public init(_ clock: TimerClock, flags: OpenFlags) {
    self.clock = clock
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "[timerfd]"), flags: flags.union(.readWrite),
      isSeekable: false)
    // The alarm refers to the file until `close` breaks the circle.
    alarm = Timer { [self] in expire() }
  }

  public override var timer: TimerFile? { self }

  /// timerfd_settime(2): expires first at or after `value` (0: never), then every `interval`.
  ///
  /// - Returns: what `remaining()` was before.
  /// - Throws: ECANCELED when the clock was set since a setting with TFD_TIMER_CANCEL_ON_SET; the new one holds all the same.
  @export(interface)
  public func set(
    _ value: Nanoseconds, interval: Nanoseconds, flags: Int32
  ) throws(Errno) -> (value: Nanoseconds, interval: Nanoseconds) {
    let isAbsolute = flags & TFD_TIMER_ABSTIME != 0
    var new = State(interval: interval, flags: flags)
    if clock.isRealtime, isAbsolute {
      new.isCancellable = flags & TFD_TIMER_CANCEL_ON_SET != 0
      if value != .zero { new.time = value }
    }
    guard clock.isRealtime else {
      if value != .zero {
        new.deadline = isAbsolute ? Clock.instant(monotonic: value) : Instant.now().advanced(by: value)
      }
      return state.withLock { replace(&$0, by: new) }
    }
    return try Self.realtime.withLock { timers throws(Errno) in
      let depends = new.time != nil || new.isCancellable
      if depends, !links.isLinked { timers.append(self) }
      if !depends, links.isLinked { timers.remove(self) }
      if value != .zero {
        new.deadline = isAbsolute ? Clock.instant(realtime: value) : Instant.now().advanced(by: value)
      }
      return try state.withLock { state throws(Errno) in
        new.isCancelled = state.isCancelled
        let before = replace(&state, by: new)
        if value != .zero, state.takeCancellation() { throw .ECANCELED }
        return before
      }
    }
  }

  private func replace(_ state: inout State, by new: State) -> (value: Nanoseconds, interval: Nanoseconds) {
    let before = Self.remaining(state)
    state = new
    alarm?.start(at: new.deadline)
    return before
  }

  /// The real-time clock was set.
  @export(interface)
  public static func clockWasSet() {
    realtime.withLock { timers in
      timers.visit {
        $0.clockWasSet()
        return true
      }
    }
  }

  private func clockWasSet() {
    let isCancelled = state.withLock { state in
      if let time = state.time, !state.hasExpired, state.deadline != .never {
        state.deadline = Clock.instant(realtime: time)
        alarm?.start(at: state.deadline)
      }
      guard state.isCancellable else { return false }
      state.isCancelled = true
      state.ticks &+= 1
      return true
    }
    if isCancelled { queue.wakeAll() }
  }

  /// timerfd_gettime(2): the time to the next expiration (0: disarmed) and the interval.
  @export(interface)
  public func remaining() -> (value: Nanoseconds, interval: Nanoseconds) { state.withLock { Self.remaining($0) } }

  private static func remaining(_ state: State) -> (value: Nanoseconds, interval: Nanoseconds) {
    let now = Instant.now()
    guard state.deadline != .never, !state.hasExpired || state.interval > .zero else { return (.zero, state.interval) }
    var next = state.deadline
    if next <= now, state.interval > .zero { next = next.nextExpiry(every: state.interval, after: now).instant }
    // An armed timer never shows 0, which would mean disarmed.
    return (max(Nanoseconds(1), next.since(now)), state.interval)
  }

  private func expire() {
    let isDue = state.withLock { state in
      // It may just have been set again.
      guard state.deadline <= Instant.now() else {
        alarm?.start(at: state.deadline)
        return false
      }
      state.hasExpired = true
      state.ticks &+= 1
      return true
    }
    if isDue { queue.wakeAll() }
  }

  /// - Throws: ECANCELED when the clock was set (TFD_TIMER_CANCEL_ON_SET).
  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    guard buffer.remaining >= 8 else { throw .EINVAL }
    var reading = take()
    if case .nothing = reading {
      if isNonBlocking { throw .EAGAIN }
      try queue.wait {
        reading = take()
        if case .nothing = reading { return false }
        return true
      }
    }
    guard case .expirations(let count) = reading else { throw .ECANCELED }
    try buffer.copyOut(ByteString(EventCounter.bytes(count)))
    return 8
  }

  /// The expirations since the last read; the timer goes on.
  private func take() -> Reading {
    state.withLock { state in
      guard state.ticks > 0 else { return .nothing }
      var count = state.ticks
      let hasExpired = state.hasExpired
      (state.ticks, state.hasExpired) = (0, false)
      if state.takeCancellation() { return .cancelled }
      if hasExpired, state.interval > .zero {
        let next = state.deadline.nextExpiry(every: state.interval, after: .now())
        state.deadline = next.instant
        // Further ones are at times of the monotonic clock.
        state.time = nil
        alarm?.start(at: next.instant)
        count &+= next.expiries &- 1
      } else if hasExpired {
        state.deadline = .never
      }
      return .expirations(count)
    }
  }

  /// TFD_IOC_SET_TICKS (timerfd_create(2)): what the next read gets.
  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    guard request == TFD_IOC_SET_TICKS else { throw .ENOTTY }
    let ticks = try UserMemory.read(argument, as: UInt64.self)
    guard ticks > 0 else { throw .EINVAL }
    try state.withLock { state throws(Errno) in
      if state.takeCancellation() { throw .ECANCELED }
      state.ticks = ticks
    }
    queue.wakeAll()
    return 0
  }

  public override func poll() -> PollEvents {
    state.withLock { $0.ticks > 0 } ? .readable : []
  }
  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[timerfd]" }

  public override func appendInformation(to text: inout TextBuffer) {
    let (state, remaining) = state.withLock { ($0, Self.remaining($0)) }
    text.append("clockid: ")
    text.append(signed: Int64(clock.number))
    text.append("\nticks: ")
    text.append(decimal: state.ticks)
    text.append("\nsettime flags: 0")
    text.append(octal: UInt64(state.flags))
    text.append("\nit_value: ")
    Self.append(remaining.value, to: &text)
    text.append("\nit_interval: ")
    Self.append(remaining.interval, to: &text)
    text.append("\n")
  }

  private static func append(_ time: Nanoseconds, to text: inout TextBuffer) {
    text.append("(")
    text.append(decimal: time.seconds)
    text.append(", ")
    text.append(decimal: time.fraction)
    text.append(")")
  }

  public override func close() {
    if clock.isRealtime {
      Self.realtime.withLock { if links.isLinked { $0.remove(self) } }
    }
    alarm?.cancel()
    alarm = nil
  }
}

private enum RealtimeTimers: ListMembership {
  static func links(of file: TimerFile) -> ListLinks<TimerFile> { file.links }
  static func setLinks(_ links: ListLinks<TimerFile>, of file: TimerFile) { file.links = links }
}
