// Transfers that are allocated in advance: a thread that writes pages out because memory has run out waits for one
// instead of making one.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// A fixed number of transfers.
public final class BlockIOPool {
  private let free: SpinLock<[BlockIO]>
  private let returned = WaitQueue()
  /// Room for pieces of memory in each.
  public let segments: Int

  @export(interface)
  public init(count: Int, segments: Int) {
    self.segments = segments
    free = SpinLock((0..<count).map { _ in BlockIO(segments: segments) }, rank: .device)
  }

  /// A transfer for the caller alone.
  ///
  /// - Locks: sleeps while all are in use.
  @export(interface)
  public func take() -> BlockIO {
    if let io = tryTake() { return io }
    var taken: BlockIO?
    // Uninterruptible and without a deadline: it cannot fail.
    try? returned.wait(.uninterruptible, exclusive: true) {
      taken = tryTake()
      return taken != nil
    }
    guard let taken else { panic("a wait without an end ended") }
    return taken
  }

  /// A transfer, if one is free.
  @export(interface)
  public func tryTake() -> BlockIO? { free.withLock { $0.popLast() } }

  /// Gives a transfer back that is complete.
  @export(interface)
  public func give(_ io: BlockIO) {
    precondition(io.isComplete, "a transfer under way is given back")
    free.withLock { $0.append(io) }
    returned.wakeOne()
  }
}
