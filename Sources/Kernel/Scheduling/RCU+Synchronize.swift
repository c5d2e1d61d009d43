// Waiting for a grace period, for code that may sleep.

import KernelCore
import LinuxABI
import Synchronization

extension RCU {
  /// Returns when all reading without locks that has begun before the call is over. Sleeps.
  @export(interface)
  public static func synchronize() {
    let waiter = Waiter(Thread.current)
    RCU.defer { waiter.finish() }
    // Uninterruptible and without a deadline: it cannot fail.
    try? Thread.sleep(.uninterruptible) { waiter.isDone.load(ordering: .acquiring) }
  }

  private final class Waiter {
    let isDone = Atomic<Bool>(false)
    private let thread: Thread

    init(_ thread: Thread) { self.thread = thread }

    func finish() {
      isDone.store(true, ordering: .releasing)
      thread.wake()
    }
  }
}
