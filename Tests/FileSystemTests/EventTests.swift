import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import FileSystem

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

  @Test func `a poll request asks at once`() throws {
    let counter = EventCounter(0, .counter, flags: .nonBlocking)
    let both: PollEvents = [.readable, .writable]
    var requests = [
      PollRequest(3, counter, events: both), PollRequest(-1, result: []), PollRequest(9, result: .invalid),
    ]
    #expect(requests[0].result == .writable)
    #expect(try Polling.wait(&requests, until: .distantPast) == 2)
    _ = try counter.writeBytes([1, 0, 0, 0, 0, 0, 0, 0], at: nil)
    requests = [PollRequest(3, counter, events: both)]
    #expect(try Polling.wait(&requests, until: .never) == 1 && requests[0].result == both)
    requests = [PollRequest(3, counter, events: .priority)]
    #expect(try Polling.wait(&requests, until: .distantPast) == 0)
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

  @Test func `files that stay ready take turns, and one that has ended or is no longer ready is not told of`() throws {
    let poll = EventPoll(flags: [])
    let outer = EventPoll(flags: [])
    poll.acquire()
    outer.acquire()
    let counters = (0..<5).map { _ in EventCounter(1, .counter, flags: .nonBlocking) }
    for (index, counter) in counters.enumerated() {
      counter.acquire()
      try poll.add(Int32(index), counter, events: POLLIN, data: UInt64(index))
    }
    try outer.add(9, poll, events: POLLIN, data: 9)
    func next() throws -> UInt64? { try poll.wait(limit: 1, until: .distantPast).first?.data }
    #expect(try (0..<7).map { _ in try next() } == [0, 1, 2, 3, 4, 0, 1])
    // Emptied, removed, closed: three and four are left, in their order.
    _ = try counters[2].readBytes(at: nil, count: 8)
    try poll.remove(0, counters[0])
    counters[1].release()
    #expect(try (0..<4).map { _ in try next() } == [3, 4, 3, 4])
    #expect(try outer.wait(limit: 10, until: .distantPast).first?.data == 9)
    for index in [3, 4] { _ = try counters[index].readBytes(at: nil, count: 8) }
    #expect(try outer.wait(limit: 10, until: .distantPast).isEmpty)
    #expect(try next() == nil && poll.poll() == [])
    _ = try counters[2].writeBytes([1, 0, 0, 0, 0, 0, 0, 0], at: nil)
    #expect(try outer.wait(limit: 10, until: .distantPast).first?.data == 9)
    #expect(try next() == 2)
    // An edge of an instance that lists the file already, which had nothing meanwhile.
    try outer.modify(9, poll, events: POLLIN | EPOLLET, data: 9)
    _ = try outer.wait(limit: 10, until: .distantPast)
    _ = try counters[2].readBytes(at: nil, count: 8)
    #expect(try outer.wait(limit: 10, until: .distantPast).isEmpty)
    _ = try counters[2].writeBytes([1, 0, 0, 0, 0, 0, 0, 0], at: nil)
    #expect(try outer.wait(limit: 10, until: .distantPast).first?.data == 9)
    for index in [0, 2, 3, 4] { counters[index].release() }
    #expect(try next() == nil)
    outer.release()
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

  @Test func `device numbers survive their encoding`() {
    for (major, minor) in [(1, 3), (136, 300), (0xfff, 0xfffff), (8, 0)] as [(UInt32, UInt32)] {
      let number = DeviceNumber(major: major, minor: minor)
      #expect(DeviceNumber(encoded: number.encoded) == number)
    }
    #expect(DeviceNumber(major: 8, minor: 1).encoded == 0x801)
  }
}
