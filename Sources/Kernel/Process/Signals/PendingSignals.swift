// The queue of signals that wait for delivery, of one thread or of a whole process. Standard signals (1–31) are pending
// once or not at all; real-time signals queue in order of arrival (POSIX.1 2.4.1, signal(7) "Queueing and delivery").

import DataStructures
import KernelCore
import LinuxABI

/// A signal in a queue, which the user of the process that gets it pays for and has counted (RLIMIT_SIGPENDING).
final class QueuedSignal {
  let information: SignalInformation
  private let payer: KernelAccount
  fileprivate var links = ListLinks<QueuedSignal>()
  static var kernelBytes: Int { 128 }

  init(_ information: SignalInformation, payer: KernelAccount) {
    self.information = information
    self.payer = payer
    payer.charge(Self.kernelBytes)
    payer.countSignals(1)
  }

  deinit {
    payer.release(Self.kernelBytes)
    payer.countSignals(-1)
  }
}

private enum SignalQueue: ListMembership {
  static func links(of signal: QueuedSignal) -> ListLinks<QueuedSignal> { signal.links }
  static func setLinks(_ links: ListLinks<QueuedSignal>, of signal: QueuedSignal) { signal.links = links }
}

/// Signals on their way.
public struct PendingSignals {
  /// The signals that are pending. One that has no entry in the queue came when there was no room for what is known of it.
  public private(set) var set = SignalSet()
  /// Made for the first entry: most threads never have one.
  private var queue: IntrusiveList<SignalQueue>?

  public init() {}

  /// How many signals are queued.
  public var count: Int { queue?.count ?? 0 }
  /// What they cost the kernel, in bytes.
  var heldBytes: Int { count * QueuedSignal.kernelBytes }

  /// What became of a signal that was to be queued.
  public enum Outcome: Equatable, Sendable {
    case queued
    /// A standard signal that was pending already: the first one's information stands.
    case merged
    /// There was no room: only the fact that the signal is pending is kept, as Linux does.
    case recordedWithoutInformation
    /// There was no room, and the sender gets EAGAIN, because real-time signals queue.
    case refused
  }

  /// Queues a signal. `room` says whether memory and limits of `payer` allow another entry. Without it a standard signal or one of
  /// kill(2) becomes pending without its cause.
  mutating func add(_ information: SignalInformation, payer: KernelAccount, room: Bool) -> Outcome {
    let signal = information.signal
    if signal < SIGRTMIN, set.contains(signal) { return .merged }
    guard room else {
      if signal >= SIGRTMIN && information.code != SI_USER { return .refused }
      set.insert(signal)
      return .recordedWithoutInformation
    }
    set.insert(signal)
    let queue = self.queue ?? IntrusiveList()
    self.queue = queue
    queue.append(QueuedSignal(information, payer: payer))
    return .queued
  }

  /// Takes the next signal of `wanted`: faults first, then the lowest number, then the oldest.
  public mutating func take(from wanted: SignalSet) -> SignalInformation? {
    let available = set.intersection(wanted)
    if available.isEmpty { return nil }
    let faults = available.intersection(.synchronous)
    return take(faults.isEmpty ? available.lowest : faults.lowest)
  }

  private mutating func take(_ signal: Int32) -> SignalInformation? {
    guard let entry = entry(of: signal, from: queue?.first) else {
      set.remove(signal)
      return SignalInformation(signal: signal, code: SI_USER)
    }
    if signal < SIGRTMIN || self.entry(of: signal, from: queue?.next(after: entry)) == nil { set.remove(signal) }
    queue?.remove(entry)
    return entry.information
  }

  /// The first entry of `signal` at `start` or behind. O(n).
  private func entry(of signal: Int32, from start: QueuedSignal?) -> QueuedSignal? {
    var entry = start
    while let candidate = entry, candidate.information.signal != signal { entry = queue?.next(after: candidate) }
    return entry
  }

  /// Forgets all entries of `signals`.
  public mutating func remove(_ signals: SignalSet) {
    if set.intersection(signals).isEmpty { return }
    set = set.subtracting(signals)
    queue?.visit { entry in
      if signals.contains(entry.information.signal) { queue?.remove(entry) }
      return true
    }
  }

  /// Forgets everything.
  public mutating func removeAll() { self = PendingSignals() }
}
