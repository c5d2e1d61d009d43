import KernelCore
import TestSupport
import Testing

/// Times of programs: whatever is computed with them stays in range.
struct NanosecondsTests {
  private static let edges: [UInt64] = [
    0, 1, 999_999_999, 1_000_000_000, 9_223_372_036, 9_223_372_037, 18_446_744_073, 1 << 33, UInt64(Int64.max) - 1,
    UInt64(Int64.max), 1 << 63, .max - 1, .max,
  ]

  @Test func `seconds and fractions that are too long become the longest time`() {
    #expect(Nanoseconds(seconds: 9_223_372_036, nanoseconds: 854_775_806).count == UInt64(Int64.max) - 1)
    #expect(Nanoseconds(seconds: 9_223_372_036, nanoseconds: 854_775_808) == .longest)
    #expect(Nanoseconds(seconds: .max) == .longest)
    #expect(Nanoseconds(seconds: 18_446_744_073, nanoseconds: 999_999_999) == .longest)
    #expect(Nanoseconds(seconds: 1, microseconds: .max) == .longest)
    #expect(Nanoseconds(seconds: 2, microseconds: 5) == Nanoseconds(2_000_005_000))
  }

  @Test func `no operation leaves the range`() {
    for left in Self.edges {
      for right in Self.edges {
        let (a, b) = (Nanoseconds(left), Nanoseconds(right))
        for result in [a + b, a - b, a * right, b * left] { #expect(result <= .longest) }
        #expect(a - b + b >= a || a + b == .longest)
        _ = a / b
      }
    }
  }

  @Test func `an instant and a time of a program never make the instant that never comes`() {
    for clock in [0, 1, 1 << 40, 1 << 62] as [UInt64] {
      #expect(Instant(nanoseconds: clock).advanced(by: .longest) != .never)
    }
  }

  @Test func `a repeating timer expires next after now, on its own grid, and counts what it passes`() {
    var random = SeededGenerator(seed: 7)
    for _ in 0..<10_000 {
      let start = Instant(nanoseconds: .random(in: 0..<1 << 40, using: &random))
      let interval = Nanoseconds(.random(in: 1..<1 << 36, using: &random))
      let now = start.advanced(by: Nanoseconds(.random(in: 0..<1 << 40, using: &random)))
      let next = start.nextExpiry(every: interval, after: now)
      #expect(next.instant > now && now.since(start) < interval * next.expiries)
      #expect(next.instant == start.advanced(by: interval * next.expiries))
      let distance = Nanoseconds(.random(in: 0..<1 << 38, using: &random))
      let far = start.nextExpiry(every: interval, after: now, notWithin: distance)
      #expect(far.instant >= start.advanced(by: distance) && far.expiries >= next.expiries)
    }
    for interval in Self.edges where interval > 0 {
      let next = Instant(nanoseconds: 5).nextExpiry(every: Nanoseconds(interval), after: Instant(nanoseconds: 7))
      #expect(next.instant > Instant(nanoseconds: 7) && next.instant != .never)
    }
  }
}

/// What users hold of the kernel's memory.
struct KernelAccountTests {
  @Test func `users have accounts of their own, and root has no limit`() {
    let (one, two) = (KernelAccount(user: 70_001), KernelAccount(user: 70_002))
    let (before, others) = (one.bytes, two.bytes)
    one.charge(5000)
    #expect(one.bytes == before + 5000 && two.bytes == others)
    one.release(5000)
    #expect(one.bytes == before)
    #expect(!KernelAccount.root.isExceeded)
  }
}
