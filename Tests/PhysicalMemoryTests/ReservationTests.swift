import LinuxABI
import TestSupport
import Testing

@testable import PhysicalMemory

@Suite struct ReservationTests {
  /// Takes all that an allocation with these options may have.
  private func exhaust(_ test: TestMemory, _ options: AllocationOptions) -> [PageFrameNumber] {
    var frames: [PageFrameNumber] = []
    while let frame = try? test.memory.allocate(order: 0, options: options) { frames.append(frame) }
    return frames
  }

  @Test func `frames put aside are there when nothing else is, and only for those who may not fail`() throws {
    let test = TestMemory(megabytes: 16)
    let initial = test.free
    try test.memory.reserveLocalFrames(50, options: [])
    #expect(throws: Errno.EINVAL) { try test.memory.reserveLocalFrames(1000, options: []) }
    // The zones are emptied behind its back.
    var frames = exhaust(test, [])
    test.memory.drainLocalFrames()
    while let block = try? test.memory.takeBlock(order: 0, options: .reserved) {
      frames.append(PageFrameNumber(block.number))
      unsafe test.memory.prepare(test.memory.descriptor(block.number), order: 0)
    }
    #expect(test.free == 50)
    for count in 0..<50 {
      #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 0, options: []) }
      #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 0, options: .atomic) }
      #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 2, options: .reserved) }
      let frame = try test.memory.allocate(order: 0, options: count % 2 == 0 ? .reserved : [.reserved, .zeroed])
      if count % 2 != 0 { #expect(unsafe test.bytes(frame).allSatisfy { $0 == 0 }) }
      unsafe test.bytes(frame).update(repeating: 7)
      frames.append(frame)
    }
    #expect(throws: Errno.ENOMEM) { try test.memory.allocate(order: 0, options: .reserved) }
    #expect(throws: Errno.ENOMEM) { try test.memory.reserveLocalFrames(1, options: .reserved) }
    #expect(Set(frames).count == initial)
    for frame in frames { test.memory.free(frame) }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
    test.checkZone()
  }

  @Test func `what was put aside for one caller and not used serves the next, or goes back`() throws {
    let test = TestMemory(megabytes: 16)
    let zoneFree = { unsafe test.memory.state.pointee.zones[0].freeFrames.load(ordering: .relaxed) }
    let initial = zoneFree()
    try test.memory.reserveLocalFrames(20, options: [])
    test.memory.drainLocalFrames()
    #expect(zoneFree() == initial - 20)
    try test.memory.reserveLocalFrames(10, options: [])
    try test.memory.reserveLocalFrames(20, options: [])
    test.memory.drainLocalFrames()
    #expect(zoneFree() == initial - 20)
    test.memory.releaseLocalReservation()
    #expect(zoneFree() == initial)
    test.checkZone()
  }

  @Test func `a reservation survives sleep and exhaustion, and its rest comes back`() throws {
    let test = TestMemory(megabytes: 16)
    let initial = test.free
    do {
      var reservation = PageReservation(test.memory)
      try reservation.fill(30)
      let count = reservation.count
      #expect(count == 30 && test.free == initial - 30)
      let frames = exhaust(test, .reserved)
      #expect(test.free == 0)
      do throws(Errno) {
        try reservation.fill(31)
        Issue.record("a frame from nowhere")
      } catch {
        #expect(error == .ENOMEM)
      }
      let countAfter = reservation.count
      #expect(countAfter == 30)
      for _ in 0..<12 {
        guard let frame = reservation.take() else { throw Errno.ENOMEM }
        #expect(test.memory.frame(frame).referenceCount == 1)
        test.memory.free(frame)
      }
      for frame in frames { test.memory.free(frame) }
    }
    test.memory.drainLocalFrames()
    #expect(test.free == initial)
  }

  @Test func `an empty reservation has nothing`() throws {
    let test = TestMemory(megabytes: 16)
    var reservation = PageReservation(test.memory)
    let none = reservation.take()
    try reservation.fill(1)
    let (one, noneAgain) = (reservation.take(), reservation.take())
    #expect(none == nil && one != nil && noneAgain == nil)
  }
}
