// Timers that send signals: alarm(2), setitimer(2), timer_create(2) and relatives.

import CLinuxABI
import KernelCore
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// Interval timers and POSIX timers.
public enum TimerCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(36, "getitimer", .full, "which:i value:p", getInterval),
      SystemCall(37, "alarm", .full, "seconds:u", alarm),
      SystemCall(38, "setitimer", .full, "which:i value:p old:p", setInterval),
      SystemCall(222, "timer_create", .partial("no CPU-time clocks"), "clock:K event:p timer:p", create),
      SystemCall(223, "timer_settime", .full, "timer:i flags:x value:p old:p", setTime),
      SystemCall(224, "timer_gettime", .full, "timer:i value:p") { frame throws(Errno) in
        try store(try frame.process.posixTimers.setting(frame.int(0)), to: frame.a1)
        return 0
      },
      SystemCall(225, "timer_getoverrun", .full, "timer:i") { frame throws(Errno) in
        Int64(try frame.process.posixTimers.overrun(frame.int(0)))
      },
      SystemCall(226, "timer_delete", .full, "timer:i") { frame throws(Errno) in
        try frame.process.posixTimers.delete(frame.int(0))
        return 0
      },
    ]
  }

  // MARK: Interval timers

  static func alarm(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let value = Nanoseconds(seconds: UInt64(frame.uint(0)))
    let old = frame.process.posixTimers.setReal(TimerSetting(value: value), of: frame.process)
    // What is left, rounded to seconds, but never down to "no alarm" (alarm(2) of Linux).
    let rounded = (old.value + Nanoseconds(Nanoseconds.second / 2)).seconds
    return old.value == .zero ? 0 : Int64(max(1, rounded))
  }

  static func getInterval(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let which = frame.int(0)
    guard which >= ITIMER_REAL, which <= ITIMER_PROF else { throw .EINVAL }
    let timers = frame.process.posixTimers
    let setting =
      which == ITIMER_REAL ? timers.real() : timers.processorTimer(which, at: processorTime(which, frame))
    try UserMemory.write(interval(setting), to: frame.a1)
    return 0
  }

  static func setInterval(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let which = frame.int(0)
    var new = TimerSetting()
    // A null pointer turns the timer off, a misfeature of Linux's that programs rely on (setitimer(2)).
    if frame.a1 != 0 {
      let abi = try UserMemory.read(frame.a1, as: linux_interval.self)
      new.value = try Timespec.duration(timeval: abi.value)
      new.interval = try Timespec.duration(timeval: abi.interval)
    }
    guard which >= ITIMER_REAL, which <= ITIMER_PROF else { throw .EINVAL }
    let timers = frame.process.posixTimers
    let old =
      which == ITIMER_REAL
      ? timers.setReal(new, of: frame.process)
      : timers.setProcessorTimer(which, new, at: processorTime(which, frame))
    if frame.a2 != 0 { try UserMemory.write(interval(old), to: frame.a2) }
    return 0
  }

  private static func processorTime(_ which: Int32, _ frame: SystemCallFrame) -> Nanoseconds {
    Scheduler.chargeCurrent()
    let usage = frame.process.usage
    return Nanoseconds(which == ITIMER_VIRTUAL ? usage.userTime : usage.totalTime)
  }

  private static func interval(_ setting: TimerSetting) -> linux_interval {
    linux_interval(interval: Timespec.timeval(setting.interval), value: Timespec.timeval(setting.value))
  }

  // MARK: POSIX timers

  static func create(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let clock = frame.int(0)
    switch clock {
    case CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI: break
    case CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, ..<0: throw .EOPNOTSUPP
    default: throw .EINVAL
    }
    var (notification, signal, target) = (SIGEV_SIGNAL, SIGALRM, Int32(0))
    var value: UInt64?
    if frame.a1 != 0 {
      let event = try UserMemory.read(frame.a1, as: linux_sigevent.self)
      (notification, signal, target) = (event.notify, event.signo, event.tid)
      value = event.value
      switch notification {
      case SIGEV_NONE: break
      case SIGEV_SIGNAL, SIGEV_THREAD:
        guard SignalSet.isValid(signal) else { throw .EINVAL }
      case SIGEV_THREAD_ID:
        guard SignalSet.isValid(signal), let task = ProcessTable.task(target), task.process === frame.process else {
          throw .EINVAL
        }
      default: throw .EINVAL
      }
    }
    let identifier = try frame.process.posixTimers.create(
      clock: clock, notification: notification, signal: signal, value: value, target: target)
    do throws(Errno) {
      try UserMemory.write(identifier, to: frame.a2)
    } catch {
      try? frame.process.posixTimers.delete(identifier)
      throw error
    }
    return 0
  }

  static func setTime(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a2 != 0 else { throw .EINVAL }
    let abi = try UserMemory.read(frame.a2, as: linux_interval.self)
    let value = try Timespec.duration(timespec: abi.value)
    let interval = try Timespec.duration(timespec: abi.interval)
    let clock = try frame.process.posixTimers.clock(of: frame.int(0))
    var deadline = Instant.never
    if value != .zero {
      if frame.int(1) & TIMER_ABSTIME == 0 {
        deadline = Instant.now().advanced(by: value)
      } else if clock == CLOCK_REALTIME || clock == CLOCK_TAI {
        deadline = Clock.instant(realtime: value)
      } else {
        deadline = Clock.instant(monotonic: value)
      }
    }
    let old = try frame.process.posixTimers.set(
      frame.int(0), deadline: deadline, interval: interval, of: frame.process)
    if frame.a3 != 0 { try store(old, to: frame.a3) }
    return 0
  }

  private static func store(_ setting: TimerSetting, to address: UInt64) throws(Errno) {
    try UserMemory.write(
      linux_interval(interval: Timespec.timespec(setting.interval), value: Timespec.timespec(setting.value)),
      to: address)
  }
}
