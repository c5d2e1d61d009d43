// Allocating page frames.
//
// Single frames come from the CPU's own stock of their migrate type, which is filled and drained in batches; larger blocks
// come from a zone's buddy lists under its lock. Ordinary allocations fail when a zone would fall below its minimum: what lies below is
// kept for code that cannot fail or is freeing memory itself.
//
// Frames which were never used read as zero; `.zeroed` clears only others.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// What an allocation asks for.
public struct AllocationOptions: OptionSet, Sendable {
  public let rawValue: UInt32
  @inline(__always) public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// All bytes are zero.
  public static var zeroed: Self { Self(rawValue: 1 << 0) }
  /// The caller cannot wait: it may use half of what ordinary allocations leave.
  public static var atomic: Self { Self(rawValue: 1 << 1) }
  /// The caller cannot fail, or frees more than it takes: it may use everything.
  public static var reserved: Self { Self(rawValue: 1 << 2) }
  /// The caller may sleep and holds no spin lock: when memory is short, the shrinkers are called.
  public static var mayReclaim: Self { Self(rawValue: 1 << 3) }
  /// The contents can be moved to other frames (`FrameFlags.movable`). Single frames, or blocks that are split at once.
  public static var movable: Self { Self(rawValue: 1 << 4) }
  /// The owner gives the frames up on request.
  public static var reclaimable: Self { Self(rawValue: 1 << 5) }

  /// The bits of `movable` and `reclaimable` are the migrate type's raw value.
  @inline(__always) var migrateType: Int { Int(truncatingIfNeeded: rawValue >> 4 & 3) }
}

/// The allocator of the machine's page frames.
public enum FrameAllocator {
  /// Allocates 2^`order` frames in a row, aligned to their size, with one reference for the whole block.
  ///
  /// - Throws: ENOMEM; EINVAL for an order beyond `PhysicalMemory.maximumOrder`.
  /// - Locks: zone (rarely, for order 0).
  @export(interface)
  public static func allocate(order: Int = 0, options: AllocationOptions = []) throws(Errno) -> PageFrameNumber {
    if options.contains(.mayReclaim) { LockOrder.mayWait() }
    if !options.contains(.reserved) { try AllocationFailure.check() }
    return try PhysicalMemory.system.allocate(order: order, options: options)
  }

  /// Frees a block to which the caller has the only reference.
  @export(interface) public static func free(_ number: PageFrameNumber) { PhysicalMemory.system.free(number) }

  /// Allocates any number of frames in a row, each with a reference of its own, at a multiple of `alignment` frames (a
  /// power of two). They can be freed one by one. O(zone) for runs longer than the largest block.
  ///
  /// - Throws: ENOMEM, EINVAL.
  @export(interface)
  public static func allocateContiguousRun(count: Int, alignment: Int = 1, options: AllocationOptions = [])
    throws(Errno) -> PageFrameNumber
  {
    if options.contains(.mayReclaim) { LockOrder.mayWait() }
    if !options.contains(.reserved) { try AllocationFailure.check() }
    return try PhysicalMemory.system.allocateRun(count: count, alignment: alignment, options: options)
  }

  /// Makes the frames of a block independent: each is as if allocated by itself.
  @export(interface) public static func split(_ number: PageFrameNumber) { PhysicalMemory.system.split(number) }

  /// Puts frames aside on this CPU, so that the next `count` allocations of single frames with the option `reserved`
  /// succeed, whatever becomes of the zones, if the caller does not sleep in between. At most `maximumReservation`. Who
  /// sleeps, makes a `PageReservation`.
  ///
  /// - Throws: ENOMEM, EINVAL.
  @export(interface) public static func reserveLocalPages(_ count: Int, options: AllocationOptions = []) throws(Errno) {
    try PhysicalMemory.system.reserveLocalFrames(count, options: options)
  }
  public static var maximumReservation: Int { FrameStock.capacity }

  /// Gives what is left of this CPU's frames put aside back.
  @export(interface) public static func releaseLocalReservation() { PhysicalMemory.system.releaseLocalReservation() }

  /// Whether ordinary allocations fail now.
  public static var isExhausted: Bool { @export(interface) get { PhysicalMemory.system.isExhausted([]) } }

  /// Whether half of what ordinary allocations leave is gone, too. What would make kernel objects is not begun then
  /// (`KernelMemory.admit`): they come from what is left.
  public static var isNearlyEmpty: Bool { @export(interface) get { PhysicalMemory.system.isExhausted(.atomic) } }

  /// Whether a run of frames for `bytes` bytes could be had without the last of the memory. Without a lock: a guess.
  @export(interface) public static func hasRun(of bytes: Int) -> Bool { PhysicalMemory.system.hasRun(of: bytes) }

  /// Frames that reclaim should free now; 0 while there is enough.
  public static var shortage: Int { @export(interface) get { PhysicalMemory.system.shortage } }

  /// Whether a zone has fallen below its low watermark, or a block could not be had, since `takeShortage`.
  public static var isShort: Bool { @export(interface) get { PhysicalMemory.system.isShort } }

  /// The mark of frames that are on a list of reclaim's, and what is called when such a frame's last reference is gone,
  /// before it is free. Set at start.
  public static var listedFlag: UInt32 { 1 << 16 }
  public nonisolated(unsafe) static var leaveList: (@convention(c) (UInt64) -> Void)?

  /// Clears the shortage; allocations note it again if it lasts.
  @export(interface) public static func takeShortage() -> Int { PhysicalMemory.system.takeShortage() }

  /// The largest order that was short since it was last asked for.
  @export(interface) public static func takeWantedOrder() -> Int { PhysicalMemory.system.takeWantedOrder() }

  /// Installs the callback for shortages: it wakes the thread that reclaims. Once, at boot.
  @export(interface) public static func install(_ waker: any ReclaimWaker) { PhysicalMemory.system.install(waker) }

  /// Wakes reclaim for a shortage that was noted where nobody could be woken: under a spin lock.
  @export(interface) public static func wakeReclaim() { PhysicalMemory.system.wakeReclaim() }

  /// Gives this CPU's stock of single frames back to the zones, so that they can become large blocks.
  @export(interface) public static func drainLocalFrames() { PhysicalMemory.system.drainLocalFrames() }
}

extension PhysicalMemory {
  // SAFETY (of this file): a frame handed out by Buddy or by the CPU's stock is nobody else's until it is freed.

  func allocate(order: Int, options: AllocationOptions) throws(Errno) -> PageFrameNumber {
    guard order != 0 else { return try allocateSingle(options) }
    guard order > 0, order <= Self.maximumOrder else { throw .EINVAL }
    let block = try takeBlock(order: order, options: options)
    unsafe prepare(descriptor(block.number), order: order, Self.flags(options))
    let number = PageFrameNumber(block.number)
    if options.contains(.zeroed), !block.isKnownZero {
      unsafe pointer(to: number).initializeMemory(as: UInt8.self, repeating: 0, count: Self.pageSize << order)
    }
    return number
  }

  @inline(__always)
  func allocateSingle(_ options: AllocationOptions) throws(Errno) -> PageFrameNumber {
    var local = unsafe localFrames
    var stock = unsafe stock(options.migrateType, local)
    if unsafe stock.pointee.count == 0 {
      stock = try unsafe refill(options)
      unsafe local = localFrames
    }
    let count = unsafe stock.pointee.count &- 1
    let entry = unsafe stock.pointee.entries[unchecked: count]
    unsafe stock.pointee.count = count
    unsafe local.pointee.allocated &+= 1
    let number = PageFrameNumber(UInt64(entry & ~FrameStock.knownZero))
    unsafe prepare(state.pointee.frames + Int(number.rawValue), order: 0, Self.flags(options))
    if options.contains(.zeroed), entry & FrameStock.knownZero == 0 {
      unsafe pointer(to: number).initializeMemory(as: UInt8.self, repeating: 0, count: Self.pageSize)
    }
    return number
  }

  /// The flags that a frame has from the start.
  @inline(__always) static func flags(_ options: AllocationOptions) -> UInt32 {
    (options.rawValue >> 4 & 1) &* FrameFlags.movable.rawValue
  }

  func free(_ number: PageFrameNumber) {
    let descriptor = unsafe descriptor(number.rawValue)
    guard unsafe descriptor.pointee.kind == .allocated else { fail("a page frame that is not allocated was freed") }
    // A look-up without a lock may hold the frame for a moment (`retainIfReferenced`): then it frees the frame.
    let others = unsafe descriptor.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
    if others < 0 || others >= CPU.count { fail("a page frame with other references was freed") }
    if others == 0 { freeUnreferenced(number) }
  }

  /// Frees a block whose last reference is gone.
  func freeUnreferenced(_ number: PageFrameNumber) {
    let descriptor = unsafe descriptor(number.rawValue)
    guard unsafe descriptor.pointee.kind == .allocated else { fail("a page frame that is not allocated was freed") }
    if unsafe descriptor.pointee.mappings.load(ordering: .relaxed) != 0 { fail("a mapped page frame was freed") }
    if unsafe descriptor.pointee.flags.load(ordering: .acquiring) & FrameAllocator.listedFlag != 0 {
      FrameAllocator.leaveList?(number.rawValue)
    }
    if unsafe returnToPool(number.rawValue, descriptor) { return }
    let order = unsafe Int(descriptor.pointee.order)
    guard order == 0 else {
      unsafe descriptor.pointee.kind = .unused
      return giveBack(number.rawValue, order: order)
    }
    let type = unsafe state.pointee.pageBlocks.type(of: number.rawValue)
    guard type != .reserve, isLocal(number.rawValue) else {
      unsafe descriptor.pointee.kind = .unused
      return giveBack(number.rawValue, order: 0)
    }
    let local = unsafe localFrames
    let stock = unsafe stock(Int(truncatingIfNeeded: type.rawValue), local)
    if unsafe stock.pointee.count >= state.pointee.batch &* 2 { unsafe drain(stock, state.pointee.batch) }
    unsafe descriptor.pointee.kind = .cached
    unsafe stock.pointee.entries[unchecked: stock.pointee.count] = UInt32(truncatingIfNeeded: number.rawValue)
    unsafe stock.pointee.count &+= 1
    unsafe local.pointee.freed &+= 1
  }

  func split(_ number: PageFrameNumber) {
    let head = unsafe descriptor(number.rawValue)
    guard unsafe head.pointee.kind == .allocated else { fail("a page frame that is not allocated was split") }
    let order = unsafe Int(head.pointee.order)
    if order == 0 { return }
    // The head may be held for a moment by a look-up without a lock, so its references stay.
    if unsafe head.pointee.references.load(ordering: .relaxed) > CPU.count {
      fail("a page frame with other references was split")
    }
    unsafe head.pointee.order = 0
    let flags = unsafe head.pointee.flags.load(ordering: .relaxed)
    for index in 1..<(1 << order) { unsafe prepare(head + index, order: 0, flags) }
  }

  func allocateRun(count: Int, alignment: Int, options: AllocationOptions) throws(Errno) -> PageFrameNumber {
    guard count > 0, alignment > 0, alignment & (alignment &- 1) == 0 else { throw .EINVAL }
    let block = try takeRun(count: count, alignment: alignment, options: options)
    for index in 0..<count {
      unsafe prepare(descriptor(block.number &+ UInt64(index)), order: 0, Self.flags(options))
    }
    let number = PageFrameNumber(block.number)
    if options.contains(.zeroed), !block.isKnownZero {
      unsafe pointer(to: number).initializeMemory(as: UInt8.self, repeating: 0, count: Self.pageSize &* count)
    }
    return number
  }

  /// The state of a frame that has just been handed out.
  ///
  /// - Parameter references: 0 for frames of the heap, which nobody counts: a look-up without a lock that comes too late
  ///   must not take them for its page.
  @inline(__always)
  func prepare(
    _ descriptor: UnsafeMutablePointer<FrameDescriptor>, order: Int, _ flags: UInt32 = 0, references: Int32 = 1
  ) {
    unsafe descriptor.pointee.flags.store(flags, ordering: .relaxed)
    unsafe descriptor.pointee.references.store(references, ordering: .relaxed)
    unsafe descriptor.pointee.mappings.store(0, ordering: .relaxed)
    unsafe descriptor.pointee.kind = .allocated
    unsafe descriptor.pointee.order = UInt8(truncatingIfNeeded: order)
    unsafe descriptor.pointee.next = 0
    unsafe descriptor.pointee.previous = 0
    unsafe descriptor.pointee.owner = 0
    unsafe descriptor.pointee.index = 0
  }
}
