// Names of processes: process, thread, group and session identifiers.

import LinuxABI
import Process

/// getpid(2), setpgid(2), setsid(2) and relatives.
public enum IdentityCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(39, "getpid", .full, "") { frame throws(Errno) in Int64(frame.process.pid) },
      SystemCall(109, "setpgid", .full, "pid:i pgid:i") { frame throws(Errno) in
        let pid = frame.int(0)
        guard pid >= 0 else { throw .ESRCH }
        try ProcessTable.setGroup(of: pid, to: frame.int(1), by: frame.process)
        return 0
      },
      SystemCall(110, "getppid", .full, "") { frame throws(Errno) in Int64(frame.process.parentPid) },
      SystemCall(111, "getpgrp", .full, "") { frame throws(Errno) in Int64(frame.process.groupIdentifier) },
      SystemCall(112, "setsid", .full, "") { frame throws(Errno) in
        Int64(try ProcessTable.makeSession(frame.process))
      },
      SystemCall(121, "getpgid", .full, "pid:i") { frame throws(Errno) in
        Int64(try process(frame).groupIdentifier)
      },
      SystemCall(124, "getsid", .full, "pid:i") { frame throws(Errno) in
        Int64(try process(frame).sessionIdentifier)
      },
      SystemCall(186, "gettid", .full, "") { frame throws(Errno) in Int64(frame.task.tid) },
    ]
  }

  /// The process that the first argument names; 0 is the caller's.
  private static func process(_ frame: SystemCallFrame) throws(Errno) -> Process {
    let pid = frame.int(0)
    if pid == 0 { return frame.process }
    guard let process = ProcessTable.process(pid) else { throw .ESRCH }
    return process
  }
}
