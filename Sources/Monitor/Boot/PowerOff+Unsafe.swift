// The end of a machine: the kernel's power_off, a panic, or the time limit.

import CMachine
import CUserMachine
import Devices
import Glibc
import Synchronization

/// What the monitor reports at the end when asked to, and how it measures it.
enum RunStatistics {
  // SAFETY: set before the machine starts, constant afterwards.
  private nonisolated(unsafe) static var start: UInt64 = 0
  /// /proc/self/status, opened while names can still be opened; nil when nothing is to be reported.
  private nonisolated(unsafe) static var status: Int32?

  /// Starts the clock.
  static func begin() {
    start = um_clock_monotonic()
    let descriptor = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
    if descriptor >= 0 { status = descriptor }
  }

  static func report() {
    guard let status else { return }
    let memory = residentKibibytes(status)
    var machine = um_statistics()
    unsafe um_statistics(&machine)
    let milliseconds = (um_clock_monotonic() - start) / 10_000
    let text = """
      apus: ran \(milliseconds / 100).\(milliseconds % 100 / 10)\(milliseconds % 10) ms, \
      \(mebibytes(memory.own)) MiB of the monitor and \(mebibytes(memory.guest)) MiB of guest memory resident, \
      \(machine.runs) runs of user code, \(machine.syscalls) system calls (\(machine.gate_calls) without a trap, \
      from \(machine.sites_replaced) places), \(machine.faults) faults, \
      \(machine.commands) mapping commands, \(machine.processes_made) stub processes (used again \(machine.processes_reused) times, \
      \(machine.processes_discarded) discarded)
      apus: ended \(condemned(machine)) stub processes for cause, repeated \(machine.wakeups_repeated) wake-ups

      """
    Diagnostics.write(text)
  }

  /// How many stub processes the monitor has ended, whatever the reason; the log names it for each.
  private static func condemned(_ machine: um_statistics) -> UInt64 {
    let counts = machine.condemned
    return counts.0 + counts.1 + counts.2 + counts.3 + counts.4
  }

  /// The monitor's memory by proc_pid_status(5): its own (code, data and stacks, the kernel's code and data among them),
  /// and what has been touched of the guest's memory, which is a shared memory file.
  private static func residentKibibytes(_ status: Int32) -> (own: Int, guest: Int) {
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: the buffer has room for as many bytes as are asked for.
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(status, $0.baseAddress, $0.count) }
    var own = 0
    var guest = 0
    for line in bytes.prefix(max(0, count)).split(separator: 0x0a) {
      let digits = line.filter { $0 >= 0x30 && $0 <= 0x39 }
      guard let value = Int(String(decoding: digits, as: UTF8.self)) else { continue }
      if line.starts(with: "RssAnon:".utf8) || line.starts(with: "RssFile:".utf8) { own += value }
      if line.starts(with: "RssShmem:".utf8) { guest += value }
    }
    return (own, guest)
  }

  /// Mebibytes with one decimal.
  private static func mebibytes(_ kibibytes: Int) -> String { "\(kibibytes / 1024).\(kibibytes % 1024 * 10 / 1024)" }
}

/// Ends the process with the exit status that stands for the machine's end, a status word as of waitpid(2).
func powerOff(_ status: UInt64) -> Never {
  Diagnostics.isEnding.store(true, ordering: .relaxed)
  Devices.shutDown()
  Diagnostics.write(LogLimit.rest())
  RunStatistics.report()
  let signal = Int32(truncatingIfNeeded: status & 0x7f)
  // The user processes end with this one (PR_SET_PDEATHSIG); nothing that exit handlers do is of use any more.
  _exit(signal != 0 ? 128 + signal : Int32(truncatingIfNeeded: (status >> 8) & 0xff))
}

/// The kernel's console: standard error, within limits (`LogLimit`). The lines of a backtrace get the names of their functions.
func writeToLog(_ bytes: UnsafePointer<UInt8>?, _ count: Int) {
  // SAFETY: the kernel passed `count` readable bytes.
  let text = unsafe UnsafeBufferPointer(start: bytes, count: count)
  let line = unsafe String(decoding: text, as: UTF8.self)
  let isFrame = unsafe text.starts(with: "  at image+0x".utf8) || text.starts(with: "  from image+0x".utf8)
  Diagnostics.writeLine(LogLimit.admitted(isFrame ? SymbolTable.annotated(line) : line))
}

/// Standard error, which may be a full pipe that nobody reads.
enum Diagnostics {
  /// Whether the machine is ending: then the log waits no longer than the monitor's own messages.
  static let isEnding = Atomic<Bool>(false)
  private static let isStuck = Atomic<Bool>(false)
  /// Milliseconds that a message waits for room before it is dropped. Those behind it do not wait.
  private static let patience: Int32 = 1000

  /// Writes a message of the monitor, from its start or end: neither depends on a reader.
  static func write(_ text: String) {
    var text = text
    text.withUTF8 { unsafe write($0, waitingAtMost: isStuck.load(ordering: .relaxed) ? 0 : patience) }
  }

  /// Writes a line of the kernel's log: the kernel waits for the reader, as a program does.
  static func writeLine(_ text: String) {
    if isEnding.load(ordering: .relaxed) { return write(text) }
    var text = text
    text.withUTF8 { unsafe write($0, waitingAtMost: nil) }
  }

  private static func write(_ bytes: UnsafeBufferPointer<UInt8>, waitingAtMost patience: Int32?) {
    var start = 0
    while start < bytes.count {
      if let patience {
        var entry = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        // SAFETY: one entry is passed, and its count.
        guard unsafe poll(&entry, 1, patience) != 0 else { return isStuck.store(true, ordering: .relaxed) }
      }
      // A pipe that is ready takes as much as this without waiting (pipe(7)).
      let piece = min(bytes.count - start, Int(PIPE_BUF))
      // SAFETY: `start + piece` is at most the buffer's size.
      let written = unsafe Glibc.write(STDERR_FILENO, bytes.baseAddress! + start, piece)
      if written < 0, errno == EINTR { continue }
      if written <= 0 { return }
      start += written
    }
  }
}
