// Whether system calls that make kernel objects may begin without a closer look (`KernelMemory` of VirtualMemory): one load on
// the way into each call. Rooms below note their reasons to look here.

import Synchronization

/// The gate in front of operations that make kernel objects. It stands open while nothing is noted.
public enum AdmissionGate {
  /// Why it is closed.
  public enum Reason: UInt32, Sendable {
    /// Memory runs short.
    case shortage = 1
    /// A user has more kernel objects than it may (`KernelAccount`).
    case account = 2
    /// A test makes allocations fail.
    case injection = 4
  }

  private static let reasons = Atomic<UInt32>(0)

  @inline(__always)
  public static var isClosed: Bool { reasons.load(ordering: .relaxed) != 0 }

  @export(interface)
  public static func close(_ reason: Reason) { reasons.bitwiseOr(reason.rawValue, ordering: .relaxed) }

  @export(interface)
  public static func open(_ reason: Reason) { reasons.bitwiseAnd(~reason.rawValue, ordering: .relaxed) }
}
