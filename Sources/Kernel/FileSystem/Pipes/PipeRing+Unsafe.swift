// What a pipe holds: a ring of buffers, each a part of a page. Bytes that were written lie in pages of the pipe's own; a page
// of a program that was lent (vmsplice(2)) lies there by reference, and tee(2) and splice(2) hand pages on from pipe to pipe
// without touching a byte. The pipe's lock guards the ring.
//
// SAFETY: a page of the pipe's own has a reference from each buffer that shows it, a lent one a pin; `offset + length` is at
// most a page. Only the last bytes of a buffer are ever added to, and only by the pipe that allocated the page.

import KernelCore
import LinuxABI
import PhysicalMemory
import VirtualMemory

/// Bytes in a pipe: a part of a page.
struct PipeBuffer {
  /// What the bytes are, besides bytes.
  struct Marks: OptionSet {
    let rawValue: UInt8
    /// The next write may put its bytes behind these, as far as the page goes.
    static var extensible: Marks { Marks(rawValue: 1) }
    /// The page is a program's.
    static var lent: Marks { Marks(rawValue: 2) }
    /// One write of a pipe in packet mode: a read takes no more than this, and what it leaves is gone.
    static var packet: Marks { Marks(rawValue: 4) }
  }

  var page: PageFrameNumber
  var offset: UInt16
  var length: UInt16
  var marks: Marks

  init(_ page: PageFrameNumber, offset: Int, length: Int, _ marks: Marks) {
    self.page = page
    self.offset = UInt16(truncatingIfNeeded: offset)
    self.length = UInt16(truncatingIfNeeded: length)
    self.marks = marks
  }

  /// Where its bytes are.
  var start: UnsafeMutableRawPointer { unsafe DirectMap.pointer(to: page) + Int(offset) }

  /// The first `count` bytes with a hold of their own on the page, for another pipe; nil when it has too many.
  func shared(_ count: Int) -> PipeBuffer? {
    if marks.contains(.lent) {
      guard LentPage.retain(page) else { return nil }
    } else {
      page.frame.retain()
    }
    var copy = self
    copy.length = UInt16(truncatingIfNeeded: min(count, Int(length)))
    copy.marks.remove(.extensible)
    return copy
  }
}

/// The buffers of a pipe, oldest first.
struct PipeRing {
  private var slots: [PipeBuffer]
  private var head = 0
  /// Buffers in use.
  private(set) var count = 0
  /// Bytes in all of them.
  private(set) var byteCount = 0
  /// A page not in use, to spare the allocator in the usual write-read-write-read.
  private var spare: PageFrameNumber?

  private static var unused: PipeBuffer { PipeBuffer(PageFrameNumber(0), offset: 0, length: 0, []) }
  private static var pageSize: Int { PhysicalMemory.pageSize }

  init(capacity: Int) { slots = Array(repeating: Self.unused, count: capacity) }

  var capacity: Int { slots.count }
  var isFull: Bool { count == slots.count }

  /// The buffer `index` places behind the oldest.
  private func place(_ index: Int) -> Int { (head + index) & (slots.count - 1) }

  // MARK: Bytes

  /// Copies bytes into the ring until it is full: behind those of the last write where they fit, then a page at a time.
  ///
  /// - Returns: how many.
  /// - Throws: EFAULT, ENOMEM, when there are none.
  mutating func write(_ buffer: inout TransferBuffer, _ mode: PipeMode) throws(Errno) -> Int {
    var total = 0
    do throws(Errno) {
      total = try extendLast(&buffer, by: buffer.remaining % Self.pageSize)
      while buffer.remaining > 0, !isFull {
        total += try writePage(
          &buffer, min(Self.pageSize, buffer.remaining), mode == .packets ? .packet : .extensible)
      }
    } catch {
      guard total > 0 else { throw error }
    }
    return total
  }

  private mutating func extendLast(_ buffer: inout TransferBuffer, by size: Int) throws(Errno) -> Int {
    guard size > 0, count > 0 else { return 0 }
    let last = slots[place(count - 1)]
    let end = Int(last.offset) + Int(last.length)
    guard last.marks.contains(.extensible), end + size <= Self.pageSize else { return 0 }
    try unsafe buffer.copyIn(last.start + Int(last.length), count: size)
    slots[place(count - 1)].length += UInt16(truncatingIfNeeded: size)
    byteCount += size
    return size
  }

  /// Copies `size` bytes into a page of their own.
  private mutating func writePage(
    _ buffer: inout TransferBuffer, _ size: Int, _ marks: PipeBuffer.Marks
  ) throws(Errno) -> Int {
    let page = try takePage()
    do throws(Errno) { try unsafe buffer.copyIn(DirectMap.pointer(to: page), count: size) } catch {
      givePage(page)
      throw error
    }
    append(PipeBuffer(page, offset: 0, length: size, marks))
    return size
  }

  /// Copies bytes out of the ring, until it is empty or a packet ends.
  ///
  /// - Returns: how many.
  /// - Throws: EFAULT, when there are none.
  mutating func read(_ buffer: inout TransferBuffer) throws(Errno) -> Int {
    var total = 0
    while buffer.remaining > 0, count > 0 {
      let first = slots[head]
      let size = min(Int(first.length), buffer.remaining)
      do throws(Errno) { try unsafe buffer.copyOut(UnsafeRawPointer(first.start), count: size) } catch {
        guard total > 0 else { throw error }
        return total
      }
      total += size
      if first.marks.contains(.packet) {
        consume(Int(first.length))
        break
      }
      consume(size)
    }
    return total
  }

  /// Gives the oldest bytes to `body`, a buffer at a time, which takes as many as it says; `limit` at most.
  ///
  /// - Returns: how many were taken.
  /// - Throws: what `body` throws, when there are none.
  mutating func drain(
    _ limit: Int, _ body: (inout TransferBuffer) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    var total = 0
    while total < limit, count > 0 {
      let first = slots[head]
      let size = min(Int(first.length), limit - total)
      var taken = 0
      do throws(Errno) {
        var buffer = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(start: first.start, count: size))
        taken = try body(&buffer)
      } catch {
        guard total > 0 else { throw error }
        return total
      }
      consume(taken)
      total += taken
      if taken < size { break }
    }
    return total
  }

  // MARK: Pages

  /// Takes pages from the front of `buffer` by reference until the ring is full. Pages that cannot be lent are copied.
  ///
  /// - Returns: how many bytes.
  /// - Throws: EFAULT, ENOMEM, when there are none.
  mutating func borrow(_ buffer: inout TransferBuffer) throws(Errno) -> Int {
    var total = 0
    do throws(Errno) {
      while buffer.remaining > 0, !isFull {
        switch try buffer.lendPage() {
        case .lent(let page, let offset, let count):
          append(PipeBuffer(page, offset: offset, length: count, .lent))
          total += count
        case .refused(let count): total += try writePage(&buffer, count, [])
        }
      }
    } catch {
      guard total > 0 else { throw error }
    }
    return total
  }

  /// Shows the oldest bytes, `limit` at most, in another ring too, as far as that has room.
  ///
  /// - Returns: how many.
  /// - Throws: EFAULT when there are none because a page has too many holders.
  func share(with target: inout PipeRing, limit: Int) throws(Errno) -> Int {
    var total = 0
    var index = 0
    while total < limit, index < count, !target.isFull {
      guard let buffer = slots[place(index)].shared(limit - total) else {
        if total == 0 { throw .EFAULT }
        break
      }
      target.append(buffer)
      total += Int(buffer.length)
      index += 1
    }
    return total
  }

  /// Hands the oldest bytes, `limit` at most, over to another ring, as far as that has room.
  ///
  /// - Returns, throws: as `share`.
  mutating func move(to target: inout PipeRing, limit: Int) throws(Errno) -> Int {
    var total = 0
    while total < limit, count > 0, !target.isFull {
      let first = slots[head]
      if Int(first.length) <= limit - total {
        target.append(first)
        byteCount -= Int(first.length)
        dropFirst()
        total += Int(first.length)
      } else {
        guard let part = first.shared(limit - total) else {
          if total == 0 { throw .EFAULT }
          break
        }
        target.append(part)
        consume(Int(part.length))
        total += Int(part.length)
      }
    }
    return total
  }

  /// Makes the ring one of `capacity` buffers, a power of two and at least `count`.
  mutating func resize(to capacity: Int) {
    var new: [PipeBuffer] = []
    new.reserveCapacity(capacity)
    for index in 0..<count { new.append(slots[place(index)]) }
    while new.count < capacity { new.append(Self.unused) }
    slots = new
    head = 0
  }

  mutating func removeAll() {
    while count > 0 { consume(Int(slots[head].length)) }
    spare?.frame.release()
    spare = nil
  }

  // MARK: Slots

  private mutating func append(_ buffer: PipeBuffer) {
    slots[place(count)] = buffer
    count += 1
    byteCount += Int(buffer.length)
  }

  private mutating func dropFirst() {
    head = place(1)
    count -= 1
  }

  /// The first `size` bytes of the oldest buffer are done.
  private mutating func consume(_ size: Int) {
    let first = slots[head]
    byteCount -= size
    guard size == Int(first.length) else {
      slots[head].offset += UInt16(truncatingIfNeeded: size)
      slots[head].length -= UInt16(truncatingIfNeeded: size)
      return
    }
    dropFirst()
    if first.marks.contains(.lent) { LentPage.release(first.page) } else { givePage(first.page) }
  }

  private mutating func takePage() throws(Errno) -> PageFrameNumber {
    if let page = spare {
      spare = nil
      return page
    }
    return try MemoryPressure.retrying { () throws(Errno) in try FrameAllocator.allocate() }
  }

  /// Gives up a hold on a page of the pipe's own; one that nobody else has is kept for the next write.
  private mutating func givePage(_ page: PageFrameNumber) {
    if spare == nil, page.frame.settledReferenceCount == 1 { spare = page } else { page.frame.release() }
  }
}
