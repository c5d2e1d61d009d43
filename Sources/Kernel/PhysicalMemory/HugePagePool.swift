// The pool of huge pages: blocks of 512 frames (2 MiB) that are kept for programs that ask for them by name (MAP_HUGETLB,
// hugetlbfs), so that they are there when they are wanted, however fragmented the rest of memory is.
//
//                     grow                     take                      all 512 frames unreferenced
//     buddy blocks ─────────▶ free (some reserved) ─────▶ in use ────────────────────────────┐
//                  ◀───────── ▲                                                              │
//                    shrink   └──────────────────────────────────────────────────────────────┘
//                                       a surplus block goes back to the buddy lists instead
//
// The counts are those of Linux (Documentation/admin-guide/mm/hugetlbpage.rst). A mapping *reserves* what it may need when it is made, so that
// a fault does not fail later: `reserved` of the free blocks are promised. *Surplus* blocks are made when the pool cannot
// keep a promise, up to `surplusLimit`, and leave the pool when they are freed. Invariant: reserved ≤ free.
//
// A block in use is 512 frames with a reference count each, as any others: page tables, pins and copies need to know
// nothing. Each is marked `.pooled`; where a frame's last reference goes, the pool counts down the block's.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// The pool of huge pages.
public enum HugePagePool {
  /// A huge page is a block of 2^9 frames.
  public static var order: Int { 9 }
  public static var framesPerPage: Int { 1 << order }

  /// The pool's counts, in huge pages.
  public struct Statistics: Equatable, Sendable {
    public var total = 0
    public var free = 0
    /// Free ones that are promised.
    public var reserved = 0
    /// Those beyond what the administrator asked for.
    public var surplus = 0
    /// Frames that the pool holds.
    public var frames: Int { total << HugePagePool.order }
  }

  private static let state = SpinLock(HugePages(memory: .system), rank: .hugePages)

  // For those who must not make the state, which is an object: the allocator's slow path, and who only looks.
  private static let isUsed = Atomic<Bool>(false)

  public static var statistics: Statistics {
    @export(interface) get { isUsed.load(ordering: .acquiring) ? state.withLock { $0.counts } : Statistics() }
  }

  /// What the administrator asked for, as far as it was reached (/proc/sys/vm/nr_hugepages).
  public static var persistent: Int {
    @export(interface) get {
      let counts = statistics
      return counts.total - counts.surplus
    }
  }

  /// /proc/sys/vm/nr_overcommit_hugepages: how many surplus pages there may be.
  public static var surplusLimit: Int {
    @export(interface) get { state.withLock { $0.surplusLimit } }
    @export(interface) set {
      isUsed.store(true, ordering: .releasing)
      state.withLock { $0.surplusLimit = newValue }
    }
  }

  /// Makes the pool have `count` pages, as far as memory allows and use permits (/proc/sys/vm/nr_hugepages). May take
  /// long; may sleep.
  @export(interface)
  public static func resize(to count: Int) {
    isUsed.store(true, ordering: .releasing)
    // In steps, so that the lock, under which memory is searched, is let go.
    while state.withLock({ $0.resizeStep(to: count, pages: 64) }) {}
  }

  /// Promises `count` pages.
  ///
  /// - Throws: ENOMEM when there are not so many, surplus included.
  @export(interface)
  public static func reserve(_ count: Int) throws(Errno) {
    guard count > 0 else { return }
    isUsed.store(true, ordering: .releasing)
    try state.withLock { state throws(Errno) in try state.reserve(count) }
  }

  /// Takes promises back.
  @export(interface)
  public static func unreserve(_ count: Int) {
    guard count > 0 else { return }
    state.withLock { $0.unreserve(count) }
  }

  /// Whether a page is taken on a promise.
  public enum Claim: Sendable { case reserved, unreserved }

  /// Takes a huge page: 512 frames of zeros in a row, aligned to their size, each with one reference.
  ///
  /// - Throws: ENOMEM; never for a reserved one.
  @export(interface)
  public static func take(_ claim: Claim) throws(Errno) -> PageFrameNumber {
    isUsed.store(true, ordering: .releasing)
    let block = try state.withLock { state throws(Errno) in try state.take(claim) }
    // Outside of the lock: this takes a tenth of a millisecond and more.
    if !block.isKnownZero { PhysicalMemory.system.clearBlock(block.number, order: order) }
    return PageFrameNumber(block.number)
  }

  /// The last reference to a frame of the pool is gone. Called by the allocator.
  static func frameBecameFree(_ number: UInt64) { state.withLock { $0.frameBecameFree(number) } }
}

/// The pool's state; tests make others.
struct HugePages {
  private let memory: PhysicalMemory
  private(set) var counts = HugePagePool.Statistics()
  var surplusLimit = 0
  /// The first free block; the others are linked through their descriptors.
  private var firstFree: UInt64 = 0
  /// Frames in use of each block of 2 MiB of the machine.
  private var live: [UInt16] = []

  init(memory: PhysicalMemory) { self.memory = memory }

  private var persistent: Int { counts.total - counts.surplus }

  /// Counts need memory, which is spent when the pool is first used.
  private mutating func prepare() {
    if live.isEmpty { live = Array(repeating: 0, count: memory.frameCount >> HugePagePool.order + 1) }
  }

  // MARK: Size

  /// Comes `pages` nearer to `count`; whether there is more to do.
  mutating func resizeStep(to count: Int, pages: Int) -> Bool {
    prepare()
    if count > persistent {
      // What there is already counts first.
      let adopted = min(counts.surplus, count - persistent)
      counts.surplus -= adopted
      for _ in 0..<min(pages, count - persistent) {
        guard addFreeBlock() else { return false }
      }
      return persistent < count
    }
    // Free pages that nobody was promised go back; those in use become surplus, and go when they are freed.
    var left = pages
    while left > 0, persistent > count, counts.free > counts.reserved {
      removeFreeBlock()
      left -= 1
    }
    if persistent > count, counts.free > counts.reserved { return true }
    counts.surplus += max(0, persistent - count)
    return false
  }

  /// Gets a block from the buddy lists.
  private mutating func addFreeBlock() -> Bool {
    guard let block = memory.takePoolBlock(order: HugePagePool.order) else { return false }
    counts.total += 1
    pushFree(block)
    return true
  }

  private mutating func removeFreeBlock() {
    memory.returnPoolBlock(popFree(), order: HugePagePool.order)
    counts.total -= 1
  }

  // MARK: Promises

  mutating func reserve(_ count: Int) throws(Errno) {
    prepare()
    let missing = counts.reserved + count - counts.free
    if missing > 0 {
      guard missing <= surplusLimit - counts.surplus else { throw .ENOMEM }
      for added in 0..<missing {
        guard addFreeBlock() else {
          counts.surplus += added
          dropFreeSurplus()
          throw .ENOMEM
        }
      }
      counts.surplus += missing
    }
    counts.reserved += count
  }

  mutating func unreserve(_ count: Int) {
    precondition(count <= counts.reserved, "more huge pages given back than were promised")
    counts.reserved -= count
    dropFreeSurplus()
  }

  /// Surplus pages that nobody has and nobody was promised leave the pool.
  private mutating func dropFreeSurplus() {
    while counts.surplus > 0, counts.free > counts.reserved {
      removeFreeBlock()
      counts.surplus -= 1
    }
  }

  // MARK: Use

  mutating func take(_ claim: HugePagePool.Claim) throws(Errno) -> Buddy.Block {
    prepare()
    switch claim {
    case .reserved:
      precondition(counts.reserved > 0, "a huge page was taken on a promise that was not made")
      counts.reserved -= 1
    case .unreserved:
      if counts.free == counts.reserved {
        guard counts.surplus < surplusLimit, addFreeBlock() else { throw .ENOMEM }
        counts.surplus += 1
      }
    }
    let block = popFree()
    memory.preparePoolFrames(block.number, order: HugePagePool.order)
    live[Int(block.number >> UInt64(HugePagePool.order))] = UInt16(HugePagePool.framesPerPage)
    return block
  }

  mutating func frameBecameFree(_ number: UInt64) {
    let index = Int(number >> UInt64(HugePagePool.order))
    precondition(live[index] > 0, "a frame of a huge page was freed twice")
    live[index] -= 1
    guard live[index] == 0 else { return }
    let block = Buddy.Block(number: number & ~UInt64(HugePagePool.framesPerPage - 1), isKnownZero: false)
    if counts.surplus > 0 {
      memory.returnPoolBlock(block, order: HugePagePool.order)
      counts.total -= 1
      counts.surplus -= 1
    } else {
      pushFree(block)
    }
  }

  // MARK: The list of free blocks

  private mutating func pushFree(_ block: Buddy.Block) {
    memory.linkPoolBlock(block, before: firstFree)
    firstFree = block.number
    counts.free += 1
  }

  private mutating func popFree() -> Buddy.Block {
    precondition(firstFree != 0, "the pool of huge pages has lost count")
    let (block, next) = memory.unlinkPoolBlock(firstFree)
    firstFree = next
    counts.free -= 1
    return block
  }
}

extension PhysicalMemory {
  // SAFETY (of this extension): a block that the pool holds is nobody else's; its descriptors and its contents are the
  // pool's, under the pool's lock, until its frames are handed out.

  var frameCount: Int { unsafe Int(state.pointee.frameCount) }

  /// A block for the pool; nil when there is none that may be taken. Never waits.
  func takePoolBlock(order: Int) -> Buddy.Block? {
    do throws(Errno) {
      let block = try takeBlock(order: order, options: [])
      unsafe prepare(descriptor(block.number), order: order)
      return block
    } catch {
      return nil
    }
  }

  /// The same back.
  func returnPoolBlock(_ block: Buddy.Block, order: Int) {
    unsafe prepare(descriptor(block.number), order: order)
    unsafe descriptor(block.number).pointee.references.store(0, ordering: .relaxed)
    freeUnreferenced(PageFrameNumber(block.number))
  }

  func linkPoolBlock(_ block: Buddy.Block, before next: UInt64) {
    let head = unsafe descriptor(block.number)
    unsafe prepare(head, order: HugePagePool.order)
    unsafe head.pointee.next = UInt32(truncatingIfNeeded: next)
    unsafe head.pointee.isKnownZero = block.isKnownZero
  }

  func unlinkPoolBlock(_ number: UInt64) -> (block: Buddy.Block, next: UInt64) {
    let head = unsafe descriptor(number)
    return unsafe (
      Buddy.Block(number: number, isKnownZero: head.pointee.isKnownZero), UInt64(head.pointee.next)
    )
  }

  /// Makes a block's frames independent, marked as the pool's.
  func preparePoolFrames(_ number: UInt64, order: Int) {
    for index in 0..<(UInt64(1) << UInt64(order)) {
      let descriptor = unsafe descriptor(number &+ index)
      unsafe prepare(descriptor, order: 0)
      unsafe descriptor.pointee.flags.store(FrameFlags.pooled.rawValue, ordering: .relaxed)
    }
  }

  func clearBlock(_ number: UInt64, order: Int) {
    _ = unsafe pointer(to: PageFrameNumber(number)).initializeMemory(
      as: UInt8.self, repeating: 0, count: Self.pageSize << order)
  }

  /// What `freeUnreferenced` does with a frame of the pool; whether it was one.
  @inline(__always)
  func returnToPool(_ number: UInt64, _ descriptor: UnsafeMutablePointer<FrameDescriptor>) -> Bool {
    let flags = unsafe descriptor.pointee.flags.load(ordering: .relaxed)
    guard flags & FrameFlags.pooled.rawValue != 0 else { return false }
    unsafe descriptor.pointee.flags.store(0, ordering: .relaxed)
    unsafe descriptor.pointee.kind = .unused
    HugePagePool.frameBecameFree(number)
    return true
  }
}
