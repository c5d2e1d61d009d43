// How much a socket may have under way (SO_SNDBUF): bytes of its messages in queues of receivers. Messages hold the budget, not
// the socket, so a socket that has been closed is gone while others still read what it sent.

import KernelCore
import Scheduling
import Synchronization

/// What a socket may have in others' queues.
public final class SendBudget {
  private let used = Atomic<Int>(0)
  private let bound: Atomic<Int>
  /// Woken when a writer may go on.
  public let writable = WaitQueue()

  @export(interface)
  public init(limit: Int) { bound = Atomic(limit) }

  /// SO_SNDBUF.
  public var limit: Int {
    @export(interface) get { bound.load(ordering: .relaxed) }
    @export(interface) set {
      bound.store(newValue, ordering: .relaxed)
      writable.wakeAll()
    }
  }

  /// Bytes under way (SIOCOUTQ).
  public var usedBytes: Int { @export(interface) get { used.load(ordering: .sequentiallyConsistent) } }
  /// Whether another message may be made: the one that crosses the limit is still made.
  public var hasRoom: Bool { @export(interface) get { usedBytes < limit } }
  /// What poll(2) calls writable: a quarter at most is used, so that a writer that wakes can send more than one message.
  public var isWritable: Bool { @export(interface) get { usedBytes <= limit / 4 } }

  func charge(_ size: Int) { used.add(size, ordering: .sequentiallyConsistent) }

  func release(_ size: Int) {
    used.subtract(size, ordering: .sequentiallyConsistent)
    if isWritable { writable.wakeAll() }
  }
}
