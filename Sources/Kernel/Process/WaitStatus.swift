// The status word of wait(2), and its translation to the fields of waitid(2).

import LinuxABI

/// How a process changed state, encoded as wait(2) reports it.
public struct WaitStatus: Equatable, Sendable {
  public var rawValue: Int32

  public init(rawValue: Int32) { self.rawValue = rawValue }

  /// exit(2) with the low eight bits of `code`.
  public static func exited(_ code: Int32) -> WaitStatus { WaitStatus(rawValue: (code & 0xff) << 8) }
  /// Ended by `signal`. Apus writes no core files, so the core bit (0x80) stays clear.
  public static func killed(_ signal: Int32) -> WaitStatus { WaitStatus(rawValue: signal & 0x7f) }
  public static func stopped(_ signal: Int32) -> WaitStatus { WaitStatus(rawValue: (signal & 0xff) << 8 | 0x7f) }
  public static var continued: WaitStatus { WaitStatus(rawValue: 0xffff) }

  /// si_code and si_status of waitid(2) and SIGCHLD.
  public var childCode: (code: Int32, status: Int32) {
    if rawValue == 0xffff { return (CLD_CONTINUED, SIGCONT) }
    if rawValue & 0xff == 0x7f { return (CLD_STOPPED, rawValue >> 8 & 0xff) }
    if rawValue & 0x7f == 0 { return (CLD_EXITED, rawValue >> 8 & 0xff) }
    return (rawValue & 0x80 != 0 ? CLD_DUMPED : CLD_KILLED, rawValue & 0x7f)
  }
}
