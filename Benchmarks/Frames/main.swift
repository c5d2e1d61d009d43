// The allocator of page frames, on several CPUs (threads) at once. An iteration is a run of all threads;
// its time is divided by the operations of all of them.

import Benchmark
import Figures
import KernelCore
import LinuxABI
import PhysicalMemory

/// Frames that are allocated before the first of them is freed: the CPU's stock has 64 at most.
let fewFrames = 16
let manyFrames = 512

func pairs(_ count: Int, order: Int) {
  for _ in 0..<count {
    do throws(Errno) { FrameAllocator.free(try FrameAllocator.allocate(order: order)) } catch {
      fatalError("no memory")
    }
  }
}

func groups(_ count: Int, of size: Int) {
  withUnsafeTemporaryAllocation(of: PageFrameNumber.self, capacity: size) { frames in
    for _ in 0..<count {
      for place in 0..<size {
        do throws(Errno) { unsafe frames[place] = try FrameAllocator.allocate() } catch { fatalError("no memory") }
      }
      for place in 0..<size { unsafe FrameAllocator.free(frames[place]) }
    }
  }
}

func compare(_ threads: Int) -> BenchmarkSuite {
  lazy var team = {
    startMachine(megabytes: 1024)
    // Each thread of each team is one.
    CPU.count = 8
    return Team(threads: threads)
  }()
  return BenchmarkSuite(name: "\(threads) thread\(threads == 1 ? "" : "s")") { suite in
    /// Benchmarks so many operations on each thread.
    func add(_ operation: String, _ count: Int, _ body: @escaping (Int) -> Void) {
      suite.benchmark(operation, settings: Operations(count * threads), MinTime(seconds: 0.4)) { state in
        let team = team
        try state.measure { team.run { body(count) } }
      }
    }
    add("order 0, from the CPU's stock", 100_000) { pairs($0, order: 0) }
    add("order 0, \(fewFrames) at a time", 100_000) { groups($0 / fewFrames, of: fewFrames) }
    add("order 0, \(manyFrames) at a time", 100 * manyFrames) { groups($0 / manyFrames, of: manyFrames) }
    add("order 1, from the zone", 20_000) { pairs($0, order: 1) }
    add("order 4, from the zone", 20_000) { pairs($0, order: 4) }
    // On the host a CPU's number is a call for a thread's variable; in the kernel it is one instruction.
    add("of it the fake machine: the CPU's number, twice", 100_000) { count in
      var sum = 0
      for _ in 0..<count { sum &+= CPU.currentIndex &+ CPU.currentIndex }
      use(UInt(truncatingIfNeeded: sum))
    }
  }
}

time([1, 2, 4].map(compare))
