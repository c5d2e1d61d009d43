import Dispatch
import KernelCore
import Synchronization
import Testing

@testable import Scheduling

@Suite struct GracePeriodTests {
  @Test func `synchronize waits for whoever reads, and for nobody else`() {
    RCU.synchronize()
    let readers = Atomic<Int>(0)
    let early = Atomic<Int>(0)
    // A thread that waits never finds a reader of before: each leaves its mark at the end of its reading.
    let begun = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      for _ in 0..<200 {
        if worker % 2 == 0 {
          RCU.read {
            begun.add(1, ordering: .sequentiallyConsistent)
            readers.add(1, ordering: .sequentiallyConsistent)
          }
        } else {
          let before = begun.load(ordering: .sequentiallyConsistent)
          RCU.synchronize()
          if readers.load(ordering: .sequentiallyConsistent) < before { early.add(1, ordering: .relaxed) }
        }
      }
    }
    #expect(early.load(ordering: .relaxed) == 0)
  }
}
