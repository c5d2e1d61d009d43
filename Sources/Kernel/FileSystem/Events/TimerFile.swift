// timerfd_create(2): a timer that is read like a file. What is read is how often it has expired since the last read.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// The clocks that a timerfd can follow.
public enum TimerClock: Sendable { case realtime, monotonic }

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
  }
  public let clock: TimerClock
  private let state = SpinLock(State(), rank: .pipe)
  private let queue = WaitQueue()
  private var alarm: Timer?

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

  /// timerfd_settime(2). `deadline` `.never` disarms.
  /// - Returns: what `remaining()` was before.
  @export(interface)
  public func set(_ deadline: Instant, interval: Nanoseconds) -> (value: Nanoseconds, interval: Nanoseconds) {
    state.withLock { state in
      let before = Self.remaining(state)
      state = State(interval: interval, deadline: deadline)
      alarm?.start(at: deadline)
      return before
    }
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
      return true
    }
    if isDue { queue.wakeAll() }
  }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    guard buffer.remaining >= 8 else { throw .EINVAL }
    var count = take()
    if count == 0 {
      if isNonBlocking { throw .EAGAIN }
      try queue.wait {
        count = take()
        return count > 0
      }
    }
    try buffer.copyOut(ByteString(EventCounter.bytes(count)))
    return 8
  }

  /// The expirations since the last read; the timer goes on.
  private func take() -> UInt64 {
    state.withLock { state in
      guard state.hasExpired else { return 0 }
      state.hasExpired = false
      guard state.interval > .zero else {
        state.deadline = .never
        return 1
      }
      let next = state.deadline.nextExpiry(every: state.interval, after: .now())
      state.deadline = next.instant
      alarm?.start(at: next.instant)
      return next.expiries
    }
  }

  public override func poll() -> PollEvents {
    state.withLock { $0.hasExpired } ? .readable : []
  }
  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[timerfd]" }

  public override func close() {
    alarm?.cancel()
    alarm = nil
  }
}
