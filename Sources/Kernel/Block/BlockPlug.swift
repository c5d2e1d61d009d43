// A plug holds transfers back for a moment, so that those of one operation which come in any order are joined before the
// device sees the first. Pull it before you wait for any of them.

import KernelCore
import LinuxABI
import Scheduling

/// Transfers to one device that are about to be submitted together.
public struct BlockPlug: ~Copyable {
  private let device: BlockDevice
  /// By operation and sector.
  private var first: BlockIO?
  private var last: BlockIO?
  private var count = 0
  /// More than that are not held back.
  public static var capacity: Int { 64 }

  @export(interface)
  public init(_ device: BlockDevice) { self.device = device }

  /// Adds a transfer; it may be under way from now on.
  @export(interface)
  public mutating func add(_ io: BlockIO) {
    io.begin(at: Instant.now().nanoseconds)
    insert(io)
    count += 1
    if count >= Self.capacity { pull() }
  }

  private mutating func insert(_ io: BlockIO) {
    if let tail = last, !Self.precedes(io, tail) {
      io.nextQueued = nil
      tail.nextQueued = io
      last = io
      return
    }
    var previous: BlockIO?
    var next = first
    while let request = next, !Self.precedes(io, request) {
      previous = request
      next = request.nextQueued
    }
    io.nextQueued = next
    if let previous { previous.nextQueued = io } else { first = io }
    if next == nil { last = io }
  }

  private static func precedes(_ a: BlockIO, _ b: BlockIO) -> Bool {
    a.operation != b.operation ? a.operation.rawValue < b.operation.rawValue : a.sector < b.sector
  }

  /// Submits what was held back.
  @export(interface)
  public mutating func pull() {
    var next = first
    first = nil
    last = nil
    count = 0
    device.submitSorted(&next)
  }

  deinit {
    // A copy of the list's head: the plug itself is gone.
    var next = first
    device.submitSorted(&next)
  }
}

extension BlockDevice {
  /// Adds a list of transfers that are linked as a queue.
  final func submitSorted(_ list: inout BlockIO?) {
    guard list != nil else { return }
    while let io = list {
      list = io.nextQueued
      io.nextQueued = nil
      if let error = check(io) { io.finish(error) } else { queue.withLock { $0.add(io, limits) } }
    }
    run()
  }
}
