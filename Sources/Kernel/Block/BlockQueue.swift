// The queue of a block device: requests in the order in which they came. A transfer that goes on where the last request
// ends becomes a part of it.

import KernelCore
import LinuxABI
import Scheduling

/// What waits for a device and what it has done; guarded by the device.
struct BlockQueue {
  private var first: BlockIO?
  private var last: BlockIO?
  /// A thread hands requests to the driver. No other one does meanwhile: the driver is entered once at a time, and a
  /// request which is answered on the spot does not start the next one from within.
  fileprivate var isRunning = false
  /// The device may have room again: the thread that runs the queue looks again before it leaves.
  fileprivate var mustRunAgain = false
  private var statistics = BlockStatistics()
  private var lastChange: UInt64 = 0

  var isEmpty: Bool { first == nil }

  /// Whether `next` may become a part of the request in front of it.
  static func canJoin(_ request: BlockIO, _ next: BlockIO, _ limits: BlockLimits) -> Bool {
    request.operation == next.operation && request.operation.hasData && request.joinedEnd == next.sector
      && !request.isAlone && !next.isAlone && request.joinedSegments + next.joinedSegments <= limits.segments
      && (request.joinedSectors + next.joinedSectors) * UInt64(BlockIO.sectorSize) <= UInt64(limits.bytes)
  }

  mutating func add(_ io: BlockIO, _ limits: BlockLimits) {
    count(io.submitted, io.joinedCount)
    if let last, Self.canJoin(last, io, limits) {
      last.join(io)
      statistics[io.operation].joined += 1
      return
    }
    append(io)
  }

  private mutating func append(_ request: BlockIO) {
    request.nextQueued = nil
    if let last { last.nextQueued = request } else { first = request }
    last = request
  }

  fileprivate mutating func takeFirst() -> BlockIO? {
    guard let request = first else { return nil }
    first = request.nextQueued
    if first == nil { last = nil }
    request.nextQueued = nil
    return request
  }

  /// The device did not take it.
  fileprivate mutating func putBack(_ request: BlockIO) {
    request.nextQueued = first
    if first == nil { last = request }
    first = request
  }

  /// The device failed a request of several: each is tried by itself.
  fileprivate mutating func separate(_ request: BlockIO) {
    var part: BlockIO? = request
    while let io = part {
      part = io.nextJoined
      io.becomeRequest()
      io.isAlone = true
      append(io)
    }
  }

  // MARK: Statistics

  /// Notes that the number of transfers under way changes now.
  private mutating func count(_ now: UInt64, _ change: Int) {
    let passed = now > lastChange ? now - lastChange : 0
    if statistics.underWay > 0 {
      statistics.busyNanoseconds &+= passed
      statistics.weightedNanoseconds &+= passed &* UInt64(statistics.underWay)
    }
    lastChange = max(now, lastChange)
    statistics.underWay += change
  }

  fileprivate mutating func noteEnd(_ request: BlockIO, at now: UInt64) {
    var part: BlockIO? = request
    count(now, -request.joinedCount)
    while let io = part {
      statistics[io.operation].count += 1
      statistics[io.operation].sectors &+= io.sectorCount
      statistics[io.operation].nanoseconds &+= now > io.submitted ? now - io.submitted : 0
      part = io.nextJoined
    }
  }

  var currentStatistics: BlockStatistics {
    var copy = self
    copy.count(Instant.now().nanoseconds, 0)
    return copy.statistics
  }
}

extension BlockDevice {
  /// Hands waiting requests to the driver until there is none, or the device takes no more.
  final func run() {
    let mayRun = queue.withLock { queue in
      queue.mustRunAgain = true
      if queue.isRunning { return false }
      queue.isRunning = true
      return true
    }
    guard mayRun else { return }
    while let request = takeNext() {
      if start(request) { continue }
      let goesOn = queue.withLock { queue in
        queue.putBack(request)
        if !queue.mustRunAgain { queue.isRunning = false }
        return queue.isRunning
      }
      if !goesOn { return }
    }
  }

  private final func takeNext() -> BlockIO? {
    queue.withLock { queue in
      queue.mustRunAgain = false
      let request = queue.takeFirst()
      if request == nil { queue.isRunning = false }
      return request
    }
  }

  /// The device has answered a request that it took by `start`. Called by the driver, without locks, maybe from `start`
  /// or an interrupt handler.
  @export(interface)
  public final func complete(_ request: BlockIO, _ error: Errno?) {
    if error != nil, request.nextJoined != nil {
      queue.withLock { $0.separate(request) }
    } else {
      let now = Instant.now().nanoseconds
      queue.withLock { $0.noteEnd(request, at: now) }
      var part: BlockIO? = request
      while let io = part {
        // Read before the end: its owner may use it again at once.
        part = io.nextJoined
        io.nextJoined = nil
        io.lastJoined = nil
        io.finish(error)
      }
    }
    run()
  }
}
