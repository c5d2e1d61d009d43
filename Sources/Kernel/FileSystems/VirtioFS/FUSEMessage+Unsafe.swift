// One request of the FUSE protocol and its answer, as bytes in memory that the device reaches. Messages are kept and
// used again: the usual request allocates nothing.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Virtio

/// A request and room for its answer.
final class FUSEMessage: VirtioRequest {
  /// The request is built in the first half of the memory, the answer comes into the second.
  static let half = 8192
  private let memory: DeviceMemory
  private var length = 0
  /// Bytes of the answer behind its header.
  private(set) var replyLength = 0
  /// What the device reads behind the request (a WRITE's pages, an attribute's value).
  private var data = SegmentList(capacity: 32)

  init(checking: Void) throws(Errno) {
    memory = try DeviceMemory(order: 2)
    super.init()
    // The largest transfer has 32 pages: writing them out is to allocate nothing.
    reserveCapacity(36)
  }

  // SAFETY (of this file): all offsets are checked against `half`, and the memory is twice as long.

  private var request: UnsafeMutableRawPointer {
    @inline(__always) get { unsafe memory.bytes.baseAddress.unsafelyUnwrapped }
  }
  private var reply: UnsafeMutableRawPointer {
    @inline(__always) get { unsafe request + Self.half }
  }
  private static var headerLength: Int { MemoryLayout<linux_fuse_out_header>.size }
  static var replyRoom: Int { half - headerLength }

  /// Starts a request about `node`.
  func begin(_ opcode: linux_fuse_opcode, _ node: UInt64, owner: Owner = .root) {
    reset()
    data.removeAll()
    length = 0
    replyLength = 0
    var header = linux_fuse_in_header()
    header.opcode = opcode.rawValue
    header.node = node
    header.unique = 1
    header.user = owner.user
    header.group = owner.group
    append(header)
  }

  func append<Value: BitwiseCopyable>(_ value: Value) {
    precondition(length + MemoryLayout<Value>.size <= Self.half)
    unsafe (request + length).storeBytes(of: value, as: Value.self)
    length += MemoryLayout<Value>.size
  }

  /// Appends a string and its NUL.
  /// - Throws: ENAMETOOLONG.
  func append(_ name: ByteString) throws(Errno) {
    try append(bytes: name.bytes)
    append(UInt8(0))
  }

  func append(bytes: [UInt8]) throws(Errno) {
    guard length + bytes.count < Self.half else { throw .ENAMETOOLONG }
    unsafe bytes.withUnsafeBytes { source in
      unsafe UnsafeMutableRawBufferPointer(start: request + length, count: source.count).copyMemory(from: source)
    }
    length += bytes.count
  }

  /// Adds the first `length` bytes of a frame to what the device reads behind the request.
  func appendData(_ frame: PageFrameNumber, length: Int) { data.append(frame, length: length) }

  /// The same for a list of other memory.
  func appendData(_ list: SegmentList) {
    for index in 0..<list.count { appendData(list.segments[index]) }
  }

  /// The same for other memory.
  func appendData(_ segment: MemorySegment) { data.append(segment.physicalAddress, length: Int(segment.length)) }

  /// Closes the request: `room` is the size of the answer without its header, `target` memory for the part of the
  /// answer beyond it (a READ).
  func finish(room: Int, target: [MemorySegment] = []) {
    unsafe request.storeBytes(of: UInt32(truncatingIfNeeded: length + data.byteCount), as: UInt32.self)
    addReadable(memory.segment(0, length))
    for index in 0..<data.count { addReadable(data.segments[index]) }
    if room >= 0 { addWritable(memory.segment(Self.half, Self.headerLength + min(room, Self.replyRoom))) }
    for segment in target { addWritable(segment) }
  }

  /// Judges the answer.
  /// - Throws: the error in it; EIO when it makes no sense.
  func checkReply() throws(Errno) {
    guard written >= Self.headerLength else { throw .EIO }
    let header = unsafe reply.load(as: linux_fuse_out_header.self)
    guard Int(header.length) <= written, Int(header.length) >= Self.headerLength else { throw .EIO }
    if header.error != 0 {
      guard header.error < 0, header.error > -512 else { throw .EIO }
      throw Errno(rawValue: -header.error)
    }
    replyLength = Int(header.length) - Self.headerLength
  }

  /// A structure at the beginning of the answer, or `offset` bytes behind it.
  /// - Throws: EIO when the answer is shorter.
  func value<Value: BitwiseCopyable>(_ type: Value.Type, at offset: Int = 0) throws(Errno) -> Value {
    guard offset >= 0, offset + MemoryLayout<Value>.size <= min(replyLength, Self.replyRoom) else { throw .EIO }
    return unsafe (reply + Self.headerLength + offset).loadUnaligned(as: Value.self)
  }

  /// The answer's bytes.
  var bytes: [UInt8] {
    let count = min(replyLength, Self.replyRoom)
    return unsafe Array(UnsafeRawBufferPointer(start: reply + Self.headerLength, count: count))
  }
}
