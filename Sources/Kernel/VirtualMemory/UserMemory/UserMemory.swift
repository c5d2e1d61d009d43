// Reaching user memory from the kernel: a walk of the page tables and the direct map, on every machine that has no
// better way. Addresses are claims until the tables confirm them; what is absent is faulted in as for the program itself.
//
// Each page is copied with the space's table lock held, so the frame cannot leave the tables, let alone be reused, in
// the middle. Nothing here trusts that memory stays the same between two calls: callers copy once, then check.

import KernelCore
import LinuxABI

/// Copies between kernel and user memory.
public enum UserMemory {
  /// The space given, or that of the calling thread.
  ///
  /// - Throws: EFAULT for kernel threads.
  @inline(__always)
  static func resolve(_ space: AddressSpace?) throws(Errno) -> AddressSpace {
    if let space { return space }
    guard let space = AddressSpace.current else { throw .EFAULT }
    return space
  }

  /// Copies `count` bytes from user memory.
  ///
  /// - Throws: EFAULT; a part may have been copied.
  @export(interface)
  public static func copyIn(
    from address: UInt64, count: Int, to target: UnsafeMutableRawPointer, in space: AddressSpace? = nil
  ) throws(Errno) {
    let space = try resolve(space)
    if unsafe space.copyIn(from: address, count: count, to: target) != count { throw .EFAULT }
  }

  /// Copies `count` bytes to user memory.
  ///
  /// - Throws: EFAULT; a part may have been copied.
  @export(interface)
  public static func copyOut(
    to address: UInt64, from source: UnsafeRawPointer, count: Int, in space: AddressSpace? = nil
  ) throws(Errno) {
    let space = try resolve(space)
    if unsafe space.copyOut(to: address, from: source, count: count) != count { throw .EFAULT }
  }

  /// Writes zeros to user memory.
  ///
  /// - Throws: EFAULT.
  @export(interface)
  public static func clear(at address: UInt64, count: Int, in space: AddressSpace? = nil) throws(Errno) {
    let space = try resolve(space)
    if space.clear(at: address, count: count) != count { throw .EFAULT }
  }

  /// Copies `count` bytes from user memory into a new array.
  ///
  /// - Throws: EFAULT, ENOMEM when the array would be unreasonable (more than 64 MiB).
  @export(interface)
  public static func copyIn(from address: UInt64, count: Int, in space: AddressSpace? = nil) throws(Errno) -> [UInt8] {
    guard count >= 0 else { throw .EINVAL }
    guard count <= 64 << 20 else { throw .ENOMEM }
    let space = try resolve(space)
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      guard let base = buffer.baseAddress else { return }
      // SAFETY: the buffer has room for `count` bytes, and as many are initialised as the result says.
      initialized = unsafe space.copyIn(from: address, count: count, to: UnsafeMutableRawPointer(base))
    }
    guard bytes.count == count else { throw .EFAULT }
    return bytes
  }

  /// Copies bytes to user memory.
  ///
  /// - Throws: EFAULT.
  @export(interface)
  public static func copyOut(to address: UInt64, _ bytes: [UInt8], in space: AddressSpace? = nil) throws(Errno) {
    let space = try resolve(space)
    // SAFETY: the pointer is valid for `count` bytes during the call.
    let copied = unsafe bytes.withUnsafeBytes { buffer -> Int in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe space.copyOut(to: address, from: base, count: buffer.count)
    }
    if copied != bytes.count { throw .EFAULT }
  }

  /// Copies a NUL-terminated string of at most `limit` bytes, the NUL included.
  ///
  /// - Throws: EFAULT, ENAMETOOLONG.
  @export(interface)
  public static func copyInString(
    from address: UInt64, limit: Int, in space: AddressSpace? = nil
  ) throws(Errno) -> ByteString {
    let space = try resolve(space)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(min(limit, 96))
    var position = address
    while bytes.count < limit {
      // Up to the end of the page: what follows may not be mapped.
      let count = min(Int(truncatingIfNeeded: pageSize &- position & pageMask), limit - bytes.count)
      var isComplete = false
      var needed = 0
      let isReadable = unsafe space.withPage(position, .read, .byProgram) { pointer in
        // SAFETY: `count` bytes from here on lie in the page.
        let text = unsafe UnsafeRawBufferPointer(start: pointer, count: count)
        let length = unsafe text.firstIndex(of: 0)
        needed = bytes.count + (length ?? count)
        guard needed <= bytes.capacity else { return }
        unsafe bytes.append(contentsOf: text[..<(length ?? count)])
        isComplete = length != nil
      }
      guard isReadable else { throw .EFAULT }
      if needed > bytes.capacity {
        // Not under the locks of the page: an array that grows may have to wait for memory.
        try KernelMemory.admit(bytes: needed + 64)
        bytes.reserveCapacity(needed)
        continue
      }
      if isComplete { return ByteString(bytes) }
      position = position &+ UInt64(count)
    }
    throw .ENAMETOOLONG
  }

  // MARK: Values

  /// Reads one value.
  ///
  /// - Throws: EFAULT.
  @inlinable
  public static func read<T: BitwiseCopyable>(
    _ address: UInt64, as type: T.Type, in space: AddressSpace? = nil
  ) throws(Errno) -> T {
    try unsafe withUnsafeTemporaryAllocation(of: T.self, capacity: 1) { buffer throws(Errno) in
      // SAFETY: room for one T, which any bytes make (BitwiseCopyable); copyIn fills it or throws.
      try unsafe copyIn(from: address, count: MemoryLayout<T>.size, to: buffer.baseAddress!, in: space)
      return unsafe buffer[0]
    }
  }

  /// Writes one value.
  ///
  /// - Throws: EFAULT.
  @inlinable
  public static func write<T: BitwiseCopyable>(
    _ value: T, to address: UInt64, in space: AddressSpace? = nil
  ) throws(Errno) {
    var value = value
    // SAFETY: the pointer is valid for the size of T during the call.
    try unsafe withUnsafePointer(to: &value) { pointer throws(Errno) in
      try unsafe copyOut(to: address, from: pointer, count: MemoryLayout<T>.size, in: space)
    }
  }
}
