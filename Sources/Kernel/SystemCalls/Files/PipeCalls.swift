// Files without a name: pipe(2), eventfd(2), timerfd(2), inotify(7).

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Calls that make anonymous files.
public enum PipeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(22, "pipe", .full, "fds:p") { frame throws(Errno) in try pipe(frame.a0, 0, frame) },
      SystemCall(253, "inotify_init", .full, "") { frame throws(Errno) in try makeInotify(0, frame) },
      SystemCall(254, "inotify_add_watch", .full, "fd:d path:s mask:x", addWatch),
      SystemCall(255, "inotify_rm_watch", .full, "fd:d watch:i", removeWatch),
      SystemCall(283, "timerfd_create", .full, "clock:K flags:x", makeTimer),
      SystemCall(284, "eventfd", .full, "value:u") { frame throws(Errno) in try eventCounter(frame.uint(0), 0, frame) },
      SystemCall(286, "timerfd_settime", .full, "fd:d flags:x new:p old:p", setTimer),
      SystemCall(287, "timerfd_gettime", .full, "fd:d current:p", getTimer),
      SystemCall(290, "eventfd2", .full, "value:u flags:x") { frame throws(Errno) in
        try eventCounter(frame.uint(0), frame.int(1), frame)
      },
      SystemCall(293, "pipe2", .full, "fds:p flags:F") { frame throws(Errno) in
        try pipe(frame.a0, frame.int(1), frame)
      },
      SystemCall(294, "inotify_init1", .full, "flags:F") { frame throws(Errno) in
        try makeInotify(frame.int(0), frame)
      },
    ]
  }

  // MARK: pipe(2)

  private static func pipe(_ address: UInt64, _ flags: Int32, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    guard flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT) == 0 else { throw .EINVAL }
    let (input, output) = Pipe.open(OpenFlags(rawValue: flags), owner: frame.caller.fileSystemOwner)
    try installPair(input, output, closeOnExec: flags & O_CLOEXEC != 0, address, frame)
    return 0
  }

  /// Gives two files descriptors and tells the program; on failure neither stays.
  static func installPair(
    _ first: OpenFile, _ second: OpenFile, closeOnExec: Bool, _ address: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) {
    let table = frame.descriptors
    // The references keep both ends open until it is clear who owns them.
    first.acquire()
    second.acquire()
    defer {
      first.release()
      second.release()
    }
    let left = try table.insert(first, closeOnExec: closeOnExec)
    do throws(Errno) {
      let right = try table.insert(second, closeOnExec: closeOnExec)
      do throws(Errno) {
        try UserMemory.write(UInt64(UInt32(left)) | UInt64(UInt32(right)) << 32, to: address)
      } catch {
        try? table.close(right)
        throw error
      }
    } catch {
      try? table.close(left)
      throw error
    }
  }

  // MARK: eventfd(2)

  private static func eventCounter(_ value: UInt32, _ flags: Int32, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    guard flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE) == 0 else { throw .EINVAL }
    let file = EventCounter(
      UInt64(value), flags & EFD_SEMAPHORE != 0 ? .semaphore : .counter,
      flags: OpenFlags(rawValue: flags & O_NONBLOCK))
    return try OpenCalls.install(file, closeOnExec: flags & O_CLOEXEC != 0, frame)
  }

  // MARK: timerfd(2)

  static func makeTimer(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let clock: TimerClock
    switch frame.int(0) {
    case CLOCK_REALTIME: clock = .realtime
    case CLOCK_MONOTONIC: clock = .monotonic
    case CLOCK_BOOTTIME: clock = .boot
    case CLOCK_REALTIME_ALARM: clock = .realtimeAlarm
    case CLOCK_BOOTTIME_ALARM: clock = .bootAlarm
    default: throw .EINVAL
    }
    let flags = frame.int(1)
    guard flags & ~(O_CLOEXEC | O_NONBLOCK) == 0 else { throw .EINVAL }
    if clock == .realtimeAlarm || clock == .bootAlarm, !frame.credentials.has(.wakeAlarm) { throw .EPERM }
    let file = TimerFile(clock, flags: OpenFlags(rawValue: flags & O_NONBLOCK))
    return try OpenCalls.install(file, closeOnExec: flags & O_CLOEXEC != 0, frame)
  }

  static func setTimer(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(1)
    guard flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) == 0 else { throw .EINVAL }
    let interval = try Timespec.read(frame.a2)
    let value = try Timespec.read(frame.a2 &+ 16)
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard let timer = file.timer else { throw .EINVAL }
    let old = try timer.set(value, interval: interval, flags: flags)
    if frame.a3 != 0 { try write(old, to: frame.a3) }
    return 0
  }

  static func getTimer(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    guard let timer = use.file.timer else { throw .EINVAL }
    try write(timer.remaining(), to: frame.a1)
    return 0
  }

  private static func write(_ time: (value: Nanoseconds, interval: Nanoseconds), to address: UInt64) throws(Errno) {
    try UserMemory.write(
      linux_interval(interval: Timespec.timespec(time.interval), value: Timespec.timespec(time.value)), to: address)
  }

  // MARK: inotify(7)

  private static func makeInotify(_ flags: Int32, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    guard flags & ~(O_CLOEXEC | O_NONBLOCK) == 0 else { throw .EINVAL }
    return try OpenCalls.install(
      InotifyFile(flags: OpenFlags(rawValue: flags)), closeOnExec: flags & O_CLOEXEC != 0, frame)
  }

  static func addWatch(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let mask = FileEvents(rawValue: frame.uint(2))
    if mask.contains(.maskAdd), mask.contains(.maskCreate) { throw .EINVAL }
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard let instance = file.inotify else { throw .EINVAL }
    var options: WalkOptions = []
    if mask.contains(.dontFollow) { options.insert(.noFollow) }
    if mask.contains(.onlyDirectory) { options.insert(.directory) }
    let caller = frame.caller
    let place = try PathWalk.resolve(try FileArguments.path(frame.a1), options, by: caller)
    try caller.check(.read, try place.inode.accessControl(), kind: place.inode.kind)
    return Int64(try instance.add(place.inode, mask))
  }

  static func removeWatch(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let use = try frame.descriptors.getForUse(frame.int(0))
    guard let instance = use.file.inotify else { throw .EINVAL }
    try instance.remove(frame.int(1))
    return 0
  }
}
