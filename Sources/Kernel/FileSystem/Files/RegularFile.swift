// Open regular files: the position, appending, seeking. The content is the inode's business.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open regular file; file systems may subclass it (a server's file handle).
open class RegularFile: OpenFile {
  /// The largest size of a file: offsets are signed 64-bit numbers.
  public static var maximumSize: UInt64 { UInt64(Int64.max) }

  private final let writeErrors: WriteErrorCursor

  @export(interface)
  public init(path: Path, flags: OpenFlags) {
    writeErrors = WriteErrorCursor(path.inode.memoryObject)
    super.init(path: path, flags: flags, isSeekable: true)
  }

  open override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    if let offset { return try readContent(at: offset, &buffer) }
    guard let position else { throw .EINVAL }
    return try position.withLock { position throws(Errno) in
      let count = try readContent(at: position, &buffer)
      position += UInt64(count)
      return count
    }
  }

  /// - Throws: EAGAIN when the first byte is not in memory and the call is not to wait.
  open override func read(
    _ buffer: inout TransferBuffer, at offset: UInt64?, _ options: TransferOptions
  ) throws(Errno) -> Int {
    guard options.contains(.noWait) else { return try read(&buffer, at: offset) }
    let start = offset ?? position?.current ?? 0
    let size = try inode.size()
    guard let object = inode.memoryObject, !flags.contains(.direct), start < size else {
      return try read(&buffer, at: offset)
    }
    let wanted = min(UInt64(buffer.remaining), size - start)
    let count = object.countInMemory(from: start, wanted)
    if count == 0, wanted > 0 { throw .EAGAIN }
    let hidden = buffer.limit(to: Int(count))
    defer { buffer.extend(by: hidden) }
    return try read(&buffer, at: offset)
  }

  open override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try write(&buffer, at: offset, [], below: Self.maximumSize)
  }

  /// - Throws: EFBIG at or beyond `limit`; up to it the write is cut short.
  open override func write(
    _ buffer: inout TransferBuffer, at offset: UInt64?, _ options: TransferOptions, below limit: UInt64
  ) throws(Errno) -> Int {
    // As on the file systems of Linux that cannot tell whether they would wait.
    if options.contains(.noWait) { throw .EOPNOTSUPP }
    if let offset {
      // pwrite(2), BUGS: with O_APPEND, Linux appends whatever the offset.
      var place = offset
      return try writeContent(at: &place, &buffer, options, limit)
    }
    guard let position else { throw .EINVAL }
    return try position.withLock { position throws(Errno) in
      let count = try writeContent(at: &position, &buffer, options, limit)
      position += UInt64(count)
      return count
    }
  }

  private final func readContent(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try Self.checkEnd(offset, buffer)
    let count: Int
    if isDirect(buffer) {
      count = try inode.readDirectly(at: offset, &buffer)
      Thread.current.transfers.fetched &+= UInt64(count)
    } else {
      count = try inode.read(at: offset, &buffer)
    }
    if inode.keepsAccessTime { noteAccess() }
    return count
  }

  /// - Throws: EINVAL for a transfer beyond the largest offset (Linux: rw_verify_area).
  private static func checkEnd(_ offset: UInt64, _ buffer: borrowing TransferBuffer) throws(Errno) {
    guard UInt64(buffer.remaining) <= maximumSize &- offset else { throw .EINVAL }
  }

  /// Whether a transfer is to pass the cache: memory of the kernel has no pages that could be pinned.
  @inline(__always)
  private final func isDirect(_ buffer: borrowing TransferBuffer) -> Bool {
    flags.contains(.direct) && buffer.isUserMemory
  }

  private final func noteAccess() {
    let flags = path.mount.flags
    if self.flags.contains(.noAccessTime) || flags.contains(.noAccessTime) || path.mount.isReadOnly { return }
    inode.touchAccessTime(.now())
  }

  /// Writes at `offset`, or at the end for O_APPEND, in which case `offset` becomes the end.
  private final func writeContent(
    at offset: inout UInt64, _ buffer: inout TransferBuffer, _ options: TransferOptions, _ limit: UInt64
  ) throws(Errno) -> Int {
    let inode = inode
    let lock = inode.lock
    lock.acquire()
    defer { lock.release() }
    let appends = flags.contains(.append) ? !options.contains(.noAppend) : options.contains(.append)
    if appends { offset = try inode.size() }
    guard buffer.remaining > 0 else { return 0 }
    try Self.checkEnd(offset, buffer)
    var hidden = 0
    if limit < Self.maximumSize {
      guard offset < limit else { throw .EFBIG }
      hidden = buffer.limit(to: Int(clamping: limit - offset))
    }
    defer { if hidden > 0 { buffer.extend(by: hidden) } }
    let count: Int
    if isDirect(buffer) {
      count = try inode.writeDirectly(at: offset, &buffer)
      Thread.current.transfers.dirtied &+= UInt64(count)
    } else {
      count = try inode.write(at: offset, &buffer)
    }
    if flags.contains(.dataSync) || options.contains(.dataSync) { try inode.sync() }
    return count
  }

  open override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    return try position.withLock { (position: inout UInt64) throws(Errno) -> UInt64 in
      var base: UInt64 = 0
      switch whence {
      case SEEK_SET: break
      case SEEK_CUR: base = position
      case SEEK_END: base = try inode.size()
      case SEEK_DATA, SEEK_HOLE:
        guard offset >= 0 else { throw .ENXIO }
        position = try inode.seek(whence == SEEK_DATA ? .data : .hole, from: UInt64(offset))
        return position
      default: throw .EINVAL
      }
      let (target, overflow) = Int64(truncatingIfNeeded: base).addingReportingOverflow(offset)
      guard !overflow, target >= 0 else { throw .EINVAL }
      position = UInt64(target)
      return position
    }
  }

  open override func sync() throws(Errno) {
    try writeErrors.check(inode.memoryObject) { () throws(Errno) in try inode.sync() }
  }

  open override func takeWriteError() -> Errno? { inode.memoryObject.flatMap { writeErrors.take($0) } }

  open override func mapping(offset: UInt64, length: UInt64) throws(Errno) -> MemoryObject {
    guard let object = inode.memoryObject else { throw .ENODEV }
    return object
  }

  /// FIONREAD tells the distance to the end (Linux: file_ioctl).
  open override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    switch request {
    case FIONREAD:
      let size = try inode.size()
      let here = position?.current ?? 0
      let rest = Int64(truncatingIfNeeded: size) - Int64(truncatingIfNeeded: here)
      try UserMemory.write(Int32(truncatingIfNeeded: rest), to: argument)
      return 0
    case FIGETBSZ:
      try UserMemory.write(Int32(truncatingIfNeeded: try inode.attributes().blockSize), to: argument)
      return 0
    default: throw .ENOTTY
    }
  }
}
