// Times as programs pass them, and as the kernel counts: nanoseconds in 64 bits.

import CLinuxABI
import KernelCore
import LinuxABI
import VirtualMemory

enum Timespec {
  static let second: UInt64 = 1_000_000_000

  /// struct timespec at `address` in nanoseconds; what is too large for 64 bits is as good as for ever.
  ///
  /// - Throws: EINVAL for a negative time, or a fraction out of range; EFAULT.
  @export(interface)
  static func read(_ address: UInt64) throws(Errno) -> UInt64 {
    try nanoseconds(try UserMemory.read(address, as: linux_time_pair.self), perSecond: 1_000_000_000)
  }

  /// struct timeval at `address` in nanoseconds.
  @export(interface)
  static func readTimeval(_ address: UInt64) throws(Errno) -> UInt64 {
    try nanoseconds(try UserMemory.read(address, as: linux_time_pair.self), perSecond: 1_000_000)
  }

  static func nanoseconds(_ time: linux_time_pair, perSecond: Int64) throws(Errno) -> UInt64 {
    guard time.seconds >= 0, time.fraction >= 0, time.fraction < perSecond else { throw .EINVAL }
    let (whole, overflow) = UInt64(time.seconds).multipliedReportingOverflow(by: second)
    if overflow { return .max }
    let (sum, carry) = whole.addingReportingOverflow(UInt64(time.fraction) * (second / UInt64(perSecond)))
    return carry ? .max : sum
  }

  /// Nanoseconds as struct timespec.
  static func timespec(_ nanoseconds: UInt64) -> linux_time_pair {
    linux_time_pair(seconds: Int64(nanoseconds / second), fraction: Int64(nanoseconds % second))
  }

  static func timeval(_ nanoseconds: UInt64) -> linux_time_pair {
    linux_time_pair(seconds: Int64(nanoseconds / second), fraction: Int64(nanoseconds % second / 1000))
  }
}
