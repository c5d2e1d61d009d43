// Pages of objects without a store go to swap and come back: shared memory, files of tmpfs.

import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  private func evictAll() {
    for _ in 0..<4 { _ = Reclaim().reclaim(frames: 4000) }
  }

  @Test func `shared pages go to swap and come back for everybody`() throws {
    _ = MemorySwapDevice.shared
    let slots = SwapSpace.freePages
    let before = VirtualMemoryStatistics.snapshot()
    do {
      let object = MemoryObject(store: nil, size: 600 * page)
      let spaces = try (0..<3).map { _ in try AddressSpace.create() }
      let addresses = try spaces.map { space in
        try space.map(at: 0, length: 600 * page, protection: [.read, .write], flags: .shared, object: object)
      }
      for index in 0..<600 as Range<UInt64> {
        try spaces[Int(index % 3)].store(index, addresses[Int(index % 3)] + index * page)
      }
      evictAll()
      #expect(object.residentPages < 100, "\(object.residentPages) of 600 pages stayed")
      #expect(object.allocatedPages == 600)
      #expect(SwapSpace.freePages <= slots - 500)
      #expect(object.swappedPages(0..<600) == 600 - object.residentPages)
      #expect(object.swappedPages(100..<200) <= 100)
      #expect(VirtualMemoryStatistics.snapshot().sharedMemoryPages - before.sharedMemoryPages == object.residentPages)
      #expect(ReclaimCheck.failures(spaces) == [])
      for space in spaces { #expect(TestMachine.isConsistent(space)) }
      #expect(TestMachine.audit(spaces))
      let absent = try #require((0..<600).first { !object.isResident($0) })
      #expect(object.hasPage(absent))
      for index in 0..<600 as Range<UInt64> {
        #expect(try spaces[Int((index + 1) % 3)].load(addresses[Int((index + 1) % 3)] + index * page) == index)
      }
      #expect(object.residentPages == 600 && SwapSpace.freePages == slots)
      #expect(ReclaimCheck.failures(spaces) == [])
      evictAll()
      for space in spaces { space.destroy() }
    }
    // With the object the names of its slots went.
    #expect(SwapSpace.freePages == slots && SwapSpace.cachedPages == 0)
    #expect(VirtualMemoryStatistics.snapshot().sharedMemoryPages == before.sharedMemoryPages)
  }

  @Test func `locked and pinned pages of objects and those that may not be swapped stay`() throws {
    _ = MemorySwapDevice.shared
    let object = MemoryObject(store: nil, size: 300 * page)
    let fixed = MemoryObject(store: nil, size: 50 * page, isSwappable: false)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 300 * page, protection: [.read, .write], flags: .shared, object: object)
    let other = try space.map(at: 0, length: 50 * page, protection: [.read, .write], flags: .shared, object: fixed)
    for index in 0..<300 as Range<UInt64> { try space.store(index, address + index * page) }
    for index in 0..<50 as Range<UInt64> { try space.store(index, other + index * page) }
    try space.lock(address, 50 * page, onFault: .now, isPrivileged: true)
    let runs = try space.pin(address + 50 * page, 50 * page)
    evictAll()
    #expect(space.residency(address, address + 100 * page).all == 100)
    #expect(object.residentPages < 200 && fixed.residentPages == 50)
    AddressSpace.unpin(runs)
    #expect(ReclaimCheck.failures([space]) == [])
    space.destroy()
  }

  @Test func `what is cut off an object on swap is gone, and the rest of its last page is zero`() throws {
    _ = MemorySwapDevice.shared
    let slots = SwapSpace.freePages
    let object = MemoryObject(store: nil, size: 0)
    let bytes = [UInt8](repeating: 7, count: 300 * 4096)
    #expect(try object.writeBytes(at: 0, bytes) == bytes.count)
    evictAll()
    #expect(object.residentPages < 50)
    object.truncate(to: 200 * page + 100)
    object.punchHole(from: 10 * page + 50, length: 20 * page)
    object.truncate(to: 300 * page)
    let read = try object.readBytes(at: 0, 300 * 4096)
    for (place, byte) in read.enumerated() {
      let isHole = place >= 10 * 4096 + 50 && place < 30 * 4096 + 50
      guard byte == (place < 200 * 4096 + 100 && !isHole ? 7 : 0) else {
        Issue.record("byte \(place) is \(byte)")
        break
      }
    }
    #expect(ReclaimCheck.failures([]) == [])
    object.truncate(to: 0)
    #expect(object.allocatedPages == 0 && SwapSpace.freePages == slots)
  }

  @Test func `swapoff brings the pages of objects back`() throws {
    _ = MemorySwapDevice.shared
    let device = MemorySwapDevice("/dev/third", pages: 1000)
    try SwapSpace.enable(device, priority: 7)
    let object = MemoryObject(store: nil, size: 0)
    #expect(try object.writeBytes(at: 0, [UInt8](repeating: 9, count: 400 * 4096)) == 400 * 4096)
    evictAll()
    #expect(SwapSpace.statistics().first { $0.name == device.swapName }.map { $0.used >= 300 } ?? false)
    try SwapSpace.disable(device.swapName)
    device.failure = .EIO
    #expect(object.residentPages == 400)
    #expect(try object.readBytes(at: 0, 400 * 4096) == [UInt8](repeating: 9, count: 400 * 4096))
    #expect(ReclaimCheck.failures([]) == [])
  }

  @Test func `the last pages of an area that ends within a group of neighbours come back`() throws {
    _ = MemorySwapDevice.shared
    let device = MemorySwapDevice("/dev/odd", pages: 13)
    try SwapSpace.enable(device, priority: 7)
    let object = MemoryObject(store: nil, size: 0)
    #expect(try object.writeBytes(at: 0, [UInt8](repeating: 5, count: 200 * 4096)) == 200 * 4096)
    evictAll()
    #expect(SwapSpace.statistics().first { $0.name == device.swapName }?.used == 12)
    #expect(try object.readBytes(at: 0, 200 * 4096) == [UInt8](repeating: 5, count: 200 * 4096))
    evictAll()
    try SwapSpace.disable(device.swapName)
    #expect(try object.readBytes(at: 0, 200 * 4096) == [UInt8](repeating: 5, count: 200 * 4096))
    #expect(ReclaimCheck.failures([]) == [])
  }

  @Test func `an entry that a frame had is of no slot when its page or its area has gone`() throws {
    _ = MemorySwapDevice.shared
    let frame = try Frames.allocate()
    defer { Frames.release(frame) }
    let beyond = SwapEntry(area: 0, slot: MemorySwapDevice.shared.swapPageCount)
    for entry in [SwapEntry(rawValue: 0), beyond, SwapEntry(area: SwapEntry.maximumAreas - 1, slot: 1)] {
      #expect(!SwapSpace.makeBusy(entry, frame))
      #expect(!SwapSpace.isStored(entry) && SwapSpace.references(entry) == 0)
      #expect(!SwapSpace.beginRead(entry, frame))
    }
  }

  @Test func `random work on shared memory that goes to swap agrees with a flat model`() throws {
    _ = MemorySwapDevice.shared
    var random = SeededGenerator("shared memory on swap")
    let slots = SwapSpace.freePages
    let free = TestMachine.freeFrames
    do {
      let most = 700
      let object = MemoryObject(store: nil, size: UInt64(most) * page)
      var spaces: [(space: AddressSpace, address: UInt64, isShared: Bool, copies: [Int: UInt64])] = []
      var model = [UInt64](repeating: 0, count: most)
      var size = most
      var next: UInt64 = 1
      for step in 0..<SeededGenerator.steps(2000) {
        let (start, count) = (random.below(most), 1 + random.below(40))
        let pages = start..<min(most, start + count)
        switch random.below(20) {
        case 0 where spaces.count < 5:
          let isShared = random.below(3) > 0
          let space = try AddressSpace.create()
          let address = try space.map(
            at: 0, length: UInt64(most) * page, protection: [.read, .write], flags: isShared ? .shared : [],
            object: object)
          spaces.append((space, address, isShared, [:]))
        case 1 where spaces.count > 2:
          spaces.remove(at: random.below(spaces.count)).space.destroy()
        case 2 where !spaces.isEmpty && spaces.count < 5:
          let parent = spaces[random.below(spaces.count)]
          spaces.append((try parent.space.fork(), parent.address, parent.isShared, parent.copies))
        case 3:
          size = random.below(4) == 0 ? random.below(most + 1) : most
          object.truncate(to: UInt64(size) * page)
          for index in size..<most { model[index] = 0 }
          for place in spaces.indices { spaces[place].copies = spaces[place].copies.filter { $0.key < size } }
        case 4:
          object.punchHole(from: UInt64(pages.lowerBound) * page, length: UInt64(pages.count) * page)
          for index in pages where index < size { model[index] = 0 }
        case 5...7: _ = Reclaim().reclaim(frames: 1 + random.below(500))
        case 8...10:
          for index in pages where index < size {
            let bytes = unsafe withUnsafeBytes(of: next) { unsafe Array($0) }
            #expect(try object.writeBytes(at: UInt64(index) * page, bytes) == 8)
            model[index] = next
            next += 1
          }
        case 11...13:
          for index in pages where index < size {
            let bytes = try object.readBytes(at: UInt64(index) * page, 8)
            let value = unsafe bytes.withUnsafeBytes { unsafe $0.load(as: UInt64.self) }
            #expect(value == model[index], "step \(step): page \(index) by read")
          }
        default:
          guard !spaces.isEmpty else { continue }
          let place = random.below(spaces.count)
          let isWrite = random.below(2) == 0
          for index in pages {
            let address = spaces[place].address + UInt64(index) * page
            let expected = index < size ? spaces[place].copies[index] ?? model[index] : nil
            if isWrite, index < size {
              try spaces[place].space.store(next, address)
              if spaces[place].isShared { model[index] = next } else { spaces[place].copies[index] = next }
              next += 1
            } else if let expected {
              #expect(try spaces[place].space.load(address) == expected, "step \(step): page \(index)")
            }
          }
        }
        if step % 16 == 0 {
          let failures = ReclaimCheck.failures(spaces.map(\.space))
          #expect(failures == [], "step \(step)")
          if !failures.isEmpty { break }
        }
      }
      #expect(TestMachine.audit(spaces.map(\.space)))
      for space in spaces {
        #expect(TestMachine.isConsistent(space.space))
        space.space.destroy()
      }
    }
    #expect(SwapSpace.freePages == slots && SwapSpace.cachedPages == 0)
    #expect(TestMachine.freeFrames >= free - 8)
  }
}
