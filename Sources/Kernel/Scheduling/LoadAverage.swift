// The load averages: exponentially damped means of the number of runnable threads over 1, 5 and 15 minutes. They are
// brought up to date when they are read, as if the number had not changed since the last reading: a timer that
// sampled it every five seconds would wake a machine that has nothing to do.

import KernelCore

/// The load averages of getloadavg(3), /proc/loadavg and sysinfo(2).
public enum LoadAverage {
  /// Bits of fraction of the averages.
  public static var fractionBits: UInt64 { 11 }

  private struct State {
    /// Fixed point with 11 bits of fraction.
    var averages: [UInt64] = [0, 0, 0]
    var updated: UInt64 = 0
  }
  private static let state = SpinLock(State(), rank: .device)

  /// e^(-5s/1min), e^(-5s/5min), e^(-5s/15min), times 2048.
  private static let decays: [UInt64] = [1884, 2014, 2037]

  /// The averages after another look.
  @export(interface)
  public static func sample(running: Int) -> [UInt64] {
    let period: UInt64 = 5_000_000_000
    let now = Clock.monotonicNanoseconds
    return state.withLock { state in
      let periods = now > state.updated ? (now - state.updated) / period : 0
      state.updated += periods * period
      // The reader itself runs and is no load.
      advance(&state.averages, periods: periods, active: UInt64(max(0, running - 1)))
      return state.averages
    }
  }

  /// Lets `periods` of five seconds pass with `active` runnable threads.
  @export(interface)
  public static func advance(_ averages: inout [UInt64], periods: UInt64, active: UInt64) {
    // After 2,000 periods (nearly three hours) the past has no weight left.
    for _ in 0..<min(periods, 2000) {
      for index in 0..<3 {
        averages[index] = (averages[index] * decays[index] + (active << 11) * (2048 - decays[index])) >> 11
      }
    }
  }
}
