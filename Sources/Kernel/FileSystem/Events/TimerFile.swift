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
    /// Nanoseconds between expirations; 0: once.
    var interval: UInt64 = 0
    var deadline = Instant.never
    var expirations: UInt64 = 0
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
  public func set(_ deadline: Instant, interval: UInt64) -> (value: UInt64, interval: UInt64) {
    alarm?.cancel()
    let before = remaining()
    state.withLock { state in
      state.interval = interval
      state.deadline = deadline
      state.expirations = 0
    }
    alarm?.start(at: deadline)
    return before
  }

  /// timerfd_gettime(2): nanoseconds to the next expiration (0: disarmed) and the interval.
  @export(interface)
  public func remaining() -> (value: UInt64, interval: UInt64) {
    let now = Instant.now()
    return state.withLock { state in
      guard state.deadline != .never else { return (0, state.interval) }
      // An armed timer never shows 0, which would mean disarmed.
      return (max(1, state.deadline.nanoseconds(since: now)), state.interval)
    }
  }

  private func expire() {
    let now = Instant.now()
    let next: Instant = state.withLock { state in
      guard state.deadline <= now else { return state.deadline }
      if state.interval == 0 {
        state.expirations &+= 1
        state.deadline = .never
      } else {
        let periods = now.nanoseconds(since: state.deadline) / state.interval + 1
        state.expirations &+= periods
        let (step, overflow) = state.interval.multipliedReportingOverflow(by: periods)
        state.deadline = overflow ? .never : state.deadline.advanced(byNanoseconds: step)
      }
      return state.deadline
    }
    alarm?.start(at: next)
    queue.wakeAll()
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

  private func take() -> UInt64 {
    state.withLock { state in
      let count = state.expirations
      state.expirations = 0
      return count
    }
  }

  public override func poll() -> PollEvents {
    state.withLock { $0.expirations > 0 } ? .readable : []
  }
  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(queue) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[timerfd]" }

  public override func close() {
    alarm?.cancel()
    alarm = nil
  }
}
