// Compaction: free frames that lie scattered become large blocks, because the pages between them move away. Nothing that
// is useful leaves memory for it, and it runs only when a large block is wanted and there is memory enough.
//
//     zone   first                                          end
//            ├──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┤
//            │██│  │██│▒▒│  │██│  │  │██│  │  │▒▒│  │  │██│  │      ██ movable   ▒▒ stays   free
//            └──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┘
//             used pages: from the bottom ──▶   ◀── free frames: from the top; where they meet it ends

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
    for index in 0..<MemoryZone.count { _ = compact(MemoryZone(index: index), until: nil) }
  }

  /// Makes a free block of this order if none is left above the low watermark, now and then. May sleep.
  static func makeBlock(order: Int) {
    guard order > 0, !hasBlock(order) else { return }
    let now = Instant.now().nanoseconds
    guard now >= restsUntil.load(ordering: .relaxed) else { return }
    restsUntil.store(now &+ restingTime, ordering: .relaxed)
    if passes.load(ordering: .relaxed) > 0 {
      passes.subtract(1, ordering: .relaxed)
      return
    }
    if makeBlockNow(order: order) {
      deferral.store(0, ordering: .relaxed)
      return
    }
    let next = min(max(1, deferral.load(ordering: .relaxed) * 2), longestDeferral)
    deferral.store(next, ordering: .relaxed)
    passes.store(next, ordering: .relaxed)
  }

  /// Makes a free block of this order in one of the zones that have memory enough; whether it could. May sleep.
  @export(interface)
  public static func makeBlockNow(order: Int) -> Bool {
    ReclaimCounters.add(1, to: ReclaimCounters.compactions)
    for index in 0..<MemoryZone.count {
      let zone = MemoryZone(index: index)
      // Without free memory there is nowhere to move to: that is reclaim's work.
      guard zone.isOK(order: 0, mark: .low) else { continue }
      if compact(zone, until: order) {
        ReclaimCounters.add(1, to: ReclaimCounters.compactionsDone)
        return true
      }
    }
    ReclaimCounters.add(1, to: ReclaimCounters.compactionsFailed)
    return false
  }

  private static func hasBlock(_ order: Int) -> Bool {
    for index in 0..<MemoryZone.count where MemoryZone(index: index).isOK(order: order, mark: .low) { return true }
    return false
  }

  /// Moves pages of the zone upwards until there is a block of order `wanted`, or the scanners meet.
  ///
  /// - Returns: whether there is such a block.
  private static func compact(_ zone: MemoryZone, until wanted: Int?) -> Bool {
    guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
      return false
    }
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
      if Migration.move(frame, to: target) {
        ReclaimCounters.add(1, to: ReclaimCounters.migrated)
        frame.frame.release(count: Frames.inspectionBias)
        moved += 1
      } else {
        ReclaimCounters.add(1, to: ReclaimCounters.migrationsFailed)
        Frames.release(target)
        giveBack(frame)
      }
      if moved & 63 == 63 {
        FrameAllocator.drainLocalFrames()
        if let wanted, zone.isOK(order: wanted, mark: .low) { return true }
        Thread.checkReschedule()
      }
    }
    FrameAllocator.drainLocalFrames()
    return wanted.map { zone.isOK(order: $0, mark: .low) } ?? true
  }

  private static func giveBack(_ frame: PageFrameNumber) {
    PageLists.putBack(frame, active: frame.frame.flags.contains(.active))
    frame.frame.release(count: Frames.inspectionBias)
  }
}
