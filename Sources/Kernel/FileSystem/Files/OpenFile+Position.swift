// The file position, for files that read and write at one place after the other.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// The position of an open file. Calls that move it exclude each other; anybody may ask where it is now, also in the middle of a call.
public final class FilePosition {
  private let lock = SleepLock(.filePosition)
  private let value = Atomic<UInt64>(0)

  public var current: UInt64 {
    @inline(__always) get { value.load(ordering: .relaxed) }
  }

  /// Runs `body`, which may move the position, with the lock held. Not recursive.
  @inline(__always)
  public func withLock<Result, Failure: Error>(
    _ body: (inout UInt64) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock.acquire()
    var position = value.load(ordering: .relaxed)
    defer {
      value.store(position, ordering: .relaxed)
      lock.release()
    }
    return try body(&position)
  }
}

extension OpenFile {
  /// Runs `body` with the offset, or with the file's position, which moves on by the result.
  ///
  /// - Throws: what `body` throws; ESPIPE where there is no position.
  @export(interface)
  public final func atPosition(_ offset: UInt64?, _ body: (UInt64) throws(Errno) -> Int) throws(Errno) -> Int {
    if let offset { return try body(offset) }
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let count = try body(position)
      position += UInt64(count)
      return count
    }
  }

  /// lseek(2) in a file whose offsets are addresses, of 64 bits without a sign.
  ///
  /// - Throws: EINVAL (another `whence`), ESPIPE.
  @export(interface)
  public final func seekAddress(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      switch whence {
      case SEEK_SET: position = UInt64(bitPattern: offset)
      case SEEK_CUR: position &+= UInt64(bitPattern: offset)
      default: throw .EINVAL
      }
      return position
    }
  }

  /// lseek(2) in a file that has no end to seek from.
  ///
  /// - Throws: EINVAL (another `whence`, a place before the beginning), ESPIPE.
  @export(interface)
  public final func seekFromStart(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let base: Int64
      switch whence {
      case SEEK_SET: base = 0
      case SEEK_CUR: base = Int64(clamping: position)
      default: throw .EINVAL
      }
      let (target, overflow) = base.addingReportingOverflow(offset)
      guard !overflow, target >= 0 else { throw .EINVAL }
      position = UInt64(target)
      return position
    }
  }
}
