// Sleeping and waking. A sleep is a loop over a condition: spurious wake-ups are allowed, lost ones are not, because a
// wake-up that comes between the test of the condition and the switch leaves a notice that the switch consumes.

import KernelCore
import LinuxABI
import Machine
import Synchronization

extension Thread {
  /// Sleeps until `condition` holds. The condition is tested before sleeping and after each wake-up; the code that makes it
  /// true must wake the thread.
  ///
  /// - Throws: ETIMEDOUT at `deadline`; ERESTARTSYS when a signal is pending that `mode` respects.
  @export(interface)
  public static func sleep(
    _ mode: SleepMode = .interruptible, until deadline: Instant = .never, _ condition: () -> Bool
  ) throws(Errno) {
    LockOrder.mayWait()
    let thread = Thread.current
    while !condition() {
      switch mode {
      case .interruptible: if thread.hasPendingSignal { throw .ERESTARTSYS }
      case .killable: if thread.hasFatalSignal { throw .ERESTARTSYS }
      case .uninterruptible: break
      }
      if deadline != .never, Instant.now() >= deadline { throw .ETIMEDOUT }
      thread.park(until: deadline)
    }
  }

  /// Ends the thread's sleep, or makes its next one return at once. Callable from anywhere, interrupt handlers included.
  ///
  /// - Locks: `runQueue`.
  @export(interface)
  public final func wake() {
    while true {
      let (woken, state) = wakeState.compareExchange(
        expected: WakeState.parked, desired: WakeState.running, ordering: .acquiringAndReleasing)
      if woken {
        RunQueue.enqueueWoken(self)
        return
      }
      // An ended thread is still known to those who hold a reference to it; nothing wakes it.
      if state == WakeState.notified || state == WakeState.ended { return }
      let (noticed, _) = wakeState.compareExchange(
        expected: WakeState.running, desired: WakeState.notified, ordering: .acquiringAndReleasing)
      if noticed { return }
    }
  }

  /// Gives up the CPU until `wake()` or the deadline. Returns at once when a wake-up came since the last call.
  final func park(until deadline: Instant) {
    precondition(CPU.lockDepth == 0, "sleeping with a spin lock held")
    if deadline != .never { sleepTimer.start(at: deadline) }
    let (parked, _) = wakeState.compareExchange(
      expected: WakeState.running, desired: WakeState.parked, ordering: .acquiringAndReleasing)
    if parked {
      voluntarySwitches &+= 1
      suspend(until: deadline)
    } else {
      wakeState.store(WakeState.running, ordering: .relaxed)
    }
    if deadline != .never { sleepTimer.cancel() }
  }

  #if hasFeature(Embedded)
    private final func suspend(until deadline: Instant) { Scheduler.switchAway() }
  #else
    /// On the host a thread is the host's, and a parked one polls: good enough for unit tests of the rooms above.
    private final func suspend(until deadline: Instant) {
      while wakeState.load(ordering: .acquiring) == WakeState.parked {
        if Instant.now() >= deadline {
          wakeState.store(WakeState.running, ordering: .relaxed)
          return
        }
        machine_idle(deadline.nanoseconds)
      }
    }
  #endif

  /// Lets the other ready threads of this CPU run first.
  @export(interface)
  public static func yield() {
    LockOrder.mayWait()
    Scheduler.yield()
  }

  /// Ends the current thread where it stands; its stack is not unwound. The ordinary end is to return from `run()`.
  @export(interface)
  public static func exit() -> Never {
    #if hasFeature(Embedded)
      Scheduler.exit()
    #else
      panic("a thread of the host cannot be ended")
    #endif
  }

  /// For long computations in the kernel: runs other threads when this one's slice is over.
  @export(interface)
  public static func checkReschedule() {
    LockOrder.mayWait()
    Scheduler.interruptPoint(now: .now())
  }

  /// The same for code that may also run with a spin lock held, where nothing happens.
  @export(interface)
  public static func checkRescheduleUnlessLocked() {
    if CPU.lockDepth == 0 { checkReschedule() }
  }
}

/// Wakes a sleeping thread at its deadline. It fires with its queue locked, so that the thread's `cancel` waits for it:
/// otherwise the thread could wake for another reason, end, and be freed under the hands of a CPU that is about to wake it.
final class SleepTimer: Timer {
  private unowned(unsafe) let thread: Thread

  init(_ thread: Thread) {
    // SAFETY: the timer is a part of its thread, which cancels it before its sleep ends.
    unsafe self.thread = thread
    super.init(firesLocked: true)
  }

  override func fire() { unsafe thread.wake() }
}
