// Descriptors that stand for signals and processes: signalfd(2), pidfd_open(2) and relatives.

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// signalfd4(2), pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).
public enum DescriptorCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(282, "signalfd", .full, "fd:d mask:G size:u") { frame throws(Errno) in
        try signalDescriptor(frame, flags: 0)
      },
      SystemCall(289, "signalfd4", .full, "fd:d mask:G size:u flags:x") { frame throws(Errno) in
        try signalDescriptor(frame, flags: frame.int(3))
      },
      SystemCall(
        424, "pidfd_send_signal", .partial("not for descriptors of /proc/PID"), "pidfd:d signal:S info:p flags:x",
        sendSignal),
      SystemCall(434, "pidfd_open", .full, "pid:i flags:x", open),
      SystemCall(438, "pidfd_getfd", .full, "pidfd:d fd:d flags:x", getDescriptor),
    ]
  }

  private static func signalDescriptor(_ frame: SystemCallFrame, flags: Int32) throws(Errno) -> Int64 {
    guard flags & ~(O_CLOEXEC | O_NONBLOCK) == 0, frame.a2 == 8 else { throw .EINVAL }
    let mask = SignalSet(rawValue: try UserMemory.read(frame.a1, as: UInt64.self))
    let descriptor = frame.int(0)
    if descriptor != -1 {
      let use = try frame.descriptors.get(descriptor)
      guard let file = use.file as? SignalFile else { throw .EINVAL }
      file.setMask(mask)
      return Int64(descriptor)
    }
    let file = SignalFile(mask, flags: flags & O_NONBLOCK != 0 ? .nonBlocking : [])
    return Int64(try frame.descriptors.insert(file, closeOnExec: flags & O_CLOEXEC != 0))
  }

  static func open(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (pid, flags) = (frame.int(0), frame.int(1))
    guard pid > 0, flags & ~O_NONBLOCK == 0 else { throw .EINVAL }
    guard let process = ProcessTable.process(pid) else {
      // A thread that leads no group.
      throw ProcessTable.task(pid) == nil ? .ESRCH : .EINVAL
    }
    let file = ProcessFile(process, flags: flags & O_NONBLOCK != 0 ? .nonBlocking : [])
    return Int64(try frame.descriptors.insert(file, closeOnExec: true))
  }

  /// The process of the pidfd that is the first argument.
  ///
  /// - Throws: EBADF.
  static func process(_ frame: SystemCallFrame) throws(Errno) -> Process {
    guard let file = try frame.descriptors.get(frame.int(0)).file as? ProcessFile else { throw .EBADF }
    return file.process
  }

  static func sendSignal(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(3) == 0 else { throw .EINVAL }
    let signal = frame.int(1)
    let process = try process(frame)
    guard signal == 0 || SignalSet.isValid(signal) else { throw .EINVAL }
    var information = SignalInformation.user(signal, pid: frame.process.pid, uid: frame.credentials.realUser)
    if frame.a2 != 0 {
      let abi = try UserMemory.read(frame.a2, as: linux_siginfo.self)
      guard abi.signo == signal else { throw .EINVAL }
      information = SignalInformation(abi, signal: signal)
      if (information.code >= 0 || information.code == SI_TKILL) && process !== frame.process { throw .EPERM }
    }
    guard !process.hasEnded else { throw .ESRCH }
    guard Signals.maySend(signal, from: frame.task, to: process) else { throw .EPERM }
    if signal != 0, !Signals.send(information, to: process) { throw .EAGAIN }
    return 0
  }

  static func getDescriptor(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(2) == 0 else { throw .EINVAL }
    guard let target = try process(frame).anyTask else { throw .ESRCH }
    guard frame.task.mayAccess(target, as: .real) else { throw .EPERM }
    let use = try target.sharedDescriptors.getFromOutside(frame.int(1))
    return Int64(try frame.descriptors.insert(use.file, closeOnExec: true))
  }
}
