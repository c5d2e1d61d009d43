// Between the zones and the rest: blocks and runs of frames, what may be used, giving memory back to the machine.

import KernelCore
import LinuxABI
import Machine
import Synchronization

extension PhysicalMemory {
  // SAFETY (of this file): zones are set up once; Buddy's operations run under the zone's lock; page
  // blocks name zones that exist.

  /// The zones in the order in which this CPU's allocations try them.
  @inline(__always)
  func preferredZone(_ place: Int) -> UnsafeMutablePointer<Zone> {
    let order = localNode &* Self.maximumZones &+ place
    return unsafe state.pointee.zones + Int(state.pointee.zoneOrder[order])
  }

  func zone(holding number: UInt64) -> UnsafeMutablePointer<Zone> {
    let zone = unsafe state.pointee.zones + state.pointee.pageBlocks.zone(of: number)
    guard unsafe number >= zone.pointee.first && number < zone.pointee.end else {
      fail("a page frame outside all zones")
    }
    return unsafe zone
  }

  /// Whether a frame belongs to this CPU's node.
  @inline(__always)
  func isLocal(_ number: UInt64) -> Bool {
    if unsafe state.pointee.nodeCount == 1 { return true }
    return unsafe zone(holding: number).pointee.node == localNode
  }

  func buddy(_ zone: UnsafeMutablePointer<Zone>) -> Buddy {
    unsafe Buddy(zone: zone, frames: state.pointee.frames, pageBlocks: state.pointee.pageBlocks)
  }

  /// Whether an allocation may use everything, the frames set aside included.
  @inline(__always)
  func mayUseAll(_ options: AllocationOptions) -> Bool {
    options.contains(.reserved)
  }

  /// How many frames of the zone an allocation may have.
  func available(_ zone: UnsafeMutablePointer<Zone>, _ options: AllocationOptions) -> Int {
    if mayUseAll(options) { return unsafe zone.pointee.freeFrames.load(ordering: .relaxed) }
    let minimum = unsafe zone.pointee.minimum
    return unsafe zone.pointee.usable
      &- (options.contains(.atomic) ? minimum / 2 : minimum &+ zone.pointee.protection)
  }

  func isExhausted(_ options: AllocationOptions) -> Bool {
    for place in 0..<(unsafe state.pointee.zoneCount) {
      if unsafe available(state.pointee.zones + place, options) > 0 { return false }
    }
    return true
  }

  func hasRun(of bytes: Int) -> Bool {
    let count = max(1, (bytes &+ Self.pageSize &- 1) / Self.pageSize)
    let order = Int.bitWidth &- (count &- 1).leadingZeroBitCount
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + place
      // Runs beyond the largest block are looked for among its neighbours.
      let block = min(order, Self.maximumOrder)
      if unsafe available(zone, .atomic) > count && zone.pointee.hasBlock(order: block) { return true }
    }
    return false
  }

  var shortage: Int { shortage(of: nil) }

  /// The shortage of one node, or all.
  func shortage(of node: Int?) -> Int {
    var missing = 0
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + place
      if let node, unsafe zone.pointee.node != node { continue }
      let free = unsafe zone.pointee.usable
      if unsafe free < zone.pointee.low { missing &+= unsafe zone.pointee.high &- free }
    }
    return missing
  }

  /// Whether an allocation tries the other zones first, because this one would fall below its low watermark.
  @inline(__always)
  func isLeftAlone(_ zone: UnsafeMutablePointer<Zone>, _ count: Int) -> Bool {
    if unsafe state.pointee.zoneCount == 1 { return false }
    return unsafe zone.pointee.usable &- count <= zone.pointee.low &+ zone.pointee.protection
  }

  // MARK: Blocks and runs

  func takeBlock(order: Int, options: AllocationOptions) throws(Errno) -> Buddy.Block {
    try takeFromZones(order: order, count: 1 << order, alignment: 1, options: options)
  }

  func takeRun(count: Int, alignment: Int, options: AllocationOptions) throws(Errno) -> Buddy.Block {
    let covering = max(count, alignment)
    let order = Int.bitWidth &- (covering &- 1).leadingZeroBitCount
    return try takeFromZones(order: order, count: count, alignment: alignment, options: options)
  }

  /// Takes `count` frames at the beginning of a block of this order from the first zone that has them; a second time
  /// after this CPU's stock has gone back, a third time after reclaim has run.
  private func takeFromZones(
    order: Int, count: Int, alignment: Int, options: AllocationOptions
  ) throws(Errno) -> Buddy.Block {
    for attempt in 0..<3 {
      for place in 0..<(unsafe state.pointee.zoneCount) {
        let zone = unsafe preferredZone(place)
        if unsafe attempt == 0 && isLeftAlone(zone, count) { continue }
        unsafe zone.pointee.lock.acquire()
        var block: Buddy.Block?
        if unsafe count <= available(zone, options) {
          if order <= Self.maximumOrder {
            block = unsafe takePart(of: buddy(zone), order: order, count: count, options: options)
          } else if let number = unsafe buddy(zone).takeRun(UInt64(count), alignment: UInt64(alignment)) {
            block = Buddy.Block(number: number, isKnownZero: false)
          }
        }
        let extent = unsafe takeFreshExtent(zone)
        unsafe zone.pointee.lock.release()
        enlarge(extent)
        if let block {
          unsafe noteLevel(zone, order: min(order, Self.maximumOrder))
          return block
        }
      }
      if attempt == 0 {
        noteFailure(order: min(order, Self.maximumOrder))
        drainLocalFrames()
      } else if !options.contains(.mayReclaim) || Shrinkers.reclaim(frames: max(count, shortage)) == 0 {
        break
      } else {
        drainLocalFrames()
      }
    }
    throw .ENOMEM
  }

  /// Takes a block and gives all but its first `count` frames back at once.
  @inline(__always)
  private func takePart(of buddy: Buddy, order: Int, count: Int, options: AllocationOptions) -> Buddy.Block? {
    let type = MigrateType(rawValue: UInt8(truncatingIfNeeded: options.migrateType)).unsafelyUnwrapped
    var block = buddy.take(order: order, type: type)
    if block == nil, mayUseAll(options) { block = buddy.takeSetAside(order: order) }
    if let block, count < 1 << order {
      buddy.putRange(block.number &+ UInt64(count), block.number &+ 1 << UInt64(order), isKnownZero: block.isKnownZero)
    }
    return block
  }

  /// Gives a block back to its zone.
  func giveBack(_ number: UInt64, order: Int) {
    let zone = unsafe zone(holding: number)
    unsafe zone.pointee.lock.acquire()
    unsafe buddy(zone).put(number, order: order, isKnownZero: false)
    unsafe zone.pointee.lock.release()
  }

  /// Gives a range of one zone back, none of whose descriptors says "allocated" any more.
  func giveBackRange(_ start: UInt64, count: Int) {
    let zone = unsafe zone(holding: start)
    unsafe zone.pointee.lock.acquire()
    unsafe buddy(zone).putRange(start, start &+ UInt64(count), isKnownZero: false)
    unsafe zone.pointee.lock.release()
  }

  // MARK: The machine's share

  /// The order of what a machine can have large pages for: 2 MiB.
  static var extentOrder: Int { 9 }

  /// What `enlarge` is to be called with when the zone's lock is free again.
  @inline(__always)
  func takeFreshExtent(_ zone: UnsafeMutablePointer<Zone>) -> UInt64 {
    let extent = unsafe zone.pointee.freshExtent
    if extent != 0 { unsafe zone.pointee.freshExtent = 0 }
    return extent
  }

  /// Asks the machine for one large page behind an extent. That takes a quarter of a millisecond, and saves the machine
  /// from finding, clearing and mapping memory for 512 pages one by one, at 4 us each.
  @inline(__always)
  func enlarge(_ extent: UInt64) {
    guard extent != 0 else { return }
    _ = machine_memory_enlarge(extent << Self.pageShift, UInt64(Self.pageSize) << UInt64(Self.extentOrder))
  }

  /// Gives the contents of large free blocks back to the machine, until `limit` frames were given; returns how many.
  /// They stay allocatable, and those which the machine clears are known to read as zero. May take long: for idle time.
  func releaseFreeBlocks(limit: Int) -> Int {
    var released = 0
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe preferredZone(place)
      var list = Self.maximumOrder &* MigrateType.count &+ MigrateType.count &- 1
      while list >= 9 &* MigrateType.count, released < limit {
        let order = list / MigrateType.count
        unsafe zone.pointee.lock.acquire()
        var number = unsafe UInt64(zone.pointee.heads[list])
        while number != 0, unsafe state.pointee.frames[Int(number)].isKnownZero {
          number = unsafe UInt64(state.pointee.frames[Int(number)].next)
        }
        guard number != 0 else {
          unsafe zone.pointee.lock.release()
          list &-= 1
          continue
        }
        // The lock is held meanwhile: the block may not be handed out before its contents are gone.
        let length = UInt64(Self.pageSize) << UInt64(order)
        let isZero = machine_memory_release(number << Self.pageShift, length) == 1
        unsafe state.pointee.frames[Int(number)].isKnownZero = isZero
        unsafe zone.pointee.lock.release()
        guard isZero else { return released }
        released &+= 1 << order
      }
    }
    return released
  }
}

extension FrameAllocator {
  /// Gives large free blocks back to the machine, up to `limit` frames; returns how many. For idle time.
  @export(interface) public static func releaseToMachine(limit: Int) -> Int {
    PhysicalMemory.system.releaseFreeBlocks(limit: limit)
  }
}
