import KernelCore
import TestSupport
import Testing

@testable import Scheduling

@Suite(.serialized) struct TimerTests {
  @Test func `timers fire in the order of their times, and cancelled ones never`() {
    var random = SeededGenerator("timers")
    let queue = TimerQueue(cpu: Int(CPU.currentIndex))
    var fired: [UInt64] = []
    var timers: [Timer] = []
    var expected: [UInt64] = []
    for _ in 0..<2_000 {
      let time = random.next() % 10_000
      let timer = Timer { fired.append(time) }
      queue.insert(timer, Instant(nanoseconds: time))
      timers.append(timer)
      if random.next() % 3 == 0 { #expect(queue.remove(timer)) } else { expected.append(time) }
    }
    expected.sort()
    queue.expire(now: Instant(nanoseconds: 5_000))
    #expect(fired == expected.filter { $0 <= 5_000 })
    queue.expire(now: .never)
    #expect(fired == expected)
    #expect(queue.nextDeadline.load(ordering: .relaxed) == .max)
  }
}

@Suite struct ThreadHeapTests {
  @Test func `threads leave the heap in the order of their virtual run times`() {
    var random = SeededGenerator(seed: 7)
    let threads = (0..<500).map { _ in Thread(name: "test") }
    var heap = ThreadHeap()
    var model: [UInt64] = []
    for thread in threads {
      thread.virtualRuntime = random.next() % 1_000
      heap.insert(thread)
      model.append(thread.virtualRuntime)
    }
    for thread in threads.prefix(100) {
      heap.remove(thread)
      model.remove(at: model.firstIndex(of: thread.virtualRuntime)!)
    }
    model.sort()
    var order: [UInt64] = []
    while let next = heap.first {
      order.append(next.virtualRuntime)
      heap.remove(next)
    }
    #expect(order == model)
  }

  @Test func `niceness changes the charge by about a quarter a level`() {
    #expect(Scheduler.weighted(1_000_000, niceness: 0) == 1_000_000)
    #expect(Scheduler.weighted(1_000_000, niceness: 1) == 1_250_000)
    #expect(Scheduler.weighted(1_000_000, niceness: -1) == 800_000)
    #expect(Scheduler.weighted(.max, niceness: 19) > 0)
  }
}
