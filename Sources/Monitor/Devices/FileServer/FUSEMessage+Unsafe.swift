// Requests as bytes. A request is copied out of guest memory once; everything is read from the copy, with every length
// checked, so that no message can do more than be answered with an error.

import CDevices
import CLinuxABI
import Glibc

/// A request of the guest: the header, and what is left of the body.
struct FUSERequest {
  let header: linux_fuse_in_header
  let chain: DescriptorChain
  private let bytes: [UInt8]
  private var cursor: Int

  static var headerLength: Int { MemoryLayout<linux_fuse_in_header>.size }
  /// The largest body besides the data of a WRITE: an extended attribute (64 KiB) with its name.
  static var lengthLimit: Int { (64 << 10) + 1024 }

  /// - Returns: nil when not even a header is there.
  init?(_ chain: DescriptorChain) {
    // A write's data is taken from guest memory when it is written, without a copy.
    var bytes = chain.copyReadable(limit: Self.headerLength + MemoryLayout<linux_fuse_write_in>.size)
    guard bytes.count >= Self.headerLength else { return nil }
    // SAFETY: the array is at least as long as the header, which has only integers.
    header = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: linux_fuse_in_header.self) }
    if header.opcode != LINUX_FUSE_WRITE.rawValue, header.length > bytes.count {
      let rest = chain.copyReadable(limit: min(Int(header.length), Self.lengthLimit))
      // The head is what was judged already.
      if rest.count > bytes.count { bytes += rest[bytes.count...] }
    }
    if header.length < bytes.count { bytes.removeLast(bytes.count - max(Int(header.length), Self.headerLength)) }
    self.chain = chain
    self.bytes = bytes
    cursor = Self.headerLength
  }

  var opcode: linux_fuse_opcode { linux_fuse_opcode(header.opcode) }

  /// The next structure of the body.
  /// - Throws: EINVAL when the message ends before.
  mutating func take<Value: BitwiseCopyable>(_ type: Value.Type) throws(HostError) -> Value {
    let size = MemoryLayout<Value>.size
    guard bytes.count - cursor >= size else { throw HostError(EINVAL) }
    // SAFETY: checked above; the types are structures of integers.
    let value = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: cursor, as: Value.self) }
    cursor += size
    return value
  }

  /// The next string, which a NUL ends.
  mutating func takeString() throws(HostError) -> ArraySlice<UInt8> {
    guard let end = bytes[cursor...].firstIndex(of: 0) else { throw HostError(EINVAL) }
    defer { cursor = end + 1 }
    return bytes[cursor..<end]
  }

  mutating func takeName() throws(HostError) -> FileName { try FileName(takeString()) }

  /// The next `count` bytes.
  mutating func takeBytes(_ count: Int) throws(HostError) -> ArraySlice<UInt8> {
    guard count >= 0, bytes.count - cursor >= count else { throw HostError(EINVAL) }
    defer { cursor += count }
    return bytes[cursor..<cursor + count]
  }
}

/// What goes back to the guest behind the header.
enum FUSEReply {
  /// FORGET and its like are not answered.
  case nothing
  case bytes([UInt8])
  /// So many bytes were put into the request's memory behind the header.
  case placed(Int)

  static var empty: FUSEReply { .bytes([]) }

  static func value<Value: BitwiseCopyable>(_ value: Value) -> FUSEReply { .bytes(bytesOf(value)) }
}

/// The bytes of a structure of the protocol.
func bytesOf<Value: BitwiseCopyable>(_ value: Value) -> [UInt8] {
  // SAFETY: the protocol's structures have no padding besides fields that are set.
  unsafe withUnsafeBytes(of: value) { unsafe Array($0) }
}

extension DescriptorChain {
  /// Runs `body` with the vectors of the memory from byte `offset` on, `limit` bytes at most.
  func withVectors(
    _ buffers: [UnsafeMutableRawBufferPointer], from offset: Int, limit: Int,
    _ body: (UnsafePointer<iovec>, Int32) -> Int
  ) -> Int {
    unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: buffers.count + 1) { vectors in
      var skip = offset
      var left = limit
      var count = 0
      for index in 0..<buffers.count where left > 0 {
        let buffer = unsafe buffers[index]
        if skip >= buffer.count {
          skip -= buffer.count
          continue
        }
        // SAFETY: `skip` lies within the buffer; the chain's buffers were checked against guest memory.
        let length = min(buffer.count - skip, left)
        unsafe vectors.initializeElement(at: count, to: iovec(iov_base: buffer.baseAddress! + skip, iov_len: length))
        count += 1
        left -= length
        skip = 0
      }
      return unsafe body(UnsafePointer(vectors.baseAddress!), Int32(count))
    }
  }
}
