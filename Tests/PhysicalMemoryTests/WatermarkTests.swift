import LinuxABI
import Synchronization
import TestSupport
import Testing

@testable import PhysicalMemory

private final class Waker: ReclaimWaker {
  let calls = Mutex<[(node: Int, order: Int)]>([])
  func memoryIsShort(node: Int, order: Int) { calls.withLock { $0.append((node, order)) } }
  func take() -> [(node: Int, order: Int)] {
    calls.withLock { calls in
      defer { calls = [] }
      return calls
    }
  }
}

@Suite struct WatermarkTests {
  @Test func `a zone is OK for an order when it has such a block above the mark`() throws {
    var random = SeededGenerator("watermarks")
    let test = TestMemory(megabytes: 32)
    let zone = MemoryZone(test.memory, index: 0)
    #expect(zone.level(.minimum) < zone.level(.low) && zone.level(.low) < zone.level(.high))
    for order in 0...10 { #expect(zone.isOK(order: order, mark: .high)) }
    var held: [PageFrameNumber] = []
    while let frame = try? test.memory.allocate(order: 0, options: [.movable, .reserved]) { held.append(frame) }
    test.memory.drainLocalFrames()
    for order in 0...10 { #expect(!zone.isOK(order: order, mark: .low)) }
    // Every second frame comes back: much is free, but in single frames.
    for frame in held where frame.rawValue % 2 == 0 { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(zone.free > zone.level(.high) * 2)
    #expect(zone.isOK(order: 0, mark: .high))
    for order in 1...10 { #expect(!zone.isOK(order: order, mark: .minimum)) }
    // One frame more, and there is a block of two.
    let odd = held.filter { $0.rawValue % 2 == 1 && $0 < zone.end }
    test.memory.free(odd[random.below(odd.count)])
    test.memory.drainLocalFrames()
    #expect(zone.isOK(order: 1, mark: .low) && !zone.isOK(order: 2, mark: .low))
  }

  @Test func `watermarks can be moved, within bounds`() {
    let test = TestMemory(megabytes: 64)
    let zone = MemoryZone(test.memory, index: 0)
    let atBoot = zone.level(.minimum)
    for (minimum, scale) in [(1000, 10), (1000, 1000), (0, 1), (1 << 40, 3000), (atBoot, 10)] {
      test.memory.setWatermarks(minimum: minimum, scale: scale)
      let level = zone.level(.minimum)
      #expect(level == min(max(minimum, atBoot / 4), zone.frameCount / 4))
      let distance = max(level / 4, zone.frameCount * scale / 10_000)
      #expect(zone.level(.low) == level + distance && zone.level(.high) == level + 2 * distance)
    }
    #expect(test.memory.statistics().minimum == atBoot)
  }

  @Test func `reclaim is woken once for a shortage, with the order that was missed`() throws {
    let test = TestMemory(megabytes: 16)
    let waker = Waker()
    test.memory.install(waker)
    var held: [PageFrameNumber] = []
    while MemoryZone(test.memory, index: 0).isOK(order: 0, mark: .low) {
      #expect(waker.take().isEmpty)
      for _ in 0..<8 { held.append(try test.memory.allocate(order: 0, options: .movable)) }
    }
    while let frame = try? test.memory.allocate(order: 0, options: [.movable, .reserved]) { held.append(frame) }
    let calls = waker.take()
    #expect(calls.count == 1 && calls.first?.node == 0 && calls.first?.order == 0)
    #expect(test.memory.takeShortage() > 0)
    #expect(test.memory.takeWantedOrder() == 0)
    for frame in held where frame.rawValue % 2 == 0 { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 3, options: []) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 3, options: []) }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 2, options: []) }
    let more = waker.take()
    #expect(more.count == 1 && more.first?.order == 3)
    #expect(test.memory.takeWantedOrder() == 3 && test.memory.takeWantedOrder() == 0)
  }

  @Test(arguments: [false, true])
  func `who is woken for a shortage may use the heap, whose allocation it was`(onSlob: Bool) throws {
    final class HeapUser: ReclaimWaker {
      let memory: PhysicalMemory
      var calls = 0
      init(_ memory: PhysicalMemory) { self.memory = memory }
      func memoryIsShort(node: Int, order: Int) {
        calls += 1
        for size in [64, 500, 4000] {
          if let object = unsafe memory.heapAllocate(size: size, alignment: 16, options: .reserved) {
            unsafe memory.heapFree(object)
          }
        }
      }
    }
    let test = TestMemory(megabytes: 16, usesSlob: onSlob)
    let waker = HeapUser(test.memory)
    test.memory.install(waker)
    for size in [64, 500, 4000] {
      var objects: [UnsafeMutableRawPointer] = unsafe []
      while let object = unsafe test.memory.heapAllocate(size: size, alignment: 16, options: []) {
        unsafe objects.append(object)
      }
      // The note stays for the next one who holds no lock.
      #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 0, options: []) }
      for object in unsafe objects { unsafe test.memory.heapFree(object) }
      test.memory.trimCaches()
      test.memory.drainLocalFrames()
      #expect(waker.calls > 0 && test.memory.takeShortage() == 0)
      waker.calls = 0
    }
  }

  @Test func `compaction finds movable frames from below and free ones from above`() throws {
    var random = SeededGenerator("scanners")
    let test = TestMemory(megabytes: 32)
    let initial = test.free
    let zone = MemoryZone(test.memory, index: 0)
    var held: Set<PageFrameNumber> = []
    var kernel: Set<PageFrameNumber> = []
    for _ in 0..<300 { kernel.insert(try test.memory.allocate(order: random.below(3), options: [])) }
    while let frame = try? test.memory.allocate(order: 0, options: .movable) { held.insert(frame) }
    for frame in held.sorted() where random.below(4) != 0 {
      held.remove(frame)
      test.memory.free(frame)
    }
    test.memory.drainLocalFrames()
    // The scan finds exactly the frames that are held.
    var found: Set<PageFrameNumber> = []
    var next = zone.first
    while let frame = zone.nextMovableFrame(from: next, below: zone.end) {
      found.insert(frame)
      next = frame.advanced(by: 1)
    }
    #expect(found == held)
    // A compaction, as its owner would do it, ends with large blocks.
    #expect(!zone.isOK(order: 9, mark: .low))
    do {
      var targets = FreeFrames(from: zone.end, test.memory)
      next = zone.first
      while let source = zone.nextMovableFrame(from: next, below: targets.scanned) {
        if targets.count == 0, !zone.isolateFreeFrames(&targets, count: 16, above: source), targets.count == 0 { break }
        guard let target = targets.take() else { break }
        #expect(target > source || targets.scanned <= source)
        #expect(!held.contains(target) && !kernel.contains(target))
        held.remove(source)
        test.memory.free(source)
        held.insert(target)
        next = source.advanced(by: 1)
      }
    }
    test.memory.drainLocalFrames()
    test.checkZone()
    #expect(zone.isOK(order: 9, mark: .low))
    for frame in held.union(kernel) { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
  }

  @Test func `nodes have zones of their own, and allocations stay at home while they can`() throws {
    let test = TestMemory(megabytes: 128, nodes: 4)
    #expect(unsafe test.memory.state.pointee.nodeCount == 4)
    let zones = test.memory.zoneStatistics()
    #expect(zones.map(\.node) == [0, 1, 2, 3])
    #expect(zones.reduce(0) { $0 + $1.frames } + test.memory.statistics().reserved == 128 << 8)
    let home = test.memory.localNode
    let homeFrames = zones[home].frames
    var counts = [0, 0, 0, 0]
    var frames: [PageFrameNumber] = []
    while let frame = try? test.memory.allocate(order: 0, options: .movable) {
      let node = test.memory.node(of: frame)
      if frames.count < homeFrames / 2 { #expect(node == home) }
      counts[node] += 1
      frames.append(frame)
    }
    #expect(counts.allSatisfy { $0 > homeFrames * 3 / 4 })
    for frame in frames { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    test.checkZone()
  }

  @Test func `a full node is left alone while others have memory, and then all are woken`() throws {
    let test = TestMemory(megabytes: 128, nodes: 4)
    let waker = Waker()
    test.memory.install(waker)
    let zones = (0..<4).map { MemoryZone(test.memory, index: $0) }
    var frames: [PageFrameNumber] = []
    while waker.calls.withLock({ $0.isEmpty }) {
      // Nobody is woken while a node could still give a batch.
      frames.append(try test.memory.allocate(order: 0, options: .movable))
    }
    for zone in zones {
      #expect(zone.free >= zone.level(.minimum) && zone.free < zone.level(.low) + 64, "node \(zone.node)")
    }
    #expect(Set(waker.take().map(\.node)).isSuperset(of: [test.memory.localNode]))
    #expect((0..<4).map { test.memory.shortage(of: $0) }.reduce(0, +) == test.memory.shortage)
    // One node gets some back: only it is used, and larger blocks come from it as well.
    let rich = (test.memory.localNode + 2) % 4
    for frame in frames where test.memory.node(of: frame) == rich { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(test.memory.shortage(of: rich) == 0)
    for order in [0, 6, 9] {
      #expect(test.memory.node(of: try test.memory.allocate(order: order, options: .movable)) == rich)
    }
  }
}
