import LinuxABI
import TestSupport
import Testing

@testable import PhysicalMemory

@Suite struct MigrateTypeTests {
  private func type(_ test: TestMemory, _ number: PageFrameNumber) -> MigrateType {
    unsafe test.memory.state.pointee.pageBlocks.type(of: number.rawValue)
  }

  @Test func `frames of different types lie in different page blocks`() throws {
    var random = SeededGenerator("migrate types")
    let test = TestMemory(megabytes: 64)
    var held: [PageFrameNumber] = []
    for _ in 0..<4000 {
      let wanted = MigrateType(rawValue: UInt8(random.below(3)))!
      let option: AllocationOptions = wanted == .movable ? .movable : wanted == .reclaimable ? .reclaimable : []
      let number = try test.memory.allocate(order: random.below(8) == 0 ? random.below(4) : 0, options: option)
      #expect(type(test, number) == wanted)
      #expect(test.memory.frame(number).flags.contains(.movable) == (wanted == .movable))
      held.append(number)
      if random.below(3) == 0 {
        held.swapAt(random.below(held.count), held.count - 1)
        test.memory.free(held.removeLast())
      }
    }
    test.checkZone()
  }

  @Test func `extents that nobody touched are noted when they are broken up for movable memory`() throws {
    let test = TestMemory(megabytes: 512)
    let zone = unsafe test.memory.state.pointee.zones
    let buddy = unsafe test.memory.buddy(zone)
    func extents(_ type: MigrateType) -> [UInt64] {
      var extents: [UInt64] = []
      for _ in 0..<4 * 512 {
        let block = buddy.take(order: 0, type: type)
        let extent = unsafe test.memory.takeFreshExtent(zone)
        guard extent != 0 else { continue }
        extents.append(extent)
        #expect(block?.number == extent && block?.isKnownZero == true)
      }
      return extents
    }
    #expect(extents(.unmovable).isEmpty)
    let noted = extents(.movable)
    // All but the first, and what begins in the middle of one.
    #expect((3...4).contains(noted.count) && noted.allSatisfy { $0 % 512 == 0 })
    // What was used and is free again is not asked for: its pages are there.
    let first = noted[0]
    for number in first..<first + 512 { buddy.put(number, order: 0, isKnownZero: false) }
    while let block = buddy.takeListed(order: 0, type: .movable), block.number != first {}
    #expect(unsafe test.memory.takeFreshExtent(zone) != first)
  }

  @Test func `kernel objects scattered over a full memory do not keep large blocks from coming back`() throws {
    var random = SeededGenerator("grouping")
    let test = TestMemory(megabytes: 64)
    var movable: [PageFrameNumber] = []
    var kernel: [PageFrameNumber] = []
    // One frame in fifty is the kernel's, and stays.
    while true {
      do throws(Errno) {
        if random.below(50) == 0 { kernel.append(try test.memory.allocate(order: 0, options: [])) }
        movable.append(try test.memory.allocate(order: 0, options: .movable))
      } catch {
        break
      }
    }
    #expect(kernel.count > 200)
    for frame in movable { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    let largest = test.memory.zoneStatistics()[0].freeBlocks[PhysicalMemory.maximumOrder]
    // 16 such blocks there are at best; the kernel's frames fill a few page blocks.
    #expect(largest >= 10)
    test.checkZone()
  }

  @Test func `a run that the kernel cannot do without is found when memory is full of single frames`() throws {
    let test = TestMemory(megabytes: 32)
    var frames: [PageFrameNumber] = []
    while let frame = try? test.memory.allocate(order: 0, options: .movable) { frames.append(frame) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocateRun(count: 100, alignment: 1, options: []) }
    let object = unsafe test.memory.heapAllocateOrFail(size: 700_000, alignment: 16)
    let second = unsafe test.memory.heapAllocateOrFail(size: 100_000, alignment: 16)
    unsafe test.memory.heapFree(object)
    unsafe test.memory.heapFree(second)
    // What is set aside stays set aside.
    #expect(throws: Errno.ENOMEM) { try test.memory.allocateRun(count: 100, alignment: 1, options: []) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 0, options: .movable) }
    let third = unsafe test.memory.heapAllocateOrFail(size: 900_000, alignment: 16)
    unsafe test.memory.heapFree(third)
    for frame in frames { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    test.checkZone()
  }

  @Test func `random steps of all types and orders agree with a bitmap`() throws {
    var random = SeededGenerator("buddy")
    let megabytes = 24
    let test = TestMemory(megabytes: megabytes)
    let initial = test.free
    var taken = [Bool](repeating: false, count: megabytes << 8)
    var held: [(number: Int, order: Int)] = []
    var heldFrames = 0
    let steps = SeededGenerator.modelSteps(200_000)
    for step in 0..<steps {
      let growing = step % 20_000 < 12_000
      if random.below(10) < (growing ? 7 : 3) {
        var options: AllocationOptions = [[], .movable, .reclaimable][random.below(3)]
        switch random.below(40) {
        case 0: options.insert(.reserved)
        case 1: options.insert(.atomic)
        default: break
        }
        let order = random.below(3) == 0 ? random.below(random.below(4) == 0 ? 11 : 4) : 0
        guard let block = try? test.memory.allocate(order: order, options: options) else { continue }
        let number = Int(block.rawValue)
        if number % (1 << order) != 0 { Issue.record("not aligned at step \(step)") }
        for place in number..<number + 1 << order {
          if taken[place] { Issue.record("handed out twice at step \(step)") }
          taken[place] = true
        }
        held.append((number, order))
        heldFrames += 1 << order
      } else if !held.isEmpty {
        held.swapAt(random.below(held.count), held.count - 1)
        let (number, order) = held.removeLast()
        for place in number..<number + 1 << order { taken[place] = false }
        heldFrames -= 1 << order
        test.memory.free(PageFrameNumber(UInt64(number)))
      }
      if step % (steps / 20) == 0 {
        #expect(test.free == initial - heldFrames)
        test.checkZone()
      }
    }
    for block in held { test.memory.free(PageFrameNumber(UInt64(block.number))) }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
    test.checkZone()
  }

  @Test func `statistics by type add up`() throws {
    let test = TestMemory(megabytes: 64)
    for options in [[], .movable, .reclaimable] as [AllocationOptions] {
      for _ in 0..<100 { _ = try test.memory.allocate(order: 0, options: options) }
    }
    let zone = test.memory.zoneStatistics()[0]
    for order in 0...10 { #expect(zone.freeBlocksByType.reduce(0) { $0 + $1[order] } == zone.freeBlocks[order]) }
    let blocks = zone.pageBlocks
    #expect(blocks.allSatisfy { $0 > 0 })
    #expect(blocks.reduce(0, +) == 64 - Int(zone.first >> 8))
  }
}
