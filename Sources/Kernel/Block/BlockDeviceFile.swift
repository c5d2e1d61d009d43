// The file of a block device: its bytes through the page cache or, with O_DIRECT, between the device and the program's own
// pages.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// An open block device.
final class BlockDeviceFile: OpenFile {
  let device: BlockDevice
  private let writeErrors: WriteErrorCursor

  init(_ device: BlockDevice, path: Path, flags: OpenFlags) {
    self.device = device
    writeErrors = WriteErrorCursor(device.content)
    device.openFiles.add(1, ordering: .relaxed)
    super.init(path: path, flags: flags, isSeekable: true)
  }

  override func close() {
    if device.openFiles.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
      // Nobody is left to tell of an error.
      try? device.content.writeBack()
    }
  }

  // MARK: Transfer

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try atPosition(offset) { (offset) throws(Errno) in
      if flags.contains(.direct), buffer.isUserMemory { return try readDirectly(at: offset, &buffer) }
      return try device.content.read(at: offset, &buffer)
    }
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try atPosition(offset) { (offset) throws(Errno) in
      if buffer.remaining == 0 { return 0 }
      guard offset < device.byteCount else { throw .ENOSPC }
      // What does not fit is not written; the next write gets the error.
      let hidden = buffer.limit(to: Int(clamping: device.byteCount - offset))
      defer { buffer.extend(by: hidden) }
      if flags.contains(.direct), buffer.isUserMemory { return try writeDirectly(at: offset, &buffer) }
      return try writeToCache(at: offset, &buffer)
    }
  }

  override func write(
    _ buffer: inout TransferBuffer, at offset: UInt64?, _ options: TransferOptions, below limit: UInt64
  ) throws(Errno) -> Int {
    let count = try super.write(&buffer, at: offset, options, below: limit)
    if options.contains(.dataSync) { try sync() }
    return count
  }

  private func writeToCache(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    device.writeLock.acquire()
    defer { device.writeLock.release() }
    let count = try device.content.write(at: offset, &buffer)
    if flags.contains(.dataSync) {
      try device.content.writeBack(offset..<offset + UInt64(count))
      try device.flush()
    }
    return count
  }

  override func sync() throws(Errno) {
    try writeErrors.check(device.content) { () throws(Errno) in try device.content.writeBack() }
    if !device.isReadOnly { try device.flush() }
  }

  override func takeWriteError() -> Errno? { writeErrors.take(device.content) }

  // MARK: Position and mapping

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    let size = Int64(device.byteCount)
    return try position.withLock { (position: inout UInt64) throws(Errno) -> UInt64 in
      let base: Int64
      switch whence {
      case SEEK_SET: base = 0
      case SEEK_CUR: base = Int64(position)
      case SEEK_END: base = size
      default: throw .EINVAL
      }
      let (target, overflow) = base.addingReportingOverflow(offset)
      // Linux lets nobody seek beyond the end of a device.
      guard !overflow, target >= 0, target <= size else { throw .EINVAL }
      position = UInt64(target)
      return position
    }
  }

  override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    try control(request, argument)
  }

  override func mapping(offset: UInt64, length: UInt64) throws(Errno) -> MemoryObject { device.content }
}
