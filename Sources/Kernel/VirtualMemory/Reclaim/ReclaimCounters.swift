// What reclaim counts, for /proc/vmstat and the tests.

import Synchronization

enum ReclaimCounters {
  typealias Counter = Atomic<Int>

  static let scanned = Counter(0)
  static let stolen = Counter(0)
  static let activated = Counter(0)
  static let deactivated = Counter(0)
  static let skippedDirty = Counter(0)
  static let scannedByDaemon = Counter(0)
  static let cacheDrops = Counter(0)
  static let daemonRuns = Counter(0)
  static let stolenByDaemon = Counter(0)
  static let stalls = Counter(0)
  static let compactions = Counter(0)
  static let compactionsDone = Counter(0)
  static let compactionsFailed = Counter(0)
  static let migrationScanned = Counter(0)
  static let migrated = Counter(0)
  static let migrationsFailed = Counter(0)
  static let swappedIn = Counter(0)
  static let swappedOut = Counter(0)
  static let swappedOutExhausted = Counter(0)

  @inline(__always)
  static func add(_ change: Int, to counter: borrowing Counter) { counter.add(change, ordering: .relaxed) }
}

/// A snapshot of reclaim: sums since boot, and pages on the lists.
public struct ReclaimStatistics: Equatable, Sendable {
  public var scanned = 0
  /// Freed by reclaim.
  public var stolen = 0
  public var activated = 0
  public var deactivated = 0
  public var skippedDirty = 0
  /// Of the pages looked at, those that kswapd did.
  public var scannedByDaemon = 0
  /// How often the page cache was dropped on request.
  public var cacheDrops = 0
  /// How often kswapd ran, and what it freed.
  public var daemonRuns = 0
  public var stolenByDaemon = 0
  /// How often an allocator fell back to direct reclaim.
  public var stalls = 0
  /// Attempts to make a large block, and their outcomes.
  public var compactions = 0
  public var compactionsDone = 0
  public var compactionsFailed = 0
  /// Pages that compaction looked at, moved, and could not move.
  public var migrationScanned = 0
  public var migrated = 0
  public var migrationsFailed = 0
  /// Pages read from and written to swap.
  public var swappedIn = 0
  public var swappedOut = 0
  /// Of these, pages written while ordinary allocations failed.
  public var swappedOutExhausted = 0
  public var activeAnonymous = 0
  public var inactiveAnonymous = 0
  public var activeFile = 0
  public var inactiveFile = 0

  @export(interface)
  public static func snapshot() -> ReclaimStatistics {
    func value(_ counter: borrowing ReclaimCounters.Counter) -> Int { counter.load(ordering: .relaxed) }
    var result = ReclaimStatistics()
    result.scanned = value(ReclaimCounters.scanned)
    result.stolen = value(ReclaimCounters.stolen)
    result.activated = value(ReclaimCounters.activated)
    result.deactivated = value(ReclaimCounters.deactivated)
    result.skippedDirty = value(ReclaimCounters.skippedDirty)
    result.scannedByDaemon = value(ReclaimCounters.scannedByDaemon)
    result.cacheDrops = value(ReclaimCounters.cacheDrops)
    result.daemonRuns = value(ReclaimCounters.daemonRuns)
    result.stolenByDaemon = value(ReclaimCounters.stolenByDaemon)
    result.stalls = value(ReclaimCounters.stalls)
    result.compactions = value(ReclaimCounters.compactions)
    result.compactionsDone = value(ReclaimCounters.compactionsDone)
    result.compactionsFailed = value(ReclaimCounters.compactionsFailed)
    result.migrationScanned = value(ReclaimCounters.migrationScanned)
    result.migrated = value(ReclaimCounters.migrated)
    result.migrationsFailed = value(ReclaimCounters.migrationsFailed)
    result.swappedIn = value(ReclaimCounters.swappedIn)
    result.swappedOut = value(ReclaimCounters.swappedOut)
    result.swappedOutExhausted = value(ReclaimCounters.swappedOutExhausted)
    for node in 0..<PageLists.nodeCount {
      let lists = NodeListStatistics.snapshot(node)
      result.activeAnonymous += lists.activeAnonymous
      result.inactiveAnonymous += lists.inactiveAnonymous
      result.activeFile += lists.activeFile
      result.inactiveFile += lists.inactiveFile
    }
    return result
  }
}

/// Pages on the lists of one node.
public struct NodeListStatistics: Sendable {
  public var inactiveAnonymous = 0
  public var activeAnonymous = 0
  public var inactiveFile = 0
  public var activeFile = 0

  @export(interface)
  public static func snapshot(_ node: Int) -> NodeListStatistics {
    var result = NodeListStatistics()
    result.inactiveAnonymous = PageLists.count(.inactiveAnonymous, on: node)
    result.activeAnonymous = PageLists.count(.activeAnonymous, on: node)
    result.inactiveFile = PageLists.count(.inactiveFile, on: node)
    result.activeFile = PageLists.count(.activeFile, on: node)
    return result
  }
}
