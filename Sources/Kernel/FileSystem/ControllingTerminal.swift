// Where terminals and sessions meet. Terminals are drivers and sessions belong to processes, and neither room sees the
// other: the terminal driver subclasses `ControllingTerminal`, the process room implements `JobControl` and installs it.
// A session holds its controlling terminal; a terminal remembers the session and the foreground group by number only.

import LinuxABI

/// A terminal, as far as sessions and job control see it.
open class ControllingTerminal {
  public init() {}

  /// The device number as stat(2) encodes it: tty_nr of /proc/PID/stat.
  open var deviceNumber: UInt64 { get { 0 } }

  /// The foreground process group, 0 when there is none.
  open var foregroundGroup: Int32 { get { 0 } }

  /// The leader of the session that owned this terminal has ended, or gave it up (TIOCNOTTY): the foreground group gets
  /// SIGHUP and SIGCONT and the terminal is free for another session. The session has forgotten the terminal already.
  open func sessionEnded() {}
}

/// What a terminal has to know of the task that uses it.
public struct JobControlCaller {
  public var group: Int32
  public var session: Int32
  public var isSessionLeader: Bool
  /// Nobody outside the group but in its session could continue it: it is not stopped by the terminal (POSIX 11.1.4).
  public var isOrphanedGroup: Bool
  /// Of the caller's session.
  public var controllingTerminal: ControllingTerminal?
  /// Signals that the caller blocks or ignores: bit n-1 for signal n.
  public var refusedSignals: UInt64

  @export(interface)
  public init(
    group: Int32, session: Int32, isSessionLeader: Bool, isOrphanedGroup: Bool,
    controllingTerminal: ControllingTerminal?, refusedSignals: UInt64
  ) {
    self.group = group
    self.session = session
    self.isSessionLeader = isSessionLeader
    self.isOrphanedGroup = isOrphanedGroup
    self.controllingTerminal = controllingTerminal
    self.refusedSignals = refusedSignals
  }
}

/// What Process does for terminals. Called without any lock of the terminal held.
public protocol JobControl: AnyObject {
  /// The current task, nil in a kernel thread (which no terminal ever stops).
  func caller() -> JobControlCaller?
  /// Sends a kernel signal to every process of a group.
  func send(signal: Int32, toGroup group: Int32)
  /// The session of a process group, nil when there is no such group.
  func session(ofGroup group: Int32) -> Int32?
  /// Gives the session its controlling terminal, or takes it away (nil).
  func setControllingTerminal(_ terminal: ControllingTerminal?, ofSession session: Int32)
}

/// The process room's answer, installed at boot. Before that nobody controls anything.
public enum JobControlPolicy {
  public nonisolated(unsafe) static var installed: (any JobControl)?
}
