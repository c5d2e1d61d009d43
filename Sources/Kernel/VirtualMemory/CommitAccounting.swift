// How much memory is promised to programs (Committed_AS): private writable mappings and shared memory, at their full
// size, before any page is touched. proc(5), /proc/sys/vm/overcommit_memory and its neighbours.
//
//     commit limit = overcommit_kbytes, or (memory - pool of huge pages) * overcommit_ratio / 100;  + swap
//     strict mode:  promises + wish < limit - admin_reserve (for others than administrators) - user_reserve

import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization

/// Tells on whose behalf memory is promised. Installed by Process at boot.
public protocol CommitPrivilege: AnyObject {
  /// Whether the current thread may use what is kept for administrators (CAP_SYS_ADMIN).
  var currentIsAdministrator: Bool { get }
}

/// The ledger of promised memory.
public enum CommitAccounting {
  /// /proc/sys/vm/overcommit_memory.
  public enum Mode: Int, Sendable {
    /// A single request may not exceed all memory and swap (the default).
    case heuristic = 0
    case always = 1
    /// The sum may not exceed the commit limit.
    case never = 2
  }

  private static let modeValue = Atomic<Int>(0)
  private static let ratioValue = Atomic<Int>(50)
  private static let kibibytesValue = Atomic<Int>(0)
  private static let administratorReserveValue = Atomic<Int>(defaultReserve(atMost: 1 << 13))
  private static let userReserveValue = Atomic<Int>(defaultReserve(atMost: 1 << 17))
  private static let privilege = SpinLock<(any CommitPrivilege)?>(nil, rank: .addressSpace)

  /// All frames of the machine.
  private static let totalFrames = MemoryStatistics.snapshot().total

  /// What Linux keeps by default: three per cent of the memory that is free at boot, in KiB.
  private static func defaultReserve(atMost most: Int) -> Int {
    min(MemoryStatistics.snapshot().free * Int(pageSize / 1024) / 32, most)
  }

  /// Installs the judge of privilege; the last one counts.
  @export(interface)
  public static func install(_ new: any CommitPrivilege) { privilege.withLock { $0 = new } }

  // MARK: Parameters

  public static var mode: Mode {
    @export(interface) get { Mode(rawValue: modeValue.load(ordering: .relaxed)) ?? .heuristic }
    @export(interface) set { modeValue.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// /proc/sys/vm/overcommit_ratio, in percent. Setting it ends the effect of `kibibytes`.
  public static var ratio: Int {
    @export(interface) get { ratioValue.load(ordering: .relaxed) }
    @export(interface) set {
      ratioValue.store(newValue, ordering: .relaxed)
      kibibytesValue.store(0, ordering: .relaxed)
    }
  }

  /// /proc/sys/vm/overcommit_kbytes; 0 when `ratio` counts. Setting it makes `ratio` zero.
  public static var kibibytes: Int {
    @export(interface) get { kibibytesValue.load(ordering: .relaxed) }
    @export(interface) set {
      kibibytesValue.store(newValue, ordering: .relaxed)
      ratioValue.store(0, ordering: .relaxed)
    }
  }

  /// /proc/sys/vm/admin_reserve_kbytes: in strict mode only administrators may use the last of the limit.
  public static var administratorReserve: Int {
    @export(interface) get { administratorReserveValue.load(ordering: .relaxed) }
    @export(interface) set { administratorReserveValue.store(newValue, ordering: .relaxed) }
  }

  /// /proc/sys/vm/user_reserve_kbytes: in strict mode a program leaves so much, or 1/32 of its own size, to others.
  public static var userReserve: Int {
    @export(interface) get { userReserveValue.load(ordering: .relaxed) }
    @export(interface) set { userReserveValue.store(newValue, ordering: .relaxed) }
  }

  /// The most that may be promised in mode `never` (CommitLimit), in pages.
  public static var limit: Int {
    @export(interface) get {
      let fixed = kibibytes
      let memory =
        fixed != 0 ? fixed / Int(pageSize / 1024) : (totalFrames - HugePagePool.statistics.frames) * ratio / 100
      return memory + SwapSpace.totalPages
    }
  }

  // MARK: Promises

  /// Promises `pages`. Mode `always` promises anything.
  ///
  /// - Parameter spacePages: how large the address space is that asks; 0 for the kernel's own.
  /// - Throws: ENOMEM.
  static func commit(_ pages: Int, spacePages: Int = 0) throws(Errno) {
    guard pages > 0 else { return }
    try AllocationFailure.check()
    let sum = Counters.committedPages.add(pages, ordering: .relaxed).newValue
    let isGranted =
      switch mode {
      case .always: true
      case .heuristic: pages <= totalFrames + SwapSpace.totalPages
      case .never: sum < available(spacePages)
      }
    guard isGranted else {
      uncommit(pages)
      throw .ENOMEM
    }
  }

  /// Whether `pages` could be promised now. For callers who would otherwise look for memory that is not missing.
  static func permits(_ pages: Int, spacePages: Int) -> Bool {
    switch mode {
    case .always: true
    case .heuristic: pages <= totalFrames + SwapSpace.totalPages
    case .never: Counters.committedPages.load(ordering: .relaxed) + pages < available(spacePages)
    }
  }

  /// What a program of this size may see promised in strict mode.
  private static func available(_ spacePages: Int) -> Int {
    func pages(_ kibibytes: Int) -> Int { kibibytes / Int(pageSize / 1024) }
    var available = limit
    if privilege.withLock({ $0 })?.currentIsAdministrator == false { available -= pages(administratorReserve) }
    return available - min(spacePages / 32, pages(userReserve))
  }

  /// Takes a promise back.
  static func uncommit(_ pages: Int) {
    if pages > 0 { Counters.add(-pages, to: Counters.committedPages) }
  }
}
