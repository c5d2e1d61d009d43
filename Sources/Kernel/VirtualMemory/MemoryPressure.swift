// When frames run out: first the caches give up what they could read again, then a policy of the room Process chooses a
// program to end. Both happen here and nowhere else, always without spin locks held.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// Chooses what dies when memory is exhausted. Installed by Process at boot.
public protocol OutOfMemoryPolicy: AnyObject {
  /// Called when an allocation failed although the caches were shrunk. May sleep.
  ///
  /// - Returns: whether memory will come back soon, so that trying again makes sense: a program other than the
  ///   caller's was ended. When the caller's own program is the victim the answer is false.
  func memoryExhausted() -> Bool
}

/// Getting memory when there seems to be none.
public enum MemoryPressure {
  private static let policy = SpinLock<(any OutOfMemoryPolicy)?>(nil, rank: .addressSpace)

  /// Installs the policy; the last one counts.
  @export(interface)
  public static func install(_ new: any OutOfMemoryPolicy) { policy.withLock { $0 = new } }

  /// Keeps the allocator's reserve full, from which kernel objects are made: called on the way to user mode, after
  /// whatever used frames. Costs one load while there is enough.
  @inline(__always)
  public static func balance() {
    if FrameAllocator.isShort { refillReserve() }
  }

  @export(interface)
  public static func refillReserve() {
    if Kswapd.wake() {
      guard FrameAllocator.isExhausted else { return }
      ReclaimCounters.add(1, to: ReclaimCounters.stalls)
    }
    let shortage = FrameAllocator.takeShortage()
    if shortage > 0 { _ = Shrinkers.reclaim(frames: max(shortage, 256)) }
  }

  // MARK: Kernel objects

  private static let kernelReliefs = Atomic<Int>(0)
  /// Reliefs in a row in which reclaim found nothing.
  private static let kernelFailures = Atomic<Int>(0)
  private static let isAskingPolicy = Atomic<Bool>(false)

  /// Finds memory for an object of the kernel heap, which cannot be refused. May sleep.
  ///
  /// - Returns: whether it is worth trying again. Not under a spin lock: nothing can be done about it there.
  @export(interface)
  public static func relieveKernel() -> Bool {
    guard CPU.lockDepth == 0 else { return false }
    let thread = Thread.current
    guard !thread.isRelievingHeap else {
      Thread.yield()
      return true
    }
    thread.isRelievingHeap = true
    defer { thread.isRelievingHeap = false }
    let turn = kernelReliefs.wrappingAdd(1, ordering: .relaxed).newValue
    // Nothing where another thread is at it, and waits for a disk; or this one, for an object on its way.
    if let found = Shrinkers.reclaimIfFree(frames: 1024) {
      // It may be a run of frames that is missing, for a large object.
      if turn % 8 == 0 { Compaction.compactAll() }
      if found > 0 {
        kernelFailures.store(0, ordering: .relaxed)
        return true
      }
      let failures = kernelFailures.wrappingAdd(1, ordering: .relaxed).newValue
      // The policy needs objects itself, and must not be asked for those.
      if failures % 16 == 0, !isAskingPolicy.exchange(true, ordering: .acquiring) {
        _ = policy.withLock({ $0 })?.memoryExhausted()
        isAskingPolicy.store(false, ordering: .releasing)
      }
    }
    try? Thread.sleep(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 2_000_000)) { false }
    return true
  }

  /// The patience of one allocation. While pages can go to swap it never ends because others were faster: the out-of-memory
  /// policy is asked only when reclaim has looked at everything, several times, and found nothing.
  public struct Relief {
    /// Times in a row that the caches gave something up and the allocation failed all the same: others were faster, or
    /// what is given up is what others need at once.
    private var reclaims = 0
    /// Times in a row that reclaim had everything to itself and found nothing.
    private var failures = 0
    /// Times that it waited for another thread, which reclaims, or for a program to end.
    private var waits = 0

    /// The most of each before the policy is asked, and of all before the allocation fails: a second is more than any
    /// program takes to die that can die at all.
    private static var mostReclaims: Int { 16 }
    private static var mostFailures: Int { 16 }
    private static var mostWaits: Int { 500 }

    @export(interface) public init() {}

    /// Frees memory after the allocation has failed. May sleep.
    ///
    /// - Returns: whether to try again. Not for a program that has been told to end: its end frees memory.
    @export(interface)
    public mutating func find() -> Bool {
      if Thread.current.hasFatalSignal || AllocationFailure.hasFailed { return false }
      ReclaimCounters.add(1, to: ReclaimCounters.stalls)
      // More at each failure: an operation that needs many frames at once starts over each time.
      let found = Shrinkers.reclaimIfFree(frames: 64 << min(reclaims, 4))
      let canSwap = Reclaim.canSwap
      if let found, found > 0 {
        reclaims += 1
        failures = 0
        if reclaims < Self.mostReclaims { return true }
        // The others had their turn: they go on, too.
        if canSwap {
          reclaims = 0
          return pause()
        }
      } else if found == nil {
        // Another thread's work may do for both.
        if canSwap { return pause() }
      } else {
        failures += 1
        if canSwap, failures < Self.mostFailures { return pause() }
      }
      guard waits < Self.mostWaits else { return false }
      // Dirty pages of files are as good as free, once they are written.
      if Flusher.relieve() {
        waits += 1
        (reclaims, failures) = (0, 0)
        return true
      }
      if found != nil {
        guard let policy = policy.withLock({ $0 }), policy.memoryExhausted() else { return false }
      }
      waits += 1
      reclaims = 0
      return pause()
    }

  }

  /// Sleeps for 2 ms, so that other threads can free memory.
  ///
  /// - Returns: false when a fatal signal is pending.
  static func pause() -> Bool {
    do throws(Errno) {
      try Thread.sleep(.killable, until: Instant.now().advanced(byNanoseconds: 2_000_000)) { false }
    } catch {
      if error != .ETIMEDOUT { return false }
    }
    return true
  }

  /// Runs `body` again as long as it fails with ENOMEM and memory can be found. May sleep.
  @inline(__always)
  public static func retrying<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
    LockOrder.mayWait()
    var relief = Relief()
    while true {
      do throws(Errno) { return try body() } catch {
        guard error == .ENOMEM, relief.find() else { throw error }
      }
    }
  }
}
