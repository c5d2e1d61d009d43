// How much memory is promised to programs (Committed_AS): private writable mappings and shared memory, at their full
// size, before any page is touched. proc(5), /proc/sys/vm/overcommit_memory.

import LinuxABI
import PhysicalMemory
import Synchronization

/// The ledger of promised memory.
public enum CommitAccounting {
  /// /proc/sys/vm/overcommit_memory.
  public enum Mode: Int, Sendable {
    /// A single request may not exceed all memory (the default).
    case heuristic = 0
    case always = 1
    /// The sum may not exceed `overcommit_ratio` percent of memory.
    case never = 2
  }

  private static let modeValue = Atomic<Int>(0)
  private static let ratioValue = Atomic<Int>(50)

  /// All frames of the machine.
  private static let totalFrames = MemoryStatistics.snapshot().total

  public static var mode: Mode {
    @export(interface) get { Mode(rawValue: modeValue.load(ordering: .relaxed)) ?? .heuristic }
    @export(interface) set { modeValue.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// /proc/sys/vm/overcommit_ratio, in percent.
  public static var ratio: Int {
    @export(interface) get { ratioValue.load(ordering: .relaxed) }
    @export(interface) set { ratioValue.store(newValue, ordering: .relaxed) }
  }

  /// The most that may be promised in mode `never` (CommitLimit), in pages.
  public static var limit: Int {
    @export(interface) get { totalFrames * ratio / 100 }
  }

  /// Promises `pages`. Mode `always` promises anything.
  ///
  /// - Throws: ENOMEM.
  static func commit(_ pages: Int) throws(Errno) {
    guard pages > 0 else { return }
    switch mode {
    case .always: break
    case .heuristic:
      if pages > totalFrames { throw .ENOMEM }
    case .never:
      if Counters.committedPages.load(ordering: .relaxed) &+ pages > limit { throw .ENOMEM }
    }
    Counters.add(pages, to: Counters.committedPages)
  }

  /// Takes a promise back.
  static func uncommit(_ pages: Int) {
    if pages > 0 { Counters.add(-pages, to: Counters.committedPages) }
  }
}
