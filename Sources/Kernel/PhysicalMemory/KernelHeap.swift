// The kernel heap: behind every object, array and closure of the kernel.
//
// Objects up to 8192 bytes come from slab caches by size class, larger ones are runs of page frames. A pointer needs no
// header: the descriptor of its frame tells what it is.
//
// Swift has no way to report that an object could not be made. The heap therefore takes from the reserve below the
// zone's minimum, which frames for user programs may not touch, when ordinary memory is gone; and when the reserve is
// gone too, it calls the out-of-memory handler, which frees something or ends the kernel. Code that allocates on behalf
// of a user program is admitted first (`KernelMemory` of VirtualMemory) and fails with ENOMEM.

import KernelCore
import LinuxABI
import Synchronization

/// Memory of any size for the kernel itself.
public enum KernelHeap {
  /// Memory of at least `size` bytes at a multiple of `alignment` (a power of two); its contents are undefined.
  ///
  /// - Throws: ENOMEM, without touching the reserve; EINVAL.
  /// - Locks: slab, zone.
  @export(interface)
  public static func allocate(size: Int, alignment: Int = 16) throws(Errno) -> UnsafeMutableRawPointer {
    LockOrder.allocates()
    guard size >= 0, alignment > 0, alignment & (alignment &- 1) == 0 else { throw .EINVAL }
    try AllocationFailure.check()
    guard
      let object = unsafe PhysicalMemory.system.heapAllocate(size: size, alignment: alignment, options: [])
    else { throw .ENOMEM }
    return unsafe object
  }

  /// Gives memory of the heap back.
  @export(interface) public static func free(_ object: UnsafeMutableRawPointer) {
    unsafe PhysicalMemory.system.heapFree(object)
  }

  /// How many bytes can be used behind a pointer of the heap.
  @export(interface) public static func usableSize(of object: UnsafeMutableRawPointer) -> Int {
    unsafe PhysicalMemory.system.heapSize(of: object)
  }

  /// Called when an object cannot be made because all memory is gone: frees some and answers true, or answers false,
  /// and the kernel ends. It may be called with spin locks held, so it can only free what needs no other lock than the
  /// heap's. Installed once, at boot.
  public nonisolated(unsafe) static var outOfMemoryHandler: (() -> Bool)?

  /// Gives free objects of this CPU and empty slabs back to the zones.
  @export(interface) public static func trim() {
    PhysicalMemory.system.trimCaches()
    PhysicalMemory.system.drainLocalFrames()
  }
}

extension KernelHeap {
  /// For tests of panics: ends the kernel with all size classes locked.
  @export(interface)
  public static func panicWithinLock() -> Never {
    let memory = PhysicalMemory.system
    unsafe memory.state.pointee.slob.pointee.lock.acquire()
    for index in 0..<SizeClass.count { unsafe memory.cache(index).pointee.lock.acquire() }
    memory.fail("a panic was asked for within the heap")
  }
}

extension PhysicalMemory {
  // SAFETY (of this file): a frame's kind says what its allocation is; kinds of frames in use do not change until they
  // are freed, and a pointer that is passed to `heapFree` is in use.

  func initializeHeap() {
    for index in 0..<SizeClass.count {
      do throws(Errno) {
        _ = try makeCache(name: Self.cacheName(index), objectSize: SizeClass.size(index))
      } catch {
        fail("the caches of the heap do not fit")
      }
    }
  }

  @inline(__always)
  func heapAllocate(size: Int, alignment: Int, options: AllocationOptions) -> UnsafeMutableRawPointer? {
    if unsafe state.pointee.usesSlob {
      return unsafe slobAllocate(size: size, alignment: alignment, options: options)
    }
    if size <= SizeClass.largest && alignment <= Self.pageSize {
      return unsafe allocateObject(cache: SizeClass.index(size: size, alignment: alignment), options: options)
    }
    return unsafe allocatePages(size: size, alignment: alignment, options: options)
  }

  @inline(__always)
  func heapFree(_ object: UnsafeMutableRawPointer) {
    let number = unsafe physicalAddress(of: object) >> Self.pageShift
    let frame = unsafe descriptor(number)
    let kind = unsafe frame.pointee.kind
    if kind == .slab || kind == .slabTail { return unsafe freeObject(object, cache: Int(frame.pointee.cache)) }
    if kind == .slob { return unsafe slobFree(object, number, frame) }
    unsafe freePages(object, number, frame)
  }

  func heapSize(of object: UnsafeMutableRawPointer) -> Int {
    let frame = unsafe descriptor(physicalAddress(of: object) >> Self.pageShift)
    switch unsafe frame.pointee.kind {
    case .slab, .slabTail: return unsafe cache(Int(frame.pointee.cache)).pointee.objectSize
    case .slob: return unsafe slobSize(of: object)
    case .heapPages: return unsafe Int(truncatingIfNeeded: frame.pointee.index) &* Self.pageSize
    default: fail("a pointer that is no object of the heap")
    }
  }

  @inline(never)
  func allocatePages(size: Int, alignment: Int, options: AllocationOptions) -> UnsafeMutableRawPointer? {
    guard size <= Int.max &- Self.pageSize else { return nil }
    let count = max(1, (size &+ Self.pageSize &- 1) >> Int(Self.pageShift))
    let step = max(1, alignment >> Int(Self.pageShift))
    let block: Buddy.Block
    do throws(Errno) {
      block = try takeRun(count: count, alignment: step, options: options.intersection([.atomic, .reserved]))
    } catch {
      return nil
    }
    let head = unsafe descriptor(block.number)
    unsafe prepare(head, order: 0, references: 0)
    unsafe head.pointee.kind = .heapPages
    unsafe head.pointee.index = UInt64(count)
    unsafe state.pointee.heapPageFrames.wrappingAdd(count, ordering: .relaxed)
    return unsafe pointer(to: PageFrameNumber(block.number))
  }

  @inline(never)
  private func freePages(
    _ object: UnsafeMutableRawPointer, _ number: UInt64, _ head: UnsafeMutablePointer<FrameDescriptor>
  ) {
    guard unsafe head.pointee.kind == .heapPages && physicalAddress(of: object) & 4095 == 0 else {
      fail("a pointer that is no object of the heap was freed")
    }
    let count = unsafe Int(truncatingIfNeeded: head.pointee.index)
    unsafe head.pointee.kind = .unused
    unsafe state.pointee.heapPageFrames.wrappingSubtract(count, ordering: .relaxed)
    giveBackRange(number, count: count)
  }

  /// When no free object is at hand: ordinary memory, the reserve, the handler, the end.
  @inline(never)
  func heapAllocateOrFail(size: Int, alignment: Int) -> UnsafeMutableRawPointer {
    if let object = unsafe heapAllocate(size: size, alignment: alignment, options: []) { return unsafe object }
    var rounds = 0
    while true {
      if let object = unsafe heapAllocate(size: size, alignment: alignment, options: .reserved) { return unsafe object }
      rounds &+= 1
      guard rounds < 1000, let handler = KernelHeap.outOfMemoryHandler, handler() else {
        fail("the kernel heap is exhausted")
      }
    }
  }

  private static func cacheName(_ index: Int) -> StaticString {
    switch SizeClass.size(index) {
    case 16: "heap-16"
    case 32: "heap-32"
    case 48: "heap-48"
    case 64: "heap-64"
    case 80: "heap-80"
    case 96: "heap-96"
    case 112: "heap-112"
    case 128: "heap-128"
    case 160: "heap-160"
    case 192: "heap-192"
    case 224: "heap-224"
    case 256: "heap-256"
    case 320: "heap-320"
    case 384: "heap-384"
    case 448: "heap-448"
    case 512: "heap-512"
    case 576: "heap-576"
    case 640: "heap-640"
    case 768: "heap-768"
    case 896: "heap-896"
    case 1024: "heap-1024"
    case 1280: "heap-1280"
    case 1536: "heap-1536"
    case 1792: "heap-1792"
    case 2048: "heap-2048"
    case 2560: "heap-2560"
    case 3072: "heap-3072"
    case 3584: "heap-3584"
    case 4096: "heap-4096"
    case 5120: "heap-5120"
    case 6144: "heap-6144"
    case 7168: "heap-7168"
    default: "heap-8192"
    }
  }
}

// What the Swift runtime's `posix_memalign` and `free` call (Sources/Machine/C/heap.c). The result is never nil.

@c(apus_heap_allocate)
public func heapAllocate(_ alignment: Int, _ size: Int) -> UnsafeMutableRawPointer? {
  LockOrder.allocates()
  let memory = PhysicalMemory.system
  if size <= SizeClass.largest && alignment <= PhysicalMemory.pageSize,
    let object = unsafe memory.pop(memory.magazine(SizeClass.index(size: size, alignment: alignment)))
  {
    return unsafe object
  }
  return unsafe memory.heapAllocateOrFail(size: size, alignment: alignment)
}

@c(apus_heap_free)
public func heapFree(_ object: UnsafeMutableRawPointer) {
  LockOrder.allocates()
  unsafe PhysicalMemory.system.heapFree(object)
}
