// What others want to know about a space: /proc, mincore(2), msync(2), shared futexes.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// An area as /proc/PID/maps and smaps show it.
public struct AreaSnapshot {
  public var start: UInt64
  public var end: UInt64
  public var protection: Protection
  public var flags: MappingFlags
  /// In bytes.
  public var offset: UInt64
  public var source: (any MappingSource)?
  /// The rule for its pages; nil where the thread's applies.
  public var policy: MemoryPolicy?
  let object: MemoryObject?
  public var residency = Residency()

  /// Whether it maps an object without a name: shared anonymous memory.
  public var isSharedAnonymous: Bool { @export(interface) get { object != nil && source == nil } }
}

/// Sums over a space; pages unless said otherwise.
public struct AddressSpaceStatistics: Sendable {
  public var totalPages = 0
  public var peakTotalPages = 0
  public var anonymousPages = 0
  public var objectPages = 0
  public var peakResidentPages = 0
  /// Pages on swap areas (VmSwap).
  public var swappedPages = 0
  public var dataPages = 0
  public var stackPages = 0
  public var executablePages = 0
  public var lockedPages = 0
  public var pageTablePages = 0
  /// Pages of 4 KiB in areas of huge pages; the other counts of pages in memory leave them out.
  public var hugePages = 0
  public var areaCount = 0
  public var faults = 0
  public var majorFaults = 0

  public init() {}
  public var residentPages: Int { anonymousPages + objectPages }
}

extension AddressSpace {
  public var statistics: AddressSpaceStatistics {
    @export(interface) get {
      var result = AddressSpaceStatistics()
      let huge = areas.withReadLock { state in
        result.totalPages = state.totalPages
        result.peakTotalPages = state.peakTotalPages
        result.dataPages = state.dataPages
        result.stackPages = state.stackPages
        result.executablePages = state.executablePages
        result.lockedPages = state.lockedPages
        result.areaCount = state.map.count
        return hugeResidency(state)
      }
      tables.withLock { tables in
        let census = tables.takeCensus()
        result.anonymousPages = census.all.anonymous
        result.objectPages = census.all.object
        result.peakResidentPages = tables.peakPages
        result.swappedPages = census.all.swapped
        result.pageTablePages = census.tables
      }
      result.anonymousPages = max(0, result.anonymousPages - huge.anonymous)
      result.objectPages = max(0, result.objectPages - huge.object)
      result.hugePages = huge.all
      result.faults = faults.load(ordering: .relaxed)
      result.majorFaults = majorFaults.load(ordering: .relaxed)
      return result
    }
  }

  /// Pages in memory and on swap areas, page tables, and areas, without waiting for the area lock: for the out-of-memory
  /// policy.
  public var heldPages: (resident: Int, tables: Int, areas: Int) {
    @export(interface) get {
      let (resident, ownTables) = tables.withLock { tables in
        let census = tables.takeCensus()
        return (census.all.anonymous &+ census.all.object &+ census.all.swapped, census.tables)
      }
      return (resident, ownTables, areaCount.value.load(ordering: .relaxed))
    }
  }

  /// What an area costs the kernel, in bytes.
  public static var areaBytes: Int { VirtualMemoryArea.kernelBytes }

  /// How much `areas` finds out.
  public enum SnapshotDetail: Sendable { case names, residency }

  /// The areas in order, those that end behind `start`, `limit` of them at most.
  ///
  /// - Complexity: O(areas); with `.residency` moreover O(pages in memory), and O(programs) for pages that several have.
  @export(interface)
  public func areas(
    _ detail: SnapshotDetail = .names, from start: UInt64 = 0, limit: Int = .max
  ) -> [AreaSnapshot] {
    var result = areas.withReadLock { state in
      var result: [AreaSnapshot] = []
      result.reserveCapacity(min(state.map.count, limit))
      var next = state.map.firstEnding(after: start)
      while let area = next, result.count < limit {
        result.append(snapshot(area, detail))
        next = state.map.next(after: area)
      }
      return result
    }
    // Without the lock, which faults and mmap need.
    if detail == .residency {
      for index in result.indices where !result[index].flags.contains(.hugeTLB) {
        result[index].residency += residency(result[index])
      }
    }
    return result
  }

  private func snapshot(_ area: VirtualMemoryArea, _ detail: SnapshotDetail) -> AreaSnapshot {
    var snapshot = AreaSnapshot(
      start: area.start, end: area.end, protection: area.protection, flags: area.flags,
      offset: area.pageOffset &* pageSize, source: area.source, policy: area.policy, object: area.object)
    guard detail == .residency else { return snapshot }
    if area.flags.contains(.hugeTLB) {
      let huge = hugeResidency(area)
      snapshot.residency.huge = huge.all
      snapshot.residency.sharedHuge = huge.shared
      snapshot.residency.nodes = huge.nodes
    } else if let object = area.object, object.isSwappable {
      // The object's own pages have no entries in tables while they are on swap areas.
      let first = area.pageOffset
      snapshot.residency.swapped = object.swappedPages(first..<first &+ area.length / pageSize)
    }
    return snapshot
  }

  // MARK: mincore

  /// mincore(2): a byte per page, 1 for those in memory, appended to `result`.
  ///
  /// - Throws: EINVAL, ENOMEM (a part is not mapped).
  @export(interface)
  public func residency(
    _ address: UInt64, _ length: UInt64, _ result: inout [UInt8]
  ) throws(Errno) {
    guard address & pageMask == 0 else { throw .EINVAL }
    guard let length = roundedUpToPage(length), length <= Self.userLimit, address <= Self.userLimit &- length else {
      throw .ENOMEM
    }
    try areas.withReadLock { state throws(Errno) in
      var position = address
      let end = address &+ length
      while position < end {
        guard let area = state.map.find(position) else { throw .ENOMEM }
        let stop = min(area.end, end)
        while position < stop {
          var isResident = tables.withLock { $0.entry(position).isResident }
          if !isResident, let object = area.object { isResident = object.isResident(area.objectIndex(position)) }
          result.append(isResident ? 1 : 0)
          position = position &+ pageSize
        }
      }
    }
  }

  // MARK: msync

  /// What msync does.
  public enum SyncMode: Sendable {
    /// Write back now and wait.
    case wait
    /// Only check the arguments: changed pages are written back in time.
    case schedule
  }

  /// msync(2).
  ///
  /// - Throws: EINVAL, ENOMEM (a part is not mapped), EBUSY (`invalidating` on locked memory), the store's errors.
  @export(interface)
  public func sync(_ address: UInt64, _ length: UInt64, _ mode: SyncMode, invalidating: Bool) throws(Errno) {
    guard address & pageMask == 0 else { throw .EINVAL }
    // As on Linux, a length that overflows when it is rounded up to pages is none.
    guard let length = roundedUpToPage(length) else { return }
    guard length <= Self.userLimit, address <= Self.userLimit &- length else { throw .ENOMEM }
    let end = address &+ length
    var position = address
    var hasHole = false
    while position < end {
      // The store is written without the area lock: it may take long. The source keeps the store alive meanwhile.
      let part = areas.withReadLock { state -> SyncPart? in
        guard let area = state.map.firstEnding(after: position), area.start < end else { return nil }
        let start = max(position, area.start)
        let stop = min(area.end, end)
        return SyncPart(
          start: start, end: stop, object: area.isShared ? area.object : nil, source: area.source,
          offset: area.object == nil ? 0 : area.objectIndex(start) &* pageSize,
          isLocked: area.flags.contains(.locked))
      }
      guard let part else {
        hasHole = true
        break
      }
      if part.start > position { hasHole = true }
      if invalidating, part.isLocked { throw .EBUSY }
      if mode == .wait, let object = part.object {
        var failure: Errno?
        do throws(Errno) { try object.writeBack(part.offset..<part.offset &+ (part.end &- part.start)) } catch {
          failure = error
        }
        if let error = part.source?.takeWriteError() ?? failure { throw error }
      }
      position = part.end
    }
    if hasHole { throw .ENOMEM }
  }

  private struct SyncPart {
    var start: UInt64
    var end: UInt64
    var object: MemoryObject?
    var source: (any MappingSource)?
    var offset: UInt64
    var isLocked: Bool
  }
}
