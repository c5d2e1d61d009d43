// The allocators of small objects: a slab cache, the kernel's heap on slab caches and on SLOB, and the host's malloc.

import Benchmark
import Figures
import Glibc
import LinuxABI
import PhysicalMemory

let batch = 1000

protocol Allocator {
  static var name: String { get }
  static var options: String { get }
  static func allocate(_ size: Int) -> UnsafeMutableRawPointer
  static func free(_ object: UnsafeMutableRawPointer)
}

extension Allocator {
  static var options: String { "" }
}

enum Cache: Allocator {
  static let name = "SlabCache"
  static let cache: SlabCache = {
    do throws(Errno) { return try SlabCache.make(name: "benchmark", objectSize: 64) } catch { fatalError("no cache") }
  }()
  static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
    do throws(Errno) { return unsafe try cache.allocate() } catch { fatalError("no memory") }
  }
  static func free(_ object: UnsafeMutableRawPointer) { unsafe cache.free(object) }
}

enum Heap: Allocator {
  static let name = "heap of slab caches"
  static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
    do throws(Errno) { return unsafe try KernelHeap.allocate(size: size) } catch { fatalError("no memory") }
  }
  static func free(_ object: UnsafeMutableRawPointer) { unsafe KernelHeap.free(object) }
}

enum Slob: Allocator {
  static let name = "SLOB"
  static let options = "slob"
  static func allocate(_ size: Int) -> UnsafeMutableRawPointer { unsafe Heap.allocate(size) }
  static func free(_ object: UnsafeMutableRawPointer) { unsafe KernelHeap.free(object) }
}

enum Malloc: Allocator {
  static let name = "malloc"
  /// Not optimised: the compiler knows malloc, and leaves out what is freed at once.
  @_optimize(none) static func allocate(_ size: Int) -> UnsafeMutableRawPointer { unsafe malloc(size)! }
  static func free(_ object: UnsafeMutableRawPointer) { unsafe Glibc.free(object) }
}

func pairs<A: Allocator>(_ type: A.Type, _ count: Int) {
  for _ in 0..<count {
    let object = unsafe A.allocate(64)
    unsafe object.storeBytes(of: 1, as: UInt8.self)
    unsafe A.free(object)
  }
}

func groups<A: Allocator>(_ type: A.Type, _ sizes: [Int]) {
  unsafe withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer.self, capacity: sizes.count) { objects in
    for place in 0..<sizes.count { unsafe objects[place] = A.allocate(sizes[place]) }
    for place in 0..<sizes.count { unsafe A.free(objects[place]) }
  }
}

func compare<A: Allocator>(_ type: A.Type, mixed: Bool = true) -> BenchmarkSuite {
  BenchmarkSuite(name: A.name, settings: Operations(batch)) { suite in
    func add(_ operation: String, _ body: @escaping () -> Void) {
      suite.benchmark(operation) { state in
        startMachine(megabytes: 256, options: A.options)
        try state.measure(f: body)
      }
    }
    let equal = [Int](repeating: 64, count: batch)
    add("64 bytes, one at a time") { pairs(type, batch) }
    add("64 bytes, \(batch) at a time") { groups(type, equal) }
    guard mixed else { return }
    var random = Generator(seed: 1)
    let sizes = ObjectSizes()
    let mix = (0..<batch).map { _ in sizes.next(&random) }
    add("sizes of a kernel, \(batch) at a time") { groups(type, mix) }
  }
}

time([compare(Cache.self, mixed: false), compare(Heap.self), compare(Slob.self), compare(Malloc.self)])
