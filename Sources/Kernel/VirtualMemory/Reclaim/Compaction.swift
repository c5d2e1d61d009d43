// Compaction: free frames that lie scattered become large blocks, because the pages between them move away. No more leaves
// memory for a block than the block holds, and it runs only when one is wanted.
//
//     zone   first                                          end
//            ├──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┤
//            │██│  │██│▒▒│  │██│  │  │██│  │  │▒▒│  │  │██│  │      ██ movable   ▒▒ stays   free
//            └──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┘
//             one block: the range with the fewest used pages      └─────▶──────┘  whose pages go to holes elsewhere
//             all of it: used pages from the bottom ──▶   ◀── free frames from the top; where they meet it ends

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

public enum Compaction {
  private static let isRunning = Atomic<Bool>(false)
  /// After failures so many requests are passed over, and how many are left.
  private static let deferral = Atomic<Int>(0)
  private static let passes = Atomic<Int>(0)
  /// In nanoseconds of the monotonic clock: many who would like a large block make do without one.
  private static let restsUntil = Atomic<UInt64>(0)
  private static var restingTime: UInt64 { 100_000_000 }
  private static var longestDeferral: Int { 64 }

  /// Compacts all memory (/proc/sys/vm/compact_memory). May sleep.
  @export(interface)
  public static func compactAll() {
    for index in 0..<MemoryZone.count { compact(MemoryZone(index: index)) }
  }

  /// Makes a free block of this order on a node if none is left above the low watermark, now and then. May sleep.
  static func makeBlock(order: Int, on node: Int) {
    guard order > 0, !hasBlock(order, node) else { return }
    let now = Instant.now().nanoseconds
    guard now >= restsUntil.load(ordering: .relaxed) else { return }
    restsUntil.store(now &+ restingTime, ordering: .relaxed)
    if passes.load(ordering: .relaxed) > 0 {
      passes.subtract(1, ordering: .relaxed)
      return
    }
    if makeBlockNow(order: order, on: node) {
      deferral.store(0, ordering: .relaxed)
      return
    }
    let next = min(max(1, deferral.load(ordering: .relaxed) * 2), longestDeferral)
    deferral.store(next, ordering: .relaxed)
    passes.store(next, ordering: .relaxed)
  }

  /// Makes the pool of huge pages have `count` pages, as far as that is possible: where free memory lies scattered pages
  /// are moved, and only when there is too little of it they leave memory. May sleep, and take long.
  @export(interface)
  public static func resizeHugePagePool(to count: Int) {
    HugePagePool.resize(to: count)
    var failures = 0
    while HugePagePool.persistent < count, failures < 4, !Thread.current.hasFatalSignal {
      let before = HugePagePool.persistent
      if !makeBlockNow(order: HugePagePool.order), Shrinkers.reclaim(frames: HugePagePool.framesPerPage) == 0 {
        failures += 1
      }
      HugePagePool.resize(to: count)
      failures = HugePagePool.persistent > before ? 0 : failures + 1
    }
  }

  /// Makes a free block in one of the zones, or of a node's zones; false when there is too little memory for it, or
  /// pages that cannot be moved are in the way. May sleep.
  @export(interface)
  public static func makeBlockNow(order: Int, on node: Int? = nil) -> Bool {
    ReclaimCounters.add(1, to: ReclaimCounters.compactions)
    for index in 0..<MemoryZone.count {
      let zone = MemoryZone(index: index)
      if let node, zone.node != node { continue }
      // Memory that is full leaves no room to move to, nor for the block: as much goes as the block itself needs.
      let room = zone.level(.high) + 1 << order - zone.free
      if room > 0 { _ = Reclaim.system.reclaim(frames: room, on: zone.node) }
      FrameAllocator.drainLocalFrames()
      guard zone.isOK(order: 0, mark: .low) else { continue }
      if emptyRange(of: zone, order: order) {
        ReclaimCounters.add(1, to: ReclaimCounters.compactionsDone)
        return true
      }
    }
    ReclaimCounters.add(1, to: ReclaimCounters.compactionsFailed)
    return false
  }

  private static func hasBlock(_ order: Int, _ node: Int) -> Bool {
    for index in 0..<MemoryZone.count {
      let zone = MemoryZone(index: index)
      if zone.node == node, zone.isOK(order: order, mark: .low) { return true }
    }
    return false
  }

  // MARK: One block

  /// Makes a block by moving what is in the range that has the least, of those which hold nothing that has to stay.
  /// When something stays all the same, a few others are tried.
  ///
  /// - Returns: whether there is such a block.
  private static func emptyRange(of zone: MemoryZone, order: Int) -> Bool {
    guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
      return false
    }
    defer { isRunning.store(false, ordering: .releasing) }
    FrameAllocator.drainLocalFrames()
    var start = zone.first
    for _ in 0..<4 {
      if zone.isOK(order: order, mark: .low) { return true }
      guard let range = zone.cheapestRange(order: order, from: start) else { return false }
      empty(range, count: 1 << order, zone)
      FrameAllocator.drainLocalFrames()
      start = range.advanced(by: 1 << order)
      Thread.checkReschedule()
    }
    return zone.isOK(order: order, mark: .low)
  }

  /// Moves all pages of a range to frames elsewhere. Until the end all frames that are free, or become so, are held:
  /// no allocation gets one of them meanwhile.
  private static func empty(_ range: PageFrameNumber, count: Int, _ zone: MemoryZone) {
    let end = range.advanced(by: count)
    var held = FreeFrames(from: range)
    zone.isolateFreeFrames(&held, from: range, count: count)
    var position = range
    while let frame = zone.nextMovableFrame(from: position, below: end) {
      position = frame.advanced(by: 1)
      // Those just taken are among them: they are on no list.
      guard PageLists.isolate(frame) else { continue }
      ReclaimCounters.add(1, to: ReclaimCounters.migrationScanned)
      guard let target = try? Frames.allocate() else { return giveBack(frame) }
      guard move(frame, to: target) else { return }
      frame.frame.release(count: Frames.inspectionBias - 1)
      held.add(frame)
    }
  }

  /// Moves the page in a frame that was isolated; if it has to stay, the frame is given back.
  private static func move(_ frame: PageFrameNumber, to target: PageFrameNumber) -> Bool {
    if Migration.move(frame, to: target) {
      ReclaimCounters.add(1, to: ReclaimCounters.migrated)
      return true
    }
    ReclaimCounters.add(1, to: ReclaimCounters.migrationsFailed)
    Frames.release(target)
    giveBack(frame)
    return false
  }

  // MARK: All of a zone

  /// Moves pages of the zone upwards until the scanners meet.
  private static func compact(_ zone: MemoryZone) {
    guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else { return }
    defer { isRunning.store(false, ordering: .releasing) }
    FrameAllocator.drainLocalFrames()
    var free = FreeFrames(from: zone.end)
    var position = zone.first
    var moved = 0
    while let frame = zone.nextMovableFrame(from: position, below: free.scanned) {
      position = frame.advanced(by: 1)
      ReclaimCounters.add(1, to: ReclaimCounters.migrationScanned)
      guard PageLists.isolate(frame) else { continue }
      if free.count == 0 { _ = zone.isolateFreeFrames(&free, count: PageBatch.capacity, above: position) }
      guard let target = free.take() else {
        giveBack(frame)
        break
      }
      guard move(frame, to: target) else { continue }
      frame.frame.release(count: Frames.inspectionBias)
      moved += 1
      if moved & 63 == 63 {
        FrameAllocator.drainLocalFrames()
        Thread.checkReschedule()
      }
    }
    FrameAllocator.drainLocalFrames()
  }

  static func giveBack(_ frame: PageFrameNumber) {
    PageLists.putBack(frame, active: frame.frame.flags.contains(.active))
    frame.frame.release(count: Frames.inspectionBias)
  }
}
