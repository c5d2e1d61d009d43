// Odds and ends of one process: prctl(2), arch_prctl(2), personality(2), membarrier(2).

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import Process
import Scheduling
import VirtualMemory

/// prctl(2) and its neighbours.
public enum ControlCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(
        135, "personality", .partial("of the flags only ADDR_NO_RANDOMIZE and ADDR_COMPAT_LAYOUT have an effect"),
        "persona:x"
      ) { frame throws(Errno) in
        let old = frame.process.personality
        if frame.uint(0) != .max { frame.process.personality = frame.uint(0) }
        return Int64(old)
      },
      SystemCall(
        157, "prctl", .partial("no seccomp, no PR_SET_MM, no speculation control"), "option:i a:x b:x c:x d:x", prctl),
      SystemCall(158, "arch_prctl", .partial("no CPUID faulting"), "code:x address:x", archPrctl),
      SystemCall(
        324, "membarrier", .partial("global and private expedited barriers only"), "command:x flags:x cpu:i", membarrier
      ),
    ]
  }

  static func prctl(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let (task, process) = (frame.task, frame.process)
    switch frame.int(0) {
    case PR_SET_PDEATHSIG:
      let signal = frame.int(1)
      guard signal == 0 || SignalSet.isValid(signal) else { throw .EINVAL }
      task.parentDeathSignal = signal
    case PR_GET_PDEATHSIG: try UserMemory.write(task.parentDeathSignal, to: frame.a1)
    case PR_GET_DUMPABLE: return Int64(process.dumpable)
    case PR_SET_DUMPABLE:
      guard frame.a1 <= 1 else { throw .EINVAL }
      process.dumpable = frame.int(1)
    case PR_GET_KEEPCAPS: return frame.credentials.secureBits.contains(.keepCapabilities) ? 1 : 0
    case PR_SET_KEEPCAPS:
      guard frame.a1 <= 1 else { throw .EINVAL }
      task.setCredentials(try frame.credentials.keepingCapabilities(frame.a1 == 1 ? .keep : .drop))
    case PR_GET_TIMING: return 0
    case PR_SET_TIMING: guard frame.a1 == 0 else { throw .EINVAL }
    case PR_SET_NAME: task.commandName = try name(frame.a1)
    case PR_GET_NAME:
      var bytes = task.commandName.bytes
      bytes += [UInt8](repeating: 0, count: 16 - bytes.count)
      for (index, byte) in bytes.enumerated() { try UserMemory.write(byte, to: frame.a1 &+ UInt64(index)) }
    case PR_GET_SECCOMP: return 0
    case PR_CAPBSET_READ: return frame.credentials.bounding.has(try capability(frame.a1)) ? 1 : 0
    case PR_CAPBSET_DROP: task.setCredentials(try frame.credentials.droppingBounding(try capability(frame.a1)))
    case PR_GET_SECUREBITS: return Int64(frame.credentials.secureBits.rawValue)
    case PR_SET_SECUREBITS: task.setCredentials(try frame.credentials.settingSecureBits(frame.uint(1)))
    case PR_GET_TIMERSLACK: return Int64(clamping: task.timerSlack)
    case PR_SET_TIMERSLACK: task.timerSlack = frame.a1 == 0 ? task.defaultTimerSlack : frame.a1
    case PR_SET_CHILD_SUBREAPER: process.isSubreaper = frame.a1 != 0
    case PR_GET_CHILD_SUBREAPER: try UserMemory.write(Int32(process.isSubreaper ? 1 : 0), to: frame.a1)
    case PR_SET_NO_NEW_PRIVS:
      guard frame.a1 == 1, frame.a2 == 0, frame.a3 == 0, frame.a4 == 0 else { throw .EINVAL }
      task.setCredentials(frame.credentials.forbiddingNewPrivileges())
    case PR_GET_NO_NEW_PRIVS:
      guard frame.a1 == 0, frame.a2 == 0, frame.a3 == 0, frame.a4 == 0 else { throw .EINVAL }
      return frame.credentials.noNewPrivileges ? 1 : 0
    case PR_GET_TID_ADDRESS: try UserMemory.write(task.clearChildTid, to: frame.a1)
    case PR_CAP_AMBIENT: return try ambient(frame)
    default: throw .EINVAL
    }
    return 0
  }

  private static func name(_ address: UInt64) throws(Errno) -> ByteString {
    var bytes: [UInt8] = []
    for index in UInt64(0)..<15 {
      let byte = try UserMemory.read(address &+ index, as: UInt8.self)
      if byte == 0 { break }
      bytes.append(byte)
    }
    return ByteString(bytes)
  }

  private static func capability(_ number: UInt64) throws(Errno) -> Capability {
    guard let raw = UInt8(exactly: number), let capability = Capability(rawValue: raw) else { throw .EINVAL }
    return capability
  }

  private static func ambient(_ frame: SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 == 0, frame.a4 == 0 else { throw .EINVAL }
    let credentials = frame.credentials
    switch frame.int(1) {
    case 1: return credentials.ambient.has(try capability(frame.a2)) ? 1 : 0
    case 2: frame.task.setCredentials(try credentials.raisingAmbient(try capability(frame.a2)))
    case 3: frame.task.setCredentials(credentials.loweringAmbient(try capability(frame.a2)))
    case 4:
      guard frame.a2 == 0 else { throw .EINVAL }
      frame.task.setCredentials(credentials.loweringAmbient(nil))
    default: throw .EINVAL
    }
    return 0
  }

  static func archPrctl(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let value = frame.a1
    switch frame.a0 {
    case ARCH_SET_FS:
      guard value < AddressSpace.userLimit else { throw .EPERM }
      frame.task.setThreadPointer(value)
    case ARCH_SET_GS:
      guard value < AddressSpace.userLimit else { throw .EPERM }
      frame.task.setSegmentBase(value)
    case ARCH_GET_FS: try UserMemory.write(frame.task.registerSnapshot.fs_base, to: value)
    case ARCH_GET_GS: try UserMemory.write(frame.task.registerSnapshot.gs_base, to: value)
    case ARCH_GET_CPUID: return 1
    default: throw .EINVAL
    }
    return 0
  }

  // MARK: membarrier(2)

  private static let global: Int32 = 1
  private static let globalExpedited: Int32 = 2
  private static let registerGlobalExpedited: Int32 = 4
  private static let privateExpedited: Int32 = 8
  private static let registerPrivateExpedited: Int32 = 16

  /// Every CPU that runs user code passes through the kernel, which is a full barrier: a kick of each is enough, and
  /// a kernel that runs on one CPU has nobody to tell.
  static func membarrier(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.uint(1) == 0 else { throw .EINVAL }
    switch frame.int(0) {
    case 0:
      return Int64(
        global | globalExpedited | registerGlobalExpedited | privateExpedited | registerPrivateExpedited)
    case registerGlobalExpedited: return 0
    case registerPrivateExpedited:
      frame.process.isRegisteredForBarriers = true
      return 0
    case privateExpedited:
      guard frame.process.isRegisteredForBarriers else { throw .EPERM }
      Barriers.synchronize()
      return 0
    case global, globalExpedited:
      Barriers.synchronize()
      return 0
    default: throw .EINVAL
    }
  }
}
