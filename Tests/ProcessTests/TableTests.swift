import KernelCore
import LinuxABI
import Scheduling
import TestSupport
import Testing

@testable import Process

@Suite struct TableTests {
  @Test func `identifiers rise, wrap to the restart and skip what is in use`() throws {
    var table = IdentifierTable<Int>(limit: 10, restart: 5)
    for expected in Int32(1)...9 { #expect(try table.allocate(0) == expected) }
    #expect(throws: Errno.EAGAIN) { try table.allocate(0) }
    table[2] = nil
    #expect(throws: Errno.EAGAIN) { try table.allocate(0) }
    table[7] = nil
    #expect(try table.allocate(0) == 7)
  }

  @Test func `the identifier table gives out no number twice`() throws {
    var random = SeededGenerator("identifiers")
    var table = IdentifierTable<Int>(limit: 64, restart: 8)
    var live: Set<Int32> = []
    for step in 0..<SeededGenerator.steps(20_000) {
      if random.next() % 2 == 0 || live.isEmpty {
        do throws(Errno) {
          let identifier = try table.allocate(step)
          #expect(live.insert(identifier).inserted && identifier > 0 && identifier < 64, "seed \(random.seed)")
        } catch {
          #expect(live.count >= 64 - 8 || live.filter { $0 >= 8 }.count == 56, "seed \(random.seed)")
        }
      } else {
        let victim = live.sorted()[Int(random.next() % UInt64(live.count))]
        live.remove(victim)
        table[victim] = nil
      }
      #expect(table.count == live.count, "seed \(random.seed)")
    }
  }

  private func makeWaiter() -> FutexWaiter {
    let waiter = FutexWaiter()
    return waiter
  }

  @Test func `a futex wakes its oldest waiters whose bits match`() {
    let table = FutexTable()
    let key = FutexKey(object: 1, offset: 64)
    let waiters = (0..<4).map { _ in makeWaiter() }
    for (index, waiter) in waiters.enumerated() { table.enqueue(waiter, key, bitset: index == 1 ? 2 : 1) }
    #expect(table.wake(FutexKey(object: 2, offset: 64), count: 10, bitset: .max) == 0)
    #expect(table.wake(key, count: 2, bitset: 1) == 2)
    #expect(waiters.map(\.isQueued) == [false, true, false, true])
    #expect(table.dequeue(waiters[3]) && !table.dequeue(waiters[3]))
    #expect(table.wake(key, count: .max, bitset: 2) == 1)
    #expect(table.count == 0)
  }

  @Test func `a requeue wakes some and moves others`() {
    let table = FutexTable()
    for target in [
      FutexKey(object: 1, offset: 4096), FutexKey(object: 1, offset: 1 << 20), FutexKey(object: 9, offset: 8),
    ] {
      let key = FutexKey(object: 1, offset: 64)
      let waiters = (0..<5).map { _ in makeWaiter() }
      for waiter in waiters { table.enqueue(waiter, key, bitset: .max) }
      let (woken, moved) = table.requeue(key, wakeCount: 1, to: target, moveCount: 3)
      #expect(woken == 1 && moved == 3)
      #expect(table.wake(key, count: .max, bitset: .max) == 1)
      #expect(table.dequeue(waiters[1]))
      #expect(table.wake(target, count: .max, bitset: .max) == 2)
      #expect(table.count == 0)
    }
  }

  @Test func `the futex table behaves as a list of waiters does`() {
    var random = SeededGenerator("futex table")
    let table = FutexTable()
    let keys = (0..<6).map { FutexKey(object: UInt64($0 % 2), offset: UInt64($0) * 4096) }
    let waiters = (0..<24).map { _ in makeWaiter() }
    var model: [(waiter: Int, key: Int)] = []
    for _ in 0..<SeededGenerator.steps(10_000) {
      let key = Int(random.next() % 6)
      switch random.next() % 5 {
      case 0, 1:
        let free = waiters.indices.filter { index in !model.contains { $0.waiter == index } }
        guard let waiter = free.first else { continue }
        table.enqueue(waiters[waiter], keys[key], bitset: .max)
        model.append((waiter, key))
      case 2:
        let count = Int(random.next() % 3)
        let expected = model.filter { $0.key == key }.prefix(count).map(\.waiter)
        #expect(table.wake(keys[key], count: count, bitset: .max) == expected.count, "seed \(random.seed)")
        #expect(expected.allSatisfy { !waiters[$0].isQueued }, "seed \(random.seed)")
        model.removeAll { expected.contains($0.waiter) }
      case 3:
        let waiter = Int(random.next() % 24)
        #expect(table.dequeue(waiters[waiter]) == model.contains { $0.waiter == waiter }, "seed \(random.seed)")
        model.removeAll { $0.waiter == waiter }
      default:
        let target = Int(random.next() % 6)
        guard target != key else { continue }
        let moving = model.filter { $0.key == key }.prefix(2).map(\.waiter)
        let (woken, moved) = table.requeue(keys[key], wakeCount: 0, to: keys[target], moveCount: 2)
        #expect(woken == 0 && moved == moving.count, "seed \(random.seed)")
        // Moved waiters are the last of the new queue when it is in another bucket; the model compares sets only.
        for waiter in moving {
          model.removeAll { $0.waiter == waiter }
          model.append((waiter, target))
        }
        // Order among waiters of one key may differ from the model's when both keys share a bucket: drain the target.
        let all = model.filter { $0.key == target }.count
        #expect(table.wake(keys[target], count: .max, bitset: .max) == all, "seed \(random.seed)")
        model.removeAll { $0.key == target }
      }
      #expect(table.count == model.count, "seed \(random.seed)")
    }
  }

  @Test func `FUTEX_WAKE_OP decodes as futex(2) says`() throws {
    // FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_GT, -1)
    let operation = FutexOperation(1 << 28 | 4 << 24 | 1 << 12 | 0xfff)
    #expect(operation.operand == 1 && operation.comparand == -1)
    #expect(try operation.apply(to: 41) == 42)
    #expect(try operation.compares(0))
    #expect(try !operation.compares(UInt32(bitPattern: -1)))
    let shift = FutexOperation(0x8000_0000 | 2 << 28 | 5 << 12)
    #expect(try shift.apply(to: 1) == 33)
    #expect(throws: Errno.ENOSYS) { try FutexOperation(7 << 28).apply(to: 0) }
  }
}
