// The texts of the files that describe the system (proc(5)), from plain values: pure functions, checked on the host.

import KernelCore
import LinuxABI

/// Formats of files directly below /proc.
enum SystemFormat {
  /// /proc/version.
  static func version() -> TextBuffer {
    var text = TextBuffer()
    text.append(KERNEL_NAME)
    text.append(" version ")
    text.append(KERNEL_RELEASE)
    text.append(" (apus@apus) (swift) ")
    text.append(KERNEL_VERSION)
    text.append("\n")
    return text
  }

  /// /proc/uptime: seconds since boot, and idle seconds of all CPUs together.
  static func uptime(_ nanoseconds: UInt64, idle: UInt64) -> TextBuffer {
    var text = TextBuffer()
    appendSeconds(nanoseconds, to: &text)
    text.append(" ")
    appendSeconds(idle, to: &text)
    text.append("\n")
    return text
  }

  private static func appendSeconds(_ nanoseconds: UInt64, to text: inout TextBuffer) {
    text.append(decimal: nanoseconds / 1_000_000_000)
    text.append(".")
    text.append(decimal: nanoseconds / 10_000_000 % 100, width: 2, fill: 0x30)
  }

  /// /proc/loadavg; the averages are fixed-point numbers with 11 bits of fraction, as in sysinfo(2)'s tradition.
  static func loadAverage(_ averages: [UInt64], running: Int, threads: Int, lastPid: Int32) -> TextBuffer {
    var text = TextBuffer()
    for average in averages {
      // Rounded to hundredths.
      let value = average + 2048 / 200
      text.append(decimal: value >> 11)
      text.append(".")
      text.append(decimal: ((value & 2047) * 100) >> 11, width: 2, fill: 0x30)
      text.append(" ")
    }
    text.append(decimal: running)
    text.append("/")
    text.append(decimal: threads)
    text.append(" ")
    text.append(signed: Int64(lastPid))
    text.append("\n")
    return text
  }

  /// Lines of /proc/meminfo: a title and an amount in KiB; HugePages_ are counted.
  static func memory(_ lines: [(StaticString, Int)]) -> TextBuffer {
    var text = TextBuffer(reserving: 2048)
    for (title, value) in lines {
      let start = text.count
      text.append(title)
      text.append(":")
      text.pad(16 - (text.count - start), with: 0x20)
      text.append(decimal: UInt64(max(0, value)), width: 8)
      text.append(ByteString(title).hasPrefix("HugePages_") ? "\n" : " kB\n")
    }
    return text
  }

  /// What /proc/stat says, times in nanoseconds.
  struct Statistics {
    struct CPU {
      var user: UInt64 = 0
      var system: UInt64 = 0
      var idle: UInt64 = 0
    }
    var cpus: [CPU] = []
    var contextSwitches: UInt64 = 0
    /// Seconds since 1970.
    var bootTime: UInt64 = 0
    var forks: UInt64 = 0
    var running = 0
  }

  static func statistics(_ statistics: Statistics) -> TextBuffer {
    var text = TextBuffer(reserving: 1024)
    var sum = Statistics.CPU()
    for cpu in statistics.cpus {
      sum.user += cpu.user
      sum.system += cpu.system
      sum.idle += cpu.idle
    }
    text.append("cpu  ")
    appendTimes(sum, to: &text)
    for (number, cpu) in statistics.cpus.enumerated() {
      text.append("cpu")
      text.append(decimal: number)
      text.append(" ")
      appendTimes(cpu, to: &text)
    }
    text.append("intr 0\nctxt ")
    text.append(decimal: statistics.contextSwitches)
    text.append("\nbtime ")
    text.append(decimal: statistics.bootTime)
    text.append("\nprocesses ")
    text.append(decimal: statistics.forks)
    text.append("\nprocs_running ")
    text.append(decimal: statistics.running)
    text.append("\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n")
    return text
  }

  /// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice, in ticks of 10 ms.
  private static func appendTimes(_ cpu: Statistics.CPU, to text: inout TextBuffer) {
    text.append(decimal: cpu.user / 10_000_000)
    text.append(" 0 ")
    text.append(decimal: cpu.system / 10_000_000)
    text.append(" ")
    text.append(decimal: cpu.idle / 10_000_000)
    text.append(" 0 0 0 0 0 0\n")
  }

  /// Lines of a name and a number.
  static func counters(_ lines: [(StaticString, UInt64)]) -> TextBuffer {
    var text = TextBuffer(reserving: 1024)
    for (name, value) in lines {
      text.append(name)
      text.append(" ")
      text.append(decimal: value)
      text.append("\n")
    }
    return text
  }

  /// A line of a number.
  static func number(_ value: Int) -> TextBuffer {
    var text = TextBuffer()
    text.append(decimal: value)
    text.append("\n")
    return text
  }

  /// A line of text.
  static func line(_ value: ByteString) -> TextBuffer {
    var text = TextBuffer()
    text.append(value)
    text.append("\n")
    return text
  }

  /// A UUID of random bits (RFC 9562, version 4).
  static func uuid(_ high: UInt64, _ low: UInt64) -> TextBuffer {
    let high = high & ~0xf000 | 0x4000
    let low = low & ~(3 << 62) | 2 << 62
    var text = TextBuffer()
    text.append(hex: high >> 32, width: 8)
    text.append("-")
    text.append(hex: high >> 16 & 0xffff, width: 4)
    text.append("-")
    text.append(hex: high & 0xffff, width: 4)
    text.append("-")
    text.append(hex: low >> 48, width: 4)
    text.append("-")
    text.append(hex: low & 0xffff_ffff_ffff, width: 12)
    text.append("\n")
    return text
  }
}
