// The machine's memory: where the allocators keep their state, and how it is laid out when the kernel starts.
//
// Everything lies at the beginning of guest memory, which reads as zero and costs the host nothing until touched:
//
//     frame 0   State            addresses and counters
//               Zone × n         free blocks
//               page blocks      a byte for each: its zone and migrate type
//               SlobState        pages of small objects, if that allocator was chosen
//               SlabCache × 64   the kernel heap's caches
//               LocalMemory × CPU   each CPU's free frames and free objects
//               FrameDescriptor × frames
//     zone 0    …                all the rest
//
// Nothing here uses the heap, lazily initialised globals or objects: `initialize` is the first thing that the boot CPU
// does. `PhysicalMemory` is a reference to such a state; the kernel has one, tests make others.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// Physical memory and its allocators.
@safe public struct PhysicalMemory {
  public static var pageSize: Int { 4096 }
  public static var pageShift: UInt64 { 12 }
  /// The largest block is 2^10 frames, 4 MiB.
  public static var maximumOrder: Int { 10 }

  let state: UnsafeMutablePointer<State>

  @safe struct State: ~Copyable {
    var directMap: UnsafeMutableRawPointer
    var frames: UnsafeMutablePointer<FrameDescriptor>
    var frameCount: UInt64
    var reservedFrames: UInt64
    var zones: UnsafeMutablePointer<Zone>
    var zoneCount: Int
    var nodeCount: Int
    var pageBlocks: PageBlocks
    /// For each node its zones and then those of other nodes, in the order in which allocations try them.
    var zoneOrder: InlineArray<72, UInt8>
    /// Frames moved between a zone and a CPU's stock at a time; a stock holds twice as many.
    var batch: Int
    var caches: UnsafeMutablePointer<SlabCacheState>
    let cacheCount: Atomic<Int>
    let cacheLock: AllocatorLock
    var localMemory: UnsafeMutableRawPointer
    var cpuCount: Int
    let heapPageFrames: Atomic<Int>  // in large objects of the heap
    let isShort: Atomic<Bool>  // a zone fell below its low watermark
    let wantedOrder: Atomic<Int>  // the largest order that was short since reclaim looked last
    let wakeIsDue: Atomic<Bool>  // the waker has not been told of it yet
    var waker: (any ReclaimWaker)?
    /// Whether small objects come from `slob` instead of the slab caches, and its state.
    var usesSlob: Bool
    var slob: UnsafeMutablePointer<SlobState>
  }

  // SAFETY: written once, by the boot CPU before others run (on the host: under `initialization`).
  // Without the check for overlapping accesses, which would be a call in every allocation.
  @exclusivity(unchecked)
  private nonisolated(unsafe) static var systemState: UnsafeMutablePointer<State>?

  /// The machine's memory.
  ///
  /// `initialize` has been called: it is the first thing that happens.
  public static var system: PhysicalMemory {
    @inline(__always) get { unsafe PhysicalMemory(state: systemState.unsafelyUnwrapped) }
  }

  /// Sets up the allocators in the memory that the machine describes; later calls do nothing (unit tests of many rooms
  /// share a process).
  @export(interface)
  public static func initialize(_ boot: UnsafePointer<machine_boot_info>) {
    guard initialization.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged else {
      var spin = SpinWait()
      while initialization.load(ordering: .acquiring) != 2 { spin.pause() }
      return
    }
    // SAFETY: the boot record describes memory of this size, zeroed, for the kernel alone.
    let memory = unsafe PhysicalMemory(
      layingOut: UnsafeMutableRawPointer(boot.pointee.direct_map), size: boot.pointee.memory_size,
      cpuCount: localSlots(boot.pointee.cpu_count),
      nodes: BootParameters.option("numa=fake=", of: boot).flatMap { Int(exactly: $0) } ?? 1,
      usesSlob: BootParameters.option("slob", of: boot) != nil)
    unsafe systemState = memory.state
    initialization.store(2, ordering: .releasing)
  }
  private static let initialization = Atomic<UInt32>(0)

  /// On the fake machine every host thread is a CPU.
  private static func localSlots(_ cpuCount: UInt64) -> Int {
    #if hasFeature(Embedded)
      return Int(min(cpuCount, UInt64(MACHINE_MAX_CPUS)))
    #else
      return Int(MACHINE_MAX_CPUS)
    #endif
  }

  init(state: UnsafeMutablePointer<State>) { unsafe self.state = state }

  /// Lays out the allocators' state at the beginning of `size` bytes of zeroed memory that is aligned to a page.
  init(
    layingOut base: UnsafeMutableRawPointer, size: UInt64, cpuCount: Int, nodes wantedNodes: Int = 1,
    usesSlob: Bool = false
  ) {
    let frameCount = min(size >> Self.pageShift, UInt64(Int32.max))
    var end: UInt64 = 0
    func place(_ bytes: Int, alignment: UInt64) -> UInt64 {
      let start = (end &+ alignment &- 1) & ~(alignment &- 1)
      end = start &+ UInt64(bytes)
      return start
    }
    let blockOrder = PageBlocks.order(frameCount: frameCount)
    let stateOffset = place(MemoryLayout<State>.stride, alignment: 64)
    let zonesOffset = place(MemoryLayout<Zone>.stride * Self.maximumZones, alignment: 64)
    let blocksOffset = place(Int(frameCount >> UInt64(blockOrder)) + 1, alignment: 64)
    let slobOffset = place(MemoryLayout<SlobState>.stride, alignment: 64)
    let cachesOffset = place(MemoryLayout<SlabCacheState>.stride * Self.maximumCaches, alignment: 64)
    let localOffset = place(LocalMemory.stride * cpuCount, alignment: 4096)
    let framesOffset = place(MemoryLayout<FrameDescriptor>.stride * Int(frameCount), alignment: 4096)
    let reserved = (end &+ 4095) >> Self.pageShift
    // SAFETY: all offsets are below `end`, which is checked against the size of the memory before anything is written.
    // Zeroed memory is a valid value of FrameDescriptor and LocalMemory.
    guard reserved < frameCount, frameCount &- reserved >= 64 else {
      panic { line in
        line.append("too little memory: the machine has ")
        line.append(decimal: size)
        line.append(" bytes, the kernel needs ")
        line.append(decimal: (reserved &+ 64) << Self.pageShift)
      }
    }
    unsafe state = (base + Int(stateOffset)).bindMemory(to: State.self, capacity: 1)
    let slob = unsafe (base + Int(slobOffset)).bindMemory(to: SlobState.self, capacity: 1)
    unsafe slob.initialize(to: SlobState())
    unsafe state.initialize(
      to: State(
        directMap: base,
        frames: (base + Int(framesOffset)).bindMemory(to: FrameDescriptor.self, capacity: Int(frameCount)),
        frameCount: frameCount, reservedFrames: reserved,
        zones: (base + Int(zonesOffset)).bindMemory(to: Zone.self, capacity: Self.maximumZones), zoneCount: 0,
        nodeCount: 0,
        pageBlocks: PageBlocks(
          entries: (base + Int(blocksOffset)).bindMemory(
            to: Atomic<UInt8>.self, capacity: Int(frameCount >> UInt64(blockOrder)) + 1), order: blockOrder),
        zoneOrder: InlineArray(repeating: 0),
        batch: max(4, min(FrameStock.capacity / 2, Int(frameCount / 1024))),
        caches: (base + Int(cachesOffset)).bindMemory(to: SlabCacheState.self, capacity: Self.maximumCaches),
        cacheCount: Atomic(0), cacheLock: AllocatorLock(.slab), localMemory: base + Int(localOffset),
        cpuCount: cpuCount, heapPageFrames: Atomic(0), isShort: Atomic(false), wantedOrder: Atomic(0),
        wakeIsDue: Atomic(false), waker: nil, usesSlob: usesSlob, slob: slob))
    makeZones(nodes: wantedNodes)
    initializeHeap()
  }

  // MARK: Addresses

  // SAFETY: the array has a descriptor for every number below frameCount; others are a kernel bug and panic.
  @inline(__always) func descriptor(_ number: UInt64) -> UnsafeMutablePointer<FrameDescriptor> {
    if unsafe number >= state.pointee.frameCount { fail("a page frame number beyond the end of memory") }
    return unsafe state.pointee.frames + Int(truncatingIfNeeded: number)
  }

  /// A frame's descriptor.
  @export(interface) public func frame(_ number: PageFrameNumber) -> PageFrame {
    unsafe PageFrame(number: number, memory: self, descriptor: descriptor(number.rawValue))
  }

  /// A frame's first byte in the direct map.
  @inline(__always) func pointer(to number: PageFrameNumber) -> UnsafeMutableRawPointer {
    if unsafe number.rawValue >= state.pointee.frameCount { fail("a page frame number beyond the end of memory") }
    return unsafe state.pointee.directMap + Int(truncatingIfNeeded: number.physicalAddress)
  }

  @inline(__always) func physicalAddress(of pointer: UnsafeRawPointer) -> UInt64 {
    unsafe UInt64(UInt(bitPattern: pointer) &- UInt(bitPattern: state.pointee.directMap))
  }

  /// Ends the kernel: its memory is damaged, or there is none left.
  @inline(never) func fail(_ message: StaticString) -> Never {
    panic { line in
      line.append("memory: ")
      line.append(message)
    }
  }
}
