import KernelCore
import LinuxABI
import PhysicalMemory
import TestSupport
import Testing

@testable import VirtualMemory

extension MemoryObject {
  func readBytes(at offset: UInt64, _ count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xaa, count: count)
    let done = try unsafe bytes.withUnsafeMutableBytes { buffer in
      var transfer = unsafe TransferBuffer(kernel: buffer)
      return try read(at: offset, &transfer)
    }
    return Array(bytes[..<done])
  }
  func writeBytes(at offset: UInt64, _ bytes: [UInt8]) throws -> Int {
    var bytes = bytes
    return try unsafe bytes.withUnsafeMutableBytes { buffer in
      var transfer = unsafe TransferBuffer(kernel: buffer)
      return try write(at: offset, &transfer)
    }
  }
}

extension VirtualMemoryTests {
  @Test func `an object without a store is a file of bytes`() throws {
    var random = SeededGenerator("object bytes")
    let object = MemoryObject(store: nil, size: 0)
    var model: [UInt8] = []
    for _ in 0..<SeededGenerator.modelSteps(4_000) {
      let offset = random.below(60_000)
      let count = random.below(9000)
      switch random.below(10) {
      case 0..<5:
        let byte = UInt8(random.below(256))
        #expect(try object.writeBytes(at: UInt64(offset), Array(repeating: byte, count: count)) == count)
        if count > 0 {
          if model.count < offset + count { model += Array(repeating: 0, count: offset + count - model.count) }
          model.replaceSubrange(offset..<offset + count, with: repeatElement(byte, count: count))
        }
      case 5..<8:
        let end = min(model.count, offset + count)
        #expect(try object.readBytes(at: UInt64(offset), count) == (offset < end ? Array(model[offset..<end]) : []))
      case 8:
        object.truncate(to: UInt64(offset))
        if model.count > offset { model.removeLast(model.count - offset) }
        model += Array(repeating: 0, count: offset - model.count)
      default:
        object.punchHole(from: UInt64(offset), length: UInt64(count))
        let end = min(model.count, offset + count)
        if offset < end { model.replaceSubrange(offset..<end, with: repeatElement(0, count: end - offset)) }
      }
      #expect(object.size == UInt64(model.count))
    }
    #expect(try object.readBytes(at: 0, 100_000) == model)
  }

  @Test func `sequential reads take growing windows from the store`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 256 * page)
    for index in 0..<256 as Range<UInt64> {
      let bytes = try object.readBytes(at: index * page, 8)
      #expect(bytes[0] == UInt8(truncatingIfNeeded: TestStore.initial(index)))
    }
    #expect(store.reads <= 10)
    #expect(object.residentPages == 256)
  }

  @Test func `a long read goes around pages that are there already`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 3000 * page)
    var random = SeededGenerator("stream")
    for _ in 0..<20 { _ = try object.readBytes(at: UInt64(random.below(3000)) * page, 8) }
    for index in 0..<3000 as Range<UInt64> {
      let bytes = try object.readBytes(at: index * page, 8)
      #expect(bytes[0] == UInt8(truncatingIfNeeded: TestStore.initial(index)))
    }
    #expect(object.residentPages == 3000)
    object.truncate(to: 0)
    #expect(object.residentPages == 0)
  }

  @Test func `what the store leaves behind the end is not shown`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: page + 100)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 4 * page, protection: .read, flags: .shared, object: object)
    #expect(try space.load(address + page + 96) == 0xeeee_eeee)
    #expect(try space.load(address + page + 104) == 0)
    #expect(throws: Errno.EFAULT) { try space.load(address + 2 * page) }
    #expect(throws: FaultFailure.bus) { try space.handleFault(at: address + 2 * page, access: .read) }
    _ = store
  }

  @Test func `a failed read leaves no page behind and works later`() throws {
    let store = TestStore()
    store.failure = .EIO
    let object = MemoryObject(store: store, size: 10 * page)
    #expect(throws: Errno.EIO) { try object.readBytes(at: 0, 10) }
    #expect(object.residentPages == 0)
    store.failure = nil
    #expect(try object.readBytes(at: 0, 10).count == 10)
  }

  @Test func `a write through a mapping is noticed again after each write-back`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 8 * page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 8 * page, protection: [.read, .write], flags: .shared, object: object)
    #expect(try space.load(address + page) == TestStore.initial(1))
    #expect(!object.isDirty)
    try space.store(1, address + page)
    #expect(object.isDirty)
    try space.sync(address, 8 * page, .wait, invalidating: false)
    #expect(store.values == [1: 1] && !object.isDirty)
    #expect(TestMachine.isConsistent(space))
    try space.store(2, address + page)
    #expect(object.isDirty)
    store.failure = .EIO
    #expect(throws: Errno.EIO) { try object.writeBack() }
    #expect(object.isDirty)
    store.failure = nil
    try object.writeBack()
    #expect(store.values == [1: 2])
  }

  @Test func `reclaim takes clean pages and spares dirty ones`() throws {
    let store = TestStore()
    let object = MemoryObject(store: store, size: 64 * page)
    let space = try AddressSpace.create()
    let address = try space.map(at: 0, length: 64 * page, protection: [.read, .write], flags: .shared, object: object)
    for index in 0..<64 as Range<UInt64> { _ = try space.load(address + index * page) }
    try space.store(5, address + 3 * page)
    #expect(Reclaim().reclaim(frames: 1000) >= 63)
    #expect(object.residentPages == 1)
    #expect(try space.load(address + 3 * page) == 5)
    #expect(try space.load(address + 4 * page) == TestStore.initial(4))
    #expect(TestMachine.isConsistent(space))
  }

  @Test func `fork takes memory from the page cache when there is no other`() throws {
    Reclaim.initialize()
    let store = TestStore()
    let object = MemoryObject(store: store, size: 1 << 30)
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(2000 * page)
    for index in 0..<2000 as Range<UInt64> { try space.store(index, address + index * page) }
    while !FrameAllocator.isExhausted { object.readAhead(from: UInt64(object.residentPages), count: 512) }
    #expect(FrameAllocator.isShort)
    // A program small enough for its pages to be copied, and page tables for them.
    let small = try AddressSpace.create()
    let place = try small.mapAnonymous(100 * page)
    for index in 0..<100 as Range<UInt64> { try small.store(index, place + index * page) }
    let cached = object.residentPages
    let children = try (0..<100).map { _ in try small.fork() }
    #expect(try children[99].load(place + 99 * page) == 99)
    #expect(object.residentPages < cached)
    MemoryPressure.balance()
    #expect(!FrameAllocator.isExhausted)
    for child in children { child.destroy() }
  }

  @Test func `a transfer stops where user memory ends and says how far it got`() throws {
    let space = try AddressSpace.create()
    let address: UInt64 = 0x20_0000_0000
    _ = try space.map(at: address, length: 2 * page, protection: [.read, .write], flags: .fixed, object: nil)
    let object = MemoryObject(store: nil, size: 0)
    _ = try object.writeBytes(at: 0, Array(repeating: 7, count: 20_000))
    var buffer = TransferBuffer(user: address + 100, count: 20_000, in: space)
    #expect(try object.read(at: 0, &buffer) == 2 * 4096 - 100)
    var none = TransferBuffer(user: address + 2 * page, count: 10, in: space)
    #expect(throws: Errno.EFAULT) { try object.read(at: 0, &none) }
    var vectors = TransferBuffer(
      userVectors: [(address, 10), (address + 4096, 0), (address + 4090, 20)], in: space)
    #expect(vectors.remaining == 30)
    try vectors.copyOut(Array(0..<30))
    #expect(try UserMemory.copyIn(from: address + 4090, count: 20, in: space) == Array(10..<30))
    #expect(try UserMemory.copyIn(from: address, count: 10, in: space) == Array(0..<10))
    #expect(throws: Errno.EFAULT) { try UserMemory.copyIn(from: .max - 3, count: 20, in: space) }
    #expect(throws: Errno.EFAULT) { try UserMemory.write(1 as UInt64, to: AddressSpace.userLimit - 4, in: space) }
  }

  @Test func `arrays are copied whole, or one field of each element`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(4 * page)
    var model = [UInt8](repeating: 0, count: Int(4 * page))
    var random = SeededGenerator("arrays")
    for _ in 0..<500 {
      // Odd places too: a field may lie on two pages.
      let start = random.below(2 * 4096)
      let count = random.below(600)
      if random.below(4) == 0 {
        let values = (0..<count).map { _ in random.next() }
        try UserMemory.writeArray(values, to: address + UInt64(start), in: space)
        for (place, value) in values.enumerated() {
          for byte in 0..<8 { model[start + place * 8 + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
        }
        #expect(
          try UserMemory.readArray(address + UInt64(start), count: count, as: UInt64.self, in: space) == values)
      } else {
        let stride = 2 + random.below(11)
        let values = (0..<count).map { _ in UInt16(truncatingIfNeeded: random.next()) }
        try UserMemory.writeFields(values, to: address + UInt64(start), stride: stride, in: space)
        for (place, value) in values.enumerated() {
          model[start + place * stride] = UInt8(truncatingIfNeeded: value)
          model[start + place * stride + 1] = UInt8(value >> 8)
        }
      }
    }
    #expect(try UserMemory.copyIn(from: address, count: model.count, in: space) == model)
    let end = address + 4 * page
    #expect(throws: Errno.EFAULT) { try UserMemory.writeFields([1, 2, 3, 4], to: end - 18, stride: 8, in: space) }
    #expect(try UserMemory.readArray(end - 18, count: 3, as: UInt16.self, in: space) == [1, 0, 0])
    #expect(throws: Errno.EFAULT) { try UserMemory.readArray(end - 8, count: 2, as: UInt64.self, in: space) }
    #expect(throws: Errno.ENOMEM) { try UserMemory.readArray(address, count: .max, as: UInt64.self, in: space) }
    #expect(try UserMemory.readArray(0, count: 0, as: UInt64.self, in: space).isEmpty)
  }

  @Test func `strings end at their NUL, at the limit, or at the end of memory`() throws {
    let space = try AddressSpace.create()
    let address = try space.mapAnonymous(2 * page)
    try UserMemory.copyOut(to: address + 4090, Array("hello, world".utf8) + [0], in: space)
    #expect(try UserMemory.copyInString(from: address + 4090, limit: 100, in: space) == "hello, world")
    #expect(throws: Errno.ENAMETOOLONG) { try UserMemory.copyInString(from: address + 4090, limit: 12, in: space) }
    #expect(try UserMemory.copyInString(from: address + 4090, limit: 13, in: space) == "hello, world")
    try UserMemory.copyOut(to: address + 2 * page - 3, [65, 65, 65], in: space)
    #expect(throws: Errno.EFAULT) { try UserMemory.copyInString(from: address + 2 * page - 3, limit: 10, in: space) }
  }
}
