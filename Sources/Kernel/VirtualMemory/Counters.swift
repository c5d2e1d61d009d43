// What the room counts: pages by use, faults, commands to the machine. /proc reads snapshots of it, and tests assert with
// it that everything comes back.

import PhysicalMemory
import Synchronization

/// Global counters of virtual memory.
enum Counters {
  typealias Counter = Atomic<Int>

  static let anonymousPages = Counter(0)
  static let cachedPages = Counter(0)
  static let sharedMemoryPages = Counter(0)
  /// Frames of huge pages in memory objects; the counts above do not include them.
  static let hugeObjectPages = Counter(0)
  static let dirtyPages = Counter(0)
  static let writeBackPages = Counter(0)
  static let pageTables = Counter(0)
  static let spaces = Counter(0)
  static let areas = Counter(0)
  static let objects = Counter(0)
  static let committedPages = Counter(0)

  static let faults = Counter(0)
  static let majorFaults = Counter(0)
  static let copies = Counter(0)
  static let dirtied = Counter(0)
  static let written = Counter(0)
  /// Pages that are not dirty any more because they were written or given up.
  static let cleaned = Counter(0)
  static let throttled = Counter(0)
  static let copiedBytes = Counter(0)
  static let machineMaps = Counter(0)
  static let machineUnmaps = Counter(0)
  static let machineProtects = Counter(0)
  static let machineCommits = Counter(0)

  @inline(__always)
  static func add(_ change: Int, to counter: borrowing Counter) { counter.add(change, ordering: .relaxed) }
}

/// A snapshot of the counters.
public struct VirtualMemoryStatistics: Equatable, Sendable {
  /// Frames of private memory in address spaces; a frame shared after fork counts once for each.
  public var anonymousPages = 0
  /// Frames in memory objects, those of shared memory and tmpfs included.
  public var cachedPages = 0
  /// The part of `cachedPages` in objects without a store.
  public var sharedMemoryPages = 0
  public var dirtyPages = 0
  /// On their way to stores.
  public var writeBackPages = 0
  /// Pages that became dirty, and that were stored, since boot.
  public var dirtied = 0
  public var written = 0
  /// How often a writer waited because too much was dirty.
  public var throttled = 0
  public var pageTablePages = 0
  public var addressSpaces = 0
  public var areas = 0
  public var memoryObjects = 0
  /// Pages promised to programs (Committed_AS).
  public var committedPages = 0
  public var faults = 0
  /// Faults that read from a store.
  public var majorFaults = 0
  /// Copies made on write.
  public var copies = 0
  /// Bytes copied between programs and files, pipes and devices.
  public var copiedBytes = 0
  /// Commands given to the machine.
  public var machineMaps = 0
  public var machineUnmaps = 0
  public var machineProtects = 0
  public var machineCommits = 0

  /// The counters now; each is exact, the set is not a consistent cut.
  @export(interface)
  public static func snapshot() -> VirtualMemoryStatistics {
    func value(_ counter: borrowing Counters.Counter) -> Int { counter.load(ordering: .relaxed) }
    var result = VirtualMemoryStatistics()
    // Huge pages are counted by their pool. Those in address spaces are what the pool has given out and objects don't
    // have; after fork(2) the difference is too small.
    let pool = HugePagePool.statistics
    let hugePages = (pool.total - pool.free) * HugePagePool.framesPerPage - value(Counters.hugeObjectPages)
    result.anonymousPages = max(0, value(Counters.anonymousPages) - max(0, hugePages))
    result.cachedPages = value(Counters.cachedPages)
    result.sharedMemoryPages = value(Counters.sharedMemoryPages)
    result.dirtyPages = value(Counters.dirtyPages)
    result.writeBackPages = value(Counters.writeBackPages)
    result.dirtied = value(Counters.dirtied)
    result.written = value(Counters.written)
    result.throttled = value(Counters.throttled)
    result.pageTablePages = value(Counters.pageTables)
    result.addressSpaces = value(Counters.spaces)
    result.areas = value(Counters.areas)
    result.memoryObjects = value(Counters.objects)
    result.committedPages = value(Counters.committedPages)
    result.faults = value(Counters.faults)
    result.majorFaults = value(Counters.majorFaults)
    result.copies = value(Counters.copies)
    result.copiedBytes = value(Counters.copiedBytes)
    result.machineMaps = value(Counters.machineMaps)
    result.machineUnmaps = value(Counters.machineUnmaps)
    result.machineProtects = value(Counters.machineProtects)
    result.machineCommits = value(Counters.machineCommits)
    return result
  }
}
