// One transfer between memory and a block device, as its initiator describes it. It is an object that its owner keeps
// and uses again: its list of memory, its place in queues and its status are in it, so that nothing is allocated between
// the wish and the device, even when memory has run out and the transfer is what will bring some back.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// A transfer to or from a block device.
///
/// From `submit` until its completion it belongs to the device, with the memory that it names.
open class BlockIO {
  public enum Operation: UInt8, Sendable {
    case read, write
    /// What was complete before it was submitted survives a loss of power.
    case flush
    /// The range's contents are not needed any more.
    case discard
    /// The range reads as zeros afterwards.
    case clear

    /// Whether it moves data.
    @inline(__always) public var hasData: Bool { self == .read || self == .write }
  }

  /// Offsets and lengths of transfers are multiples of it.
  public static var sectorSize: Int { 512 }

  public final var operation = Operation.read
  /// The first sector, of 512 bytes whatever the device's blocks are.
  public final var sector: UInt64 = 0
  /// The memory; only for reads and writes.
  public final var memory: SegmentList
  /// The length in sectors of operations without data.
  public final var rangeCount: UInt64 = 0
  /// Why it failed; meaningful when it is complete.
  public final internal(set) var error: Errno?

  private final let completed = Atomic<Bool>(true)
  final var sleeper: Thread?
  /// When it was submitted, for the statistics.
  final var submitted: UInt64 = 0

  // As the head of a request: those that were joined to it, in order, and what they are together.
  final var nextJoined: BlockIO?
  final var lastJoined: BlockIO?
  final var joinedSegments = 0
  final var joinedSectors: UInt64 = 0
  final var joinedCount = 1
  /// A request that it was a part of failed: it is tried again by itself, so that only those who must fail do.
  final var isAlone = false
  /// The next request in a queue or plug.
  final var nextQueued: BlockIO?

  /// - Parameter segments: room for as many pieces of memory.
  @export(interface)
  public init(segments: Int = 0) { memory = SegmentList(capacity: segments) }

  public final var isComplete: Bool {
    @inline(__always) get { completed.load(ordering: .acquiring) }
  }

  /// Sectors that it is about.
  public final var sectorCount: UInt64 {
    operation.hasData ? UInt64(memory.byteCount / Self.sectorSize) : rangeCount
  }

  /// Makes it a new transfer without memory.
  @export(interface)
  public final func prepare(_ operation: Operation, sector: UInt64, count: UInt64 = 0) {
    precondition(isComplete, "a transfer under way is changed")
    self.operation = operation
    self.sector = sector
    rangeCount = count
    memory.removeAll()
    isAlone = false
  }

  /// Called once, when the device has finished, by whichever thread noticed; no lock is held. It may be in an interrupt
  /// handler: it must not sleep. Not called for transfers that a thread waits for (`BlockDevice.perform`).
  open func didComplete() {}

  // MARK: For the queue

  /// It begins its way to the device, as a request of its own.
  final func begin(at time: UInt64) {
    completed.store(false, ordering: .relaxed)
    error = nil
    submitted = time
    becomeRequest()
  }

  /// Makes it a request of its own.
  final func becomeRequest() {
    nextJoined = nil
    lastJoined = nil
    joinedSegments = memory.count
    joinedSectors = sectorCount
    joinedCount = 1
  }

  /// The sector behind the request of which it is the head.
  final var joinedEnd: UInt64 { sector &+ joinedSectors }

  /// Takes in the request with the head `next`, which begins where this one ends.
  final func join(_ next: BlockIO) {
    let tail = lastJoined ?? self
    tail.nextJoined = next
    lastJoined = next.lastJoined ?? next
    joinedSegments += next.joinedSegments
    joinedSectors += next.joinedSectors
    joinedCount += next.joinedCount
  }

  /// The transfer is complete. Its owner may reuse or release it before this returns.
  final func finish(_ failure: Errno?) {
    error = failure
    if let sleeper {
      completed.store(true, ordering: .releasing)
      if sleeper !== Thread.current { sleeper.wake() }
    } else {
      completed.store(true, ordering: .releasing)
      didComplete()
    }
  }
}

/// A chain of transfers that became one request to the device.
extension BlockIO {
  /// Calls `body` for each segment of memory of the request with this head, in order.
  @export(interface)
  public final func forEachSegment(_ body: (MemorySegment) -> Void) {
    var part: BlockIO? = self
    while let io = part {
      for index in 0..<io.memory.count { body(io.memory.segments[index]) }
      part = io.nextJoined
    }
  }

  /// Sectors of the whole request.
  public final var requestSectors: UInt64 { @export(interface) get { joinedSectors } }
}
