// What /proc/PID/status shows of signals, and of the terminal: the state under its lock, copied out.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Scheduling
import Synchronization

extension Task {
  /// The signals that wait for this thread and for its process, the mask, and how many are queued for
  /// processes of its user.
  public var signalSnapshot: (own: SignalSet, shared: SignalSet, blocked: SignalSet, queued: Int) {
    @export(interface) get {
      process.signals.withLock { state in
        (pending.set, state.shared.set, blocked, KernelAccount(user: sharedCredentials.realUser).queuedSignals)
      }
    }
  }
}

extension Process {
  /// The controlling terminal of the session.
  public var controllingTerminal: ControllingTerminal? {
    @export(interface) get { ProcessTable.state.withLock { _ in group.session.terminal } }
  }
}

extension OutOfMemoryKiller {
  /// Kills since boot.
  public var killCount: UInt64 { @export(interface) get { kills.load(ordering: .relaxed) } }
}
