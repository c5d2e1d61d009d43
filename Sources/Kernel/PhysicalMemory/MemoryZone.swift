// A zone as reclaim and compaction see it: how much is free, which used frames can be moved, and where to.
//
// Compaction lets two scanners run towards each other: from the bottom it looks for movable frames in use
// (`nextMovableFrame`), from the top it takes free frames of movable page blocks (`isolateFreeFrames`), and its owner
// moves the ones into the others until the scanners meet. Where one block is wanted, it empties the range that costs least
// (`cheapestRange`).

import KernelCore
import Synchronization

/// A zone of physical memory.
@safe public struct MemoryZone {
  let memory: PhysicalMemory
  let zone: UnsafeMutablePointer<Zone>

  // SAFETY (of this type): zones are never freed; what is read without the lock is a guess, and is documented so.

  /// How many zones there are; they do not change after boot.
  public static var count: Int { @export(interface) get { unsafe PhysicalMemory.system.state.pointee.zoneCount } }

  /// How many nodes there are.
  public static var nodeCount: Int { @export(interface) get { unsafe PhysicalMemory.system.state.pointee.nodeCount } }

  /// The zone with this index, below `count`.
  @export(interface) public init(index: Int) { self.init(PhysicalMemory.system, index: index) }

  init(_ memory: PhysicalMemory, index: Int) {
    precondition(unsafe index >= 0 && index < memory.state.pointee.zoneCount)
    self.memory = memory
    unsafe zone = memory.state.pointee.zones + index
  }

  public var name: StaticString { @export(interface) get { unsafe zone.pointee.name } }
  public var node: Int { @export(interface) get { unsafe zone.pointee.node } }
  /// The zone's first frame, and the one behind its last that was ever in use.
  public var first: PageFrameNumber { @export(interface) get { unsafe PageFrameNumber(zone.pointee.first) } }
  public var end: PageFrameNumber { @export(interface) get { unsafe PageFrameNumber(zone.pointee.untouched) } }
  /// All frames of the zone.
  public var frameCount: Int {
    @export(interface) get { unsafe Int(truncatingIfNeeded: zone.pointee.end &- zone.pointee.first) }
  }
  /// Free frames, without those set aside and those in the CPUs' stocks.
  public var free: Int { @export(interface) get { unsafe zone.pointee.usable } }
  /// The watermark, in frames.
  @export(interface) public func level(_ mark: Watermark) -> Int { unsafe zone.pointee.level(mark) }

  /// Whether the zone has a block of this order and stays above the watermark when it is taken. A guess: others allocate.
  @export(interface) public func isOK(order: Int, mark: Watermark) -> Bool {
    precondition(order >= 0 && order <= PhysicalMemory.maximumOrder)
    return unsafe zone.pointee.isOK(order: order, mark: mark)
  }

  /// Free blocks of exactly this order, whatever their type, those set aside not among them. A guess.
  @export(interface) public func freeBlocks(order: Int) -> Int {
    precondition(order >= 0 && order <= PhysicalMemory.maximumOrder)
    let list = Zone.list(order, .unmovable)
    let counts = unsafe (
      zone.pointee.counts[list], zone.pointee.counts[list &+ 1], zone.pointee.counts[list &+ 2]
    )
    return Int(counts.0 &+ counts.1 &+ counts.2)
  }

  /// Frames that a node's zones below their low watermark lack to the high one.
  @export(interface) public static func shortage(ofNode node: Int) -> Int { PhysicalMemory.system.shortage(of: node) }

  // MARK: Compaction

  /// The first frame from `start` on and below `limit` that is in use and movable. The caller has no reference to it: it
  /// takes one (`retainIfReferenced`) and looks again before it relies on anything.
  @export(interface)
  public func nextMovableFrame(from start: PageFrameNumber, below limit: PageFrameNumber) -> PageFrameNumber? {
    var number = max(start.rawValue, first.rawValue)
    let end = min(limit.rawValue, end.rawValue)
    while number < end {
      let descriptor = unsafe memory.state.pointee.frames + Int(truncatingIfNeeded: number)
      let (kind, order) = unsafe (descriptor.pointee.kind, UInt64(descriptor.pointee.order))
      if kind == .allocated, order == 0 {
        let flags = unsafe FrameFlags(rawValue: descriptor.pointee.flags.load(ordering: .acquiring))
        if flags.contains(.movable) { return PageFrameNumber(number) }
      }
      let isBlock = kind == .free || kind == .allocated
      number &+= isBlock && order <= UInt64(PhysicalMemory.maximumOrder) ? 1 << order : 1
    }
    return nil
  }

  /// Takes free frames out of movable page blocks, from `list.scanned` downwards, until the list has `count` of them.
  ///
  /// - Returns: whether it has; if not, everything above `floor` has been looked at.
  /// - Locks: zone.
  @export(interface)
  public func isolateFreeFrames(_ list: inout FreeFrames, count: Int, above floor: PageFrameNumber) -> Bool {
    let blocks = unsafe memory.state.pointee.pageBlocks
    while list.count < count {
      let top = min(list.scanned.rawValue, end.rawValue)
      let bottom = max((top &- 1) & ~(blocks.size &- 1), first.rawValue)
      guard top > 0, bottom >= floor.rawValue, bottom < top else { return false }
      if blocks.type(of: bottom) == .movable { takeFree(bottom, top, &list) }
      list.scanned = PageFrameNumber(bottom)
    }
    return true
  }

  /// The range of 2^`order` frames, aligned to its size and from `start` on, whose used frames can all be moved and are
  /// the fewest; nil if there is none. Without the lock: a guess. O(zone).
  @export(interface)
  public func cheapestRange(order: Int, from start: PageFrameNumber) -> PageFrameNumber? {
    let size = UInt64(1) << UInt64(order)
    var range = (max(start.rawValue, first.rawValue) &+ size &- 1) & ~(size &- 1)
    var best: PageFrameNumber?
    var least = size
    while range &+ size <= end.rawValue {
      if let used = movableFrames(range, range &+ size, below: least) {
        best = PageFrameNumber(range)
        least = used
      }
      range &+= size
    }
    return best
  }

  /// How many frames of the range are in use; nil if one cannot be moved, or if they are not fewer than `limit`.
  private func movableFrames(_ start: UInt64, _ end: UInt64, below limit: UInt64) -> UInt64? {
    var used: UInt64 = 0
    var number = start
    while number < end {
      let descriptor = unsafe memory.state.pointee.frames + Int(truncatingIfNeeded: number)
      let (kind, order) = unsafe (descriptor.pointee.kind, descriptor.pointee.order)
      if kind == .free {
        number &+= 1 << UInt64(min(order, 10))
        continue
      }
      let flags = unsafe FrameFlags(rawValue: descriptor.pointee.flags.load(ordering: .relaxed))
      used &+= 1
      guard kind == .allocated, order == 0, flags.contains(.movable), used < limit else { return nil }
      number &+= 1
    }
    return used < limit ? used : nil
  }

  /// Takes all free frames of a range.
  ///
  /// - Locks: zone.
  @export(interface)
  public func isolateFreeFrames(_ list: inout FreeFrames, from start: PageFrameNumber, count: Int) {
    let end = start.rawValue &+ UInt64(count)
    var number = start.rawValue
    while number < end {
      let next = unsafe min((number | (memory.state.pointee.pageBlocks.size &- 1)) &+ 1, end)
      takeFree(number, next, &list)
      number = next
    }
  }

  /// Takes all free frames of a page block, or of a part of it.
  private func takeFree(_ start: UInt64, _ end: UInt64, _ list: inout FreeFrames) {
    unsafe zone.pointee.lock.acquire()
    defer { unsafe zone.pointee.lock.release() }
    let buddy = unsafe memory.buddy(zone)
    let type = unsafe memory.state.pointee.pageBlocks.type(of: start)
    var number = start
    while number < end {
      let descriptor = unsafe memory.state.pointee.frames + Int(truncatingIfNeeded: number)
      guard unsafe descriptor.pointee.kind == .free else {
        number &+= 1
        continue
      }
      let order = unsafe Int(descriptor.pointee.order)
      // A block that is as large as a page block is no piece that anybody needs moved together.
      guard unsafe order < memory.state.pointee.pageBlocks.order, number &+ 1 << UInt64(order) <= end else { return }
      _ = buddy.takeHead(number, order: order, type: type, wanted: order)
      for place in 0..<(1 << order) {
        unsafe memory.prepare(descriptor + place, order: 0, FrameFlags.movable.rawValue)
        list.add(PageFrameNumber(number &+ UInt64(place)))
      }
      number &+= 1 << UInt64(order)
    }
  }
}

/// Free frames that compaction has taken, each with one reference. What is not taken out goes back in the end.
public struct FreeFrames: ~Copyable {
  private var stock: PageReservation
  /// Frames from here on have been looked at.
  public var scanned: PageFrameNumber
  /// How many frames there are.
  public var count: Int { stock.count }

  /// An empty list, to be filled from `end` downwards.
  @export(interface) public init(from end: PageFrameNumber) { self.init(from: end, PhysicalMemory.system) }

  init(from end: PageFrameNumber, _ memory: PhysicalMemory) {
    scanned = end
    stock = PageReservation(memory)
  }

  /// Puts a frame in, to whose only reference the caller gives up its claim.
  @export(interface) public mutating func add(_ number: PageFrameNumber) { stock.push(number) }

  /// Takes a frame out: the caller owns its reference now.
  @export(interface) public mutating func take() -> PageFrameNumber? { stock.take() }
}
