// The texts of /proc/PID (proc(5)) from a snapshot: pure functions, checked on the host.

import KernelCore
import LinuxABI
import Scheduling

/// What /proc/PID shows of a thread and its process, at one moment.
struct TaskSnapshot {
  var tid: Int32 = 0
  var pid: Int32 = 0
  var parent: Int32 = 0
  var group: Int32 = 0
  var session: Int32 = 0
  var name = ByteString()
  /// R, S, D, T or Z.
  var state: UInt8 = 0x53
  var terminal: UInt64 = 0
  var foregroundGroup: Int32 = -1
  var minorFaults: UInt64 = 0
  var majorFaults: UInt64 = 0
  var childMinorFaults: UInt64 = 0
  var childMajorFaults: UInt64 = 0
  /// Nanoseconds.
  var userTime: UInt64 = 0
  var systemTime: UInt64 = 0
  var childUserTime: UInt64 = 0
  var childSystemTime: UInt64 = 0
  var voluntarySwitches: UInt64 = 0
  var involuntarySwitches: UInt64 = 0
  var niceness = 0
  var threads = 1
  /// Nanoseconds from boot to the start.
  var startTime: UInt64 = 0
  var lastCPU = 0
  var affinity: UInt64 = 1
  /// The memory nodes that the task may use.
  var nodes: UInt64 = 1
  var policy: Int32 = 0
  var realTimePriority: Int32 = 0
  var exitSignal: Int32 = 17
  // Memory: pages, except addresses. Kernel-like processes (zombies) have none.
  var hasMemory = false
  var totalPages = 0
  var peakTotalPages = 0
  var residentPages = 0
  var peakResidentPages = 0
  var anonymousPages = 0
  var objectPages = 0
  var dataPages = 0
  var stackPages = 0
  var executablePages = 0
  var lockedPages = 0
  var pageTablePages = 0
  var swappedPages = 0
  var hugePages = 0
  var residentLimit: UInt64 = .max
  var startCode: UInt64 = 0
  var endCode: UInt64 = 0
  /// The size of the code, in pages.
  var codePages: Int { Int(clamping: (endCode &- startCode &+ 4095) / 4096) }
  var startStack: UInt64 = 0
  var startData: UInt64 = 0
  var endData: UInt64 = 0
  var startBreak: UInt64 = 0
  var argumentStart: UInt64 = 0
  var argumentEnd: UInt64 = 0
  var environmentStart: UInt64 = 0
  var environmentEnd: UInt64 = 0
  // Identity.
  /// Real, effective, saved, file system.
  var users: [UInt32] = [0, 0, 0, 0]
  var groups: [UInt32] = [0, 0, 0, 0]
  var supplementaryGroups: [UInt32] = []
  var umask: UInt32 = 0o022
  var descriptorCapacity = 64
  /// Inheritable, permitted, effective, bounding, ambient.
  var capabilities: [UInt64] = [0, 0, 0, 0, 0]
  var noNewPrivileges = false
  // Signals.
  var queuedSignals = 0
  var queuedLimit: UInt64 = 0
  var pending: UInt64 = 0
  var sharedPending: UInt64 = 0
  var blocked: UInt64 = 0
  var ignored: UInt64 = 0
  var caught: UInt64 = 0
}

extension TaskSnapshot {
  /// Takes away what helps an attacker to find its way in the address space (proc(5): fields of stat marked PT). As on
  /// Linux, the ends of the code are 1, which tells a program from a kernel thread.
  mutating func hideAddresses() {
    if hasMemory { (startCode, endCode) = (1, 1) }
    startStack = 0
    (startData, endData, startBreak) = (0, 0, 0)
    (argumentStart, argumentEnd, environmentStart, environmentEnd) = (0, 0, 0, 0)
  }
}

/// Formats of files below /proc/PID.
enum ProcessFormat {
  private static func ticks(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 10_000_000 }

  /// /proc/PID/stat: one line of 52 fields.
  static func stat(_ task: TaskSnapshot) -> TextBuffer {
    var text = TextBuffer(reserving: 320)
    text.append(signed: Int64(task.tid))
    text.append(" (")
    text.append(task.name)
    text.append(") ")
    text.append(byte: task.state)
    func signed(_ value: Int64) {
      text.append(" ")
      text.append(signed: value)
    }
    func unsigned(_ value: UInt64) {
      text.append(" ")
      text.append(decimal: value)
    }
    for value in [task.parent, task.group, task.session] { signed(Int64(value)) }
    unsigned(task.terminal)
    signed(Int64(task.foregroundGroup))
    unsigned(0x40_0000)  // flags: PF_RANDOMIZE, the only one that holds here
    for value in [task.minorFaults, task.childMinorFaults, task.majorFaults, task.childMajorFaults] { unsigned(value) }
    for value in [task.userTime, task.systemTime, task.childUserTime, task.childSystemTime] { unsigned(ticks(value)) }
    // priority: 20 + nice for ordinary threads, -1 - rt_priority for real-time ones (proc(5)).
    signed(task.realTimePriority > 0 ? -1 - Int64(task.realTimePriority) : 20 + Int64(task.niceness))
    signed(Int64(task.niceness))
    signed(Int64(task.threads))
    unsigned(0)  // itrealvalue
    unsigned(ticks(task.startTime))
    unsigned(UInt64(task.totalPages) * 4096)
    unsigned(UInt64(task.residentPages))
    for value in [task.residentLimit, task.startCode, task.endCode, task.startStack] { unsigned(value) }
    unsigned(0)  // kstkesp
    unsigned(0)  // kstkeip
    // The four signal words hold the first 31 signals; status has all.
    for value in [task.pending | task.sharedPending, task.blocked, task.ignored, task.caught] {
      unsigned(value & 0x7fff_ffff)
    }
    for _ in 0..<3 { unsigned(0) }  // wchan, nswap, cnswap
    signed(Int64(task.exitSignal))
    signed(Int64(task.lastCPU))
    signed(Int64(task.realTimePriority))
    signed(Int64(task.policy))
    for _ in 0..<3 { unsigned(0) }  // delayacct_blkio_ticks, guest_time, cguest_time
    for value in [
      task.startData, task.endData, task.startBreak, task.argumentStart, task.argumentEnd, task.environmentStart,
      task.environmentEnd,
    ] { unsigned(value) }
    unsigned(0)  // exit_code
    text.append("\n")
    return text
  }

  /// /proc/PID/statm: size, resident, shared, text, lib, data, dt, in pages.
  static func statm(_ task: TaskSnapshot) -> TextBuffer {
    var text = TextBuffer()
    let values = [
      task.totalPages, task.residentPages, task.objectPages, task.hasMemory ? task.codePages : 0, 0,
      task.dataPages + task.stackPages, 0,
    ]
    for (index, value) in values.enumerated() {
      if index > 0 { text.append(" ") }
      text.append(decimal: value)
    }
    text.append("\n")
    return text
  }

  /// /proc/PID/status.
  static func status(_ task: TaskSnapshot) -> TextBuffer {
    var text = TextBuffer(reserving: 1200)
    func title(_ title: StaticString) {
      text.append(title)
      text.append(":\t")
    }
    func number(_ name: StaticString, _ value: Int) {
      title(name)
      text.append(decimal: value)
      text.append("\n")
    }
    func list(_ name: StaticString, _ values: [UInt32]) {
      title(name)
      for (index, value) in values.enumerated() {
        if index > 0 { text.append("\t") }
        text.append(decimal: UInt64(value))
      }
      text.append("\n")
    }
    func mask(_ name: StaticString, _ value: UInt64) {
      title(name)
      text.append(hex: value, width: 16)
      text.append("\n")
    }
    func pages(_ name: StaticString, _ pages: Int) {
      title(name)
      text.append(decimal: UInt64(max(0, pages)) * 4, width: 8)
      text.append(" kB\n")
    }
    title("Name")
    text.append(escaped(task.name))
    text.append("\n")
    title("Umask")
    text.append(octal: UInt64(task.umask), width: 4)
    text.append("\n")
    title("State")
    text.append(byte: task.state)
    text.append(stateName(task.state))
    text.append("\n")
    number("Tgid", Int(task.pid))
    number("Ngid", 0)
    number("Pid", Int(task.tid))
    number("PPid", Int(task.parent))
    number("TracerPid", 0)
    list("Uid", task.users)
    list("Gid", task.groups)
    number("FDSize", task.descriptorCapacity)
    title("Groups")
    for group in task.supplementaryGroups {
      text.append(decimal: UInt64(group))
      text.append(" ")
    }
    text.append("\n")
    number("NStgid", Int(task.pid))
    number("NSpid", Int(task.tid))
    number("NSpgid", Int(task.group))
    number("NSsid", Int(task.session))
    if task.hasMemory {
      pages("VmPeak", max(task.peakTotalPages, task.totalPages))
      pages("VmSize", task.totalPages)
      pages("VmLck", task.lockedPages)
      pages("VmPin", 0)
      pages("VmHWM", max(task.peakResidentPages, task.residentPages))
      pages("VmRSS", task.residentPages)
      pages("RssAnon", task.anonymousPages)
      pages("RssFile", task.objectPages)
      pages("RssShmem", 0)
      pages("VmData", task.dataPages)
      pages("VmStk", task.stackPages)
      pages("VmExe", task.codePages)
      pages("VmLib", max(0, task.executablePages - task.codePages))
      pages("VmPTE", task.pageTablePages)
      pages("VmSwap", task.swappedPages)
      pages("HugetlbPages", task.hugePages)
      number("CoreDumping", 0)
      number("THP_enabled", 0)
    }
    number("Threads", task.threads)
    title("SigQ")
    text.append(decimal: task.queuedSignals)
    text.append("/")
    text.append(decimal: task.queuedLimit)
    text.append("\n")
    mask("SigPnd", task.pending)
    mask("ShdPnd", task.sharedPending)
    mask("SigBlk", task.blocked)
    mask("SigIgn", task.ignored)
    mask("SigCgt", task.caught)
    mask("CapInh", task.capabilities[0])
    mask("CapPrm", task.capabilities[1])
    mask("CapEff", task.capabilities[2])
    mask("CapBnd", task.capabilities[3])
    mask("CapAmb", task.capabilities[4])
    number("NoNewPrivs", task.noNewPrivileges ? 1 : 0)
    number("Seccomp", 0)
    number("Seccomp_filters", 0)
    title("Cpus_allowed")
    text.append(hex: task.affinity)
    text.append("\n")
    title("Cpus_allowed_list")
    text.append(rangesOf: task.affinity)
    text.append("\n")
    title("Mems_allowed")
    text.append(hex: task.nodes, width: 8)
    text.append("\n")
    title("Mems_allowed_list")
    text.append(rangesOf: task.nodes)
    text.append("\n")
    title("voluntary_ctxt_switches")
    text.append(decimal: task.voluntarySwitches)
    text.append("\n")
    title("nonvoluntary_ctxt_switches")
    text.append(decimal: task.involuntarySwitches)
    text.append("\n")
    return text
  }

  private static func stateName(_ letter: UInt8) -> StaticString {
    switch letter {
    case 0x52: " (running)"
    case 0x53: " (sleeping)"
    case 0x44: " (disk sleep)"
    case 0x54: " (stopped)"
    case 0x74: " (tracing stop)"
    case 0x5a: " (zombie)"
    default: " (dead)"
    }
  }

  /// A name in which newline and backslash are written as escapes, so that it stays on its line.
  static func escaped(_ name: ByteString) -> ByteString {
    var bytes: [UInt8] = []
    for byte in name.bytes {
      switch byte {
      case 0x0a: bytes += [0x5c, 0x6e]
      case 0x5c: bytes += [0x5c, 0x5c]
      default: bytes.append(byte)
      }
    }
    return ByteString(bytes)
  }

  /// A row of /proc/PID/limits; nil is "unlimited".
  struct LimitRow {
    var name: StaticString
    var soft: UInt64?
    var hard: UInt64?
    var unit: StaticString
  }

  static func limits(_ rows: [LimitRow]) -> TextBuffer {
    var text = TextBuffer(reserving: 1600)
    text.append("Limit                     Soft Limit           Hard Limit           Units     \n")
    for row in rows {
      text.append(ByteString(row.name), leftAlignedIn: 25)
      for limit in [row.soft, row.hard] {
        text.append(" ")
        var value = TextBuffer()
        if let limit { value.append(decimal: limit) } else { value.append("unlimited") }
        text.append(value.byteString, leftAlignedIn: 20)
      }
      text.append(" ")
      text.append(ByteString(row.unit), leftAlignedIn: 10)
      text.append("\n")
    }
    return text
  }

  /// /proc/PID/io (proc_pid_io(5)).
  static func io(_ counts: TransferCounts) -> TextBuffer {
    SystemFormat.counters([
      ("rchar:", counts.read), ("wchar:", counts.written), ("syscr:", counts.readCalls), ("syscw:", counts.writeCalls),
      ("read_bytes:", counts.fetched), ("write_bytes:", counts.dirtied), ("cancelled_write_bytes:", counts.cancelled),
    ])
  }
}
