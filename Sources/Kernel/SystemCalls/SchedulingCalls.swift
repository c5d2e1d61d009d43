// Scheduling: yielding, affinity, priorities, policies (sched(7)). Apus has one class, fair by nice value: policies are
// checked, kept and reported, and do not change who runs.

import CLinuxABI
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

/// sched_yield(2), sched_setaffinity(2), setpriority(2) and relatives.
public enum SchedulingCalls {
  private static let oneClass: Coverage = .partial("policies are recorded only: one scheduling class")

  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(24, "sched_yield", .full, "") { _ throws(Errno) in
        Thread.yield()
        return 0
      },
      SystemCall(140, "getpriority", .full, "which:i who:i", getPriority),
      SystemCall(141, "setpriority", .full, "which:i who:i nice:i", setPriority),
      SystemCall(142, "sched_setparam", oneClass, "pid:i param:p") { frame throws(Errno) in
        let task = try task(frame)
        return try setPolicy(frame, task, task.schedulingPolicy, try UserMemory.read(frame.a1, as: Int32.self))
      },
      SystemCall(143, "sched_getparam", .full, "pid:i param:p") { frame throws(Errno) in
        try UserMemory.write(try parameters(frame).priority, to: frame.a1)
        return 0
      },
      SystemCall(144, "sched_setscheduler", oneClass, "pid:i policy:i param:p") { frame throws(Errno) in
        try setPolicy(frame, try task(frame), frame.int(1), try UserMemory.read(frame.a2, as: Int32.self))
      },
      SystemCall(145, "sched_getscheduler", .full, "pid:i") { frame throws(Errno) in
        Int64(try parameters(frame).policy)
      },
      SystemCall(146, "sched_get_priority_max", .full, "policy:i") { frame throws(Errno) in
        try priorities(of: frame.int(0)).upperBound
      },
      SystemCall(147, "sched_get_priority_min", .full, "policy:i") { frame throws(Errno) in
        try priorities(of: frame.int(0)).lowerBound
      },
      SystemCall(148, "sched_rr_get_interval", .full, "pid:i interval:p") { frame throws(Errno) in
        _ = try parameters(frame)
        try UserMemory.write(Timespec.timespec(3_000_000), to: frame.a1)
        return 0
      },
      SystemCall(203, "sched_setaffinity", .full, "pid:i size:u mask:p", setAffinity),
      SystemCall(204, "sched_getaffinity", .full, "pid:i size:u mask:p", getAffinity),
      SystemCall(309, "getcpu", .full, "cpu:p node:p cache:p") { frame throws(Errno) in
        if frame.a0 != 0 { try UserMemory.write(UInt32(CPU.currentIndex), to: frame.a0) }
        if frame.a1 != 0 { try UserMemory.write(UInt32(FrameAllocator.localNode), to: frame.a1) }
        return 0
      },
      SystemCall(314, "sched_setattr", oneClass, "pid:i attributes:p flags:x", setAttributes),
      SystemCall(315, "sched_getattr", .full, "pid:i attributes:p size:u flags:x", getAttributes),
    ]
  }

  /// The thread that the first argument names; 0 is the caller. Negative numbers are EINVAL, for the affinity calls
  /// ESRCH, as on Linux.
  private static func task(
    _ frame: SystemCallFrame, negative: Errno = .EINVAL
  ) throws(Errno) -> Task {
    let pid = frame.int(0)
    guard pid >= 0 else { throw negative }
    if pid == 0 { return frame.task }
    if pid == ProcessTable.reaperPid { throw .EPERM }
    guard let task = ProcessTable.task(pid) else { throw .ESRCH }
    return task
  }

  /// What the calls that ask tell. Process 1 has no thread; it is what a process is at first, and nobody changes that.
  private struct Parameters {
    var policy = SCHED_OTHER
    var priority: Int32 = 0
    var niceness = 0
    var affinity = UInt64.max
  }

  private static func parameters(_ frame: SystemCallFrame, negative: Errno = .EINVAL) throws(Errno) -> Parameters {
    if frame.int(0) == ProcessTable.reaperPid { return Parameters() }
    let task = try task(frame, negative: negative)
    return Parameters(
      policy: task.schedulingPolicy, priority: task.schedulingPriority, niceness: task.niceness, affinity: task.affinity
    )
  }

  /// Whether the caller may change the scheduling of `task`.
  private static func mayChange(_ task: Task, _ frame: SystemCallFrame) -> Bool {
    if task === frame.task || frame.credentials.has(.nice) { return true }
    let theirs = task.sharedCredentials
    let mine = frame.credentials.effectiveUser
    return mine == theirs.effectiveUser || mine == theirs.realUser
  }

  // MARK: Nice values

  private static func targets(_ frame: SystemCallFrame) throws(Errno) -> [Task] {
    let who = frame.int(1)
    let tasks: [Task]
    switch frame.int(0) {
    case PRIO_PROCESS:
      guard who != 0 else { return [frame.task] }
      tasks = ProcessTable.task(who).map { [$0] } ?? []
    case PRIO_PGRP:
      let group = who == 0 ? frame.process.groupIdentifier : who
      tasks = (ProcessTable.members(ofGroup: group) ?? []).flatMap { $0.tasks }
    case PRIO_USER:
      let user = who == 0 ? frame.credentials.realUser : UInt32(bitPattern: who)
      tasks = ProcessTable.processes().flatMap { $0.tasks }.filter { $0.sharedCredentials.realUser == user }
    default: throw .EINVAL
    }
    guard !tasks.isEmpty else { throw .ESRCH }
    return tasks
  }

  private static func namesReaper(_ frame: SystemCallFrame) -> Bool {
    frame.int(0) == PRIO_PROCESS && frame.int(1) == ProcessTable.reaperPid
  }

  /// The system call's result is 20 minus the nice value, so that it is never negative (getpriority(2)).
  static func getPriority(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if namesReaper(frame) { return Int64(20 - Parameters().niceness) }
    return Int64(try targets(frame).reduce(0) { max($0, 20 - $1.niceness) })
  }

  static func setPriority(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if namesReaper(frame) { throw .EPERM }
    let niceness = Int(min(max(frame.int(2), -20), 19))
    var failure: Errno?
    for task in try targets(frame) {
      guard mayChange(task, frame) else {
        failure = .EPERM
        continue
      }
      // RLIMIT_NICE: 20 minus the lowest nice value that may be chosen.
      let floor = 20 - Int(clamping: task.process.limit(.nice))
      if niceness < task.niceness, niceness < floor, !frame.credentials.has(.nice) {
        failure = .EACCES
        continue
      }
      task.niceness = niceness
    }
    if let failure { throw failure }
    return 0
  }

  // MARK: Policies

  private static func priorities(of policy: Int32) throws(Errno) -> ClosedRange<Int64> {
    switch policy {
    case SCHED_OTHER, SCHED_BATCH, SCHED_IDLE: return 0...0
    case SCHED_FIFO, SCHED_RR: return 1...99
    default: throw .EINVAL
    }
  }

  private static func setPolicy(
    _ frame: SystemCallFrame, _ task: Task, _ policy: Int32, _ priority: Int32
  ) throws(Errno) -> Int64 {
    guard policy >= 0 else { throw .EINVAL }
    let plain = policy & ~SCHED_RESET_ON_FORK
    guard try priorities(of: plain).contains(Int64(priority)) else { throw .EINVAL }
    guard mayChange(task, frame) else { throw .EPERM }
    if plain == SCHED_FIFO || plain == SCHED_RR, !frame.credentials.has(.nice) {
      guard UInt64(priority) <= task.process.limit(.realTimePriority) else { throw .EPERM }
    }
    task.schedulingPolicy = plain
    task.schedulingPriority = priority
    return 0
  }

  static func setAttributes(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a1 != 0, frame.int(2) == 0 else { throw .EINVAL }
    let size = try UserMemory.read(frame.a1, as: UInt32.self)
    guard size == 0 || size >= 48 else { throw .E2BIG }
    let policy = try UserMemory.read(frame.a1 &+ 4, as: Int32.self)
    let nice = try UserMemory.read(frame.a1 &+ 16, as: Int32.self)
    let priority = try UserMemory.read(frame.a1 &+ 20, as: Int32.self)
    let task = try task(frame)
    let result = try setPolicy(frame, task, policy, priority)
    if policy == SCHED_OTHER || policy == SCHED_BATCH {
      guard nice >= -20, nice <= 19 else { throw .EINVAL }
      if Int(nice) < task.niceness && !frame.credentials.has(.nice) { throw .EPERM }
      task.niceness = Int(nice)
    }
    return result
  }

  static func getAttributes(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a1 != 0, frame.uint(2) >= 48, frame.int(3) == 0 else { throw .EINVAL }
    let parameters = try parameters(frame)
    var abi = linux_sched_attr()
    abi.size = 48
    abi.policy = UInt32(bitPattern: parameters.policy)
    abi.nice = Int32(parameters.niceness)
    abi.priority = UInt32(bitPattern: parameters.priority)
    // The first 48 bytes, which every version of the structure has.
    let words: (UInt64, UInt64, UInt64) = (
      UInt64(abi.size) | UInt64(abi.policy) << 32, abi.flags,
      UInt64(UInt32(bitPattern: abi.nice)) | UInt64(abi.priority) << 32
    )
    try UserMemory.write(words, to: frame.a1)
    try UserMemory.write((UInt64(0), UInt64(0), UInt64(0)), to: frame.a1 &+ 24)
    return 0
  }

  // MARK: Affinity

  static func setAffinity(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let task = try task(frame, negative: .ESRCH)
    var mask: UInt64 = 0
    // Masks have any length; the machine has at most 64 CPUs.
    for (index, byte) in try UserMemory.copyIn(from: frame.a2, count: Int(min(frame.a1, 8))).enumerated() {
      mask |= UInt64(byte) << UInt64(index * 8)
    }
    guard mayChange(task, frame) else { throw .EPERM }
    try task.setAffinity(mask)
    return 0
  }

  static func getAffinity(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let size = frame.uint(1)
    guard size >= 8, size % 8 == 0 else { throw .EINVAL }
    let present = CPU.count >= 64 ? UInt64.max : (1 << UInt64(CPU.count)) - 1
    try UserMemory.write(try parameters(frame, negative: .ESRCH).affinity & present, to: frame.a2)
    return 8
  }
}
