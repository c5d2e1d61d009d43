// What the kernel's log may write to standard error: an allowance of lines, so that a sandbox cannot fill the host's journal
// or disk; and printable characters, so that it cannot command the host's terminal.

import CUserMachine
import Synchronization

/// The allowance of lines, which fills up again with time.
struct LogLimit {
  /// Lines that can be written at once: more than the report of a failure of the kernel has.
  static let burst: UInt64 = 400
  /// Nanoseconds in which the allowance grows by a line.
  static let linePeriod: UInt64 = 50_000_000

  /// The time up to which the allowance is used up, in nanoseconds of the monotonic clock; before it, less `burst` periods.
  private var used: UInt64 = 0
  /// Lines suppressed since the last one that was written.
  private(set) var suppressed: UInt64 = 0

  /// Counts a line at `time`.
  ///
  /// - Returns: how many lines were suppressed before it; nil when it is suppressed too.
  mutating func admit(at time: UInt64) -> UInt64? {
    let start = time > Self.burst * Self.linePeriod ? time - Self.burst * Self.linePeriod : 0
    let next = max(used, start) + Self.linePeriod
    guard next <= max(time, Self.burst * Self.linePeriod) else {
      suppressed += 1
      return nil
    }
    used = next
    defer { suppressed = 0 }
    return suppressed
  }

  /// The message about suppressed lines.
  static func notice(_ count: UInt64) -> String { "apus: \(count) messages suppressed\n" }

  private static let shared = Mutex(LogLimit())
  /// The kernel's last words have begun: all of them are of interest.
  private static let isLast = Atomic<Bool>(false)

  /// What to write for `text`, lines of the kernel's log: nothing when the allowance is used up.
  static func admitted(_ text: String, at time: UInt64 = um_clock_monotonic()) -> String {
    if text.hasPrefix("apus: kernel panic") { isLast.store(true, ordering: .relaxed) }
    if isLast.load(ordering: .relaxed) { return printable(text) }
    guard let before = shared.withLock({ $0.admit(at: time) }) else { return "" }
    return (before == 0 ? "" : notice(before)) + printable(text)
  }

  /// What remains to be said at the end.
  static func rest() -> String {
    let count = shared.withLock { $0.suppressed }
    return count == 0 ? "" : notice(count)
  }

  /// Everything but printable ASCII characters, line feeds and tabs as `\xHH`.
  static func printable(_ text: String) -> String {
    let isPlain = text.utf8.allSatisfy { ($0 >= 0x20 && $0 < 0x7f) || $0 == 0x0a || $0 == 0x09 }
    if isPlain { return text }
    var result = ""
    for byte in text.utf8 {
      if (byte >= 0x20 && byte < 0x7f) || byte == 0x0a || byte == 0x09 {
        result.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16)
        result += digits.count == 1 ? "\\x0" + digits : "\\x" + digits
      }
    }
    return result
  }
}
