// What becomes of a system call that a signal interrupted (signal(7), "Interruption of system calls and library
// functions by signal handlers"): pure logic, applied when the signal is delivered, or when it turned out that no
// handler runs.

import LinuxABI

/// The continuation of an interrupted system call.
public enum RestartDecision: Equatable, Sendable {
  /// The result stands as it is.
  case finished
  /// The program sees EINTR.
  case interrupted
  /// The call runs again with its first arguments.
  case again
  /// restart_syscall(2) runs instead, with what is left of the time-out.
  case continued

  /// Whether a result is one of the restart codes, which programs never see.
  @inline(__always)
  public static func isRestartCode(_ result: Int64) -> Bool { result <= -512 && result >= -516 }

  /// - Parameters:
  ///   - result: the value of rax: a negative errno or a restart code.
  ///   - handler: the action of the signal whose handler is about to run, nil when none does.
  public static func after(result: Int64, handler: SignalAction?) -> RestartDecision {
    switch -result {
    case Int64(Errno.ERESTARTSYS.rawValue):
      handler == nil || handler!.has(SA_RESTART) ? .again : .interrupted
    case Int64(Errno.ERESTARTNOINTR.rawValue): .again
    case Int64(Errno.ERESTARTNOHAND.rawValue): handler == nil ? .again : .interrupted
    case Int64(Errno.ERESTART_RESTARTBLOCK.rawValue): handler == nil ? .continued : .interrupted
    default: .finished
    }
  }
}
