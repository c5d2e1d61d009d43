// The ready threads of one CPU, and the choice of a CPU for a thread that wakes.
//
// A woken thread goes to the CPU that wakes it, where the two share caches and no other CPU has to be woken (on a
// virtual CPU that costs tens of microseconds). Threads that then have to wait are moved to idle CPUs by the balancer,
// after `balanceDelay`.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// The ready threads of a CPU.
final class RunQueue {
  struct State {
    var ready = ThreadHeap()
    /// No thread of this CPU is behind this; new and woken threads start from here.
    var minimumVirtualRuntime: UInt64 = 0

    /// Brings the minimum up to date: what has run alone for long has gone ahead of it.
    mutating func advance(running: Thread) {
      guard !running.isIdle else { return }
      let least = min(running.virtualRuntime, ready.first?.virtualRuntime ?? .max)
      minimumVirtualRuntime = max(minimumVirtualRuntime, least)
    }
  }

  let cpu: Int
  let state = SpinLock(State(), rank: .runQueue)
  /// The number of ready threads, readable without the lock.
  let readyCount = Atomic<Int>(0)
  /// When an idle CPU may next be woken to take threads from here, and how long after that again: twice as long each time that it
  /// finds none that it may run.
  let nextBalance = Atomic<UInt64>(0)
  private let balancePause = Atomic<UInt64>(RunQueue.balanceDelay)
  /// Whether the CPU idles, waiting for an interrupt.
  let isIdle = Atomic<Bool>(false)

  /// How long a ready thread waits before an idle CPU is woken for it.
  static let balanceDelay: UInt64 = 300_000
  private static let longestBalancePause: UInt64 = 20_000_000

  init(cpu: Int) { self.cpu = cpu }

  static let all = PerCPU<RunQueue> { RunQueue(cpu: $0) }
  static var current: RunQueue { all.current }

  var minimumVirtualRuntime: UInt64 { state.withLock { $0.minimumVirtualRuntime } }

  /// Where a new thread starts on the caller's CPU.
  static var startOfNewThread: UInt64 {
    Scheduler.chargeCurrent()
    return current.state.withLock { state in
      state.advance(running: Thread.current)
      return state.minimumVirtualRuntime
    }
  }

  /// A thread that wakes while no thread waits may be behind the others by this much virtual time: it runs soon, but cannot save up.
  static let wakeUpCredit: UInt64 = 3_000_000

  /// The least virtual run time with which a thread enters a queue of `ready` others when it wakes. The credit is shared: hundreds of
  /// threads that sleep and wake by turns would otherwise run for seconds before one that is new.
  static func floorOfWoken(minimum: UInt64, ready: Int) -> UInt64 {
    minimum - min(minimum, wakeUpCredit / UInt64(ready + 1))
  }

  /// Puts a thread that has become ready where it should run.
  static func enqueueWoken(_ thread: Thread) {
    #if hasFeature(Embedded)
      let here = CPU.currentIndex
      let target = thread.mayRun(on: here) ? here : nearestAllowed(thread)
      let queue = all[target]
      if target == here { Scheduler.chargeCurrent() }
      queue.state.withLock { state in
        if target == here { state.advance(running: Thread.current) }
        let floor = floorOfWoken(minimum: state.minimumVirtualRuntime, ready: state.ready.count)
        thread.virtualRuntime = max(thread.virtualRuntime, floor)
        queue.insert(thread, &state)
      }
      if target != here { machine_cpu_kick(UInt64(target)) }
    #endif
  }

  private static func nearestAllowed(_ thread: Thread) -> Int {
    if thread.mayRun(on: thread.cpu), thread.cpu < CPU.count { return thread.cpu }
    for cpu in 0..<CPU.count where thread.mayRun(on: cpu) { return cpu }
    return 0
  }

  /// Puts back a thread that is still ready (its slice was over, or it yielded).
  func enqueue(_ thread: Thread) {
    state.withLock { insert(thread, &$0) }
  }

  private func insert(_ thread: Thread, _ state: inout State) {
    thread.cpu = cpu
    thread.queuedAt = Instant.now().nanoseconds
    state.ready.insert(thread)
    readyCount.store(state.ready.count, ordering: .relaxed)
  }

  /// Takes the thread that should run next, nil when none can. Unmanaged, because a reference in the frame of a thread
  /// that is switched away from would stay until it runs again, or leak if it has ended.
  ///
  /// A thread that was woken while another CPU still leaves its stack is passed over: two CPUs that waited for each
  /// other's threads would deadlock. The current thread, woken before it had left, may go on.
  func takeNext() -> Unmanaged<Thread>? {
    guard readyCount.load(ordering: .relaxed) != 0 else { return nil }
    return state.withLock { state in
      let current = ObjectIdentifier(Thread.current)
      guard
        let next = state.ready.first(where: { ObjectIdentifier($0) == current || !$0.onCPU.load(ordering: .acquiring) })
      else { return nil }
      state.minimumVirtualRuntime = max(state.minimumVirtualRuntime, next.virtualRuntime)
      state.ready.remove(next)
      readyCount.store(state.ready.count, ordering: .relaxed)
      // SAFETY: a started thread holds a reference to itself until it has ended, and it cannot end before it has run.
      return unsafe Unmanaged.passUnretained(next)
    }
  }

  /// Takes a thread for another CPU, the one that would have to wait longest here.
  func steal(for thief: Int) -> Unmanaged<Thread>? {
    guard readyCount.load(ordering: .relaxed) != 0 else { return nil }
    return state.withLock { state in
      guard let thread = state.ready.last(where: { $0.mayRun(on: thief) && !$0.onCPU.load(ordering: .acquiring) })
      else { return nil }
      // Virtual time is local to a queue: carry the distance over, not the value.
      let lead =
        thread.virtualRuntime > state.minimumVirtualRuntime ? thread.virtualRuntime - state.minimumVirtualRuntime : 0
      state.ready.remove(thread)
      readyCount.store(state.ready.count, ordering: .relaxed)
      nextBalance.store(0, ordering: .relaxed)
      balancePause.store(Self.balanceDelay, ordering: .relaxed)
      thread.virtualRuntime = lead
      // SAFETY: as in `takeNext`.
      return unsafe Unmanaged.passUnretained(thread)
    }
  }

  /// The first ready thread's virtual run time, and when an idle CPU should be woken because it waits.
  func head() -> (virtualRuntime: UInt64, balanceAt: UInt64)? {
    guard readyCount.load(ordering: .relaxed) != 0 else { return nil }
    let notBefore = nextBalance.load(ordering: .relaxed)
    return state.withLock { state in
      state.ready.first.map { ($0.virtualRuntime, max($0.queuedAt &+ Self.balanceDelay, notBefore)) }
    }
  }

  /// An idle CPU is woken to take a thread from here. On the queue's own CPU.
  func didAskForBalance(now: UInt64) {
    let pause = balancePause.load(ordering: .relaxed)
    nextBalance.store(now &+ pause, ordering: .relaxed)
    balancePause.store(min(pause * 2, Self.longestBalancePause), ordering: .relaxed)
  }
}
