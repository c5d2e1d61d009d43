import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import FileSystem
@testable import VirtualMemory

/// A pipe as a list of buffers, each of which is part of a page.
private struct ModelPipe {
  struct Buffer {
    /// The bytes, or where they are in the program's memory.
    var content: Content
    /// Where in its page it begins.
    var start: Int
    var isExtensible: Bool
    var isPacket: Bool

    enum Content {
      case own([UInt8])
      case lent(Range<Int>)
    }

    var count: Int {
      switch content {
      case .own(let bytes): bytes.count
      case .lent(let range): range.count
      }
    }
    func bytes(_ memory: [UInt8]) -> [UInt8] {
      switch content {
      case .own(let bytes): bytes
      case .lent(let range): Array(memory[range])
      }
    }
    mutating func cut(_ range: Range<Int>) {
      start += range.lowerBound
      switch content {
      case .own(let bytes): content = .own(Array(bytes[range]))
      case .lent(let place): content = .lent(place.lowerBound + range.lowerBound..<place.lowerBound + range.upperBound)
      }
    }
  }

  var buffers: [Buffer] = []
  var capacity = 16
  var count: Int { buffers.reduce(0) { $0 + $1.count } }
  var isFull: Bool { buffers.count >= capacity }

  mutating func write(_ bytes: [UInt8], isPacket: Bool) -> Int {
    var rest = bytes[...]
    let odd = bytes.count % 4096
    if odd > 0, let last = buffers.last, last.isExtensible, case .own(let old) = last.content,
      last.start + old.count + odd <= 4096
    {
      buffers[buffers.count - 1].content = .own(old + rest.prefix(odd))
      rest = rest.dropFirst(odd)
    }
    while !rest.isEmpty, !isFull {
      let content = Buffer.Content.own(Array(rest.prefix(4096)))
      buffers.append(Buffer(content: content, start: 0, isExtensible: !isPacket, isPacket: isPacket))
      rest = rest.dropFirst(4096)
    }
    return bytes.count - rest.count
  }

  mutating func read(_ limit: Int, _ memory: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    while result.count < limit, let first = buffers.first {
      let size = min(first.count, limit - result.count)
      result += first.bytes(memory).prefix(size)
      consume(first.isPacket ? first.count : size)
      if first.isPacket { break }
    }
    return result
  }

  mutating func consume(_ size: Int) {
    if size == buffers[0].count { buffers.removeFirst() } else { buffers[0].cut(size..<buffers[0].count) }
  }

  mutating func borrow(_ range: Range<Int>) -> Int {
    var place = range.lowerBound
    while place < range.upperBound, !isFull {
      let end = min(range.upperBound, (place / 4096 + 1) * 4096)
      buffers.append(Buffer(content: .lent(place..<end), start: place % 4096, isExtensible: false, isPacket: false))
      place = end
    }
    return place - range.lowerBound
  }

  mutating func pass(to other: inout ModelPipe, _ limit: Int, moves: Bool) -> Int {
    var total = 0
    var index = 0
    while total < limit, index < buffers.count, !other.isFull {
      var buffer = buffers[index]
      let isWhole = buffer.count <= limit - total
      buffer.cut(0..<min(buffer.count, limit - total))
      if !moves || !isWhole { buffer.isExtensible = false }
      other.buffers.append(buffer)
      total += buffer.count
      if moves { consume(buffer.count) } else { index += 1 }
    }
    return total
  }
}

@Suite(.serialized) struct PipeTests {
  init() { TestMemory.prepare() }

  private static func pair(_ flags: OpenFlags = .nonBlocking) -> (input: OpenFile, output: OpenFile) {
    let (input, output) = Pipe.open(flags)
    input.acquire()
    output.acquire()
    return (input, output)
  }

  @Test func `two pipes hold what was written, lent, shown and moved, over random steps`() throws {
    var random = SeededGenerator("pipe")
    let program = try TestProgram(pages: 32)
    let ends = [Self.pair(), Self.pair()]
    var models = [ModelPipe(), ModelPipe()]
    for step in 0..<SeededGenerator.steps(2000) {
      let one = random.below(2)
      let other = 1 - one
      let pipe = ends[one].input.pipe!
      let count = 1 + random.below(random.below(10) == 0 ? 40_000 : 3000)
      switch random.below(8) {
      case 0, 1:
        let isPacket = random.below(4) == 0
        ends[one].output.setFlags(isPacket ? .direct : [], mask: .direct)
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &+ step) }
        let written = models[one].write(bytes, isPacket: isPacket)
        if written == 0 {
          #expect(throws: Errno.EAGAIN) { try ends[one].output.writeBytes(bytes, at: nil) }
        } else {
          #expect(try ends[one].output.writeBytes(bytes, at: nil) == written)
        }
      case 2, 3:
        if models[one].buffers.isEmpty {
          #expect(throws: Errno.EAGAIN) { try ends[one].input.readBytes(at: nil, count: count) }
        } else {
          #expect(try ends[one].input.readBytes(at: nil, count: count) == models[one].read(count, program.bytes))
        }
      case 4:
        let place = random.below(program.bytes.count - count)
        let isFull = models[one].isFull
        var buffer = program.buffer(place, count)
        if isFull {
          #expect(throws: Errno.EAGAIN) { try pipe.borrow(&buffer, isNonBlocking: true) }
        } else {
          let taken = models[one].borrow(place..<place + count)
          #expect(try pipe.borrow(&buffer, isNonBlocking: true) == taken)
          #expect(buffer.remaining == count - taken)
        }
      case 5:
        // What is lent changes in the pipes too.
        let place = random.below(program.bytes.count - count)
        try program.write([UInt8](repeating: UInt8(truncatingIfNeeded: step), count: count), at: place)
      case 6:
        let moves = random.below(2) == 0
        let target = ends[other].input.pipe!
        if models[one].buffers.isEmpty || models[other].isFull {
          #expect(throws: Errno.EAGAIN) {
            moves
              ? try pipe.move(to: target, limit: count, isNonBlocking: true)
              : try pipe.tee(into: target, limit: count, isNonBlocking: true)
          }
        } else {
          var targetModel = models[other]
          let passed = models[one].pass(to: &targetModel, count, moves: moves)
          models[other] = targetModel
          let real =
            moves
            ? try pipe.move(to: target, limit: count, isNonBlocking: true)
            : try pipe.tee(into: target, limit: count, isNonBlocking: true)
          #expect(real == passed)
        }
      default:
        let pages = [1, 4, 16, 64][random.below(4)]
        if models[one].buffers.count > pages {
          #expect(throws: Errno.EBUSY) { try pipe.resize(UInt32(pages * 4096), limit: 1 << 20) }
        } else {
          #expect(try pipe.resize(UInt32(pages * 4096), limit: 1 << 20) == pages * 4096)
          models[one].capacity = pages
        }
      }
      for index in 0..<2 {
        #expect(ends[index].input.pipe!.count == models[index].count)
        #expect(ends[index].input.poll().contains(.readable) == !models[index].buffers.isEmpty)
        #expect(ends[index].output.poll().contains(.writable) == !models[index].isFull)
      }
    }
    for index in 0..<2 {
      ends[index].output.release()
      while !models[index].buffers.isEmpty {
        #expect(try ends[index].input.readBytes(at: nil, count: 50_000) == models[index].read(50_000, program.bytes))
      }
      #expect(try ends[index].input.readBytes(at: nil, count: 10).isEmpty)
      #expect(ends[index].input.poll().contains(.hangUp))
      ends[index].input.release()
    }
    // Nobody holds a page any more but the program.
    program.space.tables.withLock { tables in
      tables.forEach(program.address, program.address + UInt64(program.bytes.count)) { _, entry in
        #expect(!entry.isCounted || entry.frame.frame.referenceCount == 1)
      }
    }
  }

  @Test func `writing without readers is EPIPE`() throws {
    let (input, output) = Self.pair([])
    input.release()
    #expect(throws: Errno.EPIPE) { try output.writeBytes([1], at: nil) }
    #expect(output.poll().contains(.error))
    output.release()
  }

  @Test func `tee leaves the bytes in the first pipe`() throws {
    let (left, toLeft) = Self.pair()
    let (right, _) = Self.pair()
    _ = try toLeft.writeBytes([1, 2, 3], at: nil)
    #expect(try left.pipe!.tee(into: right.pipe!, limit: 2, isNonBlocking: true) == 2)
    // What is written behind them now is in one of the pipes only.
    _ = try toLeft.writeBytes([4], at: nil)
    #expect(try right.readBytes(at: nil, count: 10) == [1, 2])
    #expect(try left.readBytes(at: nil, count: 10) == [1, 2, 3, 4])
  }

  @Test func `a file that takes less than it is given leaves the rest in the pipe`() throws {
    let (input, output) = Self.pair()
    _ = try output.writeBytes([UInt8](repeating: 7, count: 10_000), at: nil)
    var taken: [UInt8] = []
    let count = try input.pipe!.drain(limit: 9000, isNonBlocking: true) { buffer throws(Errno) in
      let bytes = try buffer.copyIn(count: min(buffer.remaining, 8000 - taken.count))
      taken += bytes
      return bytes.count
    }
    #expect(count == 8000 && taken.count == 8000 && input.pipe!.count == 2000)
    #expect(throws: Errno.EIO) {
      try input.pipe!.drain(limit: 9000, isNonBlocking: true) { _ throws(Errno) in throw .EIO }
    }
    #expect(input.pipe!.count == 2000)
  }

  @Test func `a lent page is the lender's after fork, and outlives it`() throws {
    let program = try TestProgram(pages: 2)
    try program.write([1, 2, 3], at: 0)
    let (input, _) = Self.pair()
    var buffer = program.buffer(0, 3)
    #expect(try input.pipe!.borrow(&buffer, isNonBlocking: true) == 3)
    let child = try program.space.fork()
    try UserMemory.copyOut(to: program.address, [9], in: child)
    try program.write([7], at: 1)
    #expect(try UserMemory.copyIn(from: program.address, count: 3, in: child) == [9, 2, 3])
    let frame = program.space.tables.withLock { $0.entry(program.address).frame }
    try program.space.unmap(program.address, 8192)
    #expect(Frames.isPinned(frame))
    #expect(try input.readBytes(at: nil, count: 10) == [1, 7, 3])
    #expect(frame.frame.referenceCount == 0)
  }

  @Test func `a page that another process may write to later is copied instead of lent`() throws {
    let program = try TestProgram(pages: 2)
    try program.write([1, 2, 3], at: 0)
    // The child cannot make the page its own.
    let child = try program.space.fork()
    try child.protect(program.address, 4096, [.read])
    let (input, _) = Self.pair()
    var buffer = TransferBuffer(user: program.address, count: 3, in: child)
    #expect(try input.pipe!.borrow(&buffer, isNonBlocking: true) == 3)
    try child.unmap(program.address, 8192)
    // Its last owner writes in place.
    try program.write([9, 9, 9], at: 0)
    #expect(try input.readBytes(at: nil, count: 10) == [1, 2, 3])
  }

  @Test func `memory that is not there ends lending, and what was lent before is in the pipe`() throws {
    let program = try TestProgram(pages: 2)
    try program.write([1, 2, 3], at: 0)
    let (input, _) = Self.pair()
    var buffer = TransferBuffer(userVectors: [(program.address, 3), (0x1000, 3)], in: program.space)
    #expect(try input.pipe!.borrow(&buffer, isNonBlocking: true) == 3)
    #expect(throws: Errno.EFAULT) { try input.pipe!.borrow(&buffer, isNonBlocking: true) }
    #expect(try input.readBytes(at: nil, count: 10) == [1, 2, 3])
    let frame = program.space.tables.withLock { $0.entry(program.address).frame }
    #expect(!Frames.isPinned(frame))
  }
}
