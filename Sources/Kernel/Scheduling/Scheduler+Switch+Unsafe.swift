// The switch from one thread to another, the idle loop, and the end of threads.

import KernelCore
import LinuxABI
import Machine
import Synchronization

extension Scheduler {
  /// Lets others run; returns when the current thread is chosen again.
  static func yield() {
    #if hasFeature(Embedded)
      let current = Thread.current
      guard !current.isIdle else { return }
      let queue = RunQueue.current
      if queue.readyCount.load(ordering: .relaxed) == 0, current.mayRun(on: queue.cpu) { return }
      charge(current, now: Instant.now().nanoseconds)
      if let next = unsafe queue.takeNext() {
        // A yielding thread goes behind the one it yields to.
        let front = unsafe next._withUnsafeGuaranteedRef { $0.virtualRuntime }
        current.virtualRuntime = max(current.virtualRuntime, front &+ 1)
        requeue(current, queue)
        unsafe switchTo(next)
      } else if !current.mayRun(on: queue.cpu) {
        requeue(current, queue)
        unsafe switchTo(idleThread(queue.cpu))
      }
    #endif
  }

  private static func requeue(_ thread: Thread, _ queue: RunQueue) {
    if thread.mayRun(on: queue.cpu) { queue.enqueue(thread) } else { RunQueue.enqueueWoken(thread) }
  }

  #if hasFeature(Embedded)
    /// Each CPU's idle thread: the stack on which the CPU was started.
    static let idleThreads = PerCPU<Thread?> { _ in nil }

    private static func idleThread(_ cpu: Int) -> Unmanaged<Thread> {
      unsafe Unmanaged.passUnretained(idleThreads[cpu]!)
    }

    /// Leaves the current thread, which is parked, queued elsewhere or ended.
    static func switchAway() {
      let queue = RunQueue.current
      charge(Thread.current, now: Instant.now().nanoseconds)
      let cpu = queue.cpu
      unsafe switchTo(queue.takeNext() ?? stealFromOthers(cpu) ?? idleThread(cpu))
    }

    static func stealFromOthers(_ thief: Int) -> Unmanaged<Thread>? {
      for offset in 1..<max(CPU.count, 1) {
        let victim = RunQueue.all[(thief + offset) % CPU.count]
        if let thread = unsafe victim.steal(for: thief) {
          unsafe thread._withUnsafeGuaranteedRef {
            $0.virtualRuntime &+= RunQueue.all[thief].minimumVirtualRuntime
          }
          return unsafe thread
        }
      }
      return nil
    }

    /// Switches stacks. No reference may be held here across the switch: this thread may never come back. The previous
    /// thread's `onCPU` is cleared by the next one, when nothing of it is in use any more.
    static func switchTo(_ next: Unmanaged<Thread>) {
      // SAFETY: both threads are alive: each holds the scheduler's reference to itself until `finishSwitch` drops it
      // after the last switch away. The stack pointer is written by the switch before anybody else can choose the thread.
      guard let stacks = unsafe prepareSwitch(to: next) else { return }
      unsafe machine_switch_stack(stacks.from.place, stacks.to)
      finishSwitch()
    }

    /// Makes `next` the current thread; nil when it is that already. A function of its own so that its references end.
    @inline(never)
    private static func prepareSwitch(to next: Unmanaged<Thread>) -> (from: SavedStack, to: UInt64)? {
      let now = Instant.now().nanoseconds
      local.current.sliceStart = now
      let cpu = unsafe machine_this_cpu()!
      let previous = Thread.current
      let next = unsafe next.takeUnretainedValue()
      if next === previous { return nil }
      charge(previous, now: now)
      RCU.switchThreads()
      local.current.contextSwitches &+= 1
      next.onCPU.store(true, ordering: .relaxed)
      next.cpu = CPU.currentIndex
      // SAFETY: as in `switchTo`.
      unsafe cpu.pointee.current = Unmanaged.passUnretained(next).toOpaque()
      unsafe cpu.pointee.scheduler = Unmanaged.passUnretained(previous).toOpaque()
      return (previous.savedStack, next.savedStack.pointer)
    }

    /// The first thing on the stack switched to: releases the thread switched from.
    static func finishSwitch() {
      let cpu = unsafe machine_this_cpu()!
      // SAFETY: set by `switchTo` on this CPU just before; that thread is alive until released here.
      let previous = unsafe Unmanaged<Thread>.fromOpaque(cpu.pointee.scheduler)
      unsafe cpu.pointee.scheduler = nil
      let hasEnded = unsafe previous._withUnsafeGuaranteedRef { thread in
        let hasEnded = thread.wakeState.load(ordering: .relaxed) == WakeState.ended
        if !hasEnded { thread.onCPU.store(false, ordering: .releasing) }
        return hasEnded
      }
      if hasEnded { unsafe threadDidEnd(previous) }
    }

    private static func threadDidEnd(_ thread: Unmanaged<Thread>) {
      // SAFETY: consumes the reference that `Thread.start` made.
      let thread = unsafe thread.takeRetainedValue()
      KernelStacks.free(thread.stackBase)
      thread.stackBase = 0
      thread.didEnd()
    }

    /// Ends the current thread.
    static func exit() -> Never {
      // Not a local: this frame is never left, so a reference in it would never be dropped.
      Thread.current.wakeState.store(WakeState.ended, ordering: .relaxed)
      switchAway()
      panic("an ended thread was scheduled again")
    }

    // MARK: Starting CPUs, idling

    /// Makes the calling context this CPU's idle thread. The first scheduler call on each CPU.
    @export(interface)
    public static func adoptCPU() {
      RCU.endIdle()
      let idle = Thread(name: "idle")
      idle.isIdle = true
      idle.cpu = CPU.currentIndex
      idle.onCPU.store(true, ordering: .relaxed)
      idleThreads[CPU.currentIndex] = idle
      // SAFETY: `idleThreads` keeps the thread permanently.
      unsafe machine_this_cpu().pointee.current = Unmanaged.passUnretained(idle).toOpaque()
      let now = Instant.now().nanoseconds
      local.current.chargedUntil = now
    }

    /// The life of a CPU that has nothing to do.
    @export(interface)
    public static func idleLoop() -> Never {
      let cpu = CPU.currentIndex
      let queue = RunQueue.all[cpu]
      var spins: UInt64 = 0
      while true {
        Interrupts.handlePending()
        TimerQueue.current.expire(now: .now())
        RCU.poll()
        if let next = unsafe queue.takeNext() ?? stealFromOthers(cpu) {
          unsafe switchTo(next)
          spins = 0
          continue
        }
        queue.isIdle.store(true, ordering: .sequentiallyConsistent)
        // A thread queued before the flag was visible came without a kick: look again.
        if queue.readyCount.load(ordering: .sequentiallyConsistent) == 0 {
          let deadline = withDeferredCalls(TimerQueue.current.nextDeadline.load(ordering: .relaxed))
          RCU.beginIdle()
          machine_idle(deadline)
          RCU.endIdle()
        } else {
          // A ready thread whose stack another CPU is about to leave.
          spins &+= 1
          machine_pause(spins)
        }
        queue.isIdle.store(false, ordering: .relaxed)
      }
    }
  #endif
}
