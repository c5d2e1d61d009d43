// A pipe (pipe(7)): a ring of parts of pages, between writers and readers. Pages are allocated when data comes and given
// back when it has been read, so an idle pipe costs nothing. A sleeping lock covers the copying, which may fault; what
// waiting and polling look at is atomic.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import VirtualMemory

/// Whether reads see where writes ended (pipe(2), O_DIRECT).
public enum PipeMode: Sendable { case stream, packets }

/// The shared part of both ends of a pipe or FIFO.
public final class Pipe {
  public static var defaultCapacity: Int { 65536 }
  /// fs.pipe-max-size: what unprivileged F_SETPIPE_SZ may ask for.
  public static var maximumCapacity: Int { 1 << 20 }
  private static var pageSize: Int { PhysicalMemory.pageSize }

  private let ring = Scheduling.Mutex(
    PipeRing(capacity: Pipe.defaultCapacity / Pipe.pageSize), rank: .pipeRing)
  /// What the ring holds, for those who do not have its lock.
  private let usedBytes = Atomic<Int>(0)
  private let usedBuffers = Atomic<Int>(0)
  private let bufferCount = Atomic<Int>(Pipe.defaultCapacity / Pipe.pageSize)
  private let readers = Atomic<Int>(0)
  private let writers = Atomic<Int>(0)
  /// How often an end was opened: opening a FIFO waits for a change of the other's.
  let readerOpens = Atomic<Int>(0)
  let writerOpens = Atomic<Int>(0)
  /// Woken when there is more to read, or no writer left.
  let readable = WaitQueue()
  /// Woken when there is more room, or no reader left.
  let writable = WaitQueue()

  /// Who made the pipe pays for what it holds.
  private let account = Thread.current.account

  @export(interface)
  public init() {}

  deinit {
    // Freeing all that is in it takes a while: not under a spin lock.
    LockOrder.mayWait()
    ring.withLastUse { $0.removeAll() }
    account.release(heldBytes)
  }

  /// Memory for what the pipe holds.
  var heldBytes: Int { usedBuffers.load(ordering: .relaxed) * Self.pageSize }

  /// Bytes that can be read (FIONREAD).
  public var count: Int { usedBytes.load(ordering: .sequentiallyConsistent) }
  /// Bytes that an empty pipe takes.
  public var capacity: Int { bufferCount.load(ordering: .sequentiallyConsistent) * Self.pageSize }
  /// Bytes that it certainly takes now: whole pages, whatever room is left behind the last bytes.
  public var room: Int {
    let free = bufferCount.load(ordering: .sequentiallyConsistent) - usedBuffers.load(ordering: .sequentiallyConsistent)
    return max(0, free) * Self.pageSize
  }
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
  /// - Returns: 0 when the pipe is empty and has no writers.
  @export(interface)
  public func read(_ buffer: inout TransferBuffer, isNonBlocking: Bool) throws(Errno) -> Int {
    guard buffer.remaining > 0 else { return 0 }
    while try waitForBytes(isNonBlocking: isNonBlocking) {
      let count = try readNow(&buffer)
      if count > 0 { return count }
    }
    return 0
  }

  /// Waits until there is something to read.
  ///
  /// - Returns: false when the pipe is empty and has no writers.
  /// - Throws: EAGAIN; what a signal makes of the wait.
  func waitForBytes(isNonBlocking: Bool) throws(Errno) -> Bool {
    while count == 0 {
      // A writer may have written and closed between the two looks.
      if !hasWriters { return count > 0 }
      if isNonBlocking { throw .EAGAIN }
      try readable.wait { count > 0 || !hasWriters }
    }
    return true
  }

  /// Writes all of the buffer, waiting for room as needed; up to PIPE_BUF bytes go in one piece.
  /// - Throws: EPIPE when there are no readers, EAGAIN.
  @export(interface)
  public func write(
    _ buffer: inout TransferBuffer, isNonBlocking: Bool, mode: PipeMode = .stream
  ) throws(Errno) -> Int {
    var written = 0
    do throws(Errno) {
      while true {
        guard hasReaders else { throw .EPIPE }
        written += try filling { ring throws(Errno) in try ring.write(&buffer, mode) }
        if buffer.remaining == 0 { return written }
        try waitForRoom(isNonBlocking: isNonBlocking)
      }
    } catch {
      guard written > 0 else { throw error }
    }
    return written
  }

  /// Waits until there is room for a page.
  ///
  /// - Throws: EPIPE, EAGAIN; what a signal makes of the wait.
  @export(interface)
  public func waitForRoom(isNonBlocking: Bool) throws(Errno) {
    while room == 0 {
      guard hasReaders else { throw .EPIPE }
      if isNonBlocking { throw .EAGAIN }
      try writable.wait { room > 0 || !hasReaders }
    }
  }

  /// Moves bytes out without waiting.
  private func readNow(_ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try emptying { ring throws(Errno) in try ring.read(&buffer) }
  }

  /// Runs `body`, which takes bytes out of the ring and says how many.
  @inline(__always)
  func emptying(_ body: (inout PipeRing) throws(Errno) -> Int) throws(Errno) -> Int {
    let total = try withRing(body)
    if total > 0 { writable.wakeAll() }
    return total
  }

  /// Runs `body`, which puts bytes into the ring and says how many.
  @inline(__always)
  func filling(_ body: (inout PipeRing) throws(Errno) -> Int) throws(Errno) -> Int {
    let total = try withRing(body)
    if total > 0 { readable.wakeAll() }
    return total
  }

  /// Runs `body` with the ring, and tells afterwards what is in it.
  @inline(__always)
  private func withRing(_ body: (inout PipeRing) throws(Errno) -> Int) throws(Errno) -> Int {
    try ring.withLock { ring throws(Errno) in
      let before = ring.count
      defer {
        if ring.count != before { account.charge((ring.count - before) * Self.pageSize) }
        usedBuffers.store(ring.count, ordering: .sequentiallyConsistent)
        usedBytes.store(ring.byteCount, ordering: .sequentiallyConsistent)
      }
      return try body(&ring)
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
    try KernelMemory.admit(bytes: size / Self.pageSize * MemoryLayout<PipeBuffer>.stride)
    try ring.withLock { ring throws(Errno) in
      guard ring.count <= size / Self.pageSize else { throw .EBUSY }
      ring.resize(to: size / Self.pageSize)
      bufferCount.store(size / Self.pageSize, ordering: .sequentiallyConsistent)
    }
    writable.wakeAll()
    return size
  }

  /// What poll(2) sees at an end with these flags.
  func events(_ flags: OpenFlags) -> PollEvents {
    var events: PollEvents = []
    if flags.allowsReading {
      if count > 0 { events.formUnion(.readable) }
      if !hasWriters { events.formUnion(.hangUp) }
    }
    if flags.allowsWriting {
      if room > 0 { events.formUnion(.writable) }
      if !hasReaders { events.formUnion(.error) }
    }
    return events
  }
}
