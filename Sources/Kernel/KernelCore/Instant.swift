// Points in time of the monotonic clock, in nanoseconds (64 bits last for 584 years).

import Machine

/// A point in time of the machine's monotonic clock.
public struct Instant: Comparable, Hashable, Sendable {
  /// Nanoseconds on the machine's monotonic clock.
  public var nanoseconds: UInt64

  @inline(__always)
  public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// Later than every instant: "no time-out".
  public static var never: Instant { Instant(nanoseconds: .max) }
  /// Earlier than every instant.
  public static var distantPast: Instant { Instant(nanoseconds: 0) }

  /// Reads the clock.
  @inline(__always)
  public static func now() -> Instant { Instant(nanoseconds: machine_clock_monotonic()) }

  @inline(__always)
  public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

  /// The instant `interval` nanoseconds later, `never` when that cannot be expressed.
  @inline(__always)
  public func advanced(byNanoseconds interval: UInt64) -> Instant {
    let (sum, overflow) = nanoseconds.addingReportingOverflow(interval)
    return overflow ? .never : Instant(nanoseconds: sum)
  }

  /// Nanoseconds from `earlier` to this instant, 0 when it is not earlier.
  @inline(__always)
  public func nanoseconds(since earlier: Instant) -> UInt64 {
    nanoseconds > earlier.nanoseconds ? nanoseconds &- earlier.nanoseconds : 0
  }
}

/// The kernel's clocks. CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the start of this kernel, so that a sandbox does
/// not learn how long its host has been up.
public enum Clock {
  /// When this kernel started, on the machine's clock. Written once at boot.
  public nonisolated(unsafe) static var boot = Instant(nanoseconds: 0)
  /// What clock_settime(CLOCK_REALTIME) added to the machine's clock.
  public nonisolated(unsafe) static var realtimeOffset: Int64 = 0

  /// Nanoseconds since 1970-01-01 00:00:00 UTC.
  public static var realtimeNanoseconds: UInt64 {
    machine_clock_realtime() &+ UInt64(bitPattern: realtimeOffset)
  }

  /// Nanoseconds since this kernel started: CLOCK_MONOTONIC as programs see it.
  public static var monotonicNanoseconds: UInt64 { Instant.now().nanoseconds(since: boot) }

  /// The machine's instant for a CLOCK_MONOTONIC time of a program.
  public static func instant(monotonic time: Nanoseconds) -> Instant { boot.advanced(by: time) }

  /// The machine's instant at which CLOCK_REALTIME reads `time`, as things stand; now for a time that has passed.
  public static func instant(realtime time: Nanoseconds) -> Instant {
    Instant.now().advanced(by: time - Nanoseconds(realtimeNanoseconds))
  }
}
