// The allocator of page frames, on several CPUs (threads) at once. Figures: time divided by the operations of all threads.

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

func compare(_ threads: Int) -> Benchmark {
  Benchmark("\(threads) thread\(threads == 1 ? "" : "s")") { figures in
    startMachine(megabytes: 1024)
    CPU.count = 4
    /// The least time of several runs of so many operations on each thread.
    func measure(_ operation: String, _ count: Int, _ body: @escaping (Int) -> Void) {
      var least = UInt64.max
      for _ in 0..<60 { least = min(least, onThreads(threads) { body(count) }) }
      figures.note(operation, Double(least) / Double(count * threads))
    }
    measure("order 0, from the CPU's stock", 20_000) { pairs($0, order: 0) }
    measure("order 0, \(fewFrames) at a time", 20_000) { groups($0 / fewFrames, of: fewFrames) }
    measure("order 0, \(manyFrames) at a time", 20_000) { groups($0 / manyFrames, of: manyFrames) }
    measure("order 1, from the zone", 10_000) { pairs($0, order: 1) }
    measure("order 4, from the zone", 10_000) { pairs($0, order: 4) }
    // On the host a CPU's number is a call for a thread's variable; in the kernel it is one instruction.
    measure("of it the fake machine: the CPU's number, twice", 20_000) { count in
      var sum = 0
      for _ in 0..<count { sum &+= CPU.currentIndex &+ CPU.currentIndex }
      use(UInt(truncatingIfNeeded: sum))
    }
  }
}

Benchmark.main([1, 2, 4].map(compare))
