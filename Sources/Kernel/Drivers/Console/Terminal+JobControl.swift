// Job control (POSIX 11.1.2–11.1.4): which process group may read from the terminal, write to it, and change it, and
// which session it belongs to.

import FileSystem
import KernelCore
import LinuxABI

extension Terminal {
  /// A read by a background group stops it with SIGTTIN; one that cannot be stopped gets EIO.
  final func checkBackgroundRead() throws(Errno) {
    guard let caller = backgroundCaller() else { return }
    if caller.refuses(SIGTTIN) || caller.isOrphanedGroup { throw .EIO }
    JobControlPolicy.installed?.send(signal: SIGTTIN, toGroup: caller.group)
    throw .ERESTARTSYS
  }

  /// With TOSTOP, a write by a background group stops it with SIGTTOU, unless it refuses that signal.
  final func checkBackgroundWrite() throws(Errno) {
    guard state.withLock({ $0.discipline.settings.local.contains(.TOSTOP) }) else { return }
    try checkChange()
  }

  /// A background group that changes the terminal is stopped with SIGTTOU, unless it refuses that signal.
  final func checkChange() throws(Errno) {
    guard let caller = backgroundCaller(), !caller.refuses(SIGTTOU) else { return }
    if caller.isOrphanedGroup { throw .EIO }
    JobControlPolicy.installed?.send(signal: SIGTTOU, toGroup: caller.group)
    throw .ERESTARTSYS
  }

  /// The calling task if this is its controlling terminal and it is not in the foreground.
  private func backgroundCaller() -> JobControlCaller? {
    guard let caller = JobControlPolicy.installed?.caller(), caller.controllingTerminal === self else { return nil }
    let group = foregroundGroup
    return group > 0 && caller.group != group ? caller : nil
  }

  // MARK: Ownership

  /// Gives the terminal to a session whose leader's group is in the foreground at first. For the first process, whose
  /// session gets the console before it runs.
  @export(interface)
  public final func attach(session: Int32, group: Int32) {
    state.withLock { state in
      state.session = session
      state.group = group
    }
    JobControlPolicy.installed?.setControllingTerminal(self, ofSession: session)
  }

  /// open(2) of a terminal by a session leader without one makes it the controlling terminal, unless O_NOCTTY.
  final func adoptOnOpen() {
    guard let caller = JobControlPolicy.installed?.caller(), caller.isSessionLeader, caller.controllingTerminal == nil
    else { return }
    if claim(caller) { JobControlPolicy.installed?.setControllingTerminal(self, ofSession: caller.session) }
  }

  /// TIOCSCTTY. Taking a terminal away from another session (argument 1) is not offered.
  final func acquireAsControlling() throws(Errno) {
    guard let policy = JobControlPolicy.installed, let caller = policy.caller() else { throw .EPERM }
    if caller.isSessionLeader, caller.controllingTerminal === self { return }
    guard caller.isSessionLeader, caller.controllingTerminal == nil, claim(caller) else { throw .EPERM }
    policy.setControllingTerminal(self, ofSession: caller.session)
  }

  private func claim(_ caller: JobControlCaller) -> Bool {
    state.withLock { state in
      guard state.session == 0, !state.isHungUp else { return false }
      state.session = caller.session
      state.group = caller.group
      return true
    }
  }

  /// TIOCNOTTY.
  final func giveUp() throws(Errno) {
    guard let policy = JobControlPolicy.installed, let caller = policy.caller(), caller.controllingTerminal === self
    else { throw .ENOTTY }
    // Only the leader's call frees the terminal; a session shares one notion of its terminal, so a member cannot
    // leave alone, and its call has no effect.
    guard caller.isSessionLeader else { return }
    policy.setControllingTerminal(nil, ofSession: caller.session)
    sessionEnded()
  }

  /// TIOCSPGRP (tcsetpgrp(3)).
  final func setForegroundGroup(_ group: Int32) throws(Errno) {
    try checkChange()
    guard let policy = JobControlPolicy.installed, let caller = policy.caller(), caller.controllingTerminal === self,
      state.withLock({ $0.session == caller.session })
    else { throw .ENOTTY }
    guard group >= 0 else { throw .EINVAL }
    guard let session = policy.session(ofGroup: group) else { throw .ESRCH }
    guard session == caller.session else { throw .EPERM }
    state.withLock { $0.group = group }
  }

  /// TIOCGPGRP and TIOCGSID answer only for the caller's controlling terminal.
  final func requireControlling() throws(Errno) {
    guard JobControlPolicy.installed?.caller()?.controllingTerminal === self else { throw .ENOTTY }
  }
}

extension JobControlCaller {
  func refuses(_ signal: Int32) -> Bool { refusedSignals & (1 << UInt64(signal - 1)) != 0 }
}
