// What terminals may know and do about processes: the process room's side of `JobControl`.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling

/// The implementation of job control for terminals; `install()` makes it the one in force.
public final class ProcessJobControl: JobControl {
  private init() {}

  @export(interface)
  public static func install() { JobControlPolicy.installed = ProcessJobControl() }

  @export(interface)
  public func caller() -> JobControlCaller? {
    guard let task = Task.running else { return nil }
    let process = task.process
    let refused = task.blocked.union(task.actions.sets().ignored)
    return ProcessTable.state.withLock { _ in
      let group = process.group
      return JobControlCaller(
        group: group.identifier, session: group.session.identifier,
        isSessionLeader: group.session.identifier == process.pid, isOrphanedGroup: group.isOrphaned(),
        controllingTerminal: group.session.terminal, refusedSignals: refused.rawValue)
    }
  }

  @export(interface)
  public func send(signal: Int32, toGroup group: Int32) {
    try? Signals.send(.kernel(signal), toGroup: group)
  }

  @export(interface)
  public func session(ofGroup group: Int32) -> Int32? {
    ProcessTable.state.withLock { $0.identifiers[group]?.group?.session.identifier }
  }

  @export(interface)
  public func setControllingTerminal(_ terminal: ControllingTerminal?, ofSession session: Int32) {
    let former: ControllingTerminal? = ProcessTable.state.withLock { state in
      guard let session = state.identifiers[session]?.session else { return nil }
      let former = session.terminal
      session.terminal = terminal
      return former
    }
    // Its last reference may end here, outside the lock.
    _ = former
  }
}
