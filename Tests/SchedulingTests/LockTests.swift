import Foundation
import KernelCore
import LinuxABI
import Testing

@testable import Scheduling

@Suite(.serialized) struct SleepingLockTests {
  @Test func `a mutex excludes threads that sleep for it`() {
    let counter = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      for _ in 0..<5_000 { counter.withLock { $0 += 1 } }
    }
    #expect(counter.withLock { $0 } == 20_000)
  }

  @Test func `writers exclude readers and each other`() {
    let pair = SharedMutex((0, 0))
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
