// What a process does with each signal. The table is an object of its own because clone(CLONE_SIGHAND) shares it.

import KernelCore
import LinuxABI

/// The disposition of one signal: struct sigaction of the kernel.
public struct SignalAction: Equatable, Sendable {
  /// SIG_DFL, SIG_IGN or the handler's address.
  public var handler: UInt64 = SIG_DFL
  public var flags: UInt64 = 0
  public var restorer: UInt64 = 0
  public var mask = SignalSet()

  public init() {}

  public init(handler: UInt64, flags: UInt64, restorer: UInt64, mask: SignalSet) {
    self.handler = handler
    self.flags = flags
    self.restorer = restorer
    self.mask = mask.subtracting(.unblockable)
  }

  public func has(_ flag: UInt64) -> Bool { flags & flag != 0 }

  /// Whether the signal has no effect at all under this action.
  public func ignores(_ signal: Int32) -> Bool {
    handler == SIG_IGN || (handler == SIG_DFL && DefaultAction.of(signal) == .ignore)
  }

  /// Whether the signal ends the process under this action.
  public func isFatal(_ signal: Int32) -> Bool {
    guard handler == SIG_DFL else { return false }
    let action = DefaultAction.of(signal)
    return action == .terminate || action == .coreDump
  }
}

/// The actions of a process; the lock is taken below `Process.signals`.
public final class SignalActions {
  private let actions: SpinLock<[SignalAction]>

  init(_ actions: [SignalAction] = [SignalAction](repeating: SignalAction(), count: 65)) {
    self.actions = SpinLock(actions, rank: .signalActions)
  }

  /// The action of a valid signal.
  @export(interface)
  public func action(_ signal: Int32) -> SignalAction {
    actions.withLock { $0[Int(signal)] }
  }

  /// Sets the action of a valid signal and returns the one before.
  @export(interface)
  public func exchange(_ signal: Int32, _ action: SignalAction) -> SignalAction {
    actions.withLock { all in
      let old = all[Int(signal)]
      all[Int(signal)] = action
      return old
    }
  }

  /// The action for a delivery, which resets it to the default when SA_RESETHAND says so.
  func takeForDelivery(_ signal: Int32) -> SignalAction {
    actions.withLock { all in
      let action = all[Int(signal)]
      if action.handler > SIG_IGN && action.has(SA_RESETHAND) { all[Int(signal)].handler = SIG_DFL }
      return action
    }
  }

  /// A copy of its own: fork.
  func copy() -> SignalActions { SignalActions(actions.withLock { $0 }) }

  /// What execve(2) keeps: ignored signals stay ignored, caught ones get the default.
  func copyForExec() -> SignalActions {
    SignalActions(
      actions.withLock { all in
        var kept = [SignalAction](repeating: SignalAction(), count: 65)
        for index in all.indices where all[index].handler == SIG_IGN { kept[index].handler = SIG_IGN }
        return kept
      })
  }

  /// The signals which the action of `matching` picks, for /proc/PID/status.
  @export(interface)
  public func sets() -> (ignored: SignalSet, caught: SignalSet) {
    actions.withLock { all in
      var ignored = SignalSet()
      var caught = SignalSet()
      for signal in Int32(1)...64 {
        let handler = all[Int(signal)].handler
        if handler == SIG_IGN { ignored.insert(signal) } else if handler != SIG_DFL { caught.insert(signal) }
      }
      return (ignored, caught)
    }
  }
}
