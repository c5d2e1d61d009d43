// kswapd: a thread that frees memory before somebody has to wait for it.
//
//     free frames   ── high ──────────  kswapd rests
//                   ── low  ──────────  allocations note the shortage; kswapd is woken on the way to user mode
//                   ── min  ──────────  ordinary allocations fail, and their callers free memory themselves
//
// When it finds nothing to free it rests for a while: what has to be done then (the out-of-memory policy) is for those who
// need the memory.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

public enum Kswapd {
  private static let queue = WaitQueue()
  private static let isWanted = Atomic<Bool>(false)
  private static let isStarted = Atomic<Bool>(false)
  /// In nanoseconds of the monotonic clock.
  private static let restsUntil = Atomic<UInt64>(0)
  private static var restingTime: UInt64 { 20_000_000 }

  /// Starts the thread. Called once, at boot.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func start() throws(Errno) {
    try Thread.spawn(name: "kswapd0") { run() }
    FrameAllocator.install(Waker())
    isStarted.store(true, ordering: .releasing)
  }

  /// What the allocator calls when memory runs short.
  private final class Waker: ReclaimWaker {
    func memoryIsShort(node: Int, order: Int) { _ = Kswapd.wake() }
  }

  /// Asks for memory to be freed soon; false if the thread does not run, or has found nothing lately.
  static func wake() -> Bool {
    guard isStarted.load(ordering: .acquiring),
      Instant.now().nanoseconds >= restsUntil.load(ordering: .relaxed)
    else { return false }
    if !isWanted.exchange(true, ordering: .acquiringAndReleasing) { queue.wakeAll() }
    return true
  }

  /// Whether the current thread is the one.
  static var isRunningHere: Bool { Thread.current.reclaimsForOthers }

  private static func run() {
    Thread.current.reclaimsForOthers = true
    while true {
      try? queue.wait(.uninterruptible) { isWanted.load(ordering: .acquiring) }
      isWanted.store(false, ordering: .relaxed)
      balance()
    }
  }

  /// Frees memory until no zone is short.
  private static func balance() {
    ReclaimCounters.add(1, to: ReclaimCounters.daemonRuns)
    while true {
      let shortage = FrameAllocator.takeShortage()
      guard shortage > 0 else { break }
      let wanted = max(shortage, 4 * PageBatch.capacity)
      // Not as one of the shrinkers, of which only one caller runs at a time: others who need memory may look for some too.
      var freed = Reclaim.system.reclaim(frames: wanted)
      if freed < wanted { freed += Shrinkers.reclaim(frames: wanted - freed) }
      guard freed > 0 else {
        restsUntil.store(Instant.now().nanoseconds &+ restingTime, ordering: .relaxed)
        return
      }
      Thread.checkReschedule()
    }
    Compaction.makeBlock(order: FrameAllocator.takeWantedOrder())
  }
}
