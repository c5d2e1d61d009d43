// Limits and usage: prlimit(2), getrusage(2), times(2).

import CLinuxABI
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// Resource limits and accounting.
public enum LimitCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(97, "getrlimit", .full, "resource:i limit:p") { frame throws(Errno) in
        try exchange(frame.process, frame.uint(0), new: 0, old: frame.a1, frame)
      },
      SystemCall(98, "getrusage", .full, "who:i usage:p", getrusage),
      SystemCall(100, "times", .full, "buffer:p", times),
      SystemCall(160, "setrlimit", .full, "resource:i limit:p") { frame throws(Errno) in
        guard frame.a1 != 0 else { throw .EFAULT }
        return try exchange(frame.process, frame.uint(0), new: frame.a1, old: 0, frame)
      },
      SystemCall(302, "prlimit64", .full, "pid:i resource:i new:p old:p", prlimit),
    ]
  }

  static func prlimit(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let pid = frame.int(0)
    var process = frame.process
    if pid != 0 && pid != process.pid {
      guard let other = ProcessTable.task(pid)?.process ?? ProcessTable.process(pid) else { throw .ESRCH }
      process = other
      let mine = frame.credentials
      if !mine.has(.resources) {
        // Process 1 is root's, and has no thread.
        let theirs = other.anyTask?.sharedCredentials ?? .root
        guard theirs.isEntirely(user: mine.realUser, group: mine.realGroup) else { throw .EPERM }
      }
    }
    return try exchange(process, frame.uint(1), new: frame.a2, old: frame.a3, frame)
  }

  private static func exchange(
    _ process: Process, _ number: UInt32, new: UInt64, old: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    guard let raw = UInt8(exactly: number), let resource = Resource(rawValue: raw) else { throw .EINVAL }
    var limit: ResourceLimit?
    if new != 0 {
      limit = ResourceLimit(
        soft: try UserMemory.read(new, as: UInt64.self), hard: try UserMemory.read(new &+ 8, as: UInt64.self))
    }
    let former = try process.exchangeLimit(resource, limit, by: frame.credentials)
    if let limit { process.limitChanged(resource, to: limit.soft) }
    if old != 0 {
      try UserMemory.write(former.soft, to: old)
      try UserMemory.write(former.hard, to: old &+ 8)
    }
    return 0
  }

  static func getrusage(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    Scheduler.chargeCurrent()
    var usage: ResourceUsage
    switch frame.int(0) {
    case RUSAGE_SELF:
      usage = frame.process.usage
      usage.peakResidentKiB = max(usage.peakResidentKiB, frame.task.peakResidentKiB)
    case RUSAGE_CHILDREN: usage = frame.process.usageOfChildren
    case RUSAGE_THREAD:
      usage = frame.task.usage
      usage.peakResidentKiB = frame.task.peakResidentKiB
    default: throw .EINVAL
    }
    try UserMemory.write(usage.abi, to: frame.a1)
    return 0
  }

  static func times(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a0 != 0 {
      Scheduler.chargeCurrent()
      let own = frame.process.usage
      let children = frame.process.usageOfChildren
      func ticks(_ time: UInt64) -> Int64 { Int64(clamping: ResourceUsage.ticks(time)) }
      let abi = linux_tms(
        user: ticks(own.userTime), system: ticks(own.systemTime), children_user: ticks(children.userTime),
        children_system: ticks(children.systemTime))
      try UserMemory.write(abi, to: frame.a0)
    }
    return Int64(ResourceUsage.ticks(Clock.monotonicNanoseconds))
  }
}
