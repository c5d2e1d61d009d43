// Times that come from programs. A program may ask for any number of seconds; this type is the one place where such a
// number enters the kernel's arithmetic. A value never exceeds 2^63 - 1 ns (292 years, as Linux's ktime_t), every
// operation saturates there, and the sum of two values, or of one and the machine's clock, fits into 64 bits.

/// A length of time, or a reading of a clock, in nanoseconds: 0 … 2^63 - 1, with saturating arithmetic.
public struct Nanoseconds: Comparable, Hashable, Sendable {
  /// At most `Int64.max`.
  public let count: UInt64

  public static var zero: Nanoseconds { Nanoseconds(0) }
  /// The longest time, 584 years: no deadline.
  public static var longest: Nanoseconds { Nanoseconds(.max) }

  /// `count` nanoseconds, or `longest`.
  @inline(__always)
  public init(_ count: UInt64) { self.count = min(count, UInt64(Int64.max)) }

  /// Whole seconds and a fraction in nanoseconds, or `longest`.
  @export(interface)
  public init(seconds: UInt64, nanoseconds: UInt64 = 0) {
    let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: Nanoseconds.second)
    self = isTooLong ? .longest : Nanoseconds(whole) + Nanoseconds(nanoseconds)
  }

  /// Whole seconds and a fraction in microseconds, or `longest`.
  @export(interface)
  public init(seconds: UInt64, microseconds: UInt64) {
    let (part, isTooLong) = microseconds.multipliedReportingOverflow(by: 1000)
    self = isTooLong ? .longest : Nanoseconds(seconds: seconds, nanoseconds: part)
  }

  public init(milliseconds: UInt32) { self.init(UInt64(milliseconds) &* 1_000_000) }

  /// Nanoseconds in a second.
  public static var second: UInt64 { 1_000_000_000 }

  public var seconds: UInt64 { count / Nanoseconds.second }
  /// What is left beside the whole seconds.
  public var fraction: UInt64 { count % Nanoseconds.second }

  @inline(__always)
  public static func < (left: Nanoseconds, right: Nanoseconds) -> Bool { left.count < right.count }

  @inline(__always)
  public static func + (left: Nanoseconds, right: Nanoseconds) -> Nanoseconds {
    Nanoseconds(left.count &+ right.count)
  }

  /// The difference, 0 when `right` is longer.
  @inline(__always)
  public static func - (left: Nanoseconds, right: Nanoseconds) -> Nanoseconds {
    Nanoseconds(left.count > right.count ? left.count &- right.count : 0)
  }

  @inline(__always)
  public static func * (left: Nanoseconds, factor: UInt64) -> Nanoseconds {
    let (product, isTooLong) = left.count.multipliedReportingOverflow(by: factor)
    return isTooLong ? .longest : Nanoseconds(product)
  }

  /// How often `right` fits, 0 when it is zero.
  @inline(__always)
  public static func / (left: Nanoseconds, right: Nanoseconds) -> UInt64 {
    right.count == 0 ? 0 : left.count / right.count
  }
}

extension Instant {
  /// The instant `interval` later. It is never `.never`: the machine's clock stays below 2^63 ns.
  @inline(__always)
  public func advanced(by interval: Nanoseconds) -> Instant { advanced(byNanoseconds: interval.count) }

  /// How much time lies between `earlier` and this instant, 0 when it is not earlier.
  @inline(__always)
  public func since(_ earlier: Instant) -> Nanoseconds { Nanoseconds(nanoseconds(since: earlier)) }

  /// Where a timer that expires at this instant and then every `interval` (not 0) expires next after `now`, and for how
  /// many expiries that is the next one. At least `distance` of time lies between this instant and the answer, but the
  /// answer is on the timer's own grid.
  @export(interface)
  public func nextExpiry(
    every interval: Nanoseconds, after now: Instant, notWithin distance: Nanoseconds = .zero
  ) -> (instant: Instant, expiries: UInt64) {
    let passed = now.since(self) / interval &+ 1
    // The least number of intervals that is not shorter than the distance.
    let needed = distance / interval &+ (interval * (distance / interval) < distance ? 1 : 0)
    let expiries = max(passed, needed)
    return (advanced(by: interval * expiries), expiries)
  }
}
