// Moving bytes between two files without passing through the program: sendfile(2), copy_file_range(2), splice(2), tee(2),
// vmsplice(2). Between pipes, and from a program to a pipe, pages are handed on; what goes to or comes from a file is copied,
// from a file through a buffer of the kernel.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import Scheduling
import Sockets
import VirtualMemory

/// Copies from file to file.
public enum CopyCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(40, "sendfile", .full, "out:d in:d offset:p count:u", sendFile),
      SystemCall(275, "splice", .full, "in:d in_offset:p out:d out_offset:p count:u flags:x", splice),
      SystemCall(276, "tee", .full, "in:d out:d count:u flags:x", tee),
      SystemCall(278, "vmsplice", .full, "fd:d vec:p count:u flags:x", vmSplice),
      SystemCall(326, "copy_file_range", .full, "in:d in_offset:p out:d out_offset:p count:u flags:x", copyFileRange),
    ]
  }

  private static let chunk = 65536
  private static let nonBlocking: UInt32 = 2  // SPLICE_F_NONBLOCK

  /// sendfile(2): the input must have pages or at least be readable at a position.
  static func sendFile(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var offset: UInt64?
    if frame.a2 != 0 { offset = try FileArguments.offset(try UserMemory.read(frame.a2, as: UInt64.self)) }
    let inputUse = try FileArguments.readable(frame.int(1), frame)
    let input = inputUse.file
    if offset != nil, input.position == nil { throw .ESPIPE }
    guard input.inode.kind != .directory, Int64(bitPattern: frame.a3) >= 0 else { throw .EINVAL }
    let outputUse = try FileArguments.writable(frame.int(0), &frame)
    let output = outputUse.file
    if output.inode.kind == .regular, output.flags.contains(.append) { throw .EINVAL }
    let count = try countedCopy(input, &offset, output, nil, frame.a3, frame)
    if let offset, frame.a2 != 0 { try UserMemory.write(offset, to: frame.a2) }
    return count
  }

  /// copy_file_range(2): both must be regular files.
  static func copyFileRange(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let inputUse = try frame.descriptors.getForUse(frame.int(0))
    let input = inputUse.file
    let outputUse = try frame.descriptors.getForUse(frame.int(2))
    let output = outputUse.file
    var from: UInt64?
    var to: UInt64?
    if frame.a1 != 0 { from = try UserMemory.read(frame.a1, as: UInt64.self) }
    if frame.a3 != 0 { to = try UserMemory.read(frame.a3, as: UInt64.self) }
    guard frame.uint(5) == 0 else { throw .EINVAL }
    for file in [input, output] {
      if file.inode.kind == .directory { throw .EISDIR }
      guard file.inode.kind == .regular, file.position != nil else { throw .EINVAL }
    }
    guard input.flags.allowsReading, output.flags.allowsWriting, !output.flags.contains(.append) else { throw .EBADF }
    let start = from ?? input.position?.current ?? 0
    let target = to ?? output.position?.current ?? 0
    let length = try copyLength(input, start, output, target, frame.a4, frame)
    guard length > 0 else { return 0 }
    let hasFrom = from != nil
    let hasTo = to != nil
    let count = try countedCopy(input, &from, output, to, length, frame)
    if hasFrom, let from { try UserMemory.write(from, to: frame.a1) }
    if hasTo, let to { try UserMemory.write(to + UInt64(count), to: frame.a3) }
    return count
  }

  /// How much of `count` bytes copy_file_range(2) can copy: up to the end of the input, and as large as the output may become.
  private static func copyLength(
    _ input: OpenFile, _ start: UInt64, _ output: OpenFile, _ target: UInt64, _ count: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) -> UInt64 {
    for offset in [start, target] where offset.addingReportingOverflow(count).overflow { throw .EOVERFLOW }
    guard max(start, target) <= RegularFile.maximumSize else { throw .EINVAL }
    let size = try input.inode.size()
    let limit = frame.process.limit(.fileSize)
    if target >= limit {
      TransferCalls.raiseSizeLimit(frame)
      throw .EFBIG
    }
    guard target < RegularFile.maximumSize else { throw .EFBIG }
    let length = min(count, start < size ? size - start : 0, min(limit, RegularFile.maximumSize) - target)
    if input.inode === output.inode, target + length > start, target < start + length { throw .EINVAL }
    return length
  }

  /// splice(2): one side must be a pipe.
  static func splice(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.uint(5) & ~0xf == 0 else { throw .EINVAL }
    guard frame.a4 > 0 else { return 0 }
    let inputUse = try FileArguments.readable(frame.int(0), frame)
    let input = inputUse.file
    let outputUse = try FileArguments.writable(frame.int(2), &frame)
    let output = outputUse.file
    guard input.pipe != nil || output.pipe != nil else { throw .EINVAL }
    if input.pipe != nil, frame.a1 != 0 { throw .ESPIPE }
    if output.pipe != nil, frame.a3 != 0 { throw .ESPIPE }
    if let left = input.pipe, let right = output.pipe, left === right { throw .EINVAL }
    var from: UInt64?
    var to: UInt64?
    if frame.a1 != 0 {
      from = try FileArguments.offset(try UserMemory.read(frame.a1, as: UInt64.self))
      if input.position == nil { throw .EINVAL }
    }
    if frame.a3 != 0 {
      to = try FileArguments.offset(try UserMemory.read(frame.a3, as: UInt64.self))
      if output.position == nil { throw .EINVAL }
    }
    if output.flags.contains(.append) { throw .EINVAL }
    let isNonBlocking = frame.uint(5) & nonBlocking != 0
    let count: Int64
    if let source = input.pipe {
      let limit = Int(min(frame.a4, MAX_RW_COUNT))
      if let target = output.pipe {
        return Int64(
          try source.move(
            to: target, limit: limit, isNonBlocking: isNonBlocking || input.isNonBlocking || output.isNonBlocking))
      }
      count = try drain(source, input, limit, isNonBlocking, output, to, frame)
    } else {
      // One round: splice moves what there is room for, not all that was asked for.
      try output.pipe?.waitForRoom(isNonBlocking: isNonBlocking || output.isNonBlocking)
      count = try copy(input, &from, output, to, min(frame.a4, UInt64(output.pipe?.room ?? 0)), frame)
    }
    if frame.a1 != 0, let from { try UserMemory.write(from, to: frame.a1) }
    if frame.a3 != 0, let to { try UserMemory.write(to + UInt64(count), to: frame.a3) }
    return count
  }

  /// From a pipe to something else. A regular file takes the bytes from the pipe's own pages; whatever may keep others
  /// waiting gets a copy.
  private static func drain(
    _ source: Pipe, _ input: OpenFile, _ limit: Int, _ isNonBlocking: Bool, _ output: OpenFile, _ to: UInt64?,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    if let socket = output as? SocketFile { return try drain(source, input, limit, isNonBlocking, to: socket) }
    guard output.inode.kind == .regular else {
      if isNonBlocking, source.count == 0, !input.poll().contains(.hangUp) { throw .EAGAIN }
      var from: UInt64?
      return try copy(input, &from, output, to, UInt64(min(limit, chunk)), frame)
    }
    var target = to
    let count = try source.drain(limit: limit, isNonBlocking: isNonBlocking || input.isNonBlocking) {
      buffer throws(Errno) in
      let written = try TransferCalls.move(to: output, &buffer, at: target, frame)
      target = target.map { $0 + UInt64(written) }
      return Int(written)
    }
    if count > 0 { input.didRead() }
    return Int64(count)
  }

  /// From a pipe to a socket, which takes what it has room for: the rest stays in the pipe. The pipe is not kept locked while a
  /// socket without room is waited for.
  private static func drain(
    _ source: Pipe, _ input: OpenFile, _ limit: Int, _ isNonBlocking: Bool, to output: SocketFile
  ) throws(Errno) -> Int64 {
    let waits = !isNonBlocking && !output.isNonBlocking
    while true {
      do throws(Errno) {
        let count = try source.drain(limit: limit, isNonBlocking: isNonBlocking || input.isNonBlocking) {
          buffer throws(Errno) in try output.writeNow(&buffer)
        }
        if count > 0 { input.didRead() }
        return Int64(count)
      } catch {
        guard error == .EAGAIN, waits, source.count > 0 else { throw error }
        try output.socket.waitUntilWritable()
      }
    }
  }

  static func tee(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.uint(3) & ~0xf == 0 else { throw .EINVAL }
    guard frame.a2 > 0 else { return 0 }
    let inputUse = try FileArguments.readable(frame.int(0), frame)
    let input = inputUse.file
    let outputUse = try FileArguments.writable(frame.int(1), &frame)
    let output = outputUse.file
    guard let source = input.pipe, let target = output.pipe, source !== target else { throw .EINVAL }
    return Int64(
      try source.tee(
        into: target, limit: Int(min(frame.a2, MAX_RW_COUNT)),
        isNonBlocking: frame.uint(3) & nonBlocking != 0 || input.isNonBlocking || output.isNonBlocking))
  }

  /// vmsplice(2): pages go into a pipe by reference, given away for good or not; out of a pipe they are copied, as on Linux.
  static func vmSplice(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.uint(3) & ~0xf == 0 else { throw .EINVAL }
    let use = try frame.descriptors.getForUse(frame.int(0))
    let file = use.file
    guard let pipe = file.pipe else { throw .EBADF }
    var buffer = try FileArguments.vectors(frame.a1, frame.a2)
    let isNonBlocking = file.isNonBlocking || frame.uint(3) & nonBlocking != 0
    return Int64(
      file.flags.allowsWriting
        ? try pipe.borrow(&buffer, isNonBlocking: isNonBlocking)
        : try pipe.read(&buffer, isNonBlocking: isNonBlocking))
  }

  /// `copy` for calls that count as one that reads and one that writes.
  private static func countedCopy(
    _ input: OpenFile, _ from: inout UInt64?, _ output: OpenFile, _ to: UInt64?, _ count: UInt64,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    frame.task.transfers.readCalls &+= 1
    frame.task.transfers.writeCalls &+= 1
    let count = try copy(input, &from, output, to, count, frame)
    frame.task.transfers.read &+= UInt64(count)
    frame.task.transfers.written &+= UInt64(count)
    return count
  }

  /// Copies up to `count` bytes. `from` moves on when it is given; else the positions do. Ends early at the end of the
  /// input, or where the output would block after something was moved.
  private static func copy(
    _ input: OpenFile, _ from: inout UInt64?, _ output: OpenFile, _ to: UInt64?, _ count: UInt64,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    var rest = Int(min(count, MAX_RW_COUNT))
    var total = 0
    do throws(Errno) {
      while rest > 0 {
        let bytes = try input.readBytes(at: from, count: min(rest, chunk))
        if bytes.isEmpty { break }
        let target = to.map { $0 + UInt64(total) }
        var written = 0
        do throws(Errno) {
          written = try KernelBuffer.withBytes(of: bytes) { buffer throws(Errno) in
            Int(try TransferCalls.move(to: output, &buffer, at: target, frame))
          }
        } catch {
          giveBack(input, from, bytes.count)
          throw error
        }
        total += written
        rest -= written
        if let start = from { from = start + UInt64(written) }
        if written < bytes.count {
          giveBack(input, from, bytes.count - written)
          break
        }
        // A pipe or device gives what it has; only files are read to the end.
        if input.position == nil || Thread.current.hasPendingSignal { break }
        Thread.checkReschedule()
        // One call may move gigabytes through the page cache: what it fills must be given back on the way.
        MemoryPressure.balance()
      }
    } catch {
      guard total > 0 else { throw error }
    }
    if total > 0 { input.didRead() }
    return Int64(total)
  }

  /// What was read but not written is read again: the position goes back (a pipe's bytes are gone).
  private static func giveBack(_ input: OpenFile, _ from: UInt64?, _ count: Int) {
    guard from == nil, let position = input.position else { return }
    position.withLock { $0 -= min($0, UInt64(count)) }
  }
}
