// The ready threads of a CPU: a binary heap by virtual run time. Entries are unmanaged, because a live thread holds a
// reference of its own (Thread.start) and queueing must not cost atomic reference counting.

import KernelCore

/// A priority queue of threads, least virtual run time first. O(log n) insert and remove.
@safe struct ThreadHeap {
  private var entries: [Unmanaged<Thread>] = unsafe []

  var count: Int { unsafe entries.count }
  var first: Thread? { unsafe entries.first?._withUnsafeGuaranteedRef { $0 } }

  // SAFETY: every entry is a started thread that has not ended: it holds a reference to itself, and it cannot end while
  // it is in a run queue.
  private func thread(_ index: Int) -> Thread { unsafe entries[index]._withUnsafeGuaranteedRef { $0 } }

  mutating func insert(_ thread: Thread) {
    unsafe entries.append(Unmanaged.passUnretained(thread))
    thread.heapIndex = unsafe entries.count - 1
    siftUp(thread.heapIndex)
  }

  mutating func remove(_ thread: Thread) {
    let index = thread.heapIndex
    let last = unsafe entries.count - 1
    if index != last { swap(index, last) }
    unsafe entries.removeLast()
    thread.heapIndex = -1
    if index < last {
      siftUp(index)
      siftDown(index)
    }
  }

  /// The first thread in heap order which satisfies `condition`, preferring those that would wait longest.
  func last(where condition: (Thread) -> Bool) -> Thread? {
    for index in stride(from: count - 1, through: 0, by: -1) where condition(thread(index)) { return thread(index) }
    return nil
  }

  func first(where condition: (Thread) -> Bool) -> Thread? {
    if let head = first, condition(head) { return head }
    var best: Thread?
    for index in 0..<count {
      let candidate = thread(index)
      if condition(candidate), best.map({ candidate.virtualRuntime < $0.virtualRuntime }) ?? true { best = candidate }
    }
    return best
  }

  private mutating func swap(_ left: Int, _ right: Int) {
    unsafe entries.swapAt(left, right)
    thread(left).heapIndex = left
    thread(right).heapIndex = right
  }

  private mutating func siftUp(_ start: Int) {
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      guard thread(index).virtualRuntime < thread(parent).virtualRuntime else { return }
      swap(index, parent)
      index = parent
    }
  }

  private mutating func siftDown(_ start: Int) {
    var index = start
    while true {
      var least = 2 * index + 1
      guard least < count else { return }
      if least + 1 < count, thread(least + 1).virtualRuntime < thread(least).virtualRuntime { least += 1 }
      guard thread(least).virtualRuntime < thread(index).virtualRuntime else { return }
      swap(index, least)
      index = least
    }
  }
}
