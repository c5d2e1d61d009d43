// Sets of signals, as programs pass them: bit n-1 stands for signal n.

import LinuxABI

/// A set of the 64 signals.
public struct SignalSet: Equatable, Sendable {
  /// Bit n-1 is signal n (sigset_t of the kernel).
  public var rawValue: UInt64

  @inline(__always)
  public init(rawValue: UInt64 = 0) { self.rawValue = rawValue }

  @inline(__always)
  public init(_ signal: Int32) { rawValue = SignalSet.bit(signal) }

  @inline(__always)
  static func bit(_ signal: Int32) -> UInt64 { signal < 1 || signal > 64 ? 0 : 1 << UInt64(signal &- 1) }

  /// Whether `signal` is the number of a signal.
  @inline(__always)
  public static func isValid(_ signal: Int32) -> Bool { signal >= 1 && signal <= 64 }

  public var isEmpty: Bool { rawValue == 0 }
  /// The lowest signal of the set, 0 when it is empty.
  public var lowest: Int32 { rawValue == 0 ? 0 : Int32(rawValue.trailingZeroBitCount) + 1 }

  @inline(__always)
  public func contains(_ signal: Int32) -> Bool { rawValue & SignalSet.bit(signal) != 0 }
  @inline(__always)
  public mutating func insert(_ signal: Int32) { rawValue |= SignalSet.bit(signal) }
  @inline(__always)
  public mutating func remove(_ signal: Int32) { rawValue &= ~SignalSet.bit(signal) }

  public func union(_ other: SignalSet) -> SignalSet { SignalSet(rawValue: rawValue | other.rawValue) }
  public func intersection(_ other: SignalSet) -> SignalSet { SignalSet(rawValue: rawValue & other.rawValue) }
  public func subtracting(_ other: SignalSet) -> SignalSet { SignalSet(rawValue: rawValue & ~other.rawValue) }

  /// Every signal.
  public static var all: SignalSet { SignalSet(rawValue: .max) }
  /// SIGKILL and SIGSTOP: never blocked, caught or ignored.
  public static var unblockable: SignalSet { SignalSet(rawValue: 1 << 8 | 1 << 18) }
  /// The signals whose default action stops the process.
  public static var stops: SignalSet { SignalSet(rawValue: 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21) }
  /// Faults of the program itself: delivered before all others, as their frame must show the faulting state.
  static var synchronous: SignalSet { SignalSet(rawValue: 1 << 10 | 1 << 6 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30) }
}

/// What a signal does when the program has not said otherwise (signal(7)).
public enum DefaultAction: Sendable {
  case ignore, terminate, coreDump, stop, `continue`

  /// The default action of `signal`.
  public static func of(_ signal: Int32) -> DefaultAction {
    switch signal {
    case SIGCHLD, SIGURG, SIGWINCH: .ignore
    case SIGCONT: .continue
    case SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU: .stop
    case SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS: .coreDump
    default: .terminate
    }
  }
}
