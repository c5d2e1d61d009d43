// An address space: the areas that a program has mapped, the page tables behind them, and the machine's side of both.
//
//     areas    what the program asked for     sleeping read-write lock: faults read, mmap and its family write
//     tables   what is in memory now          spin lock, held while an entry changes or user memory is copied
//     machine  a TLB over the tables          told about changes under the table lock, in order
//
// Tasks that were cloned with CLONE_VM share the object. The last of them to leave frees the memory; code that still refers to
// the object (a reader of /proc, say) finds it empty. That is no matter of the last reference: reclaim, which holds locks
// that the end needs, has references for moments.

import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Scheduling
import Synchronization

/// Limits that concern memory, in bytes; ResourceLimit.infinity is none. Process copies them from the resource limits.
public struct AddressSpaceLimits: Sendable {
  public var addressSpace: UInt64 = .max
  public var data: UInt64 = .max
  public var stack: UInt64 = .max
  public var locked: UInt64 = .max

  public init() {}
}

/// Where the parts of a program are: what execve(2) found out, for brk(2), prctl(PR_SET_MM) and /proc.
public struct AddressSpaceLayout: Sendable {
  /// New mappings are placed below this address, or above it when the direction is up.
  public var mappingBase: UInt64 = 0
  public var mappingDirection: MappingLayout.Direction = .down
  public var startCode: UInt64 = 0, endCode: UInt64 = 0
  public var startData: UInt64 = 0, endData: UInt64 = 0
  public var startBreak: UInt64 = 0, currentBreak: UInt64 = 0
  public var startStack: UInt64 = 0
  public var argumentStart: UInt64 = 0, argumentEnd: UInt64 = 0
  public var environmentStart: UInt64 = 0, environmentEnd: UInt64 = 0
  /// Where the vDSO is mapped; 0 without one.
  public var vdso: UInt64 = 0
  /// The auxiliary vector as it was put on the stack, for /proc/PID/auxv.
  public var auxiliaryVector: [UInt64] = []

  public init() {}
}

/// What the area lock protects.
struct AreaState {
  let map = AreaMap()
  var layout = AddressSpaceLayout()
  var limits = AddressSpaceLimits()
  var totalPages = 0
  var peakTotalPages = 0
  /// Private writable pages other than stacks (RLIMIT_DATA), pages of stacks, of executable file mappings.
  var dataPages = 0
  var stackPages = 0
  var executablePages = 0
  var lockedPages = 0
  /// Pages of areas of huge pages.
  var hugePages = 0
  var committedPages = 0
  /// mlockall(MCL_FUTURE): flags that new areas get.
  var futureFlags: MappingFlags = []
  var isDestroyed = false
  /// The change of areas failed because there were no frames for page tables.
  var lacksTables = false

  /// Runs `body`, which fails for want of page tables only.
  mutating func makingTables(_ body: () throws(Errno) -> Void) throws(Errno) {
    do throws(Errno) { try body() } catch {
      lacksTables = true
      throw error
    }
  }
}

/// The memory of a user program.
public final class AddressSpace {
  /// The machine's name for the space (machine_space_create).
  public let machineSpace: Int64
  let areas: SharedMutex<AreaState>
  let tables: SpinLock<PageTables>
  /// The spaces that may show the same private pages.
  let family: AddressFamily
  /// Threads that run user code in this space: the last one frees the memory. With more than one, a frame that is replaced
  /// is freed only after the machine has confirmed that the old mapping is gone.
  let threads = Atomic<Int>(1)
  /// The user for whom the program acts.
  let user: Atomic<UInt32>
  /// How many areas there are, for those who do not wait for the area lock.
  let areaCount: AreaCount
  let faults = Atomic<Int>(0)
  let majorFaults = Atomic<Int>(0)

  /// The first address behind those that programs may use. Set at boot from the machine's boot record.
  public nonisolated(unsafe) static var userLimit: UInt64 = 0x7fff_ffff_f000
  /// The lowest address that may be mapped (/proc/sys/vm/mmap_min_addr). Below it, and above the 64 KiB that hosts keep
  /// free, the user machine has a table which code reaches by an absolute jump of seven bytes.
  public static var minimumAddress: UInt64 { 131_072 }
  /// Addresses that the kernel claims on bare machines (ARCHITECTURE.md); kept free everywhere, so that a program finds
  /// the same space on each machine.
  static var kernelWindow: Range<UInt64> { 0x4000_0000_0000..<0x5000_0000_0000 }
  /// The largest number of areas (/proc/sys/vm/max_map_count).
  public static var maximumAreaCount: Int { 65530 }

  private init(machineSpace: Int64, family: AddressFamily, user: UInt32) throws(Errno) {
    self.machineSpace = machineSpace
    self.user = Atomic(user)
    self.family = family
    let state = AreaState()
    areaCount = state.map.size
    areas = SharedMutex(state, rank: .areas)
    tables = SpinLock(try PageTables(), rank: .pageTable)
    Counters.add(1, to: Counters.spaces)
    family.join(self)
  }

  /// An empty space for a program that acts for `user`.
  ///
  /// - Throws: ENOMEM, EAGAIN when the machine can make no more spaces.
  @export(interface)
  public static func create(for user: UInt32 = 0) throws(Errno) -> AddressSpace {
    try create(in: AddressFamily(), for: user)
  }

  /// An empty space that is going to have pages in common with others of `family`.
  static func create(in family: AddressFamily, for user: UInt32) throws(Errno) -> AddressSpace {
    LockOrder.mayWait()
    let machineSpace = machine_space_create(UInt64(user))
    guard machineSpace >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: -machineSpace)) }
    do throws(Errno) {
      return try MemoryPressure.retrying { () throws(Errno) in
        try AddressSpace(machineSpace: machineSpace, family: family, user: user)
      }
    } catch {
      LockOrder.mayWait()
      machine_space_destroy(machineSpace)
      throw error
    }
  }

  /// The program acts for another user from now on; the machine separates what the processor remembers of the two.
  @export(interface)
  public func act(for user: UInt32) {
    if self.user.exchange(user, ordering: .relaxed) != user { machine_space_user(machineSpace, UInt64(user)) }
  }

  deinit {
    LockOrder.mayWait()
    destroy()
    tables.withLock { $0.releaseRoot() }
    Counters.add(-1, to: Counters.spaces)
  }

  /// Gives back all memory. No thread runs in the space any more; its user handles are destroyed.
  @export(interface)
  public func destroy() {
    // Files may be closed by the end of their areas: not under the area lock.
    var retired: [VirtualMemoryArea] = []
    var gather = MappingGather(space: machineSpace)
    areas.withWriteLock { state in
      guard !state.isDestroyed else { return }
      state.isDestroyed = true
      // Reclaim, which may be telling the machine something about this space, comes first.
      family.leave(self)
      // The machine forgets first: from here on nothing can reach the frames but the kernel.
      LockOrder.mayWait()
      machine_space_destroy(machineSpace)
      HugePagePool.unreserve(hugePromises(state, 0, .max))
      while let area = state.map.first {
        area.object?.removeMapping(area)
        state.map.remove(area)
        if area.source != nil { retired.append(area) }
        Thread.checkRescheduleUnlessLocked()
      }
      tables.withLock { $0.takeOutAll(into: &gather) }
      CommitAccounting.uncommit(state.committedPages)
      (state.committedPages, state.totalPages, state.dataPages, state.stackPages) = (0, 0, 0, 0)
      (state.lockedPages, state.executablePages, state.hugePages) = (0, 0, 0)
    }
    gather.finish()
    retired.removeAll()
  }

  /// The space of the current thread; nil for kernel threads.
  public static var current: AddressSpace? {
    @export(interface) get { Thread.current.memoryContext as? AddressSpace }
  }

  /// Another thread is going to run user code in this space; the creator of a space counts as the first one.
  @export(interface)
  public func threadStarted() { threads.add(1, ordering: .relaxed) }

  /// A thread has left the space; its user handle is destroyed. The last one frees the memory.
  @export(interface)
  public func threadEnded() {
    if threads.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { destroy() }
  }

  /// Changes areas under their lock. While memory can be found, a change does not fail for want of page tables: it starts
  /// over, and what it had done already does no harm.
  func changeAreas<Result>(_ body: (inout AreaState) throws(Errno) -> Result) throws(Errno) -> Result {
    var relief = MemoryPressure.Relief()
    while true {
      var lacksTables = false
      do throws(Errno) {
        return try areas.withWriteLock { state throws(Errno) in
          state.lacksTables = false
          defer { lacksTables = state.lacksTables }
          return try body(&state)
        }
      } catch {
        guard lacksTables, relief.find() else { throw error }
      }
    }
  }

  // MARK: Layout and limits

  public var layout: AddressSpaceLayout {
    @export(interface) get { areas.withReadLock { $0.layout } }
  }

  @export(interface)
  public func updateLayout(_ change: (inout AddressSpaceLayout) -> Void) {
    areas.withWriteLock { change(&$0.layout) }
  }

  public var limits: AddressSpaceLimits {
    @export(interface) get { areas.withReadLock { $0.limits } }
    @export(interface) set { areas.withWriteLock { $0.limits = newValue } }
  }

  /// Places new mappings as `choice` says.
  @export(interface)
  public func setMappingLayout(_ choice: MappingLayout) {
    updateLayout { layout in
      layout.mappingBase = choice.base
      layout.mappingDirection = choice.direction
    }
  }

  /// Whether [address, address + length) may hold user memory.
  static func isUserRange(_ address: UInt64, _ length: UInt64) -> Bool {
    let (end, overflow) = address.addingReportingOverflow(length)
    guard !overflow, end <= userLimit else { return false }
    return end <= kernelWindow.lowerBound || address >= kernelWindow.upperBound
  }
}
