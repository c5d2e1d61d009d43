import Dispatch
import KernelCore
import LinuxABI
import Machine
import Synchronization
import TestSupport
import Testing

@testable import PhysicalMemory

/// A piece of the heap with a pattern in it that nobody else writes.
private struct Piece: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  let size: Int
  let mark: UInt8

  func fill() { unsafe pointer.initializeMemory(as: UInt8.self, repeating: mark, count: size) }
  var isIntact: Bool {
    unsafe UnsafeRawBufferPointer(start: pointer, count: size).allSatisfy { $0 == mark }
  }
}

@Suite struct KernelHeapTests {
  @Test func `every size has a class that holds it and wastes at most a quarter or 15 bytes`() {
    for size in 1...SizeClass.largest {
      let index = SizeClass.index(size: size, alignment: 16)
      let found = SizeClass.size(index)
      #expect(found >= size && (index == 0 || SizeClass.size(index - 1) < size))
      #expect(found - size <= max(15, size / 4))
    }
    for index in 1..<SizeClass.count { #expect(SizeClass.size(index) > SizeClass.size(index - 1)) }
  }

  @Test func `offsets are divided exactly for every object size`() throws {
    let test = TestMemory(megabytes: 16)
    for index in 0..<SizeClass.count {
      let size = SizeClass.size(index)
      for offset in 0...32768 {
        let quotient = unsafe test.memory.cache(index).pointee.quotient(offset)
        if quotient != offset / size { Issue.record("\(offset) / \(size) is not \(quotient)") }
      }
    }
  }

  @Test func `each CPU's stock fits into its place`() {
    #expect(MemoryLayout<LocalFrames>.size <= LocalMemory.framesSize)
    #expect(MemoryLayout<Magazine>.size <= Magazine.stride)
    #expect(MemoryLayout<FrameDescriptor>.stride == 40)
  }

  @Test(arguments: [false, true])
  func `alignments are honoured`(onSlob: Bool) {
    let test = TestMemory(megabytes: 32, usesSlob: onSlob)
    for shift in 0...16 {
      for size in [1, 16, 100, 600, 4096, 5000, 10_000] {
        let object = unsafe test.memory.heapAllocate(size: size, alignment: 1 << shift, options: [])!
        #expect(UInt(bitPattern: object) % 16 == 0)
        #expect(unsafe test.memory.physicalAddress(of: object) % (1 << UInt64(shift)) == 0)
        #expect(unsafe test.memory.heapSize(of: object) >= size)
      }
    }
  }

  @Test(arguments: [false, true])
  func `objects keep their contents and never overlap over random steps`(onSlob: Bool) {
    var random = SeededGenerator("heap")
    let test = TestMemory(megabytes: 32, usesSlob: onSlob)
    let initial = test.free
    var pieces: [Piece] = []
    for step in 0..<SeededGenerator.modelSteps(60_000) {
      if random.below(100) < (step % 60_000 < 33_000 ? 60 : 38) {
        let size =
          switch random.below(20) {
          case 0: random.below(40_000)
          case 1, 2: random.below(9000)
          default: random.below(700)
          }
        let alignment = random.below(8) == 0 ? 1 << random.below(13) : 16
        guard let object = unsafe test.memory.heapAllocate(size: size, alignment: alignment, options: []) else {
          continue
        }
        let piece = unsafe Piece(pointer: object, size: size, mark: UInt8(truncatingIfNeeded: random.next()))
        piece.fill()
        pieces.append(piece)
      } else if !pieces.isEmpty {
        pieces.swapAt(random.below(pieces.count), pieces.count - 1)
        let piece = pieces.removeLast()
        if !piece.isIntact {
          Issue.record("step \(step): an object of \(piece.size) bytes was overwritten")
          return
        }
        unsafe test.memory.heapFree(piece.pointer)
      }
    }
    for piece in pieces {
      #expect(piece.isIntact)
      unsafe test.memory.heapFree(piece.pointer)
    }
    test.memory.trimCaches()
    test.memory.drainLocalFrames()
    #expect(test.memory.slabStatistics().allSatisfy { $0.activeObjects == 0 && $0.slabs == 0 })
    #expect(test.memory.statistics().slobObjects == 0)
    #expect(test.free == initial)
    test.checkZone()
  }

  @Test func `a heap that is used up answers nil, then uses the reserve`() {
    let test = TestMemory(megabytes: 16)
    let initial = test.free
    let reserve = test.memory.statistics().minimum + test.memory.statistics().setAside
    for size in [64, 3000, 8192, 50_000] {
      var objects: [UnsafeMutableRawPointer] = []
      while let object = unsafe test.memory.heapAllocate(size: size, alignment: 16, options: []) {
        unsafe objects.append(object)
      }
      let ordinary = unsafe objects.count
      // The reserve is 16 frames here, whose pieces a small object can use.
      if size < 4096 { #expect(unsafe test.memory.heapAllocate(size: size, alignment: 16, options: .reserved) != nil) }
      #expect(ordinary * size > (initial - reserve) * 4096 * 3 / 4)
      for object in unsafe objects { unsafe test.memory.heapFree(object) }
      test.memory.trimCaches()
      test.memory.drainLocalFrames()
      #expect(initial - test.free <= 2 * 8)  // the slab of the object from the reserve
    }
    #expect(unsafe test.memory.heapAllocate(size: .max, alignment: 16, options: []) == nil)
  }

  @Test func `the out-of-memory handler is asked, and the kernel ends when it has nothing`() async {
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      nonisolated(unsafe) var held: [UnsafeMutableRawPointer] = []
      nonisolated(unsafe) var calls = 0
      let memory = test.memory
      KernelHeap.outOfMemoryHandler = {
        calls += 1
        guard calls < 5, let object = unsafe held.popLast() else { return false }
        unsafe memory.heapFree(object)
        return true
      }
      while true { unsafe held.append(memory.heapAllocateOrFail(size: 100_000, alignment: 16)) }
    }
  }

  @Test func `caches for one kind of object hand out distinct memory`() throws {
    let test = TestMemory(megabytes: 16)
    let index = try test.memory.makeCache(name: "test", objectSize: 200)
    let cache = SlabCache(memory: test.memory, index: index)
    var seen: Set<UInt> = []
    for _ in 0..<1000 { seen.insert(UInt(bitPattern: try unsafe cache.allocate())) }
    #expect(seen.count == 1000)
    #expect(test.memory.slabStatistics()[index].activeObjects == 1000)
    for object in seen { unsafe cache.free(UnsafeMutableRawPointer(bitPattern: object)!) }
    #expect(test.memory.slabStatistics()[index].activeObjects == 0)
    #expect(throws: Errno.EINVAL) { try test.memory.makeCache(name: "large", objectSize: 10_000) }
  }

  @Test(arguments: [false, true])
  func `CPUs that allocate and free each other's objects at the same time keep them apart`(onSlob: Bool) {
    let test = TestMemory(megabytes: 64, usesSlob: onSlob)
    let initial = test.free
    let shared = SpinLock<[Piece]>([], rank: .device)
    let damaged = Atomic<Int>(0)
    let memory = test.memory
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      var random = SeededGenerator("heap on several CPUs")
      var own: [Piece] = []
      for step in 0..<SeededGenerator.steps(15_000) {
        if own.count < 500, random.below(2) == 0 {
          let size = random.below(random.below(10) == 0 ? 20_000 : 600)
          guard let object = unsafe memory.heapAllocate(size: size, alignment: 16, options: []) else { continue }
          let piece = unsafe Piece(pointer: object, size: size, mark: UInt8(truncatingIfNeeded: step &+ worker))
          piece.fill()
          own.append(piece)
        } else if let piece = own.popLast() {
          let other: Piece? = shared.withLock { pieces in
            pieces.append(piece)
            return pieces.count > 200 ? pieces.remove(at: random.below(pieces.count)) : nil
          }
          if let other {
            if !other.isIntact { damaged.wrappingAdd(1, ordering: .relaxed) }
            unsafe memory.heapFree(other.pointer)
          }
        }
        if step % 16 == 0, let frame = try? memory.allocate(order: step % 3, options: []) { memory.free(frame) }
      }
      for piece in own {
        if !piece.isIntact { damaged.wrappingAdd(1, ordering: .relaxed) }
        unsafe memory.heapFree(piece.pointer)
      }
      memory.trimCaches()
      memory.drainLocalFrames()
    }
    for piece in shared.withLock({ $0 }) { unsafe memory.heapFree(piece.pointer) }
    memory.trimCaches()
    memory.drainLocalFrames()
    #expect(damaged.load(ordering: .relaxed) == 0)
    // Magazines of threads that worked twice were emptied by the thread itself.
    #expect(test.memory.slabStatistics().allSatisfy { $0.activeObjects == 0 })
    #expect(test.memory.statistics().slobObjects == 0)
    #expect(test.free == initial)
    test.checkZone()
  }

  @Test func `shrinkers are asked when memory is short, and only one at a time`() throws {
    final class Cache: Shrinker, @unchecked Sendable {
      // A shrinker is registered for good, so its memory has to stay.
      let test: TestMemory
      var memory: PhysicalMemory { test.memory }
      var frames: [PageFrameNumber] = []
      var calls = 0
      init(_ test: TestMemory) { self.test = test }
      func reclaim(frames wanted: Int) -> Int {
        calls += 1
        #expect(Shrinkers.reclaim(frames: 1) == 0)
        var freed = 0
        while freed < wanted, let frame = frames.popLast() {
          memory.free(frame)
          freed += 1
        }
        memory.drainLocalFrames()
        return freed
      }
    }
    let test = TestMemory(megabytes: 16)
    let cache = Cache(test)
    while let frame = try? test.memory.allocate(order: 0, options: []) { cache.frames.append(frame) }
    Shrinkers.register(cache)
    _ = try test.memory.allocate(order: 0, options: .mayReclaim)
    #expect(cache.calls >= 1)
    #expect(throws: Errno.ENOMEM) { try test.memory.allocateRun(count: 100_000, alignment: 1, options: .mayReclaim) }
    #expect(cache.frames.isEmpty)
  }
}
