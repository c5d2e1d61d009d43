// The queue of signals that wait for delivery, of one thread or of a whole process. Standard signals (1–31) are pending
// once or not at all; real-time signals queue in order of arrival (POSIX.1 2.4.1, signal(7) "Queueing and delivery").

import LinuxABI

/// Signals on their way.
public struct PendingSignals {
  /// The signals of which at least one is in the queue.
  public private(set) var set = SignalSet()
  private var queue: [SignalInformation] = []

  public init() {}

  public var count: Int { queue.count }

  /// What became of a signal that was to be queued.
  public enum Outcome: Equatable, Sendable {
    case queued
    /// A standard signal that was pending already: the first one's information stands.
    case merged
    /// The limit was reached: only the fact that the signal is pending is kept, as Linux does for kill(2).
    case recordedWithoutInformation
    /// The limit was reached, and the sender must be told (sigqueue(3) of a real-time signal): EAGAIN.
    case refused
  }

  /// Queues a signal. `room` says whether the sender's quota (RLIMIT_SIGPENDING) allows another entry.
  public mutating func add(_ information: SignalInformation, room: Bool) -> Outcome {
    let signal = information.signal
    if signal < SIGRTMIN {
      if set.contains(signal) { return .merged }
    } else if !room {
      // A real-time signal of kill(2) is never refused: it becomes pending without its cause.
      if information.code < 0 && information.code != SI_TKILL { return .refused }
      if set.contains(signal) { return .recordedWithoutInformation }
      set.insert(signal)
      queue.append(SignalInformation(signal: signal, code: SI_USER))
      return .recordedWithoutInformation
    }
    set.insert(signal)
    queue.append(information)
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
    guard let index = queue.firstIndex(where: { $0.signal == signal }) else { return nil }
    let information = queue.remove(at: index)
    if signal < SIGRTMIN || !queue.contains(where: { $0.signal == signal }) { set.remove(signal) }
    return information
  }

  /// Forgets all entries of `signals`.
  public mutating func remove(_ signals: SignalSet) {
    if set.intersection(signals).isEmpty { return }
    queue.removeAll { signals.contains($0.signal) }
    set = set.subtracting(signals)
  }

  /// Forgets everything.
  public mutating func removeAll() { self = PendingSignals() }
}
