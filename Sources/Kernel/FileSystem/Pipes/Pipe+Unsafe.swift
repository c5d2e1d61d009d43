// A pipe (pipe(7)): a ring of bytes in pages, between writers and readers. Pages are allocated when data comes and given
// back when it has been read, so an idle pipe costs nothing. A sleeping lock covers the copying, which may fault; what
// waiting and polling look at is atomic.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// The shared part of both ends of a pipe or FIFO.
@safe public final class Pipe {
  public static var defaultCapacity: Int { 65536 }
  /// fs.pipe-max-size: what unprivileged F_SETPIPE_SZ may ask for.
  public static var maximumCapacity: Int { 1 << 20 }
  private static var pageSize: Int { 4096 }

  @safe private struct Ring {
    /// One pointer for each page of the capacity; nil where there is no data.
    // SAFETY: a page is allocated when its first byte is written and freed when its last byte was read or the pipe dies.
    var pages: [UnsafeMutableRawPointer?]
    /// Where the oldest byte is, below the capacity.
    var head = 0
    /// A free page, to spare the allocator in the usual write-read-write-read.
    var spare: UnsafeMutableRawPointer?
  }
  private let ring: Scheduling.Mutex<Ring>
  private let usedBytes = Atomic<Int>(0)
  private let capacityBytes: Atomic<Int>
  private let readers = Atomic<Int>(0)
  private let writers = Atomic<Int>(0)
  /// How often an end was opened: opening a FIFO waits for a change of the other's.
  let readerOpens = Atomic<Int>(0)
  let writerOpens = Atomic<Int>(0)
  /// Woken when there is more to read, or no writer left.
  let readable = WaitQueue()
  /// Woken when there is more room, or no reader left.
  let writable = WaitQueue()

  @export(interface)
  public init() {
    unsafe ring = Scheduling.Mutex(Ring(pages: Array(repeating: nil, count: Self.defaultCapacity / Self.pageSize)))
    capacityBytes = Atomic(Self.defaultCapacity)
  }

  deinit {
    ring.withLock { ring in
      // SAFETY: nobody refers to the pipe any more.
      for index in unsafe ring.pages.indices { unsafe ring.pages[index]?.deallocate() }
      unsafe ring.spare?.deallocate()
    }
  }

  /// Bytes that can be read (FIONREAD).
  public var count: Int { usedBytes.load(ordering: .sequentiallyConsistent) }
  public var capacity: Int { capacityBytes.load(ordering: .sequentiallyConsistent) }
  var hasReaders: Bool { readers.load(ordering: .sequentiallyConsistent) > 0 }
  var hasWriters: Bool { writers.load(ordering: .sequentiallyConsistent) > 0 }

  // MARK: Ends

  func openEnds(_ flags: OpenFlags) {
    if flags.allowsReading {
      readers.add(1, ordering: .sequentiallyConsistent)
      readerOpens.add(1, ordering: .sequentiallyConsistent)
      writable.wakeAll()
    }
    if flags.allowsWriting {
      writers.add(1, ordering: .sequentiallyConsistent)
      writerOpens.add(1, ordering: .sequentiallyConsistent)
      readable.wakeAll()
    }
  }

  func closeEnds(_ flags: OpenFlags) {
    if flags.allowsReading, readers.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 {
      writable.wakeAll()
    }
    if flags.allowsWriting, writers.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 {
      readable.wakeAll()
    }
  }

  // MARK: Transfer

  /// Reads what is there, or waits for something.
  /// - Returns: 0 when the pipe is empty and nobody can write.
  @export(interface)
  public func read(_ buffer: inout TransferBuffer, isNonBlocking: Bool) throws(Errno) -> Int {
    guard buffer.remaining > 0 else { return 0 }
    while true {
      let count = try readNow(&buffer)
      if count > 0 { return count }
      // A writer may have written and closed between the look at the ring and this one.
      if !hasWriters, self.count == 0 { return 0 }
      if self.count > 0 { continue }
      if isNonBlocking { throw .EAGAIN }
      try readable.wait { self.count > 0 || !hasWriters }
    }
  }

  /// Writes all of the buffer, waiting for room as needed; up to PIPE_BUF bytes go in one piece.
  /// - Throws: EPIPE when nobody can read, EAGAIN.
  @export(interface)
  public func write(_ buffer: inout TransferBuffer, isNonBlocking: Bool) throws(Errno) -> Int {
    var written = 0
    while true {
      let isAtomic = written == 0 && buffer.remaining <= PIPE_BUF
      do throws(Errno) {
        guard hasReaders else { throw .EPIPE }
        written += try writeNow(&buffer, minimum: isAtomic ? buffer.remaining : 1)
        if buffer.remaining == 0 { return written }
        if isNonBlocking { throw .EAGAIN }
        let needed = isAtomic ? buffer.remaining : 1
        try writable.wait { capacity - count >= needed || !hasReaders }
      } catch {
        if written > 0 { return written }
        throw error
      }
    }
  }

  /// Moves bytes out without waiting.
  func readNow(_ buffer: inout TransferBuffer) throws(Errno) -> Int {
    guard count > 0 else { return 0 }
    let total = try ring.withLock { (ring: inout Ring) throws(Errno) -> Int in
      var total = 0
      do throws(Errno) {
        while buffer.remaining > 0, count > 0 {
          let offset = ring.head % Self.pageSize
          let index = ring.head / Self.pageSize
          let size = min(Self.pageSize - offset, count, buffer.remaining)
          guard let page = unsafe ring.pages[index] else { break }
          // SAFETY: bytes head..<head+used are in allocated pages, and `size` stays within this one.
          try unsafe buffer.copyOut(UnsafeRawPointer(page + offset), count: size)
          consume(size, &ring)
          total += size
        }
      } catch {
        guard total > 0 else { throw error }
      }
      return total
    }
    if total > 0 { writable.wakeAll() }
    return total
  }

  /// Moves bytes in without waiting, nothing unless there is room for `minimum`.
  private func writeNow(_ buffer: inout TransferBuffer, minimum: Int) throws(Errno) -> Int {
    let total = try ring.withLock { (ring: inout Ring) throws(Errno) -> Int in
      var total = 0
      guard capacity - count >= minimum else { return 0 }
      do throws(Errno) {
        while buffer.remaining > 0, count < capacity {
          let tail = (ring.head + count) % capacity
          let offset = tail % Self.pageSize
          let size = min(Self.pageSize - offset, capacity - count, buffer.remaining)
          let page = unsafe pageForWriting(tail / Self.pageSize, &ring)
          // SAFETY: the page is allocated and `size` stays within it and within the free part of the ring.
          try unsafe buffer.copyIn(page + offset, count: size)
          usedBytes.add(size, ordering: .sequentiallyConsistent)
          total += size
        }
      } catch {
        guard total > 0 else { throw error }
      }
      return total
    }
    if total > 0 { readable.wakeAll() }
    return total
  }

  /// Copies what is there to another pipe without taking it (tee(2)).
  @export(interface)
  public func tee(into other: Pipe, limit: Int, isNonBlocking: Bool) throws(Errno) -> Int {
    while count == 0 {
      if !hasWriters { return 0 }
      if isNonBlocking { throw .EAGAIN }
      try readable.wait { count > 0 || !hasWriters }
    }
    // The bytes pass through memory of the kernel: both rings' locks are never held together.
    let bytes: [UInt8] = ring.withLock { ring in
      var bytes: [UInt8] = []
      let total = min(limit, count)
      bytes.reserveCapacity(total)
      while bytes.count < total {
        let place = (ring.head + bytes.count) % capacity
        let size = min(Self.pageSize - place % Self.pageSize, total - bytes.count)
        guard let page = unsafe ring.pages[place / Self.pageSize] else { break }
        // SAFETY: as in `readNow`.
        unsafe bytes.append(
          contentsOf: UnsafeRawBufferPointer(start: page + place % Self.pageSize, count: size))
      }
      return bytes
    }
    return try KernelBuffer.withBytes(of: bytes) { buffer throws(Errno) in
      try other.write(&buffer, isNonBlocking: isNonBlocking)
    }
  }

  /// F_SETPIPE_SZ.
  /// - Returns: the new capacity, rounded up to a power of two of pages.
  /// - Throws: EBUSY when the data does not fit, EINVAL, EPERM beyond the limit without privilege (`limit`).
  @export(interface)
  public func resize(_ bytes: UInt32, limit: Int) throws(Errno) -> Int {
    var size = Self.pageSize
    while size < Int(bytes) { size *= 2 }
    guard size <= 1 << 31 else { throw .EINVAL }
    if size > capacity, size > limit { throw .EPERM }
    guard size <= 1 << 26 else { throw .ENOMEM }
    try ring.withLock { ring throws(Errno) in
      guard count <= size else { throw .EBUSY }
      var new = unsafe Ring(pages: Array(repeating: nil, count: size / Self.pageSize))
      let total = count
      var moved = 0
      while moved < total {
        let from = (ring.head + moved) % capacity
        let part = min(
          Self.pageSize - from % Self.pageSize, Self.pageSize - moved % Self.pageSize, total - moved)
        guard let source = unsafe ring.pages[from / Self.pageSize] else { break }
        let target = unsafe pageForWriting(moved / Self.pageSize, &new)
        // SAFETY: both pages are allocated and `part` stays within both.
        unsafe (target + moved % Self.pageSize).copyMemory(from: source + from % Self.pageSize, byteCount: part)
        moved += part
      }
      for index in unsafe ring.pages.indices { unsafe ring.pages[index]?.deallocate() }
      unsafe ring.spare?.deallocate()
      ring = new
      capacityBytes.store(size, ordering: .sequentiallyConsistent)
    }
    writable.wakeAll()
    return size
  }

  // MARK: Pages, under the lock

  private func pageForWriting(_ index: Int, _ ring: inout Ring) -> UnsafeMutableRawPointer {
    if let page = unsafe ring.pages[index] { return unsafe page }
    let page: UnsafeMutableRawPointer
    if let spare = unsafe ring.spare {
      unsafe page = spare
      unsafe ring.spare = nil
    } else {
      unsafe page = .allocate(byteCount: Self.pageSize, alignment: Self.pageSize)
    }
    unsafe ring.pages[index] = page
    return unsafe page
  }

  private func consume(_ size: Int, _ ring: inout Ring) {
    let index = ring.head / Self.pageSize
    ring.head = (ring.head + size) % capacity
    let left = usedBytes.subtract(size, ordering: .sequentiallyConsistent).newValue
    // The page is free when the head left it, unless the ring is so full that its tail has come round into it.
    let isLeft = ring.head / Self.pageSize != index || left == 0
    let tailIsInside = left > 0 && (ring.head + left - 1) % capacity / Self.pageSize == index
    guard left == 0 || (isLeft && !tailIsInside) else { return }
    // An empty ring starts again at the beginning of a page.
    if left == 0 { ring.head = 0 }
    guard let page = unsafe ring.pages[index] else { return }
    unsafe ring.pages[index] = nil
    if unsafe ring.spare == nil { unsafe ring.spare = page } else { unsafe page.deallocate() }
  }

  /// What poll(2) sees at an end with these flags.
  func events(_ flags: OpenFlags) -> PollEvents {
    var events: PollEvents = []
    if flags.allowsReading {
      if count > 0 { events.formUnion(.readable) }
      if !hasWriters { events.formUnion(.hangUp) }
    }
    if flags.allowsWriting {
      if capacity - count >= PIPE_BUF { events.formUnion(.writable) }
      if !hasReaders { events.formUnion(.error) }
    }
    return events
  }
}
