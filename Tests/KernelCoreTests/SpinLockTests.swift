import Foundation
import LinuxABI
import Testing

@testable import KernelCore

@Suite struct SpinLockTests {
  @Test func `increments from many threads are all counted`() {
    let counter = SpinLock(0, rank: .log)
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      for _ in 0..<20_000 { counter.withLock { $0 += 1 } }
    }
    #expect(counter.withLock { $0 } == 80_000)
  }

  @Test func `an error leaves the lock free`() {
    let lock = SpinLock(1, rank: .log)
    #expect(throws: Errno.ENOMEM) { try lock.withLock { _ throws(Errno) in throw .ENOMEM } }
    #expect(lock.withLockIfFree { $0 } == 1)
  }

  @Test func `a held lock is not taken by a try`() {
    let lock = SpinLock(1, rank: .log)
    let inner: Int? = lock.withLock { _ in lock.withLockIfFree { $0 } }
    #expect(inner == nil)
  }
}

#if DEBUG
  @Suite struct LockOrderTests {
    @Test func `locks of falling rank may be held together`() {
      let (outer, inner) = (SpinLock(1, rank: .process), SpinLock(2, rank: .zone))
      #expect(outer.withLock { first in inner.withLock { second in first + second } } == 3)
      // Nothing is left behind.
      #expect(inner.withLock { $0 } == 2)
      #expect(outer.withLock { $0 } == 1)
    }

    @Test func `a lock of higher rank is not taken under one of lower rank`() async {
      await #expect(processExitsWith: .failure) {
        let (outer, inner) = (SpinLock(1, rank: .process), SpinLock(2, rank: .zone))
        inner.withLock { _ in outer.withLock { _ in } }
      }
    }

    @Test func `a lock is not taken twice`() async {
      await #expect(processExitsWith: .failure) {
        let lock = SpinLock(1, rank: .reclaim)
        lock.withLock { _ in lock.withLock { _ in } }
      }
    }

    @Test func `a try may go against the order`() {
      let (outer, inner) = (SpinLock(1, rank: .process), SpinLock(2, rank: .zone))
      #expect(inner.withLock { _ in outer.withLockIfFree { $0 } } == 1)
    }

    @Test func `nobody waits with a lock held`() async {
      LockOrder.mayWait()
      await #expect(processExitsWith: .failure) {
        SpinLock(1, rank: .process).withLock { _ in LockOrder.mayWait() }
      }
      // A lock that a try has taken is as bad.
      await #expect(processExitsWith: .failure) {
        _ = SpinLock(1, rank: .process).withLockIfFree { _ in LockOrder.mayWait() }
      }
    }

    @Test func `memory is taken under locks above the heap's only`() async {
      SpinLock(1, rank: .shrinkers).withLock { _ in LockOrder.allocates() }
      await #expect(processExitsWith: .failure) {
        SpinLock(1, rank: .log).withLock { _ in LockOrder.allocates() }
      }
    }

    @Test func `what somebody holds is counted by rank`() {
      var held = HeldLocks()
      #expect(held.lowest == nil)
      for rank in [LockRank.file, .areas, .areas, .zone] { held.count(rank, 1) }
      #expect(held.lowest == Int(LockRank.zone.order))
      held.count(.zone, -1)
      held.count(.areas, -1)
      #expect(held.lowest == Int(LockRank.areas.order))
      held.count(.areas, -1)
      #expect(held.lowest == Int(LockRank.file.order))
    }

    @Test func `ranks that nest may be held several times`() {
      let (low, high) = (SpinLock(1, rank: .runQueue), SpinLock(2, rank: .runQueue))
      #expect(low.withLock { first in high.withLock { second in first + second } } == 3)
    }
  }
#endif

@Suite struct LogRecordTests {
  @Test func `the log keeps the last records in order`() {
    Log.consoleLevel = .emergency
    for index in 0..<(Log.capacity + 10) { Log.info("line \(index)") }
    let records = Log.records()
    #expect(records.count == Log.capacity)
    #expect(zip(records, records.dropFirst()).allSatisfy { $0.sequence + 1 == $1.sequence })
    #expect(records.last?.text == ByteString("line \(Log.capacity + 9)"))
    #expect(Log.records(from: records.last!.sequence).count == 1)
  }
}
