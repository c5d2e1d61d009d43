// Between the zones and the rest: watermarks, the CPUs' stocks, runs of frames, giving memory back to the machine.

import KernelCore
import LinuxABI
import Machine
import Synchronization

extension PhysicalMemory {
  // SAFETY (of this file): zones are set up once; Buddy's operations run under the zone's lock; a CPU's stock is used
  // by that CPU only, and every number in it is that of a frame below frameCount.

  /// Zones in the order of preference: the highest first, which leaves low memory to devices that need it.
  @inline(__always)
  private func zone(_ place: Int) -> UnsafeMutablePointer<Zone> {
    unsafe state.pointee.zones + (state.pointee.zoneCount &- 1 &- place)
  }

  private func zone(holding number: UInt64) -> UnsafeMutablePointer<Zone> {
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe zone(place)
      if unsafe number >= zone.pointee.first && number < zone.pointee.end { return unsafe zone }
    }
    fail("a page frame outside all zones")
  }

  private func buddy(_ zone: UnsafeMutablePointer<Zone>) -> Buddy {
    unsafe Buddy(zone: zone, frames: state.pointee.frames)
  }

  /// How many frames an allocation has to leave in the zone.
  private func floor(_ zone: UnsafeMutablePointer<Zone>, _ options: AllocationOptions) -> Int {
    if unsafe options.contains(.reserved) || state.pointee.isFailing.load(ordering: .relaxed) { return 0 }
    return unsafe options.contains(.atomic) ? zone.pointee.minimum / 2 : zone.pointee.minimum
  }

  var isExhausted: Bool {
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe zone(place)
      if unsafe zone.pointee.freeFrames.load(ordering: .relaxed) > zone.pointee.minimum { return false }
    }
    return true
  }

  var shortage: Int {
    var missing = 0
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe zone(place)
      let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
      if unsafe free < zone.pointee.low { missing &+= unsafe zone.pointee.high &- free }
    }
    return missing
  }

  var isShort: Bool { unsafe state.pointee.isShort.load(ordering: .relaxed) }

  func takeShortage() -> Int {
    unsafe state.pointee.isShort.store(false, ordering: .relaxed)
    return shortage
  }

  /// Notes when the zone falls below its low watermark.
  @inline(__always)
  private func noteLevel(_ zone: UnsafeMutablePointer<Zone>) {
    if unsafe zone.pointee.freeFrames.load(ordering: .relaxed) < zone.pointee.low {
      unsafe state.pointee.isShort.store(true, ordering: .relaxed)
    }
  }

  // MARK: Blocks and runs

  func takeBlock(order: Int, options: AllocationOptions) throws(Errno) -> Buddy.Block {
    try takeFromZones(count: 1 << order, options: options) { $0.take(order: order) }
  }

  func takeRun(count: Int, alignment: Int, options: AllocationOptions) throws(Errno) -> Buddy.Block {
    let covering = max(count, alignment)
    if covering <= 1 << Self.maximumOrder {
      // A block that holds the run at the right place; the rest of it goes back at once.
      let order = Int.bitWidth &- (covering &- 1).leadingZeroBitCount
      return try takeFromZones(count: count, options: options) { buddy in
        guard let block = buddy.take(order: order) else { return nil }
        let end = block.number &+ 1 << UInt64(order)
        buddy.putRange(block.number &+ UInt64(count), end, isKnownZero: block.isKnownZero)
        return block
      }
    }
    return try takeFromZones(count: count, options: options) { buddy in
      guard let number = buddy.takeRun(UInt64(count), alignment: UInt64(alignment)) else { return nil }
      return Buddy.Block(number: number, isKnownZero: false)
    }
  }

  /// Tries the zones in turn; then again, after this CPU's stock has gone back and reclaim has run.
  @inline(__always)
  private func takeFromZones(
    count: Int, options: AllocationOptions, _ take: (Buddy) -> Buddy.Block?
  ) throws(Errno) -> Buddy.Block {
    for attempt in 0..<3 {
      for place in 0..<(unsafe state.pointee.zoneCount) {
        let zone = unsafe zone(place)
        unsafe zone.pointee.lock.acquire()
        defer { unsafe zone.pointee.lock.release() }
        let free = unsafe zone.pointee.freeFrames.load(ordering: .relaxed)
        guard unsafe count <= free &- floor(zone, options) else { continue }
        if let block = unsafe take(buddy(zone)) {
          unsafe noteLevel(zone)
          return block
        }
      }
      if attempt == 0 {
        drainLocalFrames()
      } else if !options.contains(.mayReclaim) || Shrinkers.reclaim(frames: max(count, shortage)) == 0 {
        break
      } else {
        drainLocalFrames()
      }
    }
    throw .ENOMEM
  }

  /// Gives a block back to its zone.
  func giveBack(_ number: UInt64, order: Int) {
    let zone = unsafe zone(holding: number)
    unsafe zone.pointee.lock.acquire()
    unsafe buddy(zone).put(number, order: order, isKnownZero: false)
    unsafe zone.pointee.lock.release()
  }

  /// Gives a range back, none of whose descriptors says "allocated" any more.
  func giveBackRange(_ start: UInt64, count: Int) {
    let zone = unsafe zone(holding: start)
    unsafe zone.pointee.lock.acquire()
    unsafe buddy(zone).putRange(start, start &+ UInt64(count), isKnownZero: false)
    unsafe zone.pointee.lock.release()
  }

  // MARK: A CPU's stock of frames

  /// Adds up to `wanted` frames to the stock, at least one.
  @inline(never)
  func refill(_ local: UnsafeMutablePointer<LocalFrames>, _ wanted: Int, _ options: AllocationOptions) throws(Errno) {
    if options.contains(.mayReclaim), shortage > 0 { _ = Shrinkers.reclaim(frames: shortage) }
    while true {
      for place in 0..<(unsafe state.pointee.zoneCount) {
        let zone = unsafe zone(place)
        unsafe zone.pointee.lock.acquire()
        defer { unsafe zone.pointee.lock.release() }
        let available = unsafe zone.pointee.freeFrames.load(ordering: .relaxed) &- floor(zone, options)
        let room = unsafe LocalFrames.capacity &- local.pointee.count
        var taken = 0
        while taken < min(wanted, available, room), let block = unsafe buddy(zone).take(order: 0) {
          let entry = UInt32(truncatingIfNeeded: block.number) | (block.isKnownZero ? LocalFrames.knownZero : 0)
          unsafe local.pointee.entries[local.pointee.count &+ taken] = entry
          unsafe state.pointee.frames[Int(block.number)].kind = .cached
          taken &+= 1
        }
        guard taken > 0 else { continue }
        unsafe noteLevel(zone)
        // The stock is a stack: turned round, the lowest frame leaves it first.
        var low = unsafe local.pointee.count
        var high = low &+ taken &- 1
        while low < high {
          let entry = unsafe local.pointee.entries[low]
          unsafe local.pointee.entries[low] = local.pointee.entries[high]
          unsafe local.pointee.entries[high] = entry
          low &+= 1
          high &-= 1
        }
        unsafe local.pointee.count &+= taken
        return
      }
      guard options.contains(.mayReclaim), Shrinkers.reclaim(frames: max(wanted, shortage)) > 0 else { throw .ENOMEM }
      // What was reclaimed may have come to this CPU's own stock.
      if unsafe local.pointee.count > 0 { return }
    }
  }

  /// Gives back the `count` frames that have been in the stock longest.
  @inline(never)
  func drain(_ local: UnsafeMutablePointer<LocalFrames>, _ count: Int) {
    let total = unsafe local.pointee.count
    let amount = min(count, total)
    guard amount > 0 else { return }
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe zone(place)
      unsafe zone.pointee.lock.acquire()
      for index in 0..<amount {
        let entry = unsafe local.pointee.entries[index]
        let number = UInt64(entry & ~LocalFrames.knownZero)
        guard unsafe number >= zone.pointee.first && number < zone.pointee.end else { continue }
        unsafe state.pointee.frames[Int(number)].kind = .unused
        unsafe buddy(zone).put(number, order: 0, isKnownZero: entry & LocalFrames.knownZero != 0)
      }
      unsafe zone.pointee.lock.release()
    }
    for index in amount..<total { unsafe local.pointee.entries[index &- amount] = local.pointee.entries[index] }
    unsafe local.pointee.count = total &- amount
  }

  /// Gives all of this CPU's stock back.
  func drainLocalFrames() { unsafe drain(localFrames, LocalFrames.capacity) }

  func reserveLocalFrames(_ count: Int, options: AllocationOptions) throws(Errno) {
    guard count <= LocalFrames.capacity else { throw .EINVAL }
    // Reclaim may sleep and wake up on another CPU: the stock is looked up again each time.
    while unsafe localFrames.pointee.count < count {
      try unsafe refill(localFrames, count &- localFrames.pointee.count, options)
    }
  }

  // MARK: The machine's share

  /// Gives the contents of large free blocks back to the machine, until `limit` frames were given; returns how many.
  /// They stay allocatable, and those which the machine clears are known to read as zero. May take long: for idle time.
  func releaseFreeBlocks(limit: Int) -> Int {
    var released = 0
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe zone(place)
      var order = Self.maximumOrder
      while order >= 9, released < limit {
        unsafe zone.pointee.lock.acquire()
        var number = unsafe UInt64(zone.pointee.heads[order])
        while number != 0, unsafe state.pointee.frames[Int(number)].isKnownZero {
          number = unsafe UInt64(state.pointee.frames[Int(number)].next)
        }
        guard number != 0 else {
          unsafe zone.pointee.lock.release()
          order &-= 1
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
