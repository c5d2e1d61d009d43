// Arrays of structures in user memory: in one piece, or one field of each.

import KernelCore
import LinuxABI

extension UserMemory {
  /// Reads `count` values.
  ///
  /// - Throws: EFAULT; ENOMEM when that would be unreasonable (more than 64 MiB).
  @inlinable
  public static func readArray<T: BitwiseCopyable>(
    _ address: UInt64, count: Int, as type: T.Type, in space: AddressSpace? = nil
  ) throws(Errno) -> [T] {
    guard count >= 0, count <= 64 << 20 / MemoryLayout<T>.stride else { throw .ENOMEM }
    var failure: Errno?
    let values = unsafe [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      guard let base = buffer.baseAddress, count > 0 else { return }
      do throws(Errno) {
        // SAFETY: room for `count` values, which any bytes make (BitwiseCopyable); copyIn fills them or throws.
        try unsafe copyIn(from: address, count: count * MemoryLayout<T>.stride, to: base, in: space)
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return values
  }

  /// Writes all values.
  ///
  /// - Throws: EFAULT; a part may have been written.
  @inlinable
  public static func writeArray<T: BitwiseCopyable>(
    _ values: [T], to address: UInt64, in space: AddressSpace? = nil
  ) throws(Errno) {
    var failure: Errno?
    unsafe values.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      // SAFETY: the pointer is valid for as many bytes during the call.
      do throws(Errno) { try unsafe copyOut(to: address, from: base, count: bytes.count, in: space) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// Writes values `stride` bytes apart, and nothing in between: one field of each structure of an array.
  ///
  /// - Throws: EFAULT; a part may have been written.
  @export(interface)
  public static func writeFields(
    _ values: [UInt16], to address: UInt64, stride: Int, in space: AddressSpace? = nil
  ) throws(Errno) {
    let space = try resolve(space)
    var next = 0
    while next < values.count {
      let place = address &+ UInt64(next * stride)
      let room = Int(truncatingIfNeeded: pageSize &- place & pageMask)
      if room < 2 {
        // Half of it is on another page.
        try write(values[next], to: place, in: space)
        next += 1
        continue
      }
      let end = min(values.count, next + (room - 2) / stride + 1)
      let isDone = unsafe space.withPage(place, .write, .byProgram) { pointer in
        // SAFETY: the last field ends before the page does.
        for index in next..<end {
          unsafe (pointer + (index - next) * stride).storeBytes(of: values[index], as: UInt16.self)
        }
      }
      guard isDone else { throw .EFAULT }
      next = end
    }
  }
}
