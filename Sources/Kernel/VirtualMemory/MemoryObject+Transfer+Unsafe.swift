// read(2) and write(2) on an object: copying between its pages and a caller's buffer. No lock is held while the buffer,
// which may be user memory that faults, is touched: the page is held by a reference.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

extension MemoryObject {
  /// Copies from the object into `buffer`, up to its end or the buffer's; returns the number of bytes.
  ///
  /// - Throws: EFAULT, ENOMEM, the store's errors, each only when nothing was copied.
  @export(interface)
  public func read(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    let before = buffer.remaining
    do throws(Errno) { try readAll(offset, &buffer) } catch {
      if buffer.remaining == before { throw error }
    }
    return before - buffer.remaining
  }

  private func readAll(_ offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) {
    var position = offset
    while buffer.remaining > 0 {
      let end = size
      guard position < end else { return }
      let within = position & pageMask
      let count = Int(truncatingIfNeeded: min(pageSize &- within, end &- position, UInt64(buffer.remaining)))
      if let frame = try pageForReading(position / pageSize) {
        defer { Frames.release(frame) }
        // SAFETY: `within + count` is at most a page, and the reference keeps the frame.
        try unsafe buffer.copyOut(Frames.pointer(frame) + Int(truncatingIfNeeded: within), count: count)
      } else {
        try buffer.clear(count: count)
      }
      position = position &+ UInt64(count)
      if Self.isLong(position), !Self.goesOn() { return }
    }
  }

  /// Whether a transfer has come to the end of a megabyte: time to look at others.
  @inline(__always)
  static func isLong(_ position: UInt64) -> Bool { position & ((1 << 20) &- 1) == 0 }

  /// Lets others run; false when the program is to end.
  @inline(never)
  static func goesOn() -> Bool {
    Thread.checkReschedule()
    return !Thread.current.hasFatalSignal
  }

  /// The page, with a reference; nil for a hole, which reads as zeros without a frame.
  @inline(__always)
  private func pageForReading(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    let found = lookUp(index)
    if case .ready(let frame) = found {
      Frames.markReferenced(frame)
      return frame
    }
    if !hasStore, found == .absent { return nil }
    do throws(Errno) {
      return try MemoryPressure.retrying { () throws(Errno) in try page(index) }
    } catch {
      // It became shorter while we were reading.
      if error == .EFAULT { return nil }
      throw error
    }
  }

  /// Copies from `buffer` into the object at `offset`, making it longer if needed; returns the number of bytes.
  ///
  /// The caller excludes other writers and truncation (an inode's lock).
  /// - Throws: EFAULT, ENOMEM, EFBIG, the store's errors, each only when nothing was copied.
  @export(interface)
  public func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    let before = buffer.remaining
    let (end, overflow) = offset.addingReportingOverflow(UInt64(max(0, before)))
    guard !overflow, end <= UInt64(Int64.max) else { throw .EFBIG }
    if before > 0, offset > size { clearTail() }
    do throws(Errno) { try writeAll(offset, &buffer) } catch {
      if buffer.remaining == before { throw error }
    }
    return before - buffer.remaining
  }

  private func writeAll(_ offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) {
    var position = offset
    // Pages that are written together lie together, so that a mapping of them is one for the machine.
    var stock = FrameStock()
    defer { stock.release() }
    while buffer.remaining > 0 {
      let within = Int(truncatingIfNeeded: position & pageMask)
      let count = min(Int(pageSize) - within, buffer.remaining)
      let before = buffer.remaining
      var failure: Errno?
      do throws(Errno) { try writePage(position / pageSize, within, count, &buffer, &stock) } catch { failure = error }
      let copied = before - buffer.remaining
      position = position &+ UInt64(copied)
      if copied > 0 { extend(to: position) }
      if let failure { throw failure }
      if hasStore { Flusher.throttleWriter() }
      if Self.isLong(position), !Self.goesOn() { return }
    }
  }

  private func writePage(
    _ index: UInt64, _ within: Int, _ count: Int, _ buffer: inout TransferBuffer, _ stock: inout FrameStock
  ) throws(Errno) {
    if lookUpIsAbsent(index), !hasStore || count == Int(pageSize) || index >= pageCount {
      // Nothing there that must be kept: no need to read it.
      return try writeFresh(index, within, count, &buffer, &stock)
    }
    let frame = try MemoryPressure.retrying { () throws(Errno) in try page(index) }
    Frames.markReferenced(frame)
    defer { Frames.release(frame) }
    defer { markDirty(index) }
    // SAFETY: `within + count` is at most a page, and the reference keeps the frame.
    try unsafe buffer.copyIn(Frames.pointer(frame) + within, count: count)
  }

  func lookUpIsAbsent(_ index: UInt64) -> Bool { RCU.read { tree[index] == 0 } }

  /// Writes to a page of its own first and makes it the object's when it is filled: it is never visible half done.
  private func writeFresh(
    _ index: UInt64, _ within: Int, _ count: Int, _ buffer: inout TransferBuffer, _ stock: inout FrameStock
  ) throws(Errno) {
    try promisePage()
    var isPromiseKept = false
    defer { if !isPromiseKept { unpromisePages(1) } }
    let frame = try MemoryPressure.retrying { () throws(Errno) in
      try ObjectPages.preload()
      if count < Int(pageSize) { return try Frames.allocateZeroed() }
      return try stock.next(wanted: buffer.remaining / Int(pageSize))
    }
    let before = buffer.remaining
    var failure: Errno?
    // SAFETY: the frame is ours alone; `within + count` is at most a page.
    do throws(Errno) { try unsafe buffer.copyIn(Frames.pointer(frame) + within, count: count) } catch {
      failure = error
    }
    let copied = before - buffer.remaining
    if copied < count, count == Int(pageSize) { Frames.clear(frame, from: within + copied) }
    guard copied > 0 else {
      Frames.release(frame)
      if let failure { throw failure }
      return
    }
    // The bytes are taken from the caller already, so this may not fail any more.
    do throws(Errno) { try ObjectPages.preload(options: .reserved) } catch {
      Frames.release(frame)
      throw error
    }
    let isInserted = pages.withLock { pages in
      guard pages.find(index) == .absent, pages.insert(frame, at: index, busy: false) else { return false }
      enlist(frame, index)
      return true
    }
    if isInserted {
      isPromiseKept = true
      countPages(1)
    } else {
      // A fault made the page meanwhile.
      defer { Frames.release(frame) }
      let other = try MemoryPressure.retrying { () throws(Errno) in try page(index) }
      // SAFETY: both frames are held, and the range is within a page.
      unsafe (Frames.pointer(other) + within).copyMemory(from: Frames.pointer(frame) + within, byteCount: copied)
      Frames.release(other)
    }
    markDirty(index)
    if let failure { throw failure }
  }

  /// Clears what a mapping may have written behind the end, before the end moves up.
  func clearTail() {
    let end = size
    guard end & pageMask != 0 else { return }
    guard let frame = pageIfPresent(end / pageSize) else { return }
    Frames.clear(frame, from: Int(truncatingIfNeeded: end & pageMask))
    Frames.release(frame)
  }
}
