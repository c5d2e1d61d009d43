// Signals: actions, masks, sending, waiting.

import CLinuxABI
import Identity
import KernelCore
import LinuxABI
import Machine
import Process
import Scheduling
import VirtualMemory

/// rt_sigaction(2), rt_sigprocmask(2), kill(2) and relatives.
public enum SignalCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(13, "rt_sigaction", .full, "signal:S action:p old:p size:u", sigaction),
      SystemCall(14, "rt_sigprocmask", .full, "how:i set:G old:p size:u", sigprocmask),
      SystemCall(15, "rt_sigreturn", .full, "") { frame throws(Errno) in frame.task.returnFromSignal() },
      SystemCall(34, "pause", .full, "") { frame throws(Errno) in
        do throws(Errno) { try Thread.sleep { false } } catch { throw .ERESTARTNOHAND }
        return 0
      },
      SystemCall(62, "kill", .full, "pid:i signal:S", kill),
      SystemCall(127, "rt_sigpending", .full, "set:p size:u") { frame throws(Errno) in
        guard frame.a1 <= 8 else { throw .EINVAL }
        let pending = frame.task.pendingSignals().rawValue
        if frame.a1 == 8 { try UserMemory.write(pending, to: frame.a0) }
        return 0
      },
      SystemCall(128, "rt_sigtimedwait", .full, "set:G info:p timeout:T size:u", sigtimedwait),
      SystemCall(129, "rt_sigqueueinfo", .full, "pid:i signal:S info:p", sigqueueinfo),
      SystemCall(130, "rt_sigsuspend", .full, "set:G size:u", sigsuspend),
      SystemCall(131, "sigaltstack", .full, "stack:p old:p", sigaltstack),
      SystemCall(200, "tkill", .full, "tid:i signal:S") { frame throws(Errno) in
        try sendToThread(frame, group: nil, tid: frame.int(0), signal: frame.int(1))
      },
      SystemCall(219, "restart_syscall", .full, "") { frame throws(Errno) in
        guard let restart = frame.task.restart else { throw .EINTR }
        frame.task.restart = nil
        return try restart(frame.task)
      },
      SystemCall(234, "tgkill", .full, "pid:i tid:i signal:S") { frame throws(Errno) in
        guard frame.int(0) > 0 else { throw .EINVAL }
        return try sendToThread(frame, group: frame.int(0), tid: frame.int(1), signal: frame.int(2))
      },
      SystemCall(297, "rt_tgsigqueueinfo", .full, "pid:i tid:i signal:S info:p", tgsigqueueinfo),
    ]
  }

  // MARK: Actions and masks

  static func sigaction(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 == 8 else { throw .EINVAL }
    let signal = frame.int(0)
    var new: SignalAction?
    if frame.a1 != 0 {
      let abi = try UserMemory.read(frame.a1, as: linux_sigaction.self)
      new = SignalAction(
        handler: abi.handler, flags: abi.flags & ~SA_UNSUPPORTED, restorer: abi.restorer,
        mask: SignalSet(rawValue: abi.mask))
    }
    guard SignalSet.isValid(signal) else { throw .EINVAL }
    if new != nil, SignalSet.unblockable.contains(signal) { throw .EINVAL }
    let old = new.map { frame.task.setAction(signal, $0) } ?? frame.task.actions.action(signal)
    if frame.a2 != 0 {
      let abi = linux_sigaction(handler: old.handler, flags: old.flags, restorer: old.restorer, mask: old.mask.rawValue)
      try UserMemory.write(abi, to: frame.a2)
    }
    return 0
  }

  static func sigprocmask(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 == 8 else { throw .EINVAL }
    let old = frame.task.blocked
    if frame.a1 != 0 {
      let set = SignalSet(rawValue: try UserMemory.read(frame.a1, as: UInt64.self))
      switch frame.int(0) {
      case SIG_BLOCK: frame.task.setMask(old.union(set))
      case SIG_UNBLOCK: frame.task.setMask(old.subtracting(set))
      case SIG_SETMASK: frame.task.setMask(set)
      default: throw .EINVAL
      }
    }
    if frame.a2 != 0 { try UserMemory.write(old.rawValue, to: frame.a2) }
    return 0
  }

  static func sigaltstack(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let task = frame.task
    let old = task.alternateStack
    let isOnStack = old.contains(task.registerSnapshot.rsp)
    if frame.a0 != 0 {
      let new = try UserMemory.read(frame.a0, as: linux_sigaltstack.self)
      if isOnStack { throw .EPERM }
      let mode = new.flags & ~SS_AUTODISARM
      // SS_ONSTACK is accepted and means nothing (sigaltstack(2), BUGS).
      guard mode == SS_DISABLE || mode == SS_ONSTACK || mode == 0 else { throw .EINVAL }
      if mode == SS_DISABLE {
        task.alternateStack = AlternateStack()
      } else {
        guard new.size >= MINSIGSTKSZ else { throw .ENOMEM }
        task.alternateStack = AlternateStack(base: new.sp, size: new.size, flags: new.flags & SS_AUTODISARM)
      }
    }
    if frame.a1 != 0 {
      var flags = old.flags
      if old.size == 0 { flags |= SS_DISABLE } else if isOnStack { flags |= SS_ONSTACK }
      try UserMemory.write(
        linux_sigaltstack(sp: old.base, flags: flags, padding: 0, size: old.size), to: frame.a1)
    }
    return 0
  }

  static func sigsuspend(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a1 == 8 else { throw .EINVAL }
    let mask = SignalSet(rawValue: try UserMemory.read(frame.a0, as: UInt64.self))
    return try frame.task.withTemporaryMask(mask) { () throws(Errno) in
      do throws(Errno) { try Thread.sleep { false } } catch { throw .ERESTARTNOHAND }
      return 0
    }
  }

  static func sigtimedwait(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 == 8 else { throw .EINVAL }
    let set = SignalSet(rawValue: try UserMemory.read(frame.a0, as: UInt64.self))
    var deadline = Instant.never
    if frame.a2 != 0 { deadline = Instant.now().advanced(by: try Timespec.read(frame.a2)) }
    let information = try frame.task.waitForSignal(of: set, until: deadline)
    if frame.a1 != 0 { try UserMemory.write(information.abi, to: frame.a1) }
    return Int64(information.signal)
  }

  // MARK: Sending

  static func kill(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (pid, signal) = (frame.int(0), frame.int(1))
    guard signal == 0 || SignalSet.isValid(signal) else { throw .EINVAL }
    let information = SignalInformation.user(signal, pid: frame.process.pid, uid: frame.credentials.realUser)
    switch pid {
    case 1...:
      guard let process = ProcessTable.process(pid) else { throw .ESRCH }
      guard Signals.maySend(signal, from: frame.task, to: process) else { throw .EPERM }
      if signal != 0 && !Signals.send(information, to: process) { throw .EAGAIN }
    case 0: try Signals.send(information, to: .group(frame.process.groupIdentifier), by: frame.task)
    case -1: try Signals.send(information, to: .everybodyElse, by: frame.task)
    case .min: throw .ESRCH
    default: try Signals.send(information, to: .group(-pid), by: frame.task)
    }
    return 0
  }

  private static func sendToThread(
    _ frame: SystemCallFrame, group: Int32?, tid: Int32, signal: Int32, _ information: SignalInformation? = nil
  ) throws(Errno) -> Int64 {
    guard tid > 0, signal == 0 || SignalSet.isValid(signal) else { throw .EINVAL }
    guard let task = ProcessTable.task(tid), group == nil || task.process.pid == group else { throw .ESRCH }
    guard Signals.maySend(signal, from: frame.task, to: task.process) else { throw .EPERM }
    if signal == 0 { return 0 }
    let information =
      information
      ?? .user(signal, pid: frame.process.pid, uid: frame.credentials.realUser, code: SI_TKILL)
    if !Signals.send(information, to: task) { throw .EAGAIN }
    return 0
  }

  /// Reads a siginfo_t that the caller made up.
  ///
  /// - Throws: EAGAIN when there is no memory; EPERM when it pretends to come from the kernel or kill(2), and goes to another process.
  private static func information(
    _ address: UInt64, signal: Int32, target: Int32, _ frame: SystemCallFrame
  ) throws(Errno) -> SignalInformation {
    // What is queued takes memory, for which a shortage is a full queue.
    do throws(Errno) { try KernelMemory.admit() } catch { throw .EAGAIN }
    let information = SignalInformation(try UserMemory.read(address, as: linux_siginfo.self), signal: signal)
    if (information.code >= 0 || information.code == SI_TKILL) && target != frame.process.pid { throw .EPERM }
    return information
  }

  static func sigqueueinfo(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (pid, signal) = (frame.int(0), frame.int(1))
    let information = try information(frame.a2, signal: signal, target: pid, frame)
    guard signal == 0 || SignalSet.isValid(signal) else { throw .EINVAL }
    guard let process = ProcessTable.process(pid) else { throw .ESRCH }
    guard Signals.maySend(information.signal, from: frame.task, to: process) else { throw .EPERM }
    if information.signal != 0 && !Signals.send(information, to: process) { throw .EAGAIN }
    return 0
  }

  static func tgsigqueueinfo(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (pid, tid, signal) = (frame.int(0), frame.int(1), frame.int(2))
    guard pid > 0, tid > 0 else { throw .EINVAL }
    let information = try information(frame.a3, signal: signal, target: pid, frame)
    return try sendToThread(frame, group: pid, tid: tid, signal: signal, information)
  }
}
