// Snapshots of the allocators' counters, for /proc/meminfo, buddyinfo and slabinfo. Counters of other CPUs are read
// without a lock: a snapshot taken while they work is off by what is in flight.

import KernelCore
import Machine
import Synchronization

/// Where the machine's page frames are.
public struct MemoryStatistics {
  /// All frames of the machine.
  public var total = 0
  /// Holding the allocators' own state, for good.
  public var reserved = 0
  /// Free, those in the CPUs' stocks included.
  public var free = 0
  /// Of the free ones, those which were never used.
  public var untouched = 0
  /// Of the free ones, those in the CPUs' stocks.
  public var local = 0
  /// In slabs.
  public var slab = 0
  /// In large objects of the kernel heap.
  public var heapPages = 0
  /// Sums of the zones' watermarks.
  public var minimum = 0
  public var low = 0
  public var high = 0
  /// Single frames handed out and taken back since boot.
  public var allocations: UInt64 = 0
  public var frees: UInt64 = 0

  /// The state now.
  @export(interface) public static func snapshot() -> MemoryStatistics { PhysicalMemory.system.statistics() }
}

/// A zone's free blocks.
public struct ZoneStatistics {
  public var name: StaticString
  public var frames: Int
  public var free: Int
  /// Number of free blocks of each order; frames that were never used count as the blocks which they would make.
  public var freeBlocks: [Int]

  /// The state of all zones now.
  @export(interface) public static func snapshot() -> [ZoneStatistics] { PhysicalMemory.system.zoneStatistics() }
}

/// A slab cache's use.
public struct SlabStatistics {
  public var name: StaticString
  public var objectSize: Int
  public var activeObjects: Int
  public var totalObjects: Int
  public var objectsPerSlab: Int
  public var framesPerSlab: Int
  public var slabs: Int

  /// The state of all caches now.
  @export(interface) public static func snapshot() -> [SlabStatistics] { PhysicalMemory.system.slabStatistics() }
}

extension PhysicalMemory {
  // SAFETY (of this file): zones, caches and the CPUs' memory exist for ever; words of other CPUs are only read.

  func statistics() -> MemoryStatistics {
    var result = MemoryStatistics()
    result.total = unsafe Int(state.pointee.frameCount)
    result.reserved = unsafe Int(state.pointee.reservedFrames)
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      unsafe result.free += zone.pointee.freeFrames.load(ordering: .relaxed)
      unsafe result.untouched += Int(zone.pointee.end &- zone.pointee.untouched)
      unsafe result.minimum += zone.pointee.minimum
      unsafe result.low += zone.pointee.low
      unsafe result.high += zone.pointee.high
    }
    for cpu in 0..<(unsafe state.pointee.cpuCount) {
      let local = unsafe localFrames(of: cpu)
      unsafe result.local += local.pointee.count
      unsafe result.allocations &+= local.pointee.allocated
      unsafe result.frees &+= local.pointee.freed
    }
    result.free += result.local
    for index in 0..<(unsafe state.pointee.cacheCount.load(ordering: .acquiring)) {
      unsafe result.slab += cache(index).pointee.frameCount
    }
    result.heapPages = unsafe state.pointee.heapPageFrames.load(ordering: .relaxed)
    return result
  }

  func zoneStatistics() -> [ZoneStatistics] {
    var result: [ZoneStatistics] = []
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      var blocks = [Int](repeating: 0, count: Self.maximumOrder + 1)
      unsafe zone.pointee.lock.acquire()
      for order in 0...Self.maximumOrder { blocks[order] = unsafe Int(zone.pointee.counts[order]) }
      var number = unsafe zone.pointee.untouched
      let (first, end) = unsafe (zone.pointee.first, zone.pointee.end)
      let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
      let name = unsafe zone.pointee.name
      unsafe zone.pointee.lock.release()
      while number < end {
        var order = min(number.trailingZeroBitCount, Self.maximumOrder)
        while UInt64(1) << UInt64(order) > end - number { order -= 1 }
        blocks[order] += 1
        number += 1 << UInt64(order)
      }
      result.append(ZoneStatistics(name: name, frames: Int(end - first), free: free, freeBlocks: blocks))
    }
    return result
  }

  func slabStatistics() -> [SlabStatistics] {
    var result: [SlabStatistics] = []
    for index in 0..<(unsafe state.pointee.cacheCount.load(ordering: .acquiring)) {
      let cache = unsafe cache(index)
      var inMagazines = 0
      for cpu in 0..<(unsafe state.pointee.cpuCount) { unsafe inMagazines += magazine(index, of: cpu).pointee.count }
      unsafe result.append(
        SlabStatistics(
          name: cache.pointee.name, objectSize: cache.pointee.objectSize,
          activeObjects: max(0, cache.pointee.takenCount - inMagazines), totalObjects: cache.pointee.objectCount,
          objectsPerSlab: (Self.pageSize << cache.pointee.slabOrder) / cache.pointee.objectSize,
          framesPerSlab: 1 << cache.pointee.slabOrder, slabs: cache.pointee.slabCount))
    }
    return result
  }
}
