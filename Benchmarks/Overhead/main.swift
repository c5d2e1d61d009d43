// What the two allocators of small objects need for themselves: memory of the machine above what was asked for, in per cent.
// The objects have the sizes of a kernel's.

import Figures
import LinuxABI
import PhysicalMemory

func measure(_ figures: Figures, options: String) {
  startMachine(megabytes: 256, options: options)
  let sizes = ObjectSizes()
  var random = Generator(seed: 1)
  var objects: [(address: UnsafeMutableRawPointer, size: Int)] = []
  var asked = 0

  func make() {
    let size = sizes.next(&random)
    do throws(Errno) { unsafe objects.append((try KernelHeap.allocate(size: size), size)) } catch {
      fatalError("no memory")
    }
    asked += size
  }
  func free() {
    let place = random.below(objects.count)
    unsafe objects.swapAt(place, objects.count - 1)
    let object = unsafe objects.removeLast()
    asked -= object.size
    unsafe KernelHeap.free(object.address)
  }
  func note(_ moment: String) {
    let statistics = MemoryStatistics.snapshot()
    let used = (statistics.slab + statistics.heapPages) * PhysicalMemory.pageSize
    figures.note(moment, Double(used - asked) * 100 / Double(asked))
  }

  for _ in 0..<1000 { make() }
  note("1. 1000 objects")
  for _ in 1000..<200_000 { make() }
  note("2. 200,000 objects")
  for _ in 0..<2_000_000 {
    free()
    make()
  }
  note("3. each freed and another made, ten times")
  for _ in 0..<150_000 { free() }
  note("4. three of four freed, at random")
  for _ in 0..<50_000 { make() }
  note("5. half as many made again")
}

Benchmark.main([
  Benchmark("slab caches") { measure($0, options: "") },
  Benchmark("SLOB") { measure($0, options: "slob") },
])
