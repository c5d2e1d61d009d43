// A process: what its threads have in common. The tree (parent, children, group) is guarded by the lock of
// `ProcessTable`; signals, threads and the way to the end by `signals`; limits by their own lock.

import DataStructures
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// A thread group.
public final class Process {
  // MARK: Guarded by the lock of ProcessTable

  public internal(set) var pid: Int32 = 0
  public internal(set) var parent: Process?
  let children = IntrusiveList<Children>()
  let changedChildren = IntrusiveList<ChangedChildren>()
  // Places in the lists of the parent and of the group (ProcessLists), and the order among the parent's children.
  var siblings = ListLinks<Process>()
  var changedSiblings = ListLinks<Process>()
  var groupLinks = ListLinks<Process>()
  var place: UInt64 = 0
  public internal(set) var group: ProcessGroup
  /// The first thread, or the one that called exec last. Nil for the reaper and for a process that was reaped.
  public internal(set) var leader: Task?
  /// The signal that the parent gets when the process ends; 0 for none.
  var exitSignal: Int32 = SIGCHLD
  /// The thread of the parent that made this process (`__WNOTHREAD`).
  var parentThread: Int32 = 0
  /// Whether the process ended and waits for its parent.
  public internal(set) var isZombie = false
  /// The final status; valid for zombies.
  var status = WaitStatus(rawValue: 0)
  /// A stop or continuation that the parent has not yet seen.
  var report: WaitStatus?
  /// Orphans of the process's descendants become its children (PR_SET_CHILD_SUBREAPER).
  public var isSubreaper = false
  /// Whether the process has called exec since it was forked (setpgid(2) by the parent fails then).
  var hasExecuted = false
  /// Times and counters of reaped children.
  var childrenUsage = ResourceUsage()

  // MARK: With locks of their own

  let signals: SpinLock<ProcessSignals>
  private let limitStorage: SpinLock<ResourceLimits>

  /// Woken when a child changes state.
  let childEvents = WaitQueue()
  /// Woken when a signal becomes pending (signalfd) .
  public let signalArrivals = WaitQueue()
  /// Woken when the process has ended (pidfd).
  public let exitEvents = WaitQueue()

  // MARK: Plain values, written by the process itself

  public let startTime = Instant.now()
  /// PR_SET_DUMPABLE: 1 when others of the same user may inspect it.
  public var dumpable: Int32 {
    @export(interface) get { dumpableStorage.load(ordering: .acquiring) }
    @export(interface) set { dumpableStorage.store(newValue, ordering: .releasing) }
  }
  private let dumpableStorage = Atomic<Int32>(1)
  /// Counts execve(2): open files of /proc/PID belong to one program. Written under the task's resources.
  let programNumber = Atomic<UInt64>(0)
  /// -1000…1000, /proc/PID/oom_score_adj.
  public let outOfMemoryAdjustment = Atomic<Int>(0)
  let timers = ProcessTimers()
  /// setitimer(2) and timer_create(2).
  public var posixTimers: ProcessTimers { timers }
  /// MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED.
  public var isRegisteredForBarriers = false
  /// personality(2).
  public var personality: UInt32 = 0

  init(group: ProcessGroup, limits: ResourceLimits) {
    self.group = group
    signals = SpinLock(ProcessSignals(), rank: .signals)
    limitStorage = SpinLock(limits, rank: .task)
  }

  // MARK: Limits

  /// The soft limit of a resource.
  @export(interface)
  public func limit(_ resource: Resource) -> UInt64 { limitStorage.withLock { $0[resource].soft } }

  /// All limits.
  public var limits: ResourceLimits { @export(interface) get { limitStorage.withLock { $0 } } }

  /// prlimit(2): the old value, and the new one set when it is given.
  @export(interface)
  public func exchangeLimit(
    _ resource: Resource, _ new: ResourceLimit?, by credentials: Credentials
  ) throws(Errno) -> ResourceLimit {
    try limitStorage.withLock { limits throws(Errno) in
      let old = limits[resource]
      if let new { try limits.set(resource, to: new, by: credentials) }
      return old
    }
  }

  /// Passes a changed soft limit on to those who enforce it.
  @export(interface)
  public func limitChanged(_ resource: Resource, to soft: UInt64) {
    switch resource {
    case .openFiles: for task in tasks { task.sharedDescriptors.limit = Int(clamping: soft) }
    case .processorTime:
      if soft == ResourceLimit.infinity {
        timers.setProcessorLimit(seconds: 0)
      } else {
        timers.setProcessorLimit(seconds: max(soft, 1))
      }
    case .addressSpace, .data, .stack, .lockedMemory: anyTask?.sharedAddressSpace?.limits = memoryLimits
    default: break
    }
  }

  // MARK: Threads

  /// The live threads, the oldest first.
  public var tasks: [Task] { @export(interface) get { signals.withLock { $0.tasks } } }
  /// A live thread if there is one: the source of the process's address space, files and identity for others.
  public var anyTask: Task? { @export(interface) get { signals.withLock { $0.tasks.first } } }
  /// Whether the leader has ended: the process is shown as a zombie then, even while other threads go on.
  public var hasLeaderEnded: Bool { @export(interface) get { signals.withLock { $0.leaderStatus != nil } } }
  public var isStopped: Bool { @export(interface) get { signals.withLock { $0.isStopped } } }
  /// The identifier of the parent, 0 for the reaper.
  public var parentPid: Int32 { @export(interface) get { ProcessTable.state.withLock { _ in parent?.pid ?? 0 } } }
  public var groupIdentifier: Int32 {
    @export(interface) get { ProcessTable.state.withLock { _ in group.identifier } }
  }
  public var sessionIdentifier: Int32 {
    @export(interface) get { ProcessTable.state.withLock { _ in group.session.identifier } }
  }

  /// Times and counters of all threads, those that have ended included.
  public var usage: ResourceUsage {
    @export(interface) get {
      signals.withLock { state in
        var sum = state.endedUsage
        for task in state.tasks { sum.add(task.usage) }
        return sum
      }
    }
  }

  /// Times and counters of the children that were waited for.
  public var usageOfChildren: ResourceUsage {
    @export(interface) get { ProcessTable.state.withLock { _ in childrenUsage } }
  }
}

/// The part of a process that signals, stops and exits change; one lock guards it all.
struct ProcessSignals {
  /// Signals sent to the process as a whole.
  var shared = PendingSignals()
  /// The live threads. Each one's `pending` and `blocked` are guarded by the same lock.
  var tasks: [Task] = []
  /// Set once the process must end: every thread leaves with this status.
  var exitStatus: WaitStatus?
  /// The status with which the leader ended, maybe while other threads go on.
  var leaderStatus: WaitStatus?
  /// The thread that is about to run another program, alone: all others must end.
  var soleSurvivor: Task?
  /// The signal of the stop in progress or in force, 0 for none.
  var stopSignal: Int32 = 0
  /// Counts stops, so that a resting thread can tell a new one from its own.
  var stopCount: UInt32 = 0
  /// The threads that have not yet come to rest since `stopSignal` was set.
  var tasksToStop = 0
  var isStopped: Bool { stopSignal != 0 && tasksToStop == 0 }
  /// A continuation that the first thread to go on must report to the parent.
  var mustReportContinuation = false
  /// What the threads that have ended had used.
  var endedUsage = ResourceUsage()
}
