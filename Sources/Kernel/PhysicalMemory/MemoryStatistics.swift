// Snapshots of the allocators' counters, for /proc/meminfo, buddyinfo and slabinfo. Counters of other CPUs are read
// without a lock: a snapshot taken while they work is off by what is in flight.

import KernelCore
import Machine
import Synchronization

/// Where the machine's page frames are.
public struct MemoryStatistics {
  /// All frames of the machine.
  public var total = 0
  /// Holding the allocators' own state, never freed.
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
  /// Small objects, and the bytes they take, where the boot option `slob` was given; their pages are in `slab`.
  public var slobObjects = 0
  public var slobBytes = 0
  /// Of the free ones, those set aside for what cannot wait.
  public var setAside = 0
  /// Sums of the zones' watermarks, which do not count frames set aside as free.
  public var minimum = 0
  public var low = 0
  public var high = 0
  /// Holding what belongs to one CPU each; part of `reserved`.
  public var perCPU = 0
  /// Single frames handed out and taken back since boot.
  public var allocations: UInt64 = 0
  public var frees: UInt64 = 0

  /// The state now.
  @export(interface) public static func snapshot() -> MemoryStatistics { PhysicalMemory.system.statistics() }
}

/// A zone's state.
public struct ZoneStatistics {
  public var name: StaticString
  public var node: Int
  public var first: UInt64
  public var frames: Int
  public var free: Int
  /// Frames in the stock of each CPU, and at most how many, and how many are moved at a time.
  public var stocks: [Int]
  public var stockLimit: Int
  public var batch: Int
  public var minimum: Int
  public var low: Int
  public var high: Int
  public var protection: Int
  /// Free blocks of each order, and of these those of each migrate type (by raw value). Frames that were never used
  /// count as the blocks which they would make; they are anyone's, and count as movable.
  public var freeBlocks: [Int]
  public var freeBlocksByType: [[Int]]
  /// Page blocks of each migrate type.
  public var pageBlocks: [Int]

  /// Frames in a page block.
  public static var pageBlockOrder: Int {
    @export(interface) get { unsafe PhysicalMemory.system.state.pointee.pageBlocks.order }
  }

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
  // SAFETY (of this file): zones, caches and the CPUs' memory are never freed; words of other CPUs are only read.

  func statistics() -> MemoryStatistics {
    var result = MemoryStatistics()
    result.total = unsafe Int(state.pointee.frameCount)
    result.reserved = unsafe Int(state.pointee.reservedFrames)
    result.perCPU = unsafe state.pointee.cpuCount * LocalMemory.stride / Self.pageSize
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      unsafe result.free += zone.pointee.freeFrames.load(ordering: .relaxed)
      unsafe result.untouched += Int(zone.pointee.setAside &- zone.pointee.untouched)
      unsafe result.untouched += Int(zone.pointee.end &- zone.pointee.untouchedSetAside)
      unsafe result.minimum += zone.pointee.minimum
      unsafe result.setAside += zone.pointee.freeSetAside.load(ordering: .relaxed)
      unsafe result.low += zone.pointee.low
      unsafe result.high += zone.pointee.high
    }
    for cpu in 0..<(unsafe state.pointee.cpuCount) {
      let local = unsafe localFrames(of: cpu)
      for place in 0...LocalMemory.putAside { unsafe result.local += stock(place, local).pointee.count }
      unsafe result.allocations &+= local.pointee.allocated
      unsafe result.frees &+= local.pointee.freed
    }
    result.free += result.local
    for index in 0..<(unsafe state.pointee.cacheCount.load(ordering: .acquiring)) {
      unsafe result.slab += cache(index).pointee.frameCount
    }
    unsafe result.slab += state.pointee.slob.pointee.pages
    unsafe result.slobObjects = state.pointee.slob.pointee.objects
    unsafe result.slobBytes = state.pointee.slob.pointee.usedUnits * 16
    result.heapPages = unsafe state.pointee.heapPageFrames.load(ordering: .relaxed)
    return result
  }

  func zoneStatistics() -> [ZoneStatistics] {
    var result: [ZoneStatistics] = []
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      // Arrays come from the heap, which may need this zone: none is made under its lock.
      unsafe zone.pointee.lock.acquire()
      let (counts, blockCounts) = unsafe (zone.pointee.counts, zone.pointee.blockCounts)
      let (untouched, setAside) = unsafe (zone.pointee.untouched, zone.pointee.setAside)
      let (untouchedSetAside, end) = unsafe (zone.pointee.untouchedSetAside, zone.pointee.end)
      let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
      unsafe zone.pointee.lock.release()

      var statistics = unsafe ZoneStatistics(
        name: zone.pointee.name, node: zone.pointee.node, first: zone.pointee.first,
        frames: Int(end - zone.pointee.first), free: free, stocks: [], stockLimit: state.pointee.batch * 2,
        batch: state.pointee.batch, minimum: zone.pointee.minimum, low: zone.pointee.low, high: zone.pointee.high,
        protection: zone.pointee.protection, freeBlocks: [Int](repeating: 0, count: Self.maximumOrder + 1),
        freeBlocksByType: [], pageBlocks: (0..<MigrateType.count).map { Int(blockCounts[$0]) })
      statistics.freeBlocksByType = (0..<MigrateType.count).map { type in
        (0...Self.maximumOrder).map { Int(counts[$0 * MigrateType.count + type]) }
      }
      addUntouched(untouched, setAside, .movable, &statistics)
      addUntouched(untouchedSetAside, end, .reserve, &statistics)
      for type in 0..<MigrateType.count {
        for order in 0...Self.maximumOrder { statistics.freeBlocks[order] += statistics.freeBlocksByType[type][order] }
      }
      for cpu in 0..<(unsafe state.pointee.cpuCount) {
        statistics.stocks.append(stocked(cpu: cpu, in: statistics))
      }
      result.append(statistics)
    }
    return result
  }

  private func addUntouched(
    _ start: UInt64, _ end: UInt64, _ type: MigrateType, _ statistics: inout ZoneStatistics
  ) {
    var number = start
    while number < end {
      var order = min(number.trailingZeroBitCount, Self.maximumOrder)
      while UInt64(1) << UInt64(order) > end - number { order -= 1 }
      statistics.freeBlocksByType[Int(type.rawValue)][order] += 1
      number += 1 << UInt64(order)
    }
    let blockOrder = unsafe UInt64(state.pointee.pageBlocks.order)
    let size = UInt64(1) << blockOrder
    statistics.pageBlocks[Int(type.rawValue)] +=
      Int((end + size - 1) >> blockOrder) - Int((start + size - 1) >> blockOrder)
  }

  /// Frames of a zone in a CPU's stocks. Read without a lock: the numbers are checked, and the sum is a guess.
  private func stocked(cpu: Int, in zone: ZoneStatistics) -> Int {
    let local = unsafe localFrames(of: cpu)
    var sum = 0
    for place in 0...LocalMemory.putAside {
      let stock = unsafe stock(place, local)
      let count = unsafe min(max(stock.pointee.count, 0), FrameStock.capacity)
      if unsafe state.pointee.zoneCount == 1 {
        sum += count
        continue
      }
      for entry in 0..<count {
        let number = unsafe UInt64(stock.pointee.entries[entry] & ~FrameStock.knownZero)
        if number >= zone.first, number - zone.first < UInt64(zone.frames) { sum += 1 }
      }
    }
    return sum
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
