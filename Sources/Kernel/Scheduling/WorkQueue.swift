// Work for later: closures that run in a kernel thread, where they may sleep.

import KernelCore
import LinuxABI

/// A kernel thread that runs what is submitted, in order.
public final class WorkQueue {
  /// The queue for short work.
  public static let shared = WorkQueue(name: "worker")

  private struct State {
    var pending: [() -> Void] = []
    var isStarted = false
  }
  private let name: StaticString
  private let state = SpinLock(State(), rank: .device)
  private let arrivals = WaitQueue()

  @export(interface)
  public init(name: StaticString) { self.name = name }

  /// Runs `work` soon, after all that was submitted before. Callable from interrupt handlers.
  ///
  /// The first call starts the thread; if that fails the work stays queued and the next call tries again.
  @export(interface)
  public func submit(_ work: @escaping () -> Void) {
    let mustStart = state.withLock { state in
      state.pending.append(work)
      let mustStart = !state.isStarted
      state.isStarted = true
      return mustStart
    }
    if mustStart {
      do throws(Errno) {
        try Thread.spawn(name: name) { [self] in serve() }
      } catch {
        state.withLock { $0.isStarted = false }
      }
    }
    arrivals.wakeOne()
  }

  private func serve() {
    while true {
      try? arrivals.wait(.uninterruptible, exclusive: true) { state.withLock { !$0.pending.isEmpty } }
      let batch = state.withLock { state in
        let batch = state.pending
        state.pending = []
        return batch
      }
      for work in batch { work() }
    }
  }
}
