// The system as a whole: uname(2), sysinfo(2), host names, random numbers, the log, reboot(2).

import CLinuxABI
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

/// uname(2), sysinfo(2), getrandom(2), syslog(2) and relatives.
public enum SystemInformationCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(63, "uname", .full, "buffer:p", uname),
      SystemCall(99, "sysinfo", .full, "buffer:p", sysinfo),
      SystemCall(
        103, "syslog", .partial("reading and sizes; the console level is not changed"), "type:i buffer:p size:i", syslog
      ),
      SystemCall(
        169, "reboot", .partial("power off, halt and restart end the machine"), "magic:x magic2:x command:x argument:p",
        reboot),
      SystemCall(170, "sethostname", .full, "name:B size:u") { frame throws(Errno) in
        HostIdentity.setName(try newName(frame))
        return 0
      },
      SystemCall(171, "setdomainname", .full, "name:B size:u") { frame throws(Errno) in
        HostIdentity.setDomain(try newName(frame))
        return 0
      },
      SystemCall(318, "getrandom", .full, "buffer:p size:u flags:x", getrandom),
    ]
  }

  // MARK: Names

  /// struct new_utsname: six fields of 65 bytes.
  static func uname(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var bytes: [UInt8] = []
    let fields: [ByteString] = [
      ByteString(KERNEL_NAME), HostIdentity.name, ByteString(KERNEL_RELEASE), ByteString(KERNEL_VERSION),
      ByteString(KERNEL_MACHINE), HostIdentity.domain,
    ]
    for field in fields {
      bytes += field.bytes.prefix(64)
      bytes += [UInt8](repeating: 0, count: 65 - min(field.count, 64))
    }
    try UserMemory.copyOut(to: frame.a0, bytes)
    return 0
  }

  private static func newName(_ frame: SystemCallFrame) throws(Errno) -> ByteString {
    guard frame.credentials.has(.systemAdministration) else { throw .EPERM }
    let size = frame.int(1)
    guard size >= 0, size <= 64 else { throw .EINVAL }
    return ByteString(try UserMemory.copyIn(from: frame.a0, count: Int(size)))
  }

  static func sysinfo(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let memory = MemoryStatistics.snapshot()
    var abi = linux_sysinfo()
    abi.uptime = Int64(Clock.monotonicNanoseconds / Timespec.second)
    abi.totalram = UInt64(memory.total) * pageSize
    abi.freeram = UInt64(memory.free) * pageSize
    abi.sharedram = UInt64(max(0, VirtualMemoryStatistics.snapshot().sharedMemoryPages)) * pageSize
    abi.procs = UInt16(clamping: ProcessTable.counters().threads)
    abi.mem_unit = 1
    let averages = LoadAverage.sample(running: Scheduler.runnableThreads)
    let shift = 16 - LoadAverage.fractionBits
    abi.loads = (averages[0] << shift, averages[1] << shift, averages[2] << shift)
    try UserMemory.write(abi, to: frame.a0)
    return 0
  }

  // MARK: Random numbers

  static func getrandom(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.uint(2)
    // GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE; the last two exclude each other.
    guard flags & ~7 == 0, flags & 6 != 6 else { throw .EINVAL }
    let total = min(frame.a1, UInt64(Int32.max))
    var done: UInt64 = 0
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Int(min(total, 4096)))
    while done < total {
      let count = Int(min(total - done, 4096))
      Random.fill(&bytes, count: count)
      do throws(Errno) {
        try UserMemory.copyOut(to: frame.a0 &+ done, bytes)
      } catch {
        if done == 0 { throw error }
        break
      }
      done += UInt64(count)
      if frame.task.hasPendingSignal && done < total { break }
      Thread.checkReschedule()
    }
    return Int64(done)
  }

  // MARK: The log

  static func syslog(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let type = frame.int(0)
    // Reading the whole log and asking for its size need no capability (dmesg_restrict is 0).
    if type != 3 && type != 10 && !frame.credentials.has(.syslog) { throw .EPERM }
    switch type {
    case 0, 1, 6, 7: return 0
    case 8:
      guard frame.int(2) >= 1, frame.int(2) <= 8 else { throw .EINVAL }
      return 0
    case 2, 3, 4:
      guard frame.a1 != 0, frame.int(2) >= 0 else { throw .EINVAL }
      let text = logText()
      let tail = Array(text.suffix(Int(frame.int(2))))
      try UserMemory.copyOut(to: frame.a1, tail)
      return Int64(tail.count)
    case 5: return 0
    case 9: return 0
    case 10: return Int64(logText().count)
    default: throw .EINVAL
    }
  }

  /// The log as dmesg(1) expects it: `<level>[seconds.microseconds] text`.
  private static func logText() -> [UInt8] {
    var text = TextBuffer()
    for record in Log.records() {
      text.append("<")
      text.append(decimal: UInt64(record.level.rawValue))
      text.append(">[")
      text.append(decimal: record.time / Timespec.second, width: 5)
      text.append(".")
      text.append(decimal: record.time % Timespec.second / 1000, width: 6, fill: 0x30)
      text.append("] ")
      text.append(record.text)
      text.append("\n")
    }
    return text.bytes
  }

  // MARK: reboot(2)

  static func reboot(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.credentials.has(.reboot) else { throw .EPERM }
    let second = frame.uint(1)
    guard frame.uint(0) == 0xfee1_dead, [672_274_793, 85_072_278, 369_367_448, 537_993_216].contains(second) else {
      throw .EINVAL
    }
    switch frame.uint(2) {
    case 0, 0x89ab_cdef: return 0  // Ctrl-Alt-Delete: there is no such key
    case 0x0123_4567, 0x4321_fedc, 0xcdef_0123: ProcessTable.powerOff(.exited(0))
    default: throw .EINVAL
    }
  }
}
