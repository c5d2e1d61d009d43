import KernelCore
import LinuxABI
import Machine
import TestSupport
import Testing

@testable import PhysicalMemory

/// Which frames are taken, as the test knows it.
private final class FrameModel {
  private var taken: [Bool]
  init(count: Int) { taken = [Bool](repeating: false, count: count) }
  func take(_ number: PageFrameNumber, _ count: Int) -> Bool {
    for index in Int(number.rawValue)..<Int(number.rawValue) + count {
      if taken[index] { return false }
      taken[index] = true
    }
    return true
  }
  func giveBack(_ number: PageFrameNumber, _ count: Int) {
    for index in Int(number.rawValue)..<Int(number.rawValue) + count { taken[index] = false }
  }
}

@Suite struct FrameAllocatorTests {
  @Test func `blocks never overlap, are aligned and all come back over random steps`() throws {
    var random = SeededGenerator("frames")
    let test = TestMemory(megabytes: 32)
    let initial = test.free
    let model = FrameModel(count: 32 << 8)
    var blocks: [(number: PageFrameNumber, order: Int, count: Int)] = []
    var held = 0
    for step in 0..<SeededGenerator.modelSteps(40_000) {
      let growing = step % 40_000 < 24_000
      if random.below(10) < (growing ? 7 : 3) {
        let kind = random.below(20)
        do throws(Errno) {
          if kind == 0 {
            let count = 1 + random.below(random.below(10) == 0 ? 3000 : 60)
            let alignment = 1 << random.below(7)
            let number = try test.memory.allocateRun(count: count, alignment: alignment, options: [])
            #expect(number.rawValue % UInt64(alignment) == 0)
            #expect(model.take(number, count))
            blocks.append((number, -1, count))
            held += count
          } else {
            let order = kind < 12 ? 0 : random.below(random.below(5) == 0 ? 11 : 4)
            let number = try test.memory.allocate(order: order, options: [])
            #expect(number.rawValue % (1 << UInt64(order)) == 0)
            #expect(model.take(number, 1 << order))
            #expect(test.memory.frame(number).referenceCount == 1)
            blocks.append((number, order, 1 << order))
            held += 1 << order
          }
        } catch {
          #expect(error == .ENOMEM)
        }
      } else if !blocks.isEmpty {
        blocks.swapAt(random.below(blocks.count), blocks.count - 1)
        let block = blocks.removeLast()
        model.giveBack(block.number, block.count)
        held -= block.count
        if block.order >= 0 {
          if block.order > 0, random.below(8) == 0 {
            test.memory.split(block.number)
            for index in 0..<block.count { test.memory.free(block.number.advanced(by: index)) }
          } else {
            test.memory.free(block.number)
          }
        } else {
          for index in 0..<block.count { test.memory.frame(block.number.advanced(by: index)).release() }
        }
      }
      if step % 10_000 == 0 {
        #expect(test.free == initial - held)
        test.checkZone()
      }
    }
    for block in blocks {
      if block.order >= 0 {
        test.memory.free(block.number)
      } else {
        for index in 0..<block.count { test.memory.free(block.number.advanced(by: index)) }
      }
    }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
    test.checkZone()
    // Everything has become large blocks again.
    #expect(throws: Never.self) { try test.memory.allocateRun(count: 4096, alignment: 1024, options: []) }
  }

  @Test func `memory that is used up gives ENOMEM, leaves the reserve, and comes back`() throws {
    let test = TestMemory(megabytes: 16)
    let initial = test.free
    let (minimum, setAside) = (test.memory.statistics().minimum, test.memory.statistics().setAside)
    #expect(minimum > 0 && setAside > 0)
    var frames: [PageFrameNumber] = []
    func takeAll(_ options: AllocationOptions) {
      while true {
        do throws(Errno) { frames.append(try test.memory.allocate(order: 0, options: options)) } catch {
          #expect(error == .ENOMEM)
          return
        }
      }
    }
    takeAll([])
    #expect(test.free == minimum + setAside)
    #expect(test.memory.isExhausted([]))
    #expect(test.memory.isShort)
    #expect(test.memory.takeShortage() > 0)
    #expect(!test.memory.isShort)
    takeAll([.atomic])
    #expect(test.memory.isShort)
    #expect(test.free == minimum / 2 + setAside)
    takeAll([.reserved])
    #expect(test.free == 0)
    #expect(frames.count == initial)
    #expect(Set(frames).count == initial)
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 3, options: .reserved) }
    for frame in frames { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
    #expect(!test.memory.isExhausted([]) && test.memory.shortage == 0)
    test.checkZone()
  }

  @Test func `a frame asked for zeroed reads as zero, whatever was there before`() throws {
    var random = SeededGenerator("zeroed")
    let test = TestMemory(megabytes: 16)
    var blocks: [(PageFrameNumber, Int)] = []
    for step in 0..<SeededGenerator.steps(10_000) {
      if random.below(10) < (step % 4000 < 2400 ? 7 : 2) {
        let order = random.below(3) == 0 ? random.below(6) : 0
        let wantsZero = random.below(2) == 0
        guard let number = try? test.memory.allocate(order: order, options: wantsZero ? .zeroed : []) else { continue }
        let words = unsafe test.bytes(number, frames: 1 << order)
        if wantsZero { #expect(unsafe words.allSatisfy { $0 == 0 }) }
        // Dirty one word or all; the allocator must assume the worst.
        if random.below(2) == 0 {
          unsafe words.update(repeating: ~0)
        } else {
          unsafe words[random.below(words.count)] = 1
        }
        blocks.append((number, order))
      } else if !blocks.isEmpty {
        blocks.swapAt(random.below(blocks.count), blocks.count - 1)
        test.memory.free(blocks.removeLast().0)
      }
    }
  }

  @Test func `starting with a gigabyte touches next to nothing`() throws {
    let test = TestMemory(megabytes: 1024)
    #expect(test.residentPages <= 12)
    let before = test.residentPages
    // Taking a block in the middle costs its descriptor, not those before it.
    let block = try test.memory.allocate(order: 10, options: .zeroed)
    #expect(test.residentPages - before <= 12)
    test.memory.free(block)
    // What was never used lies untouched, lowest first.
    let first = try test.memory.allocate(order: 0, options: [])
    let second = try test.memory.allocate(order: 0, options: [])
    #expect(second.rawValue == first.rawValue + 1)
  }

  @Test func `the machine's memory is set up once and reached through the public names`() throws {
    let boot = unsafe machine_fake_boot_info(64 << 20)!
    unsafe PhysicalMemory.initialize(boot)
    let before = unsafe PhysicalMemory.system.state
    unsafe PhysicalMemory.initialize(boot)
    #expect(unsafe PhysicalMemory.system.state == before)
    let number = try FrameAllocator.allocate(order: 1, options: .zeroed)
    let pointer = unsafe DirectMap.pointer(to: number)
    #expect(unsafe DirectMap.physicalAddress(of: pointer + 5) == number.physicalAddress + 5)
    #expect(unsafe pointer == number.pointer && number.frame.order == 1)
    FrameAllocator.free(number)
    let object = try unsafe KernelHeap.allocate(size: 5000)
    #expect(unsafe KernelHeap.usableSize(of: object) == 5120)
    unsafe KernelHeap.free(object)
    #expect(throws: Errno.EINVAL) { try unsafe KernelHeap.allocate(size: -1) }
    #expect(throws: Errno.ENOMEM) { try unsafe KernelHeap.allocate(size: .max) }
    #expect(MemoryStatistics.snapshot().total == Int(unsafe boot.pointee.memory_size >> 12))
    #expect(ZoneStatistics.snapshot().count == 1 && SlabStatistics.snapshot().count >= SizeClass.count)
  }

  @Test func `memory that the machine does not clear is not taken for zero`() throws {
    let test = TestMemory(megabytes: 16)
    let block = try test.memory.allocate(order: 10, options: [])
    unsafe test.bytes(block, frames: 1024).update(repeating: 1)
    test.memory.free(block)
    // The fake machine keeps the contents.
    #expect(test.memory.releaseFreeBlocks(limit: 10_000) == 0)
    let again = try test.memory.allocate(order: 10, options: .zeroed)
    #expect(unsafe test.bytes(again, frames: 1024).allSatisfy { $0 == 0 })
  }

  @Test func `a frame lives until its last reference is released`() throws {
    let test = TestMemory(megabytes: 16)
    let frame = test.memory.frame(try test.memory.allocate(order: 0, options: []))
    let free = test.free
    frame.retain()
    frame.retain(count: 3)
    #expect(frame.referenceCount == 5)
    for _ in 0..<4 { #expect(!frame.release()) }
    #expect(frame.retainIfReferenced())
    #expect(!frame.release())
    #expect(frame.release())
    #expect(!frame.retainIfReferenced())
    #expect(test.free == free + 1)
  }

  @Test func `descriptors keep flags, owner, index and links, and start empty again`() throws {
    let test = TestMemory(megabytes: 16)
    let number = try test.memory.allocate(order: 0, options: [])
    let frame = test.memory.frame(number)
    #expect(frame.set([.dirty, .active]) == [])
    #expect(frame.clear(.dirty) == [.dirty, .active])
    #expect(frame.flags == .active)
    unsafe frame.setOwner(UnsafeRawPointer(bitPattern: 0x1000), index: 77)
    frame.next = PageFrameNumber(5)
    frame.previous = nil
    #expect(unsafe frame.index == 77 && frame.owner == UnsafeRawPointer(bitPattern: 0x1000))
    #expect(frame.next == PageFrameNumber(5) && frame.previous == nil)
    #expect(frame.addMapping() == 1 && frame.removeMapping() == 0)
    test.memory.free(number)
    let again = test.memory.frame(try test.memory.allocate(order: 0, options: []))
    #expect(again == frame && again.flags == [] && again.index == 0 && again.next == nil)
    #expect(unsafe again.owner == nil)
  }

  @Test func `impossible requests are refused`() {
    let test = TestMemory(megabytes: 16)
    #expect(throws: Errno.EINVAL) { try test.memory.allocate(order: 11, options: []) }
    #expect(throws: Errno.EINVAL) { try test.memory.allocate(order: -1, options: []) }
    #expect(throws: Errno.EINVAL) { try test.memory.allocateRun(count: 0, alignment: 1, options: []) }
    #expect(throws: Errno.EINVAL) { try test.memory.allocateRun(count: 1, alignment: 3, options: []) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocateRun(count: 1 << 40, alignment: 1, options: []) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocateRun(count: .max, alignment: 1 << 40, options: []) }
  }

  @Test func `statistics add up`() throws {
    let test = TestMemory(megabytes: 16)
    let block = try test.memory.allocate(order: 4, options: [])
    _ = try test.memory.allocate(order: 0, options: [])
    _ = unsafe test.memory.heapAllocate(size: 100, alignment: 16, options: [])
    _ = unsafe test.memory.heapAllocate(size: 100_000, alignment: 16, options: [])
    let all = test.memory.statistics()
    #expect(all.total == 4096)
    #expect(all.heapPages == 25)
    #expect(all.reserved + all.free + all.slab + all.heapPages + 17 == all.total)
    let zone = test.memory.zoneStatistics()[0]
    #expect(zone.freeBlocks.enumerated().reduce(0) { $0 + $1.element << $1.offset } == zone.free)
    #expect(zone.free + all.local == all.free)
    let slab = test.memory.slabStatistics().first { $0.objectSize == 112 }
    #expect(slab?.activeObjects == 1)
    test.memory.free(block)
  }

  @Test func `damage is detected`() async {
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let number = try test.memory.allocate(order: 0, options: [])
      test.memory.free(number)
      test.memory.free(number)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let number = try test.memory.allocate(order: 2, options: [])
      test.memory.frame(number).retain()
      test.memory.free(number)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let number = try test.memory.allocate(order: 2, options: [])
      test.memory.free(number.advanced(by: 1))
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let number = try test.memory.allocate(order: 0, options: [])
      test.memory.frame(number).addMapping()
      test.memory.free(number)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let object = unsafe test.memory.heapAllocate(size: 64, alignment: 16, options: [])!
      unsafe test.memory.heapFree(object)
      unsafe test.memory.heapFree(object)
    }
    await #expect(processExitsWith: .exitCode(125)) {
      let test = TestMemory(megabytes: 16)
      let number = try test.memory.allocate(order: 0, options: [])
      unsafe test.memory.heapFree(test.memory.pointer(to: number))
    }
  }
}
