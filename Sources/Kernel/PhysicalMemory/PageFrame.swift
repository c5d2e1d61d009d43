// Frame descriptors: what the kernel knows about each page frame, forty bytes in an array indexed by frame number.
//
// A descriptor whose bytes are all zero stands for a frame that was never used, so the array is laid over zeroed,
// sparse memory and is not touched for frames that nobody asked for: a gigabyte of memory costs nothing at start.

import KernelCore
import Synchronization

/// What a frame is used for; the raw values are part of no interface.
enum FrameKind: UInt8 {
  case unused = 0  // never used, or within a block that another descriptor describes
  case free  // first frame of a block in a zone's free lists
  case cached  // in a CPU's list of free frames
  case allocated  // first frame of an allocated block
  case slab  // first frame of a slab
  case slabTail  // another frame of a slab
  case slob  // a page of small objects of all sizes
  case heapPages  // first frame of a large object of the kernel heap
}

/// Marks of a frame in use. The lower sixteen have the meaning given here, the upper sixteen belong to the owner.
public struct FrameFlags: OptionSet, Sendable {
  public let rawValue: UInt32
  @inline(__always) public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The contents differ from the store behind them.
  public static var dirty: Self { Self(rawValue: 1 << 0) }
  /// The contents are valid.
  public static var upToDate: Self { Self(rawValue: 1 << 1) }
  /// Input or output is going on.
  public static var locked: Self { Self(rawValue: 1 << 2) }
  /// The contents are being written to their store.
  public static var writeBack: Self { Self(rawValue: 1 << 3) }
  /// Used since reclaim looked last.
  public static var referenced: Self { Self(rawValue: 1 << 4) }
  /// On the list of frames in active use.
  public static var active: Self { Self(rawValue: 1 << 5) }
  /// Belongs to anonymous memory.
  public static var anonymous: Self { Self(rawValue: 1 << 6) }
  /// May not be reclaimed.
  public static var unevictable: Self { Self(rawValue: 1 << 7) }
  /// One of the 512 frames of a huge page (HugePagePool).
  public static var pooled: Self { Self(rawValue: 1 << 15) }
  /// The last transfer failed.
  public static var failed: Self { Self(rawValue: 1 << 8) }
  /// The owner can copy the contents to another frame and use that one instead: set by allocations with the option
  /// `movable`, cleared by an owner that can no longer.
  public static var movable: Self { Self(rawValue: 1 << 9) }
}

/// The memory of a descriptor. Plain fields belong to the frame's owner: the zone (under its lock) while it is
/// free, the CPU while it is in the CPU's list, its slab cache (under its lock), else the code that allocated it.
struct FrameDescriptor: ~Copyable {
  let flags: Atomic<UInt32>
  let references: Atomic<Int32>
  let mappings: Atomic<Int32>
  var kind: FrameKind
  var order: UInt8  // of the block, in the descriptors that describe one
  var cache: UInt8  // index of the slab cache
  var isKnownZero: Bool  // free blocks: all bytes read as zero
  var next: UInt32  // links by frame number: free lists, a cache's partial slabs, or the owner's lists
  var previous: UInt32
  var owner: UInt  // slabs: the first free object
  var index: UInt64  // slabs: objects in use and objects ever handed out; heap pages: the number of frames
}

/// A frame's descriptor, by reference. Frames are counted: the last `release` gives the block back to its zone.
@safe public struct PageFrame: Equatable {
  public let number: PageFrameNumber
  let memory: PhysicalMemory
  let descriptor: UnsafeMutablePointer<FrameDescriptor>

  @inline(__always) public static func == (left: Self, right: Self) -> Bool { left.number == right.number }

  // SAFETY (of this type): `descriptor` points into the frame array, which is never freed; fields which several CPUs
  // may change at once are atomic, the others belong to the frame's owner.

  /// How many users the frame has: page tables, the page cache, transfers in flight.
  public var referenceCount: Int32 {
    @export(interface) get { unsafe descriptor.pointee.references.load(ordering: .relaxed) }
  }

  /// Adds a reference; the caller has one already, or a lock that keeps the frame's owner from giving up its own.
  @export(interface) public func retain() {
    let before = unsafe descriptor.pointee.references.wrappingAdd(1, ordering: .relaxed).oldValue
    if before <= 0 { memory.fail("a reference to a free page frame") }
  }

  /// Adds `count` references at once.
  @export(interface) public func retain(count: Int32) {
    let before = unsafe descriptor.pointee.references.wrappingAdd(count, ordering: .relaxed).oldValue
    if before <= 0 { memory.fail("references to a free page frame") }
  }

  /// Adds a reference unless the frame is free (for look-ups without a lock, which must check afterwards that the
  /// frame is still the one they meant).
  @export(interface) public func retainIfReferenced() -> Bool {
    var seen = unsafe descriptor.pointee.references.load(ordering: .relaxed)
    while seen > 0 {
      let result = unsafe descriptor.pointee.references.weakCompareExchange(
        expected: seen, desired: seen &+ 1, ordering: .acquiring)
      if result.exchanged { return true }
      seen = result.original
    }
    return false
  }

  /// Takes all references away if there are exactly `count`, all of which the caller answers for: until `thaw` nobody
  /// can add one.
  @export(interface) public func freeze(ifReferences count: Int32) -> Bool {
    unsafe descriptor.pointee.references.compareExchange(expected: count, desired: 0, ordering: .acquiringAndReleasing)
      .exchanged
  }

  /// Ends `freeze`.
  @export(interface) public func thaw(references count: Int32) {
    unsafe descriptor.pointee.references.store(count, ordering: .releasing)
  }

  /// Gives up a reference; the last one frees the frame (the whole block, if it was allocated as one).
  ///
  /// - Returns: whether it was the last.
  @export(interface) @discardableResult public func release() -> Bool {
    let after = unsafe descriptor.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
    if after > 0 { return false }
    if after < 0 { memory.fail("a page frame was released too often") }
    memory.freeUnreferenced(number)
    return true
  }

  /// Gives up `count` references at once; the last ones free the frame.
  @export(interface) public func release(count: Int32) {
    let after = unsafe descriptor.pointee.references.wrappingSubtract(count, ordering: .acquiringAndReleasing).newValue
    if after < 0 { memory.fail("a page frame was released too often") }
    if after == 0 { memory.freeUnreferenced(number) }
  }

  /// The same, and what others did before they gave up theirs is visible.
  public var settledReferenceCount: Int32 {
    @export(interface) get { unsafe descriptor.pointee.references.load(ordering: .acquiring) }
  }

  /// Gives up `count` references unless fewer than as many again are left: their holders end what the frame holds
  /// first.
  ///
  /// - Returns: whether they were given up.
  @export(interface) public func releaseUnlessLast(count: Int32) -> Bool {
    var seen = unsafe descriptor.pointee.references.load(ordering: .acquiring)
    while seen >= 2 &* count {
      let result = unsafe descriptor.pointee.references.weakCompareExchange(
        expected: seen, desired: seen &- count, ordering: .acquiringAndReleasing)
      if result.exchanged { return true }
      seen = result.original
    }
    return false
  }

  /// How many page-table entries map the frame.
  public var mapCount: Int32 { @export(interface) get { unsafe descriptor.pointee.mappings.load(ordering: .relaxed) } }
  /// Notes one more mapping; returns how many there are now.
  @export(interface) @discardableResult public func addMapping() -> Int32 {
    unsafe descriptor.pointee.mappings.wrappingAdd(1, ordering: .relaxed).newValue
  }
  /// Notes that a mapping is gone; returns how many are left.
  @export(interface) @discardableResult public func removeMapping() -> Int32 {
    unsafe descriptor.pointee.mappings.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
  }

  /// Changes the number of mappings at once; page tables, which nothing maps, count here what they hold.
  @export(interface) public func addMappings(_ change: Int32) {
    _ = unsafe descriptor.pointee.mappings.wrappingAdd(change, ordering: .relaxed)
  }

  public var flags: FrameFlags {
    @export(interface) get { FrameFlags(rawValue: unsafe descriptor.pointee.flags.load(ordering: .acquiring)) }
  }
  /// Sets flags; returns those that were set before.
  @export(interface) @discardableResult public func set(_ flags: FrameFlags) -> FrameFlags {
    FrameFlags(
      rawValue: unsafe descriptor.pointee.flags.bitwiseOr(flags.rawValue, ordering: .acquiringAndReleasing).oldValue)
  }
  /// Clears flags; returns those that were set before.
  @export(interface) @discardableResult public func clear(_ flags: FrameFlags) -> FrameFlags {
    FrameFlags(
      rawValue: unsafe descriptor.pointee.flags.bitwiseAnd(~flags.rawValue, ordering: .acquiringAndReleasing).oldValue)
  }

  /// What the frame belongs to (not retained), and its place in there; for finding the mappings of a frame.
  public var owner: UnsafeRawPointer? {
    @export(interface) get { unsafe UnsafeRawPointer(bitPattern: descriptor.pointee.owner) }
  }
  /// The frame's place within its owner, such as a page index.
  public var index: UInt64 { @export(interface) get { unsafe descriptor.pointee.index } }
  /// Sets both; `owner` must outlive the frame's use, or be taken back before it ends.
  @export(interface) public func setOwner(_ owner: UnsafeRawPointer?, index: UInt64) {
    unsafe descriptor.pointee.owner = UInt(bitPattern: owner)
    unsafe descriptor.pointee.index = index
  }

  /// Links for a list of the owner's, by frame number.
  public var next: PageFrameNumber? {
    @export(interface) get { unsafe Self.link(descriptor.pointee.next) }
    @export(interface) nonmutating set { unsafe descriptor.pointee.next = Self.link(newValue) }
  }
  public var previous: PageFrameNumber? {
    @export(interface) get { unsafe Self.link(descriptor.pointee.previous) }
    @export(interface) nonmutating set { unsafe descriptor.pointee.previous = Self.link(newValue) }
  }

  /// The order of the block that begins here.
  public var order: Int { @export(interface) get { unsafe Int(descriptor.pointee.order) } }

  private static func link(_ raw: UInt32) -> PageFrameNumber? { raw == 0 ? nil : PageFrameNumber(UInt64(raw)) }
  private static func link(_ number: PageFrameNumber?) -> UInt32 { UInt32(truncatingIfNeeded: number?.rawValue ?? 0) }
}
