// The kernel's side of the queue against the monitor's, in one process.

import DeviceTestSupport
import Devices
import Foundation
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Synchronization
import Testing

@testable import Virtio

enum Harness {
  static func add(_ device: EchoDevice) throws -> Virtio.Virtqueue {
    let number = DeviceBus.add(device) { Interrupts.handle(2 << UInt64($0)) }
    let found = Virtio.VirtioDevice.all(kind: device.kind)
    #expect(found.count == 1 && found[0].number == number && found[0].configuration == [1, 2, 3])
    let queue = try Virtio.Virtqueue(found[0], index: 0)
    queue.registerInterrupt()
    return queue
  }
}

/// A request with its memory: `count` bytes out, in pieces, and as many back.
final class Echo: VirtioRequest {
  let memory: DeviceMemory
  let count: Int
  let completions = Atomic<Int>(0)

  init(_ text: [UInt8], pieces: Int) throws(Errno) {
    memory = try DeviceMemory(order: 1)
    count = text.count
    super.init()
    memory.bytes.copyBytes(from: text)
    let step = max(1, (count + pieces - 1) / pieces)
    for start in stride(from: 0, to: count, by: step) { addReadable(memory.segment(start, min(step, count - start))) }
    for start in stride(from: 0, to: count, by: step) {
      addWritable(memory.segment(4096 + start, min(step, count - start)))
    }
  }

  var answer: [UInt8] { Array(memory.bytes[4096..<4096 + count]) }
  override func didComplete() { completions.add(1, ordering: .relaxed) }
}

@Suite(.serialized) struct VirtqueueTests {
  @Test(arguments: [false, true])
  func `requests are answered, whatever their number of pieces`(isLate: Bool) throws {
    let queue = try Harness.add(EchoDevice(kind: isLate ? 1001 : 1000, isLate: isLate))
    var random = SystemRandomNumberGenerator()
    // More than the queue's 16-bit indices count to would take too long here; the ring wraps many times.
    for _ in 0..<2000 {
      let text = (0..<Int.random(in: 1...500)).map { _ in UInt8.random(in: 0...255, using: &random) }
      let echo = try Echo(text, pieces: Int.random(in: 1...40))
      try queue.perform(echo)
      #expect(echo.written == text.count)
      #expect(echo.answer == text.reversed())
    }
  }

  @Test(arguments: [false, true])
  func `several CPUs share a queue, also when it is full`(isLate: Bool) throws {
    let queue = try Harness.add(EchoDevice(kind: isLate ? 1003 : 1002, isLate: isLate))
    let wrong = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      for round in 0..<300 {
        let text = (0..<100).map { UInt8(truncatingIfNeeded: worker &* 31 &+ round &+ $0) }
        guard let echo = try? Echo(text, pieces: 50) else { continue }
        do throws(Errno) { try queue.perform(echo) } catch { wrong.add(1, ordering: .relaxed) }
        if echo.answer != text.reversed() { wrong.add(1, ordering: .relaxed) }
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
  }

  @Test func `a submitted request is completed once`() throws {
    let queue = try Harness.add(EchoDevice(kind: 1004, isLate: false))
    let echo = try Echo([1, 2, 3], pieces: 1)
    try queue.submit(echo)
    #expect(echo.isComplete)
    #expect(echo.completions.load(ordering: .relaxed) == 1)
    #expect(echo.answer == [3, 2, 1])
  }

  @Test func `requests without segments or with too many are refused`() throws {
    let queue = try Harness.add(EchoDevice(kind: 1005, isLate: false))
    let empty = VirtioRequest()
    #expect(throws: Errno.EINVAL) { try queue.perform(empty) }
    let large = try Echo([UInt8](repeating: 1, count: 400), pieces: 400)
    #expect(throws: Errno.EINVAL) { try queue.perform(large) }
  }
}
