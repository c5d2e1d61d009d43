// What the two allocators of small objects need for themselves: memory of the machine above what was asked for, in per cent.
// The objects have the sizes of a kernel's. The argument says which allocator it is: a machine has one.

import Figures
import LinuxABI
import PhysicalMemory

func measure(_ allocator: String, options: String) {
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
  func look(_ moment: String) {
    let statistics = MemoryStatistics.snapshot()
    let used = (statistics.slab + statistics.heapPages) * PhysicalMemory.pageSize
    note(moment, of: allocator, Double(used - asked) * 100 / Double(asked))
  }

  for _ in 0..<1000 { make() }
  look("1. 1000 objects")
  for _ in 1000..<200_000 { make() }
  look("2. 200,000 objects")
  for _ in 0..<2_000_000 {
    free()
    make()
  }
  look("3. each freed and another made, ten times")
  for _ in 0..<150_000 { free() }
  look("4. three of four freed, at random")
  for _ in 0..<50_000 { make() }
  look("5. half as many made again")
}

switch CommandLine.arguments.dropFirst().first {
case "slab caches": measure("slab caches", options: "")
case "SLOB": measure("SLOB", options: "slob")
default: print("usage: OverheadBenchmarks \"slab caches\" | SLOB")
}
