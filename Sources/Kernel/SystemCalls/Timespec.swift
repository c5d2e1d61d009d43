// Times as programs pass them, and as the kernel counts them (`Nanoseconds`).

import CLinuxABI
import KernelCore
import LinuxABI
import VirtualMemory

enum Timespec {
  static var second: UInt64 { Nanoseconds.second }

  /// struct timespec at `address`; what is too long becomes the longest time.
  ///
  /// - Throws: EINVAL for a negative time, or a fraction out of range; EFAULT.
  @export(interface)
  static func read(_ address: UInt64) throws(Errno) -> Nanoseconds {
    try duration(timespec: try UserMemory.read(address, as: linux_time_pair.self))
  }

  /// struct timeval at `address`.
  @export(interface)
  static func readTimeval(_ address: UInt64) throws(Errno) -> Nanoseconds {
    try duration(timeval: try UserMemory.read(address, as: linux_time_pair.self))
  }

  static func duration(timespec time: linux_time_pair) throws(Errno) -> Nanoseconds {
    guard time.seconds >= 0, time.fraction >= 0, time.fraction < Int64(second) else { throw .EINVAL }
    return Nanoseconds(seconds: UInt64(time.seconds), nanoseconds: UInt64(time.fraction))
  }

  static func duration(timeval time: linux_time_pair) throws(Errno) -> Nanoseconds {
    guard time.seconds >= 0, time.fraction >= 0, time.fraction < 1_000_000 else { throw .EINVAL }
    return Nanoseconds(seconds: UInt64(time.seconds), microseconds: UInt64(time.fraction))
  }

  /// A time as struct timespec.
  static func timespec(_ time: Nanoseconds) -> linux_time_pair {
    linux_time_pair(seconds: Int64(time.seconds), fraction: Int64(time.fraction))
  }

  static func timespec(_ nanoseconds: UInt64) -> linux_time_pair { timespec(Nanoseconds(nanoseconds)) }

  static func timeval(_ time: Nanoseconds) -> linux_time_pair {
    linux_time_pair(seconds: Int64(time.seconds), fraction: Int64(time.fraction / 1000))
  }

  static func timeval(_ nanoseconds: UInt64) -> linux_time_pair { timeval(Nanoseconds(nanoseconds)) }
}
