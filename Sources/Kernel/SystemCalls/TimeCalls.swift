// Clocks and sleeping (clock_gettime(2), nanosleep(2), time(2)).

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// Reading and setting clocks, and sleeping on them.
public enum TimeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(35, "nanosleep", .full, "duration:T rest:p", nanosleep),
      SystemCall(96, "gettimeofday", .full, "time:p zone:p", getTimeOfDay),
      SystemCall(164, "settimeofday", .full, "time:p zone:p", setTimeOfDay),
      SystemCall(201, "time", .full, "result:p") { frame throws(Errno) in
        let seconds = Int64(Clock.realtimeNanoseconds / Timespec.second)
        if frame.a0 != 0 { try UserMemory.write(seconds, to: frame.a0) }
        return seconds
      },
      SystemCall(227, "clock_settime", .partial("CLOCK_REALTIME only"), "clock:K time:T", clockSetTime),
      SystemCall(228, "clock_gettime", .full, "clock:K time:p", clockGetTime),
      SystemCall(229, "clock_getres", .full, "clock:K resolution:p", clockGetResolution),
      SystemCall(
        230, "clock_nanosleep", .partial("no CPU-time clocks"), "clock:K flags:x time:T rest:p", clockNanosleep),
    ]
  }

  /// What a clock reads, in nanoseconds.
  ///
  /// - Throws: EINVAL for a clock that doesn't exist.
  static func read(_ clock: Int32, _ frame: SystemCallFrame) throws(Errno) -> UInt64 {
    switch clock {
    case CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_REALTIME_ALARM, CLOCK_TAI: return Clock.realtimeNanoseconds
    case CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM:
      return Clock.monotonicNanoseconds
    case CLOCK_PROCESS_CPUTIME_ID:
      Scheduler.chargeCurrent()
      return frame.process.usage.totalTime
    case CLOCK_THREAD_CPUTIME_ID:
      Scheduler.chargeCurrent()
      return frame.task.usage.totalTime
    case ..<0: return try readProcessorTime(clock, frame)
    default: throw .EINVAL
    }
  }

  /// CPU-time clocks of other processes and threads: the complement of the identifier shifted by three, a bit for
  /// "thread", and the kind (0 prof, 1 virt, 2 sched), as clock_getcpuclockid(3) makes them.
  private static func readProcessorTime(_ clock: Int32, _ frame: SystemCallFrame) throws(Errno) -> UInt64 {
    let identifier = ~(clock >> 3)
    let kind = clock & 3
    guard kind != 3 else { throw .EINVAL }
    Scheduler.chargeCurrent()
    let usage: ResourceUsage
    if clock & 4 != 0 {
      guard let task = identifier == 0 ? frame.task : ProcessTable.task(identifier), task.process === frame.process
      else { throw .EINVAL }
      usage = task.usage
    } else {
      guard let process = identifier == 0 ? frame.process : ProcessTable.process(identifier) else { throw .EINVAL }
      usage = process.usage
    }
    return kind == 1 ? usage.userTime : usage.totalTime
  }

  static func clockGetTime(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try UserMemory.write(Timespec.timespec(try read(frame.int(0), frame)), to: frame.a1)
    return 0
  }

  static func clockGetResolution(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    _ = try read(frame.int(0), frame)
    // All clocks count nanoseconds; the coarse ones are as fine as the others.
    if frame.a1 != 0 { try UserMemory.write(Timespec.timespec(1), to: frame.a1) }
    return 0
  }

  static func clockSetTime(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(0) == CLOCK_REALTIME else { throw .EINVAL }
    try setRealtime(try Timespec.read(frame.a1), frame)
    return 0
  }

  private static func setRealtime(_ time: Nanoseconds, _ frame: SystemCallFrame) throws(Errno) {
    guard frame.credentials.has(.setTime) else { throw .EPERM }
    // As on Linux the clock must be able to run on for 30 years (TIME_UPTIME_SEC_MAX).
    guard time < .longest - Nanoseconds(seconds: 30 * 365 * 86400) else { throw .EINVAL }
    Clock.realtimeOffset &+= Int64(bitPattern: time.count &- Clock.realtimeNanoseconds)
    VDSO.clockWasSet()
    TimerFile.clockWasSet()
  }

  static func getTimeOfDay(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a0 != 0 { try UserMemory.write(Timespec.timeval(Clock.realtimeNanoseconds), to: frame.a0) }
    // The time zone of the kernel is UTC.
    if frame.a1 != 0 { try UserMemory.write(UInt64(0), to: frame.a1) }
    return 0
  }

  static func setTimeOfDay(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    if frame.a0 != 0 { try setRealtime(try Timespec.readTimeval(frame.a0), frame) }
    guard frame.credentials.has(.setTime) else { throw .EPERM }
    return 0
  }

  // MARK: Sleeping

  static func nanosleep(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let duration = try Timespec.read(frame.a0)
    return try sleep(until: Instant.now().advanced(by: duration), rest: frame.a1, frame.task)
  }

  static func clockNanosleep(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let clock = frame.int(0)
    let isRealtime: Bool
    switch clock {
    case CLOCK_REALTIME, CLOCK_REALTIME_ALARM, CLOCK_TAI: isRealtime = true
    case CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM: isRealtime = false
    case CLOCK_PROCESS_CPUTIME_ID: throw .EOPNOTSUPP
    default: throw .EINVAL
    }
    let time = try Timespec.read(frame.a2)
    guard frame.int(1) & TIMER_ABSTIME != 0 else {
      return try sleep(until: Instant.now().advanced(by: time), rest: frame.a3, frame.task)
    }
    let deadline = isRealtime ? Clock.instant(realtime: time) : Clock.instant(monotonic: time)
    do throws(Errno) {
      try Thread.sleep(until: deadline) { false }
    } catch {
      if error == .ETIMEDOUT { return 0 }
      throw .ERESTARTNOHAND
    }
    return 0
  }

  /// Sleeps; when a signal comes, stores what is left and arranges for the rest to be slept if no handler runs.
  private static func sleep(until deadline: Instant, rest: UInt64, _ task: Task) throws(Errno) -> Int64 {
    do throws(Errno) {
      try Thread.sleep(until: deadline) { false }
    } catch {
      if error == .ETIMEDOUT { return 0 }
      let left = deadline.nanoseconds(since: .now())
      if left == 0 { return 0 }
      if rest != 0 { try UserMemory.write(Timespec.timespec(left), to: rest) }
      task.restart = { task throws(Errno) in try sleep(until: deadline, rest: rest, task) }
      throw .ERESTART_RESTARTBLOCK
    }
    return 0
  }
}
