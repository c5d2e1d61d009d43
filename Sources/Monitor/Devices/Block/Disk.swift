// A disk: a virtio block device (virtio 1.2, section 5.2) over a file or block device of the host.
//
// What the host can answer from its page cache is answered within the kick; what has to wait for its disk, and flushes and
// discards, are done by a few threads, so that the CPU that asked goes on meanwhile. Requests are answered in any order: a
// guest that wants one after another waits for the first.

import CDevices
import CUserMachine
import Glibc

/// A disk of the guest.
public final class Disk: VirtioDevice, @unchecked Sendable {
  private struct State {
    var queue: Virtqueue?
    /// Requests for the threads, a ring: from `first` on.
    var waiting: [DiskRequest] = []
    var first = 0
    /// Requests that were handed to the threads and are not answered yet.
    var underWay = 0
    var threads = 0
    var idleThreads = 0
  }

  static let mostThreads = 4
  /// A whole ring of requests, each with pages for a chain: more than that the guest cannot have under way.
  private static let mostUnderWay = Int(Devices.queueSize)
  /// The most pieces of data in a request: leaves room for a second request of that size in a ring.
  static let largestSegmentCount = 126

  public let file: HostDisk
  private let identifier: [UInt8]
  private let condition = HostCondition()
  private var state = State()
  private var interrupt: @Sendable () -> Void = {}

  /// - Parameter identifier: the disk's serial number as the guest sees it; at most 20 bytes are used.
  public init(_ file: HostDisk, identifier: String) {
    self.file = file
    let text = Array(identifier.utf8.prefix(DiskRequest.identifierLength))
    self.identifier = text + [UInt8](repeating: 0, count: DiskRequest.identifierLength - text.count)
  }

  // MARK: The device

  public var kind: UInt32 { 2 }
  public var queueCount: Int { 1 }

  /// Segment limit, read-only, block size, flush, discard, write zeroes (virtio 1.2, section 5.2.3).
  public var features: UInt64 {
    1 << 32 | 1 << 2 | (file.isReadOnly ? 1 << 5 : 1 << 13 | 1 << 14) | 1 << 6 | 1 << 9
  }

  /// struct virtio_blk_config (virtio 1.2, section 5.2.4).
  public var configuration: [UInt8] {
    let longestRange = UInt32(1 << 22)  // sectors: 2 GiB
    return bytesOf(file.byteCount / UInt64(DiskRequest.sectorSize)) + bytesOf(UInt32(0))
      + bytesOf(UInt32(Self.largestSegmentCount)) + bytesOf(UInt32(0)) + bytesOf(UInt32(DiskRequest.sectorSize))
      // Topology: blocks of 4 KiB are best.
      + [3, 0] + bytesOf(UInt16(8)) + bytesOf(UInt32(0)) + [1, 0] + bytesOf(UInt16(1))
      + bytesOf(longestRange) + bytesOf(UInt32(DiskRequest.largestDiscard)) + bytesOf(UInt32(8))
      + bytesOf(longestRange) + bytesOf(UInt32(DiskRequest.largestDiscard)) + [1, 0, 0, 0]
  }

  public func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) { self.interrupt = interrupt }

  public func setQueue(_ index: Int, _ queue: Virtqueue?) {
    // The threads write to the memory of requests: the guest gets it back when they have finished.
    drain()
    condition.withLock { state.queue = queue }
  }

  public func shutDown() { drain() }

  /// Waits until the threads have answered everything. Rare, so it looks from time to time.
  private func drain() { while condition.withLock({ state.underWay > 0 }) { usleep(500) } }

  public func kick(_ index: Int) {
    while let (queue, chain) = condition.withLock({ next() }) {
      var request: DiskRequest?
      var status = DiskRequest.Status.good
      do throws(DiskRequest.Refusal) { request = try DiskRequest(chain, disk: file) } catch { status = error.status }
      if let request {
        guard let result = request.perform(on: file, identifier: identifier, .atOnce) else {
          handOver(request)
          continue
        }
        status = result
      }
      condition.withLock { answer(queue, chain, status, written: request?.written(status) ?? 1) }
    }
  }

  /// The next request, with the lock held. A guest that offers more than fits its ring lies.
  private func next() -> (Virtqueue, DescriptorChain)? {
    guard let queue = state.queue else { return nil }
    guard state.underWay < Self.mostUnderWay else {
      queue.giveUp()
      return nil
    }
    return queue.next().map { (queue, $0) }
  }

  private func answer(_ queue: Virtqueue, _ chain: DescriptorChain, _ status: DiskRequest.Status, written: Int) {
    let room = chain.writableCount
    // A request without room for a status is answered all the same, so that its descriptors come back.
    if room > 0 { chain.write([status.rawValue], at: room - 1) }
    queue.complete(chain, written: min(written, room))
  }

  // MARK: The threads

  private func handOver(_ request: DiskRequest) {
    let mustStart = condition.withLock { () -> Bool in
      state.waiting.append(request)
      state.underWay += 1
      if state.idleThreads > 0 {
        condition.wakeOne()
        return false
      }
      guard state.threads < Self.mostThreads else { return false }
      state.threads += 1
      return true
    }
    guard mustStart, !HostThread.start(UM_THREAD_DISK, { [self] in serve() }) else { return }
    let isAlone = condition.withLock { () -> Bool in
      state.threads -= 1
      return state.threads == 0
    }
    // Slow, but right.
    if isAlone { while serveOne(waits: false) {} }
  }

  private func serve() -> Never { while true { _ = serveOne(waits: true) } }

  /// Performs one request; false when there is none and it is not to be waited for.
  private func serveOne(waits: Bool) -> Bool {
    let taken = condition.withLock { () -> DiskRequest? in
      while state.first == state.waiting.count {
        guard waits else { return nil }
        state.idleThreads += 1
        condition.wait()
        state.idleThreads -= 1
      }
      let request = state.waiting[state.first]
      state.first += 1
      if state.first == state.waiting.count || state.first == Self.mostUnderWay {
        state.waiting.removeFirst(state.first)
        state.first = 0
      }
      return request
    }
    guard let request = taken else { return false }
    let status = request.perform(on: file, identifier: identifier, .waiting) ?? .failed
    condition.withLock {
      if let queue = state.queue { answer(queue, request.chain, status, written: request.written(status)) }
      state.underWay -= 1
    }
    interrupt()
    return true
  }
}
