// The kernel log: a ring of the last messages (dmesg, /dev/kmsg, syslog(2)) and the machine's console. Messages are
// formatted before the lock is taken; the lock covers copying only.

import DataStructures
import Machine

/// Severities of the kernel log (syslog(2)).
public enum LogLevel: UInt8, Comparable, Sendable {
  case emergency = 0, alert, critical, error, warning, notice, info, debug

  public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }
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
    var records: [LogRecord] = []
    var next: UInt64 = 0
  }
  private static let state = SpinLock(State(), rank: .log)

  @export(interface)
  public static func error(_ message: String) { write(.error, message) }
  @export(interface)
  public static func warning(_ message: String) { write(.warning, message) }
  @export(interface)
  public static func info(_ message: String) { write(.info, message) }
  @export(interface)
  public static func debug(_ message: String) { write(.debug, message) }

  /// Appends a line to the log. Messages quote names that programs chose, and programs write messages of their own: what
  /// is not printable is escaped.
  @export(interface)
  public static func write(_ level: LogLevel, _ message: String) {
    let text = ByteString(message).printable
    let time = Clock.monotonicNanoseconds
    state.withLock { state in
      let record = LogRecord(sequence: state.next, level: level, time: time, text: text)
      if state.records.count < capacity {
        state.records.append(record)
      } else {
        state.records[Int(state.next % UInt64(capacity))] = record
      }
      state.next += 1
    }
    if level <= consoleLevel { printLine(time: time, text) }
  }

  /// The records that are still kept, oldest first, from sequence number `first` on.
  @export(interface)
  public static func records(from first: UInt64 = 0) -> [LogRecord] {
    state.withLock { state in
      let oldest = state.next > UInt64(capacity) ? state.next - UInt64(capacity) : 0
      let start = max(first, oldest)
      guard start < state.next else { return [] }
      return (start..<state.next).map { state.records[Int($0 % UInt64(capacity))] }
    }
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
