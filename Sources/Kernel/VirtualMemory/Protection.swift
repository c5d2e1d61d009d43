// The vocabulary of mappings: what an area permits, how it was asked for, how memory was touched, and why that failed.

import Machine

/// The size of a page in bytes.
public let pageSize: UInt64 = UInt64(MACHINE_PAGE_SIZE)
/// The bits of an address that lie within a page.
let pageMask: UInt64 = pageSize - 1

/// `value` rounded up to whole pages; nil when that overflows.
@inline(__always)
func roundedUpToPage(_ value: UInt64) -> UInt64? {
  let (sum, overflow) = value.addingReportingOverflow(pageMask)
  return overflow ? nil : sum & ~pageMask
}

/// What programs may do with memory. The bits are those of PROT_READ, PROT_WRITE, PROT_EXEC and of machine_access.
public struct Protection: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8

  @inline(__always)
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static var read: Protection { Protection(rawValue: 1) }
  public static var write: Protection { Protection(rawValue: 2) }
  public static var execute: Protection { Protection(rawValue: 4) }
  public static var all: Protection { Protection(rawValue: 7) }
}

/// How a program touched memory.
public enum Access: UInt8, Sendable {
  case read = 1
  case write = 2
  case execute = 4
}

/// Why an access could not be made possible.
public enum FaultFailure: Error, Sendable {
  /// Nothing is mapped there: SIGSEGV with SEGV_MAPERR.
  case notMapped
  /// The area forbids it: SIGSEGV with SEGV_ACCERR.
  case notPermitted
  /// Beyond the end of the object, or its contents could not be read: SIGBUS with BUS_ADRERR.
  case bus
  /// No memory, and reclaim and the out-of-memory policy could not help.
  case outOfMemory
}

/// How a mapping is made, and what stays remembered of it.
public struct MappingFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  @inline(__always)
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  // Remembered in the area.
  /// Writes reach the object (MAP_SHARED); otherwise they go to private copies.
  public static var shared: MappingFlags { MappingFlags(rawValue: 1 << 0) }
  /// The area grows downwards when the page below it is touched (MAP_GROWSDOWN, stacks).
  public static var growsDown: MappingFlags { MappingFlags(rawValue: 1 << 1) }
  /// Not counted as committed memory (MAP_NORESERVE).
  public static var noReserve: MappingFlags { MappingFlags(rawValue: 1 << 2) }
  /// mlock(2): pages stay in memory.
  public static var locked: MappingFlags { MappingFlags(rawValue: 1 << 3) }
  /// MLOCK_ONFAULT: as `locked`, without bringing the pages in at once.
  public static var lockedOnFault: MappingFlags { MappingFlags(rawValue: 1 << 4) }
  /// MADV_DONTFORK: children don't get the area.
  public static var notInherited: MappingFlags { MappingFlags(rawValue: 1 << 5) }
  /// MADV_WIPEONFORK: children find zeros.
  public static var wipedOnFork: MappingFlags { MappingFlags(rawValue: 1 << 6) }
  /// MADV_DONTDUMP.
  public static var notDumped: MappingFlags { MappingFlags(rawValue: 1 << 7) }
  /// The process's stack, for its name in /proc and for MAP_STACK.
  public static var stack: MappingFlags { MappingFlags(rawValue: 1 << 8) }
  /// The area that brk(2) moves.
  public static var heap: MappingFlags { MappingFlags(rawValue: 1 << 9) }
  /// MADV_RANDOM: no fresh frames around a fault.
  public static var randomAccess: MappingFlags { MappingFlags(rawValue: 1 << 10) }
  /// MADV_SEQUENTIAL.
  public static var sequentialAccess: MappingFlags { MappingFlags(rawValue: 1 << 11) }
  /// MADV_HUGEPAGE and MADV_NOHUGEPAGE: hints, remembered for /proc/PID/smaps.
  public static var hugePages: MappingFlags { MappingFlags(rawValue: 1 << 12) }
  public static var noHugePages: MappingFlags { MappingFlags(rawValue: 1 << 13) }
  /// The area's pages are counted in the space's committed memory.
  static var accounted: MappingFlags { MappingFlags(rawValue: 1 << 14) }

  /// Huge pages from the pool (MAP_HUGETLB).
  public static var hugeTLB: MappingFlags { MappingFlags(rawValue: 1 << 20) }
  /// A private area holds a promise of the pool for each huge page that it has no copy of.
  static var hugeReserved: MappingFlags { MappingFlags(rawValue: 1 << 21) }

  // Said once, when the mapping is made.
  /// At exactly this address, in place of what is there (MAP_FIXED).
  public static var fixed: MappingFlags { MappingFlags(rawValue: 1 << 24) }
  /// At exactly this address, if it is free (MAP_FIXED_NOREPLACE).
  public static var fixedNoReplace: MappingFlags { MappingFlags(rawValue: 1 << 25) }
  /// Bring the pages in now (MAP_POPULATE).
  public static var populate: MappingFlags { MappingFlags(rawValue: 1 << 26) }
  /// Below 2 GiB (MAP_32BIT).
  public static var low: MappingFlags { MappingFlags(rawValue: 1 << 27) }
  static var transient: MappingFlags { [.fixed, .fixedNoReplace, .populate, .low] }
}
