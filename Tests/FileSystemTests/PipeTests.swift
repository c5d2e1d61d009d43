import KernelCore
import LinuxABI
import TestSupport
import Testing
import VirtualMemory

@testable import FileSystem

@Suite struct PipeTests {
  @Test func `a pipe gives back the bytes that went in, in order, over random sizes`() throws {
    var random = SeededGenerator("pipe")
    let (input, output) = Pipe.open(.nonBlocking)
    input.acquire()
    output.acquire()
    var model: [UInt8] = []
    var next: UInt8 = 0
    for step in 0..<SeededGenerator.steps(5000) {
      if random.below(2) == 0 {
        let count = 1 + random.below(random.below(10) == 0 ? 40_000 : 3000)
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &+ Int(next)) }
        next &+= 7
        let room = input.pipe!.capacity - model.count
        if count <= PIPE_BUF, room < count || room == 0 {
          #expect(throws: Errno.EAGAIN) { try output.writeBytes(bytes, at: nil) }
        } else if room == 0 {
          #expect(throws: Errno.EAGAIN) { try output.writeBytes(bytes, at: nil) }
        } else {
          let written = try output.writeBytes(bytes, at: nil)
          #expect(written == min(count, room))
          model.append(contentsOf: bytes[..<written])
        }
      } else {
        let count = 1 + random.below(20_000)
        if model.isEmpty {
          #expect(throws: Errno.EAGAIN) { try input.readBytes(at: nil, count: count) }
        } else {
          let bytes = try input.readBytes(at: nil, count: count)
          #expect(bytes == Array(model[..<min(count, model.count)]))
          model.removeFirst(bytes.count)
        }
      }
      if step % 997 == 0 {
        let size = [4096, 16384, 65536, 262_144][random.below(4)]
        if model.count > size {
          #expect(throws: Errno.EBUSY) { try input.pipe!.resize(UInt32(size), limit: 1 << 20) }
        } else {
          #expect(try input.pipe!.resize(UInt32(size), limit: 1 << 20) == size)
        }
      }
      #expect(input.pipe!.count == model.count)
      #expect(input.poll().contains(.readable) == !model.isEmpty)
    }
    output.release()
    while !model.isEmpty {
      let bytes = try input.readBytes(at: nil, count: 50_000)
      model.removeFirst(bytes.count)
    }
    #expect(try input.readBytes(at: nil, count: 10).isEmpty)
    #expect(input.poll().contains(.hangUp))
    input.release()
  }

  @Test func `writing without readers is EPIPE`() throws {
    let (input, output) = Pipe.open([])
    input.acquire()
    output.acquire()
    input.release()
    #expect(throws: Errno.EPIPE) { try output.writeBytes([1], at: nil) }
    #expect(output.poll().contains(.error))
    output.release()
  }

  @Test func `tee leaves the bytes in the first pipe`() throws {
    let (left, toLeft) = Pipe.open([])
    let (right, toRight) = Pipe.open([])
    for file in [left, toLeft, right, toRight] { file.acquire() }
    _ = try toLeft.writeBytes([1, 2, 3], at: nil)
    #expect(try left.pipe!.tee(into: right.pipe!, limit: 2, isNonBlocking: true) == 2)
    #expect(try right.readBytes(at: nil, count: 10) == [1, 2])
    #expect(try left.readBytes(at: nil, count: 10) == [1, 2, 3])
  }
}

@Suite struct EventTests {
  @Test func `an eventfd adds up, and a semaphore counts down`() throws {
    let counter = EventCounter(3, .counter, flags: .nonBlocking)
    _ = try counter.writeBytes([4, 0, 0, 0, 0, 0, 0, 0], at: nil)
    #expect(try counter.readBytes(at: nil, count: 8) == [7, 0, 0, 0, 0, 0, 0, 0])
    #expect(throws: Errno.EAGAIN) { try counter.readBytes(at: nil, count: 8) }
    let semaphore = EventCounter(2, .semaphore, flags: .nonBlocking)
    #expect(try semaphore.readBytes(at: nil, count: 8)[0] == 1)
    #expect(try semaphore.readBytes(at: nil, count: 8)[0] == 1)
    #expect(semaphore.poll() == .writable)
    #expect(throws: Errno.EINVAL) { try semaphore.readBytes(at: nil, count: 4) }
  }

  @Test func `epoll tells level-triggered events again and edge-triggered ones once`() throws {
    let counter = EventCounter(1, .counter, flags: .nonBlocking)
    counter.acquire()
    let poll = EventPoll(flags: [])
    poll.acquire()
    try poll.add(5, counter, events: POLLIN, data: 42)
    for _ in 0..<3 {
      let events = try poll.wait(limit: 10, until: .distantPast)
      #expect(events.count == 1 && events[0].data == 42 && events[0].events == POLLIN)
    }
    try poll.modify(5, counter, events: POLLIN | EPOLLET, data: 43)
    #expect(try poll.wait(limit: 10, until: .distantPast).count == 1)
    #expect(try poll.wait(limit: 10, until: .distantPast).isEmpty)
    _ = try counter.writeBytes([1, 0, 0, 0, 0, 0, 0, 0], at: nil)
    #expect(try poll.wait(limit: 10, until: .distantPast).first?.data == 43)
    try poll.modify(5, counter, events: POLLIN | EPOLLONESHOT, data: 44)
    #expect(try poll.wait(limit: 10, until: .distantPast).count == 1)
    _ = try counter.writeBytes([1, 0, 0, 0, 0, 0, 0, 0], at: nil)
    #expect(try poll.wait(limit: 10, until: .distantPast).isEmpty)
    counter.release()
    #expect(throws: Errno.ENOENT) { try poll.remove(5, counter) }
    poll.release()
  }

  @Test func `epoll instances that would watch each other in a circle are refused`() throws {
    let first = EventPoll(flags: [])
    let second = EventPoll(flags: [])
    first.acquire()
    second.acquire()
    try first.add(1, second, events: POLLIN, data: 0)
    #expect(throws: Errno.ELOOP) { try second.add(2, first, events: POLLIN, data: 0) }
    #expect(throws: Errno.EEXIST) { try first.add(1, second, events: POLLIN, data: 0) }
  }

  @Test func `a socket pair carries streams and keeps the messages of datagrams apart`() throws {
    let (left, right) = LocalSocket.pair(.stream, flags: .nonBlocking)
    for file in [left, right] { file.acquire() }
    _ = try left.writeBytes([1, 2, 3], at: nil)
    #expect(try right.readBytes(at: nil, count: 2) == [1, 2])
    #expect(try right.readBytes(at: nil, count: 2) == [3])
    let (sender, receiver) = LocalSocket.pair(.datagram, flags: .nonBlocking)
    for file in [sender, receiver] { file.acquire() }
    _ = try sender.writeBytes([1, 2, 3], at: nil)
    _ = try sender.writeBytes([4], at: nil)
    #expect(try receiver.readBytes(at: nil, count: 2) == [1, 2])
    #expect(try receiver.readBytes(at: nil, count: 2) == [4])
    left.release()
    #expect(try right.readBytes(at: nil, count: 2).isEmpty)
    #expect(throws: Errno.EPIPE) { try right.writeBytes([1], at: nil) }
  }

  @Test func `device numbers survive their encoding`() {
    for (major, minor) in [(1, 3), (136, 300), (0xfff, 0xfffff), (8, 0)] as [(UInt32, UInt32)] {
      let number = DeviceNumber(major: major, minor: minor)
      #expect(DeviceNumber(encoded: number.encoded) == number)
    }
    #expect(DeviceNumber(major: 8, minor: 1).encoded == 0x801)
  }
}
