// Making, replacing and ending processes: clone, exec, exit, wait.

import CLinuxABI
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// clone(2), execve(2), exit(2), wait(2) and their families.
public enum ProcessCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(56, "clone", .partial("no namespaces"), "flags:C stack:p parent_tid:p child_tid:p tls:x", clone),
      SystemCall(57, "fork", .full, "", fork),
      SystemCall(58, "vfork", .full, "", vfork),
      SystemCall(59, "execve", .partial("no file capabilities"), "path:s argv:V envp:p", execve),
      SystemCall(60, "exit", .full, "status:i", exit),
      SystemCall(61, "wait4", .full, "pid:i status:W options:x rusage:p", wait4),
      SystemCall(218, "set_tid_address", .full, "address:p", setTidAddress),
      SystemCall(231, "exit_group", .full, "status:i", exitGroup),
      SystemCall(247, "waitid", .full, "idtype:i id:i info:p options:x rusage:p", waitid),
      SystemCall(272, "unshare", .partial("files and fs only: no namespaces"), "flags:C", unshare),
      SystemCall(
        322, "execveat", .partial("no file capabilities"), "directory:D path:s argv:V envp:p flags:x", execveat),
      SystemCall(435, "clone3", .partial("no namespaces, no set_tid"), "arguments:p size:u", clone3),
    ]
  }

  // MARK: clone

  static func fork(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try start(CloneRequest(flags: 0, exitSignal: SIGCHLD), frame)
  }

  static func vfork(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try start(CloneRequest(flags: CLONE_VFORK | CLONE_VM, exitSignal: SIGCHLD), frame)
  }

  static func clone(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.a0 & 0xffff_ffff & ~CSIGNAL
    var request = CloneRequest(flags: flags, exitSignal: Int32(truncatingIfNeeded: frame.a0 & CSIGNAL))
    request.stackPointer = frame.a1
    guard flags & CLONE_PIDFD == 0 || flags & CLONE_PARENT_SETTID == 0 else { throw .EINVAL }
    request.parentTidAddress = frame.a2
    request.pidfdAddress = frame.a2
    request.childTidAddress = frame.a3
    request.threadPointer = frame.a4
    return try start(request, frame)
  }

  /// clone3(2): a structure that grows; unknown bytes at its end must be zero.
  static func clone3(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let size = frame.a1
    guard size >= 64 else { throw .EINVAL }
    guard size <= pageSize else { throw .E2BIG }
    let known = UInt64(MemoryLayout<linux_clone_args>.size)
    var words = [UInt64](repeating: 0, count: Int(known / 8))
    for index in 0..<Int(min(size, known) / 8) {
      words[index] = try UserMemory.read(frame.a0 &+ UInt64(index) * 8, as: UInt64.self)
    }
    if size > known {
      for byte in try UserMemory.copyIn(from: frame.a0 &+ known, count: Int(size - known)) where byte != 0 {
        throw .E2BIG
      }
    }
    let (flags, exitSignal, stack, stackSize) = (words[0], words[4], words[5], words[6])
    guard flags & ~(0xffff_ffff | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP) == 0 else { throw .EINVAL }
    // The child's exit signal has a field of its own here (clone(2), "Equivalence").
    guard flags & (CSIGNAL | CLONE_DETACHED) == 0, exitSignal & ~CSIGNAL == 0 else { throw .EINVAL }
    guard (stack == 0) == (stackSize == 0) else { throw .EINVAL }
    guard exitSignal == 0 || flags & (CLONE_THREAD | CLONE_PARENT) == 0 else { throw .EINVAL }
    guard words[8] == 0, words[9] == 0 else { throw .EINVAL }
    var request = CloneRequest(flags: flags, exitSignal: Int32(truncatingIfNeeded: exitSignal))
    let (top, overflow) = stack.addingReportingOverflow(stackSize)
    guard !overflow else { throw .EINVAL }
    request.stackPointer = top
    request.childTidAddress = words[2]
    request.parentTidAddress = words[3]
    request.pidfdAddress = words[1]
    request.threadPointer = words[7]
    return try start(request, frame)
  }

  private static func start(_ request: CloneRequest, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    guard request.flags & CLONE_PIDFD != 0 else { return Int64(try frame.task.clone(request) { _ throws(Errno) in }) }
    // clone(2): a pidfd is for a process, and shares its pointer with CLONE_PARENT_SETTID in the old call.
    guard request.flags & CLONE_THREAD == 0 else { throw .EINVAL }
    let address = request.pidfdAddress
    return Int64(
      try frame.task.clone(request) { child throws(Errno) in
        let descriptors = frame.descriptors
        let descriptor = try descriptors.insert(ProcessFile(child.process, flags: []), closeOnExec: true)
        do throws(Errno) {
          try UserMemory.write(descriptor, to: address)
        } catch {
          try? descriptors.close(descriptor)
          throw error
        }
      })
  }

  /// unshare(2).
  static func unshare(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.a0
    // What a single thread shares with nobody is unshared already.
    let known = CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM
    guard flags & ~known == 0 else { throw .EINVAL }
    if flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) != 0 {
      guard frame.process.tasks.count == 1 else { throw .EINVAL }
    }
    frame.task.unshare(files: flags & CLONE_FILES != 0, directories: flags & CLONE_FS != 0)
    return 0
  }

  // MARK: exec

  static func execve(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let name = try UserMemory.copyInString(from: frame.a0, limit: 4096)
    let path = try PathWalk.resolve(name, by: frame.caller)
    try execute(path, name, argv: frame.a1, envp: frame.a2, frame)
    return 0
  }

  static func execveat(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(4)
    guard flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 else { throw .EINVAL }
    let name = try UserMemory.copyInString(from: frame.a1, limit: 4096)
    var options: WalkOptions = []
    if flags & AT_EMPTY_PATH != 0 { options.insert(.emptyPath) }
    if flags & AT_SYMLINK_NOFOLLOW != 0 { options.insert(.noFollow) }
    let descriptor = frame.int(0)
    let isAbsolute = name.bytes.first == 0x2f
    var base: Path?
    if descriptor != AT_FDCWD && !isAbsolute { base = try frame.descriptors.get(descriptor).file.path }
    let path = try PathWalk.resolve(name, from: base, options, by: frame.caller)
    guard path.inode.kind != .symbolicLink else { throw .ELOOP }
    // The name under which a script's interpreter can open it again (execveat(2), NOTES).
    var fileName = name
    if base != nil {
      var text = TextBuffer()
      text.append("/dev/fd/")
      text.append(signed: Int64(descriptor))
      if !name.isEmpty {
        text.append("/")
        text.append(name)
      }
      fileName = text.byteString
    }
    try execute(path, fileName, argv: frame.a2, envp: frame.a3, frame)
    return 0
  }

  private static func execute(
    _ path: Path, _ name: ByteString, argv: UInt64, envp: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) {
    let limit = ProgramArguments.limit(stackLimit: frame.process.limit(.stack))
    let arguments = try ProgramArguments(argumentVector: argv, environmentVector: envp, limit: limit)
    try frame.task.execute(path, fileName: name, arguments)
  }

  // MARK: exit

  static func exit(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    frame.task.requestExit(code: frame.int(0))
    return 0
  }

  static func exitGroup(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    frame.process.beginExit(.exited(frame.int(0)))
    return 0
  }

  static func setTidAddress(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    frame.task.clearChildTid = frame.a0
    return Int64(frame.task.tid)
  }

  // MARK: wait

  static func wait4(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let pid = frame.int(0)
    let options = frame.int(2)
    let known = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WALL | __WCLONE
    guard options & ~known == 0 else { throw .EINVAL }
    // wait4(2): -INT_MIN is no group.
    guard pid != .min else { throw .ESRCH }
    let target: WaitRequest.Target
    switch pid {
    case ..<(-1): target = .group(-pid)
    case -1: target = .any
    case 0: target = .group(frame.process.groupIdentifier)
    default: target = .process(pid)
    }
    guard
      let result = try frame.process.wait(
        WaitRequest(target: target, options: options | WEXITED, thread: frame.task.tid))
    else { return 0 }
    if frame.a1 != 0 { try UserMemory.write(result.status.rawValue, to: frame.a1) }
    if frame.a3 != 0 { try UserMemory.write(result.usage.abi, to: frame.a3) }
    return Int64(result.pid)
  }

  static func waitid(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let identifier = frame.int(1)
    var options = frame.int(3)
    let known = WNOHANG | WEXITED | WSTOPPED | WCONTINUED | WNOWAIT | __WNOTHREAD | __WALL | __WCLONE
    guard options & ~known == 0, options & (WEXITED | WSTOPPED | WCONTINUED) != 0 else { throw .EINVAL }
    let target: WaitRequest.Target
    var mustNotBlock = false
    switch frame.int(0) {
    case P_ALL: target = .any
    case P_PID:
      guard identifier > 0 else { throw .EINVAL }
      target = .process(identifier)
    case P_PGID:
      guard identifier >= 0 else { throw .EINVAL }
      target = .group(identifier == 0 ? frame.process.groupIdentifier : identifier)
    case P_PIDFD:
      guard let file = try frame.descriptors.get(identifier).file as? ProcessFile else { throw .EBADF }
      // A process that was waited for has no parent; its number may be another one's by now.
      guard file.process.parentPid != 0 else { throw .ECHILD }
      target = .process(file.process.pid)
      // pidfd_open(2), PIDFD_NONBLOCK.
      mustNotBlock = file.flags.contains(.nonBlocking) && options & WNOHANG == 0
      if mustNotBlock { options |= WNOHANG }
    default: throw .EINVAL
    }
    let result = try frame.process.wait(WaitRequest(target: target, options: options, thread: frame.task.tid))
    if result == nil && mustNotBlock { throw .EAGAIN }
    if frame.a2 != 0 {
      var info = linux_siginfo()
      if let result {
        let (code, status) = result.status.childCode
        let information = SignalInformation.child(
          signal: SIGCHLD, code: code, pid: result.pid, uid: result.uid, status: status, userTicks: 0, systemTicks: 0)
        info = information.abi
      }
      // Linux stores the fields that waitid defines and leaves the rest of siginfo_t alone.
      try UserMemory.write((info.signo, info.error, info.code), to: frame.a2)
      try UserMemory.write((info.fields.0, UInt32(truncatingIfNeeded: info.fields.1)), to: frame.a2 &+ 16)
    }
    if let result, frame.a4 != 0 { try UserMemory.write(result.usage.abi, to: frame.a4) }
    return 0
  }
}
