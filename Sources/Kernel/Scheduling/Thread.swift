// A thread: a kernel stack and what runs on it. The scheduler's own fields are here and nowhere else; what a user
// program's thread is besides (registers, signals, files) belongs to its subclass in the room Process.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Synchronization

/// Anything that the scheduler runs.
///
/// A thread is created by `init`, made ready by `start()`, and ends when `run()` returns. It stays allocated until then,
/// whatever else refers to it.
open class Thread {
  /// For logs and kernel threads; a task's visible name is its own.
  public final let name: StaticString
  /// The address space whose user memory this thread reaches; set by VirtualMemory's users (an `AddressSpace`).
  public final var memoryContext: AnyObject?

  /// The priority weight as nice(2) gives it, -20…19. Takes effect when the thread is next charged for CPU time.
  public final var niceness = 0
  /// The CPUs on which the thread may run, a bit each. Change it through `setAffinity`.
  public final private(set) var affinity: UInt64 = .max

  /// To whom the kernel objects that the thread makes are charged. It is the thread's own, and no other changes it.
  public final var account = KernelAccount.root

  /// On which nodes the thread's pages go; it is the thread's own, and no other changes it.
  public final var memoryPolicy = MemoryPolicy()
  /// Whether the thread is finding memory for an object of the heap: it must not begin again for an object that this needs.
  public final var isRelievingHeap = false
  /// Whether the thread frees memory on behalf of others (kswapd): for the statistics.
  public final var reclaimsForOthers = false

  /// CPU time in nanoseconds, up to the last time the thread was switched out or charged.
  public final internal(set) var cpuTime: UInt64 = 0
  /// The part of `cpuTime` spent in user code; kept by `chargeUserTime`.
  public final private(set) var userTime: UInt64 = 0
  /// Switches away because the thread slept, and because its slice was over.
  public final internal(set) var voluntarySwitches: UInt64 = 0
  public final internal(set) var involuntarySwitches: UInt64 = 0

  /// What the thread has read and written; it is the thread's own, and no other changes it.
  public final var transfers = TransferCounts()

  #if LOCK_ORDER
    /// The sleeping locks that the thread holds.
    final var heldLocks = HeldLocks()
  #endif

  // The scheduler's.
  final let wakeState = Atomic<UInt8>(WakeState.running)
  final let onCPU = Atomic<Bool>(false)
  final var cpu = 0
  final var virtualRuntime: UInt64 = 0
  final var queuedAt: UInt64 = 0
  final var heapIndex = -1
  final var isQueued: Bool { heapIndex >= 0 }
  final let savedStack = SavedStack()
  final var stackBase: UInt64 = 0
  final var isIdle = false
  final lazy var sleepTimer = SleepTimer(self)

  @export(interface)
  public init(name: StaticString) {
    self.name = name
  }

  deinit {
    savedStack.free()
    // Of a thread that never began.
    if stackBase != 0 { KernelStacks.free(stackBase) }
  }

  /// The thread's body, on its own kernel stack. The thread ends when it returns.
  open func run() {}

  /// Whether a signal waits that ends an interruptible sleep. Read often, without locks.
  open var hasPendingSignal: Bool { false }
  /// Whether a signal waits that ends the process.
  open var hasFatalSignal: Bool { false }

  /// Called on another thread's stack after the thread has ended and will never run again.
  open func didEnd() {}

  /// Total CPU time spent in the kernel, in nanoseconds.
  public final var systemTime: UInt64 { cpuTime > userTime ? cpuTime - userTime : 0 }

  /// Adds time spent in user code; the whole of it is charged to `cpuTime` by the scheduler.
  @inline(__always)
  public final func chargeUserTime(_ nanoseconds: UInt64) { userTime &+= nanoseconds }

  /// The CPU on which the thread runs, or ran last.
  public final var lastCPU: Int { cpu }

  /// Whether the thread is running or ready to run, for /proc/PID/stat.
  public final var isRunnable: Bool { wakeState.load(ordering: .relaxed) != WakeState.parked }

  /// Restricts the thread to the CPUs whose bits are set.
  ///
  /// A running thread moves when it next enters the scheduler.
  /// - Throws: EINVAL when the set has none of the machine's CPUs.
  @export(interface)
  public final func setAffinity(_ mask: UInt64) throws(Errno) {
    let present = CPU.count >= 64 ? UInt64.max : (1 << UInt64(CPU.count)) - 1
    guard mask & present != 0 else { throw .EINVAL }
    affinity = mask
    if self === Thread.current {
      if !mayRun(on: CPU.currentIndex) { Thread.yield() }
    }
  }

  @inline(__always)
  final func mayRun(on cpu: Int) -> Bool { affinity & (1 << UInt64(cpu)) != 0 }
}

/// Where a thread stands between waking and sleeping (`Thread.wakeState`).
enum WakeState {
  /// On a CPU or in a run queue.
  static let running: UInt8 = 0
  /// As `running`, and the next sleep returns at once.
  static let notified: UInt8 = 1
  /// Asleep: the waker puts it into a run queue.
  static let parked: UInt8 = 2
  /// The body has returned; the thread is freed after the switch away from it.
  static let ended: UInt8 = 3
}
