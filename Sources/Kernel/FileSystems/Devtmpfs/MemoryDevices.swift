// The devices of major 1: null, zero, full, random, urandom (null(4), full(4), random(4)) and kmsg.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

enum MemoryDevices {
  static func register() {
    add(3, "null") { NullDevice(path: $0, flags: $1, isSeekable: true) }
    add(5, "zero") { ZeroDevice(path: $0, flags: $1, isFull: false) }
    add(7, "full") { ZeroDevice(path: $0, flags: $1, isFull: true) }
    add(8, "random") { RandomDevice(path: $0, flags: $1, isSeekable: true) }
    add(9, "urandom") { RandomDevice(path: $0, flags: $1, isSeekable: true) }
    DeviceFiles.register(major: 1, minor: 11, name: "kmsg", permissions: 0o644) {
      (path, flags, caller) throws(Errno) -> OpenFile in
      KernelLogDevice(path: path, flags: flags)
    }
  }

  private static func add(_ minor: UInt32, _ name: ByteString, _ make: @escaping (Path, OpenFlags) -> OpenFile) {
    DeviceFiles.register(major: 1, minor: minor, name: name) {
      (path, flags, caller) throws(Errno) -> OpenFile in make(path, flags)
    }
  }
}

/// /dev/null: an empty file that takes everything.
final class NullDevice: OpenFile {
  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { 0 }
  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { buffer.remaining }
  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 { 0 }
}

/// /dev/zero, and /dev/full, which differs in having no room.
final class ZeroDevice: OpenFile {
  private let isFull: Bool

  init(path: Path, flags: OpenFlags, isFull: Bool) {
    self.isFull = isFull
    super.init(path: path, flags: flags, isSeekable: true)
  }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try buffer.transfer { buffer throws(Errno) in
      while buffer.remaining > 0 {
        try buffer.clear(count: min(buffer.remaining, 1 << 20))
        if Thread.current.hasPendingSignal { break }
        Thread.checkReschedule()
      }
    }
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if isFull { throw .ENOSPC }
    return buffer.remaining
  }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 { 0 }

  /// Mapping /dev/zero is anonymous memory by another name (mmap of a shared mapping: an object of its own).
  override func mapping(offset: UInt64, length: UInt64) throws(Errno) -> MemoryObject {
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard !overflow else { throw .EOVERFLOW }
    return MemoryObject(store: nil, size: end)
  }
}

/// /dev/random and /dev/urandom: the machine's random numbers, which never run out.
final class RandomDevice: OpenFile {
  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    var bytes: [UInt8] = []
    return try buffer.transfer { buffer throws(Errno) in
      while buffer.remaining > 0 {
        Random.fill(&bytes, count: min(buffer.remaining, 4096))
        try buffer.copyOut(ByteString(bytes))
        // random(4): large reads can be interrupted.
        if Thread.current.hasPendingSignal { break }
        Thread.checkReschedule()
      }
    }
  }

  /// Writing would stir the pool; the machine's needs no stirring.
  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { buffer.remaining }
  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 { 0 }
}

/// /dev/kmsg: the kernel log, a record for each read; a write adds one.
final class KernelLogDevice: OpenFile {
  private let next = SpinLock(UInt64(0), rank: .device)

  init(path: Path, flags: OpenFlags) { super.init(path: path, flags: flags, isSeekable: false) }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    let sequence = next.withLock { $0 }
    // There is no wake-up for new records: a reader at the end of the log gets EAGAIN.
    guard let record = Log.records(from: sequence).first else { throw .EAGAIN }
    var line = TextBuffer()
    line.append(decimal: UInt64(record.level.rawValue))
    line.append(",")
    line.append(decimal: record.sequence)
    line.append(",")
    line.append(decimal: record.time / 1000)
    line.append(",-;")
    line.append(record.text)
    line.append("\n")
    guard buffer.remaining >= line.count else { throw .EINVAL }
    next.withLock { $0 = record.sequence + 1 }
    try buffer.copyOut(line.byteString)
    return line.count
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    let count = buffer.remaining
    guard count <= 976 else { throw .EINVAL }
    var text = try buffer.copyIn(count: count)
    // An optional "<level>" comes first.
    var level = LogLevel.notice
    if text.first == 0x3c, let end = text.firstIndex(of: 0x3e), let number = ByteString(text[1..<end]).decimal() {
      level = LogLevel(rawValue: UInt8(number & 7)) ?? .notice
      text.removeFirst(end + 1)
    }
    if text.last == 0x0a { text.removeLast() }
    Log.write(level, ByteString(text).string, from: .user)
    return count
  }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard offset == 0 else { throw .ESPIPE }
    switch whence {
    case SEEK_SET: next.withLock { $0 = 0 }
    case SEEK_END: next.withLock { $0 = .max }
    case SEEK_DATA:
      let cleared = Log.records().last.map { $0.sequence + 1 } ?? 0
      next.withLock { $0 = cleared }
    default: throw .EINVAL
    }
    return 0
  }

  override func poll() -> PollEvents {
    let sequence = next.withLock { $0 }
    return Log.records(from: sequence).isEmpty ? .writable : [.readable, .writable]
  }
}
