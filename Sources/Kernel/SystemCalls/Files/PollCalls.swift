// Waiting for files: poll(2), select(2), epoll(7).

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Calls that wait for several files.
public enum PollCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(7, "poll", .full, "fds:p count:u timeout:i", poll),
      SystemCall(23, "select", .full, "count:i read:p write:p except:p timeout:p", select),
      SystemCall(213, "epoll_create", .full, "size:i") { frame throws(Errno) in
        guard frame.int(0) > 0 else { throw .EINVAL }
        return try OpenCalls.install(EventPoll(flags: []), closeOnExec: false, frame)
      },
      SystemCall(232, "epoll_wait", .full, "epoll:d events:p limit:i timeout:i") { frame throws(Errno) in
        try epollWait(frame, until: deadline(milliseconds: frame.int(3)))
      },
      SystemCall(233, "epoll_ctl", .full, "epoll:d operation:i fd:d event:p", epollControl),
      SystemCall(270, "pselect6", .full, "count:i read:p write:p except:p timeout:p mask:p", selectWithMask),
      SystemCall(271, "ppoll", .full, "fds:p count:u timeout:T mask:G size:u", pollWithMask),
      SystemCall(281, "epoll_pwait", .full, "epoll:d events:p limit:i timeout:i mask:G size:u") { frame throws(Errno) in
        let limit = deadline(milliseconds: frame.int(3))
        let mask = try mask(frame.a4, size: frame.a5)
        let copy = frame
        return try frame.task.withTemporaryMask(mask) { () throws(Errno) in try epollWait(copy, until: limit) }
      },
      SystemCall(291, "epoll_create1", .full, "flags:F") { frame throws(Errno) in
        guard frame.int(0) & ~O_CLOEXEC == 0 else { throw .EINVAL }
        return try OpenCalls.install(EventPoll(flags: []), closeOnExec: frame.int(0) != 0, frame)
      },
      SystemCall(441, "epoll_pwait2", .full, "epoll:d events:p limit:i timeout:T mask:G size:u") {
        frame throws(Errno) in
        let limit = try deadline(timespec: frame.a3)
        let mask = try mask(frame.a4, size: frame.a5)
        let copy = frame
        return try frame.task.withTemporaryMask(mask) { () throws(Errno) in try epollWait(copy, until: limit) }
      },
    ]
  }

  // MARK: Time-outs and masks

  /// A time-out in milliseconds; negative ones never come.
  private static func deadline(milliseconds: Int32) -> Instant {
    milliseconds < 0 ? .never : Instant.now().advanced(by: Nanoseconds(milliseconds: UInt32(milliseconds)))
  }

  /// A time-out as a struct timespec; NULL never comes.
  private static func deadline(timespec address: UInt64) throws(Errno) -> Instant {
    address == 0 ? .never : Instant.now().advanced(by: try Timespec.read(address))
  }

  private static func mask(_ address: UInt64, size: UInt64) throws(Errno) -> SignalSet? {
    if address == 0 { return nil }
    guard size == 8 else { throw .EINVAL }
    return SignalSet(rawValue: try UserMemory.read(address, as: UInt64.self))
  }

  /// What an interrupted wait throws: these calls are never restarted under a handler (signal(7)).
  private static func neverRestarted(_ error: Errno) -> Errno { error == .ERESTARTSYS ? .ERESTARTNOHAND : error }

  // MARK: poll(2)

  static func poll(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try pollRestartably(frame.a0, frame.uint(1), until: deadline(milliseconds: frame.int(2)), frame.task)
  }

  /// poll(2) goes on with the time that is left when the signal had no handler.
  private static func pollRestartably(_ address: UInt64, _ count: UInt32, until deadline: Instant, _ task: Task)
    throws(Errno) -> Int64
  {
    do throws(Errno) {
      return try poll(address, count, until: deadline, task)
    } catch {
      guard error == .ERESTARTSYS else { throw error }
      task.restart = { task throws(Errno) in try pollRestartably(address, count, until: deadline, task) }
      throw .ERESTART_RESTARTBLOCK
    }
  }

  static func pollWithMask(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let limit = try deadline(timespec: frame.a2)
    let mask = try mask(frame.a3, size: frame.a4)
    let copy = frame
    do throws(Errno) {
      let count = try frame.task.withTemporaryMask(mask) { () throws(Errno) in
        do throws(Errno) {
          return try poll(copy.a0, copy.uint(1), until: limit, copy.task)
        } catch {
          throw neverRestarted(error)
        }
      }
      writeRest(limit, timespec: frame.a2)
      return count
    } catch {
      writeRest(limit, timespec: frame.a2)
      throw error
    }
  }

  /// Linux writes the time that is left back, and does not mind when it cannot.
  private static func writeRest(_ deadline: Instant, timespec address: UInt64) {
    guard address != 0 else { return }
    try? UserMemory.write(Timespec.timespec(deadline.nanoseconds(since: .now())), to: address)
  }

  private static func poll(_ address: UInt64, _ count: UInt32, until deadline: Instant, _ task: Task) throws(Errno)
    -> Int64
  {
    guard UInt64(count) <= task.process.limit(.openFiles) else { throw .EINVAL }
    try KernelMemory.admit(bytes: Int(count) * MemoryLayout<PollRequest>.stride)
    let entries = try UserMemory.readArray(address, count: Int(count), as: linux_pollfd.self)
    var requests: [PollRequest] = []
    requests.reserveCapacity(entries.count)
    var uses = FileUses()
    for entry in entries {
      if entry.fd < 0 {
        requests.append(PollRequest(entry.fd, result: []))
      } else {
        do throws(Errno) {
          let file = uses.add(try task.descriptors.getForUse(entry.fd))
          requests.append(PollRequest(entry.fd, file, events: PollEvents(rawValue: UInt32(entry.events))))
        } catch {
          requests.append(PollRequest(entry.fd, result: .invalid))
        }
      }
    }
    let ready = try Polling.wait(&requests, until: deadline)
    // Only the results: other threads may be changing the rest.
    var results: [UInt16] = []
    results.reserveCapacity(requests.count)
    for index in requests.indices {
      var result = requests[index].result
      // A descriptor that was closed during the wait.
      if uses.isShared, !result.isEmpty, !task.descriptors.isOpen(requests[index].descriptor) { result = .invalid }
      results.append(UInt16(truncatingIfNeeded: result.rawValue))
    }
    try UserMemory.writeFields(results, to: address &+ 6, stride: MemoryLayout<linux_pollfd>.stride)
    return Int64(ready)
  }

  // MARK: select(2)

  static func select(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let start = Instant.now()
    var limit = Instant.never
    if frame.a4 != 0 {
      let time = try UserMemory.read(frame.a4, as: linux_time_pair.self)
      // Linux accepts microseconds beyond a second here.
      guard time.seconds >= 0, time.fraction >= 0 else { throw .EINVAL }
      limit = start.advanced(
        by: Nanoseconds(seconds: UInt64(time.seconds), microseconds: UInt64(time.fraction)))
    }
    defer {
      if frame.a4 != 0, limit != .never {
        try? UserMemory.write(Timespec.timeval(limit.nanoseconds(since: .now())), to: frame.a4)
      }
    }
    return try select(frame, until: limit)
  }

  /// pselect6: the sixth argument points to the mask's address and its size.
  static func selectWithMask(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let limit = try deadline(timespec: frame.a4)
    var signals: SignalSet?
    if frame.a5 != 0 {
      signals = try mask(
        try UserMemory.read(frame.a5, as: UInt64.self), size: try UserMemory.read(frame.a5 &+ 8, as: UInt64.self))
    }
    let copy = frame
    defer { if frame.a4 != 0 { writeRest(limit, timespec: frame.a4) } }
    return try frame.task.withTemporaryMask(signals) { () throws(Errno) in try select(copy, until: limit) }
  }

  private static func select(_ frame: SystemCallFrame, until deadline: Instant) throws(Errno) -> Int64 {
    guard frame.int(0) >= 0 else { throw .EINVAL }
    let count = min(Int(frame.int(0)), frame.descriptors.capacity)
    let asked = try DescriptorSets(frame, count: count)
    var requests: [PollRequest] = []
    requests.reserveCapacity(asked.memberCount)
    var uses = FileUses()
    for index in 0..<asked.wordCount {
      var bits = asked.union(index)
      if index == count / 64 { bits &= 1 << UInt64(count % 64) &- 1 }
      while bits != 0 {
        let descriptor = Int32(truncatingIfNeeded: index * 64 + bits.trailingZeroBitCount)
        bits &= bits &- 1
        let file = uses.add(try frame.descriptors.getForUse(descriptor))
        requests.append(PollRequest(descriptor, file, events: asked.events(descriptor), unasked: []))
      }
    }
    do throws(Errno) {
      _ = try Polling.wait(&requests, until: deadline)
    } catch {
      throw neverRestarted(error)
    }
    var answers = DescriptorSets(count: count)
    var total: Int64 = 0
    for index in requests.indices where !requests[index].result.isEmpty {
      total += answers.add(requests[index].descriptor, requests[index].result, asked: asked)
    }
    try answers.write(to: frame)
    return total
  }

  // MARK: epoll(7)

  static func epollControl(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var event = linux_epoll_event()
    if frame.int(1) != EPOLL_CTL_DEL { event = try UserMemory.read(frame.a3, as: linux_epoll_event.self) }
    let instanceUse = try frame.descriptors.getForUse(frame.int(0))
    let instance = instanceUse.file
    let use = try frame.descriptors.getForUse(frame.int(2))
    let file = use.file
    guard file.isPollable else { throw .EPERM }
    guard let poll = instance.eventPoll, instance !== file else { throw .EINVAL }
    let data = UInt64(event.data_low) | UInt64(event.data_high) << 32
    let events = event.events & ~EPOLLWAKEUP
    switch frame.int(1) {
    case EPOLL_CTL_ADD: try poll.add(frame.int(2), file, events: events, data: data)
    case EPOLL_CTL_MOD: try poll.modify(frame.int(2), file, events: events, data: data)
    case EPOLL_CTL_DEL: try poll.remove(frame.int(2), file)
    default: throw .EINVAL
    }
    return 0
  }

  private static func epollWait(_ frame: SystemCallFrame, until deadline: Instant) throws(Errno) -> Int64 {
    let limit = frame.int(2)
    // EP_MAX_EVENTS: what fits into an int of bytes.
    guard limit > 0, limit <= Int32.max / 12 else { throw .EINVAL }
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard let poll = file.eventPoll else { throw .EINVAL }
    let events: [EventPoll.Event]
    do throws(Errno) {
      events = try poll.wait(limit: Int(limit), until: deadline)
    } catch {
      // epoll_wait(2) fails with EINTR whatever SA_RESTART says (signal(7)).
      throw error == .ERESTARTSYS ? .EINTR : error
    }
    var output: [UInt8] = []
    output.reserveCapacity(events.count * 12)
    for event in events {
      output.append(number: event.events)
      output.append(number: event.data)
    }
    try UserMemory.copyOut(to: frame.a1, output)
    return Int64(events.count)
  }
}
