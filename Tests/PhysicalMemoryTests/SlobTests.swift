import LinuxABI
import TestSupport
import Testing

@testable import PhysicalMemory

@Suite struct SlobTests {
  private struct Object {
    var pointer: UnsafeMutableRawPointer
    var size: Int
    var mark: UInt8
  }

  @Test func `objects keep their contents and never overlap over random steps`() {
    var random = SeededGenerator("slob")
    let test = TestMemory(megabytes: 16, usesSlob: true)
    let initial = test.free
    var objects: [Object] = unsafe []
    for step in 0..<SeededGenerator.modelSteps(60_000) {
      if random.below(10) < (step % 20_000 < 11_000 ? 6 : 4) {
        let size = [random.below(64), random.below(300), random.below(2000), random.below(5000)][random.below(4)]
        let alignment = random.below(10) == 0 ? 16 << random.below(9) : 16
        guard let pointer = unsafe test.memory.heapAllocate(size: size, alignment: alignment, options: []) else {
          continue
        }
        #expect(unsafe UInt(bitPattern: pointer) % UInt(alignment) == 0)
        #expect(unsafe test.memory.heapSize(of: pointer) >= size)
        let mark = UInt8(truncatingIfNeeded: step)
        unsafe pointer.initializeMemory(as: UInt8.self, repeating: mark, count: test.memory.heapSize(of: pointer))
        unsafe objects.append(Object(pointer: pointer, size: size, mark: mark))
      } else if unsafe !objects.isEmpty {
        unsafe objects.swapAt(random.below(objects.count), objects.count - 1)
        let object = unsafe objects.removeLast()
        let bytes = unsafe UnsafeRawBufferPointer(
          start: object.pointer, count: test.memory.heapSize(of: object.pointer))
        if unsafe !bytes.allSatisfy({ $0 == object.mark }) { Issue.record("an object was overwritten") }
        unsafe test.memory.heapFree(object.pointer)
      }
    }
    for object in unsafe objects { unsafe test.memory.heapFree(object.pointer) }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
    #expect(test.memory.statistics().slab == 0 && test.memory.statistics().slobObjects == 0)
    test.checkZone()
  }

  @Test func `memory that is used up is nearly all objects, and comes back`() {
    let test = TestMemory(megabytes: 16, usesSlob: true)
    let initial = test.free
    let reserve = test.memory.statistics().minimum + test.memory.statistics().setAside
    for size in [16, 100, 600, 1300] {
      var objects: [UnsafeMutableRawPointer] = unsafe []
      while let object = unsafe test.memory.heapAllocate(size: size, alignment: 16, options: []) {
        unsafe objects.append(object)
      }
      #expect(unsafe objects.count * ((size + 15) & ~15) > (initial - reserve) * 4096 * 88 / 100)
      #expect(unsafe test.memory.heapAllocate(size: size, alignment: 16, options: .reserved) != nil)
      // Every second one, then the rest: neighbours become one.
      for index in unsafe 0..<objects.count where index % 2 == 0 { unsafe test.memory.heapFree(objects[index]) }
      for index in unsafe 0..<objects.count where index % 2 == 1 { unsafe test.memory.heapFree(objects[index]) }
      #expect(initial - test.free <= 4)
    }
  }

  @Test func `caches for one kind of object use it too`() throws {
    let test = TestMemory(megabytes: 16, usesSlob: true)
    let cache = try test.memory.makeCache(name: "test", objectSize: 72)
    let first = try #require(unsafe test.memory.allocateObject(cache: cache, options: []))
    let second = try #require(unsafe test.memory.allocateObject(cache: cache, options: []))
    #expect(unsafe second - first == 80)
    unsafe test.memory.heapFree(first)
    unsafe test.memory.heapFree(second)
    #expect(test.memory.statistics().slobBytes == 0)
  }

  @Test func `damage is detected`() async {
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16, usesSlob: true)
      _ = unsafe test.memory.heapAllocate(size: 64, alignment: 16, options: [])!
      let object = unsafe test.memory.heapAllocate(size: 64, alignment: 16, options: [])!
      unsafe test.memory.heapFree(object)
      unsafe test.memory.heapFree(object)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16, usesSlob: true)
      let object = unsafe test.memory.heapAllocate(size: 64, alignment: 16, options: [])!
      unsafe test.memory.heapFree(object + 8)
    }
  }
}
