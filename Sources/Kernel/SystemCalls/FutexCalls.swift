// futex(2) and the robust lists.

import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// futex(2), set_robust_list(2), get_robust_list(2).
public enum FutexCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(
        202, "futex", .partial("no priority-inheritance futexes"),
        "address:p operation:x value:u timeout:p address2:p value3:x", futex),
      SystemCall(273, "set_robust_list", .full, "head:p size:u") { frame throws(Errno) in
        guard frame.a1 == 24 else { throw .EINVAL }
        frame.task.robustList = frame.a0
        return 0
      },
      SystemCall(274, "get_robust_list", .full, "tid:i head:p size:p") { frame throws(Errno) in
        let tid = frame.int(0)
        var task = frame.task
        if tid != 0 && tid != task.tid {
          guard let other = ProcessTable.task(tid) else { throw .ESRCH }
          guard frame.task.mayAccess(other, as: .real) else { throw .EPERM }
          task = other
        }
        try UserMemory.write(UInt64(24), to: frame.a2)
        try UserMemory.write(task.robustList, to: frame.a1)
        return 0
      },
    ]
  }

  static func futex(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let encoded = frame.int(1)
    let operation = encoded & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    let scope: Futex.Scope = encoded & FUTEX_PRIVATE_FLAG != 0 ? .private : .shared
    let isRealtime = encoded & FUTEX_CLOCK_REALTIME != 0
    if isRealtime && operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET { throw .ENOSYS }
    let count = Int(max(frame.int(2), 0))
    switch operation {
    case FUTEX_WAIT, FUTEX_WAIT_BITSET:
      return try wait(frame, isBitset: operation == FUTEX_WAIT_BITSET, isRealtime: isRealtime, scope)
    case FUTEX_WAKE:
      // Linux wakes one waiter even when asked for none.
      return Int64(try Futex.wake(address: frame.a0, count: max(count, 1), bitset: .max, scope: scope))
    case FUTEX_WAKE_BITSET:
      return Int64(try Futex.wake(address: frame.a0, count: max(count, 1), bitset: frame.uint(5), scope: scope))
    case FUTEX_REQUEUE, FUTEX_CMP_REQUEUE:
      guard frame.int(2) >= 0, frame.int(3) >= 0 else { throw .EINVAL }
      let isComparing = operation == FUTEX_CMP_REQUEUE
      return Int64(
        try Futex.requeue(
          from: frame.a0, wakeCount: count, to: frame.a4, moveCount: Int(frame.int(3)),
          expected: isComparing ? frame.uint(5) : nil, scope: scope))
    case FUTEX_WAKE_OP:
      return Int64(
        try Futex.wakeOperation(
          first: frame.a0, firstCount: max(count, 1), second: frame.a4, secondCount: Int(max(frame.int(3), 0)),
          operation: frame.uint(5), scope: scope))
    default: throw .ENOSYS
    }
  }

  /// FUTEX_WAIT has a relative time-out, FUTEX_WAIT_BITSET an absolute one (futex(2)).
  private static func wait(
    _ frame: SystemCallFrame, isBitset: Bool, isRealtime: Bool, _ scope: Futex.Scope
  ) throws(Errno) -> Int64 {
    let bitset = isBitset ? frame.uint(5) : UInt32.max
    let (address, expected) = (frame.a0, frame.uint(2))
    guard frame.a3 != 0 else {
      try Futex.wait(address: address, expected: expected, bitset: bitset, until: .never, scope: scope)
      return 0
    }
    let time = try Timespec.read(frame.a3)
    let deadline: Instant
    if !isBitset {
      deadline = Instant.now().advanced(by: time)
    } else {
      deadline = isRealtime ? Clock.instant(realtime: time) : Clock.instant(monotonic: time)
    }
    return try wait(address, expected, bitset, deadline, scope, frame.task)
  }

  /// A wait with a time-out that a signal interrupts goes on with what is left of it.
  private static func wait(
    _ address: UInt64, _ expected: UInt32, _ bitset: UInt32, _ deadline: Instant, _ scope: Futex.Scope, _ task: Task
  ) throws(Errno) -> Int64 {
    do throws(Errno) {
      try Futex.wait(address: address, expected: expected, bitset: bitset, until: deadline, scope: scope)
      return 0
    } catch {
      guard error == .ERESTARTSYS else { throw error }
      task.restart = { task throws(Errno) in try wait(address, expected, bitset, deadline, scope, task) }
      throw .ERESTART_RESTARTBLOCK
    }
  }
}
