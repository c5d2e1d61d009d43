// What a thread or process has used: getrusage(2).

import CLinuxABI
import LinuxABI
import Scheduling

/// Accumulated times and counters.
public struct ResourceUsage: Equatable, Sendable {
  /// Nanoseconds.
  public var userTime: UInt64 = 0
  public var systemTime: UInt64 = 0
  public var minorFaults: UInt64 = 0
  public var majorFaults: UInt64 = 0
  public var transfers = TransferCounts()
  public var voluntarySwitches: UInt64 = 0
  public var involuntarySwitches: UInt64 = 0
  /// The largest resident set, in KiB.
  public var peakResidentKiB: UInt64 = 0

  public init() {}

  public var totalTime: UInt64 { userTime &+ systemTime }

  @export(interface)
  public mutating func add(_ other: ResourceUsage) {
    userTime &+= other.userTime
    systemTime &+= other.systemTime
    minorFaults &+= other.minorFaults
    majorFaults &+= other.majorFaults
    transfers.add(other.transfers)
    voluntarySwitches &+= other.voluntarySwitches
    involuntarySwitches &+= other.involuntarySwitches
    peakResidentKiB = max(peakResidentKiB, other.peakResidentKiB)
  }

  /// struct rusage; fields that Linux leaves at zero are zero.
  public var abi: linux_rusage {
    @export(interface) get {
      var result = linux_rusage()
      result.user_time = ResourceUsage.timeval(userTime)
      result.system_time = ResourceUsage.timeval(systemTime)
      result.maxrss = Int64(clamping: peakResidentKiB)
      result.minflt = Int64(clamping: minorFaults)
      result.majflt = Int64(clamping: majorFaults)
      // In blocks of 512 bytes.
      result.inblock = Int64(clamping: transfers.fetched / 512)
      result.oublock = Int64(clamping: transfers.dirtied / 512)
      result.nvcsw = Int64(clamping: voluntarySwitches)
      result.nivcsw = Int64(clamping: involuntarySwitches)
      return result
    }
  }

  /// Nanoseconds as seconds and microseconds.
  public static func timeval(_ nanoseconds: UInt64) -> linux_time_pair {
    linux_time_pair(
      seconds: Int64(nanoseconds / 1_000_000_000), fraction: Int64(nanoseconds % 1_000_000_000 / 1000))
  }

  /// Nanoseconds in ticks of 10 ms (USER_HZ is 100).
  public static func ticks(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 10_000_000 }
}
