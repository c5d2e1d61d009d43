// Page frames as this room uses them: single frames with a reference count, a page of zeros that is never written, and
// what happens when there are none left.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// Short names for what the room does with frames all the time.
enum Frames {
  /// The page that read faults of untouched memory show. It is never written, counted or freed.
  static let zeroPage: PageFrameNumber = {
    do throws(Errno) { return try FrameAllocator.allocate(options: [.zeroed, .reserved]) } catch {
      panic("no memory for the page of zeros")
    }
  }()

  /// A frame for a page of a program or file, with unspecified contents. Never waits.
  @inline(__always)
  static func allocate() throws(Errno) -> PageFrameNumber {
    if MemoryZone.nodeCount > 1 { return try allocateByPolicy(.movable) }
    return try FrameAllocator.allocate(options: .movable)
  }

  /// A frame of zeros for a page of a program or file. Never waits.
  @inline(__always)
  static func allocateZeroed() throws(Errno) -> PageFrameNumber {
    if MemoryZone.nodeCount > 1 { return try allocateByPolicy([.zeroed, .movable]) }
    return try FrameAllocator.allocate(options: [.zeroed, .movable])
  }

  /// Where memory has nodes, the running thread's policy chooses.
  @inline(never)
  private static func allocateByPolicy(_ options: AllocationOptions) throws(Errno) -> PageFrameNumber {
    try FrameAllocator.allocate(options: options, by: &Thread.current.memoryPolicy)
  }

  // MARK: Page tables
  //
  // A reference to a table is many of its frame: look-ups without a lock may add a few for a moment to any frame, thinking of
  // what it was used for before, and the last reference to a table is found out by its count.

  private static var tableReference: Int32 { 1 << 10 }

  /// A frame of zeros for a page table, which stays where it is, with one reference. Never waits.
  @inline(__always)
  static func allocateTable() throws(Errno) -> PageFrameNumber {
    let table = try FrameAllocator.allocate(options: .zeroed)
    table.frame.retain(count: tableReference &- 1)
    return table
  }

  static func retainTable(_ table: PageFrameNumber) { table.frame.retain(count: tableReference) }

  /// Gives up a reference to a table that holds nothing any more, or is not the last.
  static func releaseTable(_ table: PageFrameNumber) { table.frame.release(count: tableReference) }

  /// Gives up a reference unless it is the last; whether it did.
  static func releaseTableUnlessLast(_ table: PageFrameNumber) -> Bool {
    table.frame.releaseUnlessLast(count: tableReference)
  }

  static func tableReferences(_ table: PageFrameNumber) -> Int32 { table.frame.settledReferenceCount / tableReference }

  // MARK: Runs

  /// 2^`order` frames in a row, each with a reference of its own; nil when there is no such run. Never waits.
  static func allocateRun(order: Int, zeroed: ZeroFill) -> PageFrameNumber? {
    if MemoryZone.nodeCount > 1, Thread.current.memoryPolicy.mode != .local { return nil }
    do throws(Errno) {
      let first = try FrameAllocator.allocate(
        order: order, options: zeroed == .zeroed ? [.zeroed, .movable] : .movable)
      if order > 0 { FrameAllocator.split(first) }
      return first
    } catch {
      return nil
    }
  }

  enum ZeroFill { case zeroed, unspecified }

  @inline(__always)
  static func retain(_ frame: PageFrameNumber) { frame.frame.retain() }
  @inline(__always)
  static func release(_ frame: PageFrameNumber) { frame.frame.release() }

  /// Notes that the page was used without a page table: by read(2) and write(2).
  @inline(__always)
  static func markReferenced(_ frame: PageFrameNumber) {
    let frame = frame.frame
    if !frame.flags.contains(.referenced) { frame.set(.referenced) }
  }

  /// What a pin adds to a frame's reference count: more than page tables ever add, so that pins can be told apart.
  static var pinBias: Int32 { 1 << 20 }

  /// What reclaim adds to the reference count of a frame that it looks at: the frame's user is not to notice.
  static var inspectionBias: Int32 { 1 << 19 }

  /// References of users: page tables, memory objects, the swap cache, transfers.
  @inline(__always)
  static func users(_ frame: PageFrameNumber) -> Int32 { frame.frame.referenceCount & (inspectionBias &- 1) }

  /// Whether a single page table holds the frame, and nobody else but devices that have it pinned.
  @inline(__always)
  static func isExclusive(_ frame: PageFrameNumber) -> Bool { users(frame) == 1 }

  /// Whether reclaim, which is looking at the frame, and a single owner are the only ones to have it.
  @inline(__always)
  static func isIdle(_ frame: PageFrameNumber) -> Bool { frame.frame.referenceCount == inspectionBias &+ 1 }

  /// As `isIdle`, but for the swap cache if it has the frame; if so no thread can get a reference until `thaw`.
  @inline(__always)
  static func freeze(_ frame: PageFrameNumber, cached: Int32 = 0) -> Bool {
    frame.frame.freeze(ifReferences: inspectionBias &+ 1 &+ cached)
  }
  /// Ends `freeze`, without the owner's reference.
  @inline(__always)
  static func thaw(_ frame: PageFrameNumber, cached: Int32 = 0) {
    frame.frame.thaw(references: inspectionBias &+ cached)
  }

  /// Whether a device has the frame pinned.
  @inline(__always)
  static func isPinned(_ frame: PageFrameNumber) -> Bool { frame.frame.referenceCount >= pinBias }

  /// The frame's bytes. SAFETY: the direct map shows all of memory; the caller holds a reference to the frame, or the
  /// lock of a structure that does.
  @inline(__always)
  static func pointer(_ frame: PageFrameNumber) -> UnsafeMutableRawPointer { unsafe DirectMap.pointer(to: frame) }

  /// The frame that holds the word at `pointer`, which lies in the direct map.
  @inline(__always)
  static func frame(at pointer: UnsafeRawPointer) -> PageFrameNumber {
    unsafe PageFrameNumber(physicalAddress: DirectMap.physicalAddress(of: pointer))
  }

  /// Copies a whole page. SAFETY: as `pointer`; the caller owns `target` alone.
  @inline(__always)
  static func copy(_ source: PageFrameNumber, to target: PageFrameNumber) {
    unsafe pointer(target).copyMemory(from: pointer(source), byteCount: Int(pageSize))
  }

  /// Clears the bytes from `offset` to the end of the page. SAFETY: as `pointer`; `offset` is within the page.
  static func clear(_ frame: PageFrameNumber, from offset: Int) {
    precondition(offset >= 0 && offset <= Int(pageSize))
    _ = unsafe (pointer(frame) + offset).initializeMemory(as: UInt8.self, repeating: 0, count: Int(pageSize) - offset)
  }
}
