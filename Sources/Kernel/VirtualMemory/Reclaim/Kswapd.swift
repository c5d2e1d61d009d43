// kswapd: a thread for each node that frees memory before an allocation has to wait for it.
//
//     free frames   ── high ──────────  kswapd rests
//                   ── low  ──────────  allocations go to other nodes; when all are here, each node's kswapd is woken
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
  /// One node's thread.
  private final class Daemon {
    let node: Int
    let queue = WaitQueue()
    let isWanted = Atomic<Bool>(false)
    /// The largest block that was missing since it last ran.
    let order = Atomic<Int>(0)
    /// In nanoseconds of the monotonic clock.
    let restsUntil = Atomic<UInt64>(0)

    init(node: Int) { self.node = node }
  }
  private static let daemons = (0..<MemoryZone.nodeCount).map { Daemon(node: $0) }
  private static let isStarted = Atomic<Bool>(false)
  private static var restingTime: UInt64 { 20_000_000 }

  /// Starts the threads. Called once, at boot.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func start() throws(Errno) {
    for daemon in daemons { try Thread.spawn(name: name(daemon.node)) { run(daemon) } }
    FrameAllocator.install(Waker())
    isStarted.store(true, ordering: .releasing)
  }

  private static func name(_ node: Int) -> StaticString {
    switch node {
    case 0: "kswapd0"
    case 1: "kswapd1"
    case 2: "kswapd2"
    case 3: "kswapd3"
    case 4: "kswapd4"
    case 5: "kswapd5"
    case 6: "kswapd6"
    default: "kswapd7"
    }
  }

  /// What the allocator calls when memory runs short.
  private final class Waker: ReclaimWaker {
    func memoryIsShort(node: Int, order: Int) { _ = Kswapd.wake(daemons[node], order: order) }
  }

  /// Asks for memory to be freed soon on the nodes that are short; false if no thread runs for it, or has found anything
  /// lately.
  static func wake() -> Bool {
    var isAwake = false
    for daemon in daemons where daemons.count == 1 || MemoryZone.shortage(ofNode: daemon.node) > 0 {
      if wake(daemon, order: 0) { isAwake = true }
    }
    return isAwake
  }

  private static func wake(_ daemon: Daemon, order: Int) -> Bool {
    daemon.order.max(order, ordering: .relaxed)
    guard isStarted.load(ordering: .acquiring),
      Instant.now().nanoseconds >= daemon.restsUntil.load(ordering: .relaxed)
    else { return false }
    if !daemon.isWanted.exchange(true, ordering: .acquiringAndReleasing) { daemon.queue.wakeAll() }
    return true
  }

  /// Whether the current thread is one of them.
  static var isRunningHere: Bool { Thread.current.reclaimsForOthers }

  private static func run(_ daemon: Daemon) {
    Thread.current.reclaimsForOthers = true
    while true {
      try? daemon.queue.wait(.uninterruptible) { daemon.isWanted.load(ordering: .acquiring) }
      daemon.isWanted.store(false, ordering: .relaxed)
      balance(daemon)
    }
  }

  /// Frees memory until no zone of the node is short, then makes the block that was missing.
  private static func balance(_ daemon: Daemon) {
    ReclaimCounters.add(1, to: ReclaimCounters.daemonRuns)
    while true {
      _ = FrameAllocator.takeShortage()
      let shortage = MemoryZone.shortage(ofNode: daemon.node)
      guard shortage > 0 else { break }
      let wanted = max(shortage, 4 * PageBatch.capacity)
      // Not as one of the shrinkers, of which only one caller runs at a time: others who need memory may look for some too.
      var freed = Reclaim.system.reclaim(frames: wanted, on: daemon.node)
      // The other caches know nothing of nodes: what they give up may lie anywhere.
      if freed < wanted, daemons.count == 1 || freed == 0 { freed += Shrinkers.reclaim(frames: wanted - freed) }
      guard freed > 0 else {
        daemon.restsUntil.store(Instant.now().nanoseconds &+ restingTime, ordering: .relaxed)
        return
      }
      Thread.checkReschedule()
    }
    let order = max(daemon.order.exchange(0, ordering: .relaxed), FrameAllocator.takeWantedOrder())
    Compaction.makeBlock(order: order, on: daemon.node)
  }
}
