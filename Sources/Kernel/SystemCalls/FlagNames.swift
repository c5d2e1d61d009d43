// Names of flags and numbers in traces.

import KernelCore
import LinuxABI
import Process

enum FlagNames {
  static var protection: [(UInt64, StaticString)] {
    [(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"), (0x0100_0000, "PROT_GROWSDOWN")]
  }

  static var mapping: [(UInt64, StaticString)] {
    [
      (1, "MAP_SHARED"), (2, "MAP_PRIVATE"), (0x10, "MAP_FIXED"), (0x20, "MAP_ANONYMOUS"), (0x40, "MAP_32BIT"),
      (0x100, "MAP_GROWSDOWN"), (0x800, "MAP_DENYWRITE"), (0x2000, "MAP_LOCKED"), (0x4000, "MAP_NORESERVE"),
      (0x8000, "MAP_POPULATE"), (0x1_0000, "MAP_NONBLOCK"), (0x2_0000, "MAP_STACK"), (0x4_0000, "MAP_HUGETLB"),
      (0x10_0000, "MAP_FIXED_NOREPLACE"),
    ]
  }

  private static var open: [(UInt64, StaticString)] {
    [
      (0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o400, "O_NOCTTY"), (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"),
      (0o4000, "O_NONBLOCK"), (0o40000, "O_DIRECT"), (0o100000, "O_LARGEFILE"), (0o20200000, "O_TMPFILE"),
      (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"), (0o1000000, "O_NOATIME"), (0o2000000, "O_CLOEXEC"),
      (0o4010000, "O_SYNC"), (0o10000, "O_DSYNC"), (0o10000000, "O_PATH"),
    ]
  }

  private static var clone: [(UInt64, StaticString)] {
    [
      (CLONE_VM, "CLONE_VM"), (CLONE_FS, "CLONE_FS"), (CLONE_FILES, "CLONE_FILES"),
      (CLONE_SIGHAND, "CLONE_SIGHAND"), (CLONE_PIDFD, "CLONE_PIDFD"), (CLONE_PTRACE, "CLONE_PTRACE"),
      (CLONE_VFORK, "CLONE_VFORK"), (CLONE_PARENT, "CLONE_PARENT"), (CLONE_THREAD, "CLONE_THREAD"),
      (CLONE_NEWNS, "CLONE_NEWNS"), (CLONE_SYSVSEM, "CLONE_SYSVSEM"), (CLONE_SETTLS, "CLONE_SETTLS"),
      (CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"), (CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"),
      (CLONE_DETACHED, "CLONE_DETACHED"), (CLONE_UNTRACED, "CLONE_UNTRACED"),
      (CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID"), (CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
      (CLONE_NEWUTS, "CLONE_NEWUTS"), (CLONE_NEWIPC, "CLONE_NEWIPC"), (CLONE_NEWUSER, "CLONE_NEWUSER"),
      (CLONE_NEWPID, "CLONE_NEWPID"), (CLONE_NEWNET, "CLONE_NEWNET"), (CLONE_IO, "CLONE_IO"),
      (CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
    ]
  }

  /// Names joined by `|`; what no name covers follows in hexadecimal.
  static func append(_ value: UInt64, _ names: [(UInt64, StaticString)], zero: StaticString, to line: inout TextBuffer)
  {
    if value == 0 { return line.append(zero) }
    var rest = value
    var isFirst = true
    for (bits, name) in names where rest & bits == bits {
      if !isFirst { line.append("|") }
      isFirst = false
      line.append(name)
      rest &= ~bits
    }
    guard rest != 0 else { return }
    if !isFirst { line.append("|") }
    line.append("0x")
    line.append(hex: rest)
  }

  static func appendOpenFlags(_ value: UInt64, to line: inout TextBuffer) {
    switch value & 3 {
    case 0: line.append("O_RDONLY")
    case 1: line.append("O_WRONLY")
    case 2: line.append("O_RDWR")
    default: line.append("O_ACCMODE")
    }
    let rest = value & 0xffff_fffc
    if rest == 0 { return }
    line.append("|")
    append(rest, open, zero: "0", to: &line)
  }

  static func appendCloneFlags(_ value: UInt64, to line: inout TextBuffer) {
    append(value & ~CSIGNAL, clone, zero: "0", to: &line)
    let signal = Int32(truncatingIfNeeded: value & CSIGNAL)
    guard signal != 0 else { return }
    line.append("|")
    appendSignal(signal, to: &line)
  }

  static func appendClock(_ clock: Int32, to line: inout TextBuffer) {
    switch clock {
    case CLOCK_REALTIME: line.append("CLOCK_REALTIME")
    case CLOCK_MONOTONIC: line.append("CLOCK_MONOTONIC")
    case CLOCK_PROCESS_CPUTIME_ID: line.append("CLOCK_PROCESS_CPUTIME_ID")
    case CLOCK_THREAD_CPUTIME_ID: line.append("CLOCK_THREAD_CPUTIME_ID")
    case CLOCK_MONOTONIC_RAW: line.append("CLOCK_MONOTONIC_RAW")
    case CLOCK_REALTIME_COARSE: line.append("CLOCK_REALTIME_COARSE")
    case CLOCK_MONOTONIC_COARSE: line.append("CLOCK_MONOTONIC_COARSE")
    case CLOCK_BOOTTIME: line.append("CLOCK_BOOTTIME")
    default: line.append(signed: Int64(clock))
    }
  }

  /// SIGHUP … SIGSYS, SIGRT_0 and on.
  static func appendSignal(_ signal: Int32, to line: inout TextBuffer) {
    let names: [StaticString] = [
      "0", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
      "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
      "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
      "SIGSYS",
    ]
    if signal >= 0 && signal < 32 {
      line.append(names[Int(signal)])
    } else if SignalSet.isValid(signal) {
      line.append("SIGRT_")
      line.append(signed: Int64(signal - SIGRTMIN))
    } else {
      line.append(signed: Int64(signal))
    }
  }
}
