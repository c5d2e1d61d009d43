// How the file calls take their arguments: descriptors, paths with the directory they start from, and user buffers.

import FileSystem
import KernelCore
import LinuxABI
import Process
import VirtualMemory

enum FileArguments {
  /// A path of a program.
  /// - Throws: EFAULT, ENAMETOOLONG.
  static func path(_ address: UInt64) throws(Errno) -> ByteString {
    try UserMemory.copyInString(from: address, limit: PATH_MAX)
  }

  /// Where a path of an *at call starts: nil for the working directory, and for absolute paths, which ignore it.
  /// - Throws: EBADF; ENOTDIR unless the path is empty (AT_EMPTY_PATH).
  static func base(_ descriptor: Int32, _ path: ByteString, _ frame: SystemCallFrame) throws(Errno) -> Path? {
    if descriptor == AT_FDCWD || path.bytes.first == 0x2f { return nil }
    let place = try frame.descriptors.get(descriptor).file.path
    if !path.isEmpty, place.inode.kind != .directory { throw .ENOTDIR }
    return place
  }

  /// The place that an *at call names by descriptor, path and AT_ flags.
  static func resolve(_ descriptor: Int32, _ address: UInt64, flags: Int32, _ frame: SystemCallFrame) throws(Errno)
    -> Path
  {
    // statx(2), fstatat(2): with AT_EMPTY_PATH the path may be NULL on recent kernels.
    let path = address == 0 && flags & AT_EMPTY_PATH != 0 ? ByteString() : try path(address)
    var options: WalkOptions = []
    if flags & AT_SYMLINK_NOFOLLOW != 0 { options.insert(.noFollow) }
    if flags & AT_EMPTY_PATH != 0 { options.insert(.emptyPath) }
    return try PathWalk.resolve(path, from: try base(descriptor, path, frame), options, by: frame.caller)
  }

  /// A file that may be read, or EBADF.
  static func readable(_ descriptor: Int32, _ frame: SystemCallFrame) throws(Errno) -> FileUse {
    let use = try frame.descriptors.getForUse(descriptor)
    guard use.file.flags.allowsReading else { throw .EBADF }
    return use
  }

  /// A file that may be written, or EBADF.
  static func writable(_ descriptor: Int32, _ frame: inout SystemCallFrame) throws(Errno) -> FileUse {
    let use = try frame.descriptors.getForUse(descriptor)
    guard use.file.flags.allowsWriting else { throw .EBADF }
    if !use.file.raisesBrokenPipe { frame.suppressesPipeSignal = true }
    return use
  }

  /// A user buffer; Linux moves at most 2 GiB less a page at a time.
  static func buffer(_ address: UInt64, _ count: UInt64) throws(Errno) -> TransferBuffer {
    guard count <= UInt64(Int64.max) else { throw .EINVAL }
    return TransferBuffer(user: address, count: Int(min(count, MAX_RW_COUNT)))
  }

  /// The buffers of a struct iovec array.
  /// - Throws: EINVAL for too many, a negative length, or a sum beyond SSIZE_MAX; EFAULT.
  static func vectors(_ address: UInt64, _ count: UInt64) throws(Errno) -> TransferBuffer {
    guard count <= UInt64(IOV_MAX) else { throw .EINVAL }
    var pieces: [(UInt64, Int)] = []
    pieces.reserveCapacity(Int(count))
    var rest = Int(MAX_RW_COUNT)
    let raw = try UserMemory.copyIn(from: address, count: Int(count) * 16)
    for index in 0..<Int(count) {
      let base = word(raw, index * 16)
      guard let length = Int(exactly: word(raw, index * 16 + 8)) else { throw .EINVAL }
      let taken = min(length, rest)
      rest -= taken
      pieces.append((base, taken))
    }
    return TransferBuffer(userVectors: pieces)
  }

  /// The little-endian 64-bit number at `offset`.
  static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<8 { value |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
    return value
  }

  /// Whether a transfer at `offset` stays below the largest offset of the file.
  /// - Throws: EINVAL.
  static func check(_ offset: UInt64, _ buffer: TransferBuffer, of file: OpenFile) throws(Errno) {
    guard file.offsetsAreAddresses || UInt64(buffer.remaining) <= UInt64(Int64.max) - offset else { throw .EINVAL }
  }

  /// A file offset argument.
  static func offset(_ value: UInt64) throws(Errno) -> UInt64 {
    guard value <= UInt64(Int64.max) else { throw .EINVAL }
    return value
  }
}
