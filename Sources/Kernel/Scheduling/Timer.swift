// Timers in nanoseconds. Each CPU keeps the timers started on it in a heap by time; the earliest is the deadline of that
// CPU's next idle or user run, so nothing ticks.

import KernelCore
import Machine
import Synchronization

/// Calls back once at an instant. May be started again, also from its own callback.
open class Timer {
  private let callback: (() -> Void)?
  final var deadline = Instant.never
  final var heapIndex = -1
  /// The queue that holds the timer while it is started.
  fileprivate final let home = Atomic<Int>(-1)
  /// Whether `fire` is called with the queue locked: `cancel` returns only when it is over.
  fileprivate final let firesLocked: Bool

  /// - Parameter callback: runs at an interrupt point of some CPU, without locks; it must not sleep.
  @export(interface)
  public init(_ callback: @escaping () -> Void) {
    self.callback = callback
    firesLocked = false
  }

  init(firesLocked: Bool) {
    callback = nil
    self.firesLocked = firesLocked
  }

  /// What happens when the time has come.
  func fire() { callback?() }

  /// Whether the timer is waiting for its time.
  public final var isStarted: Bool { home.load(ordering: .relaxed) >= 0 }

  /// Starts the timer, or moves it when it is started.
  ///
  /// - Locks: `timer`.
  @export(interface)
  public final func start(at deadline: Instant) {
    cancel()
    guard deadline != .never else { return }
    TimerQueue.current.insert(self, deadline)
  }

  /// Stops the timer. A callback that has begun on another CPU may still be running on return.
  ///
  /// - Locks: `timer`.
  @export(interface)
  public final func cancel() {
    while true {
      let cpu = home.load(ordering: .acquiring)
      guard cpu >= 0 else { return }
      if TimerQueue.all[cpu].remove(self) { return }
    }
  }
}

/// The started timers of a CPU.
final class TimerQueue {
  private struct State {
    var heap: [Timer] = []
  }

  private let cpu: Int
  private let state = SpinLock(State(), rank: .timer)
  /// The earliest deadline, `UInt64.max` when there is none; readable without the lock.
  let nextDeadline = Atomic<UInt64>(.max)

  static let all = PerCPU<TimerQueue> { TimerQueue(cpu: $0) }
  static var current: TimerQueue { all.current }

  init(cpu: Int) { self.cpu = cpu }

  func insert(_ timer: Timer, _ deadline: Instant) {
    state.withLock { state in
      timer.deadline = deadline
      timer.home.store(cpu, ordering: .releasing)
      state.heap.append(timer)
      timer.heapIndex = state.heap.count - 1
      Self.siftUp(&state.heap, timer.heapIndex)
      publish(state)
    }
  }

  /// Takes the timer out; false when it has moved to another queue meanwhile.
  func remove(_ timer: Timer) -> Bool {
    state.withLock { state in
      guard timer.home.load(ordering: .relaxed) == cpu else { return timer.home.load(ordering: .relaxed) < 0 }
      Self.remove(&state.heap, timer)
      publish(state)
      return true
    }
  }

  /// Fires all timers whose time has come.
  @inline(__always)
  func expire(now: Instant) {
    if nextDeadline.load(ordering: .relaxed) <= now.nanoseconds { fireDue(now: now) }
  }

  @inline(never)
  private func fireDue(now: Instant) {
    while true {
      let due: Timer? = state.withLock { state in
        while let first = state.heap.first, first.deadline <= now {
          // Before it leaves the queue: a thread that finds it gone without taking the lock must find it done.
          if first.firesLocked { first.fire() }
          Self.remove(&state.heap, first)
          publish(state)
          if !first.firesLocked { return first }
        }
        return nil
      }
      guard let due else { return }
      due.fire()
    }
  }

  private func publish(_ state: State) {
    nextDeadline.store(state.heap.first?.deadline.nanoseconds ?? .max, ordering: .relaxed)
  }

  // MARK: The heap

  private static func remove(_ heap: inout [Timer], _ timer: Timer) {
    let index = timer.heapIndex
    let last = heap.count - 1
    if index != last { swap(&heap, index, last) }
    heap.removeLast()
    timer.heapIndex = -1
    timer.home.store(-1, ordering: .releasing)
    if index < last {
      siftUp(&heap, index)
      siftDown(&heap, index)
    }
  }

  private static func swap(_ heap: inout [Timer], _ left: Int, _ right: Int) {
    heap.swapAt(left, right)
    heap[left].heapIndex = left
    heap[right].heapIndex = right
  }

  private static func siftUp(_ heap: inout [Timer], _ start: Int) {
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      guard heap[index].deadline < heap[parent].deadline else { return }
      swap(&heap, index, parent)
      index = parent
    }
  }

  private static func siftDown(_ heap: inout [Timer], _ start: Int) {
    var index = start
    while true {
      var least = 2 * index + 1
      guard least < heap.count else { return }
      if least + 1 < heap.count, heap[least + 1].deadline < heap[least].deadline { least += 1 }
      guard heap[least].deadline < heap[index].deadline else { return }
      swap(&heap, index, least)
      index = least
    }
  }
}
