// Waiting for another CPU.

import Machine
import Synchronization

/// A CPU's wait for what another one does next. A long one tells the machine, which may run the other CPU meanwhile; one that
/// lasts twenty seconds can only be a bug of the kernel, and the console gets to know where.
public struct SpinWait {
  private var spins: UInt64 = 0
  private var start: UInt64 = 0

  @inline(__always)
  public init() {}

  @inline(__always)
  public mutating func pause() {
    spins &+= 1
    machine_pause(spins)
    if spins & 0xfff == 0 { watch() }
  }

  /// Nanoseconds after which a wait is reported.
  private static var limit: UInt64 { 20_000_000_000 }
  private static let reports = Atomic<Int>(0)

  @inline(never)
  private mutating func watch() {
    let now = machine_clock_monotonic()
    if start == 0 { start = now }
    guard now &- start > Self.limit else { return }
    start = .max
    // The others that wait for the same thing have nothing to add; nor has the report, should it wait itself.
    guard Self.reports.add(1, ordering: .relaxed).oldValue < CPU.count else { return }
    var line = ConsoleLine("apus: CPU ")
    line.append(decimal: CPU.currentIndex)
    line.append(" has been waiting for another one for 20 s")
    line.print()
    Backtrace.print(from: Backtrace.framePointer())
  }
}
