// What the kernel keeps for each user, in bytes of its own objects: open files, areas, timers, locks, names in memory.
//
// An object is charged when it is made and released when it ends; neither can fail, so that a charge needs no path of its
// own for errors. A user who holds more than the limit is refused at the next system call that could make more
// (`KernelMemory.admit`). The superuser has no limit: what root makes is bounded by the memory alone.

import Synchronization

/// The account of a user. Users whose numbers agree modulo `slots` share one.
public struct KernelAccount: Sendable {
  private let slot: UInt16

  /// How many accounts there are.
  static var slots: Int { 1024 }

  /// User 0's account, which is the kernel's own as well.
  public static var root: KernelAccount { KernelAccount(slot: 0) }

  private init(slot: UInt16) { self.slot = slot }

  @inline(__always)
  public init(user: UInt32) {
    // Only user 0 has the account without a limit.
    slot = user == 0 ? 0 : UInt16(truncatingIfNeeded: 1 + user % UInt32(Self.slots - 1))
  }

  /// What a user other than root may hold, in bytes. Set at boot, to a quarter of the memory.
  public nonisolated(unsafe) static var limit = Int.max

  /// Signals that wait in the queues of the user's processes (RLIMIT_SIGPENDING).
  public var queuedSignals: Int { @export(interface) get { Self.signals[slot].load(ordering: .relaxed) } }

  /// The signals in queues have become more or, below zero, fewer.
  @export(interface)
  public func countSignals(_ change: Int) { Self.signals[slot].add(change, ordering: .relaxed) }

  /// Descriptors that are in messages of the user's which nobody has received (RLIMIT_NOFILE bounds them).
  public var descriptorsInFlight: Int { @export(interface) get { Self.inFlight[slot].load(ordering: .relaxed) } }

  /// The descriptors in messages have become more or, below zero, fewer.
  @export(interface)
  public func countDescriptorsInFlight(_ change: Int) { Self.inFlight[slot].add(change, ordering: .relaxed) }

  /// How many accounts are beyond the limit.
  private static let exceeded = Atomic<Int>(0)
  private static let table = Table()
  private static let signals = Table()
  private static let inFlight = Table()

  /// Bytes that are charged.
  public var bytes: Int { @export(interface) get { Self.table[slot].load(ordering: .relaxed) } }

  /// Whether the user may not have more.
  public var isExceeded: Bool { @export(interface) get { slot != 0 && bytes > Self.limit } }

  /// Charges an object of `count` bytes.
  @export(interface)
  public func charge(_ count: Int) {
    let (old, new) = Self.table[slot].add(count, ordering: .relaxed)
    if slot != 0, (old <= Self.limit) != (new <= Self.limit) { Self.noteExceeded(new > old ? 1 : -1) }
  }

  private static func noteExceeded(_ change: Int) {
    exceeded.add(change, ordering: .relaxed)
    if exceeded.load(ordering: .relaxed) == 0 { AdmissionGate.open(.account) }
    // Another one may have come meanwhile.
    if exceeded.load(ordering: .relaxed) != 0 { AdmissionGate.close(.account) }
  }

  /// An object of `count` bytes has ended.
  @inline(__always)
  public func release(_ count: Int) { charge(-count) }

  /// One counter for each account, never freed.
  @safe private final class Table: Sendable {
    // SAFETY: allocated and initialised here for every slot, and never freed.
    private let counters: UnsafeMutablePointer<Atomic<Int>>

    init() {
      unsafe counters = .allocate(capacity: KernelAccount.slots)
      for index in 0..<KernelAccount.slots { unsafe (counters + index).initialize(to: Atomic(0)) }
    }

    subscript(slot: UInt16) -> Atomic<Int> {
      @inline(__always) _read { yield unsafe counters[Int(slot)] }
    }
  }
}
