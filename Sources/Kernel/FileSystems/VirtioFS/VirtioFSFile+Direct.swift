// O_DIRECT on files of the host: the program's pages are pinned and are the memory of the requests, so the kernel copies
// nothing; the server moves the bytes with one vectored call for each request. The cache is kept in agreement: what it has
// changed goes to the server first, and it forgets what the server is about to receive.

import CLinuxABI
import FileSystem
import LinuxABI
import PhysicalMemory
import Scheduling
import VirtualMemory

extension VirtioFSFile {
  /// Places and lengths are multiples of it, as on a disk's file system. Memory may lie anywhere: the server reaches each byte.
  static var directUnit: UInt64 { 512 }
  /// The most pieces of memory in a request: what a message has room for besides its own.
  private static var directSegments: Int { 32 }

  func readPastCache(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    guard buffer.remaining > 0 else { return 0 }
    guard isAligned(offset, buffer.remaining) else {
      // Behind the end there is nothing to read, whatever the place: a file's last bytes are read so.
      if offset >= (try size()) { return 0 }
      throw .EINVAL
    }
    if object.hasUnstoredPages { try object.writeBack(offset..<offset + UInt64(buffer.remaining)) }
    var memory = SegmentList(capacity: Self.directSegments)
    return try buffer.transfer { buffer throws(Errno) in
      var position = offset
      while buffer.remaining > 0 {
        memory.removeAll()
        let pins = try buffer.pin(
          into: &memory, segments: Self.directSegments, bytes: session.transferLimit, for: .write)
        defer { pins.release() }
        let count = try sendRead(at: position, memory)
        buffer.consume(pins, count: count)
        position += UInt64(count)
        if count < memory.byteCount || Thread.current.hasFatalSignal { return }
      }
    }
  }

  private func sendRead(at offset: UInt64, _ memory: SegmentList) throws(Errno) -> Int {
    try session.call(LINUX_FUSE_READ, node, room: 0, target: memory.segments) { (message) throws(Errno) in
      var body = linux_fuse_read_in()
      body.offset = offset
      body.size = UInt32(memory.byteCount)
      message.append(body)
    } reply: { (message) throws(Errno) in
      min(message.replyLength, memory.byteCount)
    }
  }

  /// The file's lock is held, so nobody cuts it short meanwhile.
  func writePastCache(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    guard isAligned(offset, buffer.remaining) else { throw .EINVAL }
    // A page that has the old end in it shows the new bytes too.
    let start = min(offset, object.size)
    let end = offset + UInt64(buffer.remaining)
    if object.hasUnstoredPages { try object.writeBack(start..<end) }
    object.forget(start..<end)
    var memory = SegmentList(capacity: Self.directSegments)
    var position = offset
    defer {
      if position > offset {
        attributesDidChange()
        // Before pages are forgotten: one that is read meanwhile is cut off at the end.
        object.extend(to: position)
        // Another thread may have read the old contents meanwhile.
        object.forget(start..<position)
      }
    }
    return try buffer.transfer { buffer throws(Errno) in
      while buffer.remaining > 0 {
        memory.removeAll()
        let pins = try buffer.pin(
          into: &memory, segments: Self.directSegments, bytes: session.transferLimit, for: .read)
        defer { pins.release() }
        let count = try sendWrite(at: position, memory)
        buffer.consume(pins, count: count)
        position += UInt64(count)
        // The host writes less only when it is out of space.
        guard count == memory.byteCount else { throw .ENOSPC }
        if Thread.current.hasFatalSignal { return }
      }
    }
  }

  private func sendWrite(at offset: UInt64, _ memory: SegmentList) throws(Errno) -> Int {
    try session.call(LINUX_FUSE_WRITE, node, room: MemoryLayout<linux_fuse_write_out>.size) {
      (message) throws(Errno) in
      var body = linux_fuse_write_in()
      body.offset = offset
      body.size = UInt32(memory.byteCount)
      message.append(body)
      message.appendData(memory)
    } reply: { (message) throws(Errno) in
      min(Int(try message.value(linux_fuse_write_out.self).size), memory.byteCount)
    }
  }

  private func isAligned(_ offset: UInt64, _ count: Int) -> Bool {
    (offset | UInt64(count)) % Self.directUnit == 0
  }
}
