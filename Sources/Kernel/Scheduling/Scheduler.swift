// The scheduler proper: who runs next, and the switch to it.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// The scheduler of this CPU.
public enum Scheduler {
  /// How long a thread may run while others wait, in nanoseconds.
  static let slice: UInt64 = 3_000_000
  /// How far ahead of the next thread a running one may get before a wake-up preempts it.
  static let granularity: UInt64 = 1_000_000

  struct PerCPUState {
    /// When the current thread was last charged.
    var chargedUntil: UInt64 = 0
    /// When its slice began.
    var sliceStart: UInt64 = 0
    var contextSwitches: UInt64 = 0
    var idleTime: UInt64 = 0
  }
  static let local = PerCPU<PerCPUState> { _ in PerCPUState() }

  /// Context switches of all CPUs since boot, for /proc/stat.
  public static var contextSwitches: UInt64 {
    @export(interface) get { (0..<CPU.count).reduce(0) { $0 + local[$1].contextSwitches } }
  }

  /// Nanoseconds that a CPU has been idle.
  @export(interface)
  public static func idleTime(cpu: Int) -> UInt64 { local[cpu].idleTime }

  /// Threads that are running or ready on all CPUs, for /proc/loadavg.
  public static var runnableThreads: Int {
    @export(interface) get {
      (0..<CPU.count).reduce(0) { count, cpu in
        let queue = RunQueue.all[cpu]
        return count + queue.readyCount.load(ordering: .relaxed) + (queue.isIdle.load(ordering: .relaxed) ? 0 : 1)
      }
    }
  }

  // MARK: Around runs of user code

  /// The instant at which a run of user code must come back: the next timer, or the end of the slice when others wait.
  @export(interface)
  public static func nextDeadline() -> UInt64 {
    var deadline = TimerQueue.current.nextDeadline.load(ordering: .relaxed)
    let queue = RunQueue.current
    if queue.readyCount.load(ordering: .relaxed) != 0 {
      deadline = min(deadline, local.current.sliceStart &+ slice)
      if idleCPU(besides: queue.cpu) != nil, let head = queue.head() { deadline = min(deadline, head.balanceAt) }
    }
    return withDeferredCalls(deadline)
  }

  /// The deadline, or an earlier one at which deferred calls may be due.
  @inline(__always)
  static func withDeferredCalls(_ deadline: UInt64) -> UInt64 {
    RCU.hasPending ? min(deadline, Instant.now().nanoseconds &+ RCU.pollInterval) : deadline
  }

  /// Called after each run of user code and in long kernel loops: device interrupts, timers, balancing, and the switch
  /// to another thread when the current one's slice is over.
  ///
  /// - Returns: whether other threads have run meanwhile, so that `now` is long ago.
  @export(interface) @discardableResult
  public static func interruptPoint(now: Instant) -> Bool {
    Interrupts.handlePending()
    TimerQueue.current.expire(now: now)
    RCU.poll()
    let queue = RunQueue.current
    guard queue.readyCount.load(ordering: .relaxed) != 0 || !Thread.current.mayRun(on: queue.cpu) else { return false }
    charge(Thread.current, now: now.nanoseconds)
    guard let head = queue.head() else {
      if Thread.current.mayRun(on: queue.cpu) { return false }
      yield()
      return true
    }
    if now.nanoseconds >= head.balanceAt, let idle = idleCPU(besides: queue.cpu) {
      queue.didAskForBalance(now: now.nanoseconds)
      machine_cpu_kick(UInt64(idle))
    }
    let current = Thread.current
    let mayStay = current.mayRun(on: queue.cpu)
    // A thread that is still the one which has had least keeps the CPU: its weight says so.
    if mayStay, now.nanoseconds >= local.current.sliceStart &+ slice, current.virtualRuntime <= head.virtualRuntime {
      local.current.sliceStart = now.nanoseconds
      return false
    }
    let lead = now.nanoseconds >= local.current.sliceStart &+ slice ? 0 : granularity
    if !mayStay || current.virtualRuntime > head.virtualRuntime &+ lead {
      current.involuntarySwitches &+= 1
      yield()
      return true
    }
    return false
  }

  private static func idleCPU(besides cpu: Int) -> Int? {
    for other in 0..<CPU.count where other != cpu && RunQueue.all[other].isIdle.load(ordering: .relaxed) {
      return other
    }
    return nil
  }

  // MARK: Charging

  /// Weights of the nice levels: each step changes the share by about a quarter, as in Linux (sched(7)).
  static func weighted(_ time: UInt64, niceness: Int) -> UInt64 {
    if niceness == 0 { return time }
    var scaled = min(time, 1 << 40)
    for _ in 0..<abs(niceness) { scaled = niceness > 0 ? scaled / 4 * 5 : scaled / 5 * 4 }
    return scaled
  }

  /// Brings the current thread's CPU time up to date, for calls that report it.
  @export(interface)
  public static func chargeCurrent() { charge(Thread.current, now: Instant.now().nanoseconds) }

  static func charge(_ thread: Thread, now: UInt64) {
    let time = now &- local.current.chargedUntil
    local.current.chargedUntil = now
    guard Int64(bitPattern: time) > 0 else { return }
    if thread.isIdle {
      local.current.idleTime &+= time
    } else {
      thread.cpuTime &+= time
      thread.virtualRuntime &+= weighted(time, niceness: thread.niceness)
    }
  }
}
