// The kernel log: a ring of the last messages (dmesg, /dev/kmsg, syslog(2)) and the machine's console. Messages are
// formatted before the lock is taken; the lock covers copying only.

import DataStructures
import Machine

/// Severities of the kernel log (syslog(2)).
public enum LogLevel: UInt8, Comparable, Sendable {
  case emergency = 0, alert, critical, error, warning, notice, info, debug

  public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }
}

/// Where a message of the kernel log comes from. Each source has an allowance of lines for the machine's console.
public enum LogSource: Int, CaseIterable, Sendable {
  /// The kernel's own.
  case kernel
  /// The ends of processes for lack of memory.
  case memory
  /// Programs (/dev/kmsg).
  case user

  var name: StaticString {
    switch self {
    case .kernel: "of the kernel"
    case .memory: "about memory"
    case .user: "of programs"
    }
  }
}

/// An allowance of messages: so many in a period, as printk_ratelimit has it on Linux. Where periods may become longer they double
/// while messages have to be suppressed, and permit one message each: what goes on for hours is a few lines.
struct MessageAllowance {
  static let burst = 10
  static let period: UInt64 = 5_000_000_000
  /// At most.
  let longestPeriod: UInt64
  private var length = period
  /// Whether a message of this period was suppressed.
  private var isExceeded = false
  private var begin: UInt64 = 0
  private var admitted = 0
  /// Messages suppressed since the last one that was admitted.
  private(set) var suppressed = 0

  init(longestPeriod: UInt64 = period) { self.longestPeriod = longestPeriod }

  /// Whether a message may be shown at `time`, in nanoseconds; and how many were suppressed before it.
  mutating func admit(at time: UInt64) -> (shown: Bool, suppressed: Int) {
    if time &- begin >= length {
      let goesOn = isExceeded && longestPeriod > Self.period && time &- begin < 2 &* length
      length = goesOn ? min(2 &* length, longestPeriod) : Self.period
      admitted = goesOn ? Self.burst - 1 : 0
      begin = time
      isExceeded = false
    }
    guard admitted < Self.burst else {
      isExceeded = true
      suppressed += 1
      return (false, 0)
    }
    admitted += 1
    defer { suppressed = 0 }
    return (true, suppressed)
  }
}

/// A line of the kernel log.
public struct LogRecord: Sendable {
  public var sequence: UInt64
  public var level: LogLevel
  /// Nanoseconds since boot.
  public var time: UInt64
  public var text: ByteString
}

/// The kernel log.
public enum Log {
  /// Messages of this level and more severe ones also go to the machine's console. Set by the boot parameter `loglevel`.
  public nonisolated(unsafe) static var consoleLevel = LogLevel.warning
  /// How many records are kept.
  static let capacity = 512

  private struct State {
    /// A ring: nothing is allocated or given back under the lock.
    var records = [LogRecord?](repeating: nil, count: capacity)
    var next: UInt64 = 0
    /// Programs' own messages are not fewer the more there are: they are kept within the allowance only.
    var allowances = LogSource.allCases.map { source in
      MessageAllowance(longestPeriod: MessageAllowance.period << (source == .user ? 0 : 9))
    }
  }
  private static let state = SpinLock(State(), rank: .log)

  @export(interface)
  public static func error(_ message: String, from source: LogSource = .kernel) {
    write(.error, message, from: source)
  }
  @export(interface)
  public static func warning(_ message: String) { write(.warning, message) }
  @export(interface)
  public static func info(_ message: String) { write(.info, message) }
  @export(interface)
  public static func debug(_ message: String) { write(.debug, message) }

  /// Appends a line to the log. Messages quote names that programs chose, and programs write messages of their own: what
  /// is not printable is escaped. What is severe enough for the console goes there within the allowance of its source; of
  /// programs, only what is within the allowance is kept at all.
  @export(interface)
  public static func write(_ level: LogLevel, _ message: String, from source: LogSource = .kernel) {
    let text = ByteString(message).printable
    let time = Clock.monotonicNanoseconds
    let forConsole = level <= consoleLevel
    // The record that this one replaces is released when the lock is not held.
    var replaced: LogRecord?
    let (shown, suppressed): (Bool, Int) = state.withLock { state in
      let admission =
        forConsole || source == .user ? state.allowances[source.rawValue].admit(at: time) : (shown: true, suppressed: 0)
      if source == .user, !admission.shown { return (false, 0) }
      replaced = LogRecord(sequence: state.next, level: level, time: time, text: text)
      swap(&state.records[Int(state.next % UInt64(capacity))], &replaced)
      state.next += 1
      return admission
    }
    guard forConsole, shown else { return }
    if suppressed > 0 { printLine(time: time, ByteString("\(suppressed) messages \(source.name) suppressed")) }
    printLine(time: time, text)
  }

  /// The records that are still kept, oldest first, from sequence number `first` on.
  @export(interface)
  public static func records(from first: UInt64 = 0) -> [LogRecord] {
    var records: [LogRecord] = []
    records.reserveCapacity(capacity)
    state.withLock { state in
      let oldest = state.next > UInt64(capacity) ? state.next - UInt64(capacity) : 0
      var sequence = max(first, oldest)
      while sequence < state.next {
        if let record = state.records[Int(sequence % UInt64(capacity))] { records.append(record) }
        sequence += 1
      }
    }
    return records
  }

  /// For tests of panics: ends the kernel with the log locked.
  @export(interface)
  public static func panicWithinLock() -> Never {
    state.withLock { _ in panic("a panic was asked for within the log") }
  }

  /// Writes bytes to the machine's console at once, without the log.
  @export(interface)
  public static func console(_ text: ByteString) {
    unsafe text.bytes.withUnsafeBufferPointer { buffer in
      // SAFETY: the machine reads `count` bytes of the buffer before it returns.
      if let base = buffer.baseAddress { unsafe machine_console_write(base, UInt64(buffer.count)) }
    }
  }

  private static func printLine(time: UInt64, _ text: ByteString) {
    var line = TextBuffer(reserving: text.count + 20)
    line.append("[")
    line.append(decimal: time / 1_000_000_000, width: 5)
    line.append(".")
    line.append(decimal: time / 1000 % 1_000_000, width: 6, fill: 0x30)
    line.append("] ")
    line.append(text)
    line.append("\n")
    console(line.byteString)
  }
}
