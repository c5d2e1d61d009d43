// The file or block device of the host behind a disk.

import CDevices
import Glibc

/// An open file or block device, locked against other users, with the operations of a disk on it.
public struct HostDisk: Sendable {
  public let descriptor: Int32
  public let byteCount: UInt64
  public let isReadOnly: Bool
  /// Whether it was made by `open`: all zeros.
  public let isNew: Bool

  /// Why a file cannot be a disk.
  public struct Failure: Error, Equatable {
    /// An error number; EBUSY: another process uses the file; EMEDIUMTYPE: it is no regular file or block device.
    public let code: Int32
  }

  /// Opens `path`, which stays locked as long as it is open.
  ///
  /// - Parameter newSize: in bytes; an absent file is made with it, sparse and private to the user.
  public init(path: String, isReadOnly: Bool, newSize: UInt64? = nil) throws(Failure) {
    var made: Int32 = 0
    // SAFETY: the path and the place for the answer are passed for the length of the call.
    let descriptor = unsafe host_disk_open(path, isReadOnly ? 0 : 1, newSize ?? 0, &made)
    guard descriptor >= 0 else { throw Failure(code: -descriptor) }
    let size = host_disk_size(descriptor)
    guard size >= 0 else {
      Glibc.close(descriptor)
      throw Failure(code: Int32(truncatingIfNeeded: -size))
    }
    self.descriptor = descriptor
    byteCount = UInt64(size)
    self.isReadOnly = isReadOnly
    isNew = made != 0
  }

  public func close() { Glibc.close(descriptor) }

  /// The first `count` bytes, fewer if the disk is smaller.
  public func beginning(_ count: Int) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    // SAFETY: the buffer has room for `count` bytes.
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      var vector = unsafe iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
      return unsafe host_disk_read(descriptor, &vector, 1, 0, 0)
    }
    guard got >= 0 else { throw Failure(code: Int32(truncatingIfNeeded: -got)) }
    return Array(bytes.prefix(got))
  }

  /// Writes `bytes` from `offset` on.
  public func write(_ bytes: [UInt8], at offset: UInt64) throws(Failure) {
    // SAFETY: writing only reads the array.
    let written = unsafe bytes.withUnsafeBytes { buffer in
      var vector = unsafe iovec(
        iov_base: UnsafeMutableRawPointer(mutating: buffer.baseAddress), iov_len: buffer.count)
      return unsafe host_disk_write(descriptor, &vector, 1, Int64(offset), 0)
    }
    guard written == bytes.count else { throw Failure(code: written < 0 ? Int32(truncatingIfNeeded: -written) : EIO) }
  }

  enum Patience { case atOnce, waiting }

  /// Moves the bytes from `offset` on between the disk and `buffers` without their first `skip` bytes, `count` in all.
  ///
  /// - Returns: 0; -EAGAIN when that would have to wait and must not; another negative error number.
  func transfer(
    _ chain: DescriptorChain, writes: Bool, skip: Int, count: Int, offset: UInt64, _ patience: Patience
  ) -> Int {
    let buffers = unsafe writes ? chain.readable : chain.writable
    var done = 0
    while done < count {
      let moved = unsafe chain.withVectors(buffers, from: skip + done, limit: count - done) { vectors, entries in
        let position = Int64(offset) + Int64(done)
        let atOnce: Int32 = patience == .atOnce ? 1 : 0
        // SAFETY: the vectors lie in guest memory.
        return writes
          ? unsafe host_disk_write(descriptor, vectors, entries, position, atOnce)
          : unsafe host_disk_read(descriptor, vectors, entries, position, atOnce)
      }
      if moved < 0 { return moved }
      // The host cut the file off, or is out of space.
      if moved == 0 { return patience == .atOnce ? -Int(EAGAIN) : -Int(EIO) }
      done += moved
    }
    return 0
  }

  func discard(offset: UInt64, count: UInt64) -> Int {
    Int(host_disk_discard(descriptor, Int64(offset), Int64(count)))
  }

  func flush() -> Int { Int(host_disk_flush(descriptor)) }
}
