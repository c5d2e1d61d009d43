import Foundation
import KernelCore
import LinuxABI
import Testing

@testable import Scheduling

@Suite(.serialized) struct SleepingLockTests {
  @Test func `a mutex excludes threads that sleep for it`() {
    let counter = Mutex(0, rank: .file)
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      for _ in 0..<5_000 { counter.withLock { $0 += 1 } }
    }
    #expect(counter.withLock { $0 } == 20_000)
  }

  @Test func `writers exclude readers and each other`() {
    let pair = SharedMutex((0, 0), rank: .areas)
    nonisolated(unsafe) var torn = 0
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      for _ in 0..<3_000 {
        if worker == 0 {
          pair.withWriteLock {
            $0.0 += 1
            $0.1 += 1
          }
        } else if pair.withReadLock({ $0.0 != $0.1 }) {
          torn += 1
        }
      }
    }
    #expect(torn == 0)
    #expect(pair.withReadLock { $0.0 } == 3_000)
  }
}

#if DEBUG
  @Suite struct SleepingLockOrderTests {
    @Test func `sleeping locks of falling rank may be held together`() {
      let (outer, middle, inner) = (Mutex(1, rank: .file), SharedMutex(2, rank: .areas), SpinLock(3, rank: .pageTable))
      for _ in 0..<2 {
        let sum = outer.withLock { first in
          middle.withReadLock { second in inner.withLock { third in first + second + third } }
        }
        #expect(sum == 6)
        middle.withWriteLock { _ in inner.withLock { _ in } }
      }
      #expect(Thread.current.heldLocks.lowest == nil)
    }

    @Test func `a sleeping lock is not taken under a spin lock, even when it is free`() async {
      await #expect(processExitsWith: .failure) {
        let (outer, inner) = (SpinLock(1, rank: .process), Mutex(2, rank: .file))
        outer.withLock { _ in inner.withLock { _ in } }
      }
      await #expect(processExitsWith: .failure) {
        let (outer, inner) = (SpinLock(1, rank: .process), SharedMutex(2, rank: .areas))
        outer.withLock { _ in inner.withReadLock { _ in } }
      }
    }

    @Test func `a try that never sleeps may be made under a spin lock`() {
      let (outer, inner) = (SpinLock(1, rank: .process), SharedMutex(2, rank: .areas))
      #expect(outer.withLock { _ in inner.withReadLockIfFree { $0 } } == 2)
    }

    @Test func `a sleeping lock of higher rank is not taken under one of lower rank`() async {
      await #expect(processExitsWith: .failure) {
        let (outer, inner) = (Mutex(1, rank: .file), SharedMutex(2, rank: .areas))
        inner.withReadLock { _ in outer.withLock { _ in } }
      }
    }

    @Test func `two sleeping locks of one rank are not held together`() async {
      await #expect(processExitsWith: .failure) {
        let (first, second) = (Mutex(1, rank: .file), Mutex(2, rank: .file))
        first.withLock { _ in second.withLock { _ in } }
      }
      // Unless the rank says so.
      let (first, second) = (Mutex(1, rank: .directory), Mutex(2, rank: .directory))
      #expect(first.withLock { one in second.withLock { two in one + two } } == 3)
    }

    @Test func `nobody sleeps with a spin lock held, even when there is nothing to wait for`() async {
      await #expect(processExitsWith: .failure) {
        SpinLock(1, rank: .process).withLock { _ in try? Thread.sleep { true } }
      }
    }
  }
#endif

@Suite(.serialized) struct WaitQueueTests {
  @Test func `a wait whose condition holds returns at once`() throws {
    try WaitQueue().wait { true }
  }

  @Test func `a wait ends with ETIMEDOUT at its deadline`() {
    let start = Instant.now()
    #expect(throws: Errno.ETIMEDOUT) {
      try WaitQueue().wait(until: start.advanced(byNanoseconds: 2_000_000)) { false }
    }
    #expect(Instant.now().nanoseconds(since: start) >= 2_000_000)
  }

  @Test func `each wake-up of one passes one waiter`() {
    let queue = WaitQueue()
    let tokens = SpinLock(0, rank: .process)
    let passed = SpinLock(0, rank: .process)
    let group = DispatchGroup()
    for _ in 0..<4 {
      detach(group) {
        try? queue.wait(.uninterruptible, exclusive: true) {
          tokens.withLock { count in
            guard count > 0 else { return false }
            count -= 1
            return true
          }
        }
        passed.withLock { $0 += 1 }
      }
    }
    for _ in 0..<4 {
      tokens.withLock { $0 += 1 }
      queue.wakeOne()
    }
    group.wait()
    #expect(passed.withLock { $0 } == 4)
    #expect(queue.isEmpty)
  }

  private func detach(_ group: DispatchGroup, _ body: @escaping () -> Void) {
    group.enter()
    Foundation.Thread.detachNewThread {
      body()
      group.leave()
    }
  }
}
