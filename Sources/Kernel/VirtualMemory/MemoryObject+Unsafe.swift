// A memory object: pages that exist apart from any address space. A file's page cache is one (its store is the inode),
// so is shared anonymous memory, and a file of tmpfs (both without a store: the pages are the only copy).
//
// read(2) and write(2) copy from and to these pages, mmap shows them, so all of them agree at any time. The object knows
// the areas that map it: truncation, write-back and reclaim find the page-table entries through them.
//
// Locks, in this order: `mappings` (the areas) → a space's table lock → `pages` (the tree). All are spin locks; nothing
// is locked while the store works or user memory is copied. A page that is being read is *busy*: others wait for it.
// Looking up a page takes no lock (`lookUp`).

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// Where the pages of an object come from, and where changed ones go. An inode implements it.
///
/// The calls may sleep. They come with an area lock held when a page fault asks: an implementation must not take a lock
/// under which it, or anyone else, copies user memory.
public protocol PageStore: AnyObject {
  /// Fills `frames` with the pages from `index` on. Bytes beyond the end of the contents are to be zero.
  func readPages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno)
  /// Stores the pages from `index` on; bytes beyond `object.size` are not part of the contents.
  func writePages(_ object: MemoryObject, index: UInt64, frames: UnsafeBufferPointer<PageFrameNumber>) throws(Errno)
}

/// Pages with an identity.
public final class MemoryObject {
  /// Not retained: the store usually owns the object. Users that map or read the object hold the store's owner
  /// (a `MappingSource`, an open file).
  unowned(unsafe) private let store: (any PageStore)?
  /// Whether changed pages have somewhere to go, and clean ones can be read again.
  public let hasStore: Bool
  /// Whether its pages may go to a swap area: it has no store, and its pages need not stay where they are.
  let isSwappable: Bool
  /// For objects of huge pages: where those come from.
  public let huge: HugePageSupply?
  private let sizeValue: Atomic<UInt64>
  /// Counts truncations and the like: a fault that looked a page up before one does not install it after.
  private let versionValue = Atomic<UInt64>(0)
  /// For changes; `tree` can be read without the lock, within `RCU.read`.
  let pages: SpinLock<ObjectPages>
  let tree: RadixTree
  /// The page tables of parts of 512 pages which shared mappings use in common (PageTables+Objects), not counted.
  let sharedTables = SpinLock(ObjectTables(), rank: .objectTables)
  let mappings = SpinLock(ObjectMappings(), rank: .objectMappings)
  /// Areas through which programs may write, and mappings that are just being made; negative when there may be none.
  let writers = Atomic<Int>(0)
  /// Woken when busy pages are ready, or pages in flight have been stored.
  let ready = WaitQueue()
  /// The object's place among those with dirty pages.
  var dirtyLink = DirtyLink()
  /// What went wrong when pages were stored.
  let writeErrors = WriteErrors()
  /// Promised pages that this object pays for itself (shared anonymous memory).
  private var committedPages = 0
  /// The object in the reverse mapping, through which reclaim comes from a page to it.
  private(set) var number = OwnerNumber.none
  /// What bounds the pages of a file without a store.
  let quota: PageQuota?
  /// Whether pages are promised one by one, when they are made: files of tmpfs, and memory without a reservation.
  var chargesPages: Bool { !hasStore && huge == nil && committedPages == 0 }

  /// - Parameters:
  ///   - store: nil for memory that is its own store: zero-filled, never written anywhere.
  ///   - size: in bytes. Pages beyond it do not exist; a mapping faults there.
  ///   - isSwappable: whether pages without a store may go to a swap area.
  ///   - quota: what bounds the number of pages without a store.
  @export(interface)
  public init(
    store: (any PageStore)?, size: UInt64, huge: HugePageSupply? = nil, isSwappable: Bool = true,
    quota: PageQuota? = nil
  ) {
    // SAFETY: see `store`.
    unsafe self.store = store
    hasStore = store != nil
    self.isSwappable = isSwappable && store == nil && huge == nil
    tree = RadixTree(nodes: RadixNodePool.shared)
    pages = SpinLock(ObjectPages(tree: tree), rank: .pageCache)
    self.huge = huge
    self.quota = quota
    sizeValue = Atomic(size)
    Counters.add(1, to: Counters.objects)
    number = ReverseMap.register(self)
  }

  /// Shared memory that nobody has a name for.
  ///
  /// - Throws: ENOMEM when so much may not be promised.
  static func anonymous(size: UInt64, reserves: Bool) throws(Errno) -> MemoryObject {
    let pages = reserves ? Int(truncatingIfNeeded: size / pageSize) : 0
    try CommitAccounting.commit(pages)
    let object = MemoryObject(store: nil, size: size)
    object.committedPages = pages
    return object
  }

  deinit {
    LockOrder.mayWait()
    ReverseMap.unregister(number)
    removePages(from: 0, to: .max) { Frames.release($0) }
    settleHugePages(dropping: 0..<UInt64.max)
    CommitAccounting.uncommit(committedPages)
    Counters.add(-1, to: Counters.objects)
  }

  /// The size in bytes. Setting it makes no page come or go: see `truncate(to:)`.
  public var size: UInt64 {
    @export(interface) get { sizeValue.load(ordering: .acquiring) }
    @export(interface) set { sizeValue.store(newValue, ordering: .releasing) }
  }

  /// Makes the size at least `newSize`.
  @export(interface)
  public func extend(to newSize: UInt64) { sizeValue.max(newSize, ordering: .acquiringAndReleasing) }

  var version: UInt64 { versionValue.load(ordering: .acquiring) }
  func didRemovePages() { versionValue.add(1, ordering: .acquiringAndReleasing) }

  /// Pages up to the end.
  var pageCount: UInt64 { size / pageSize &+ (size & pageMask != 0 ? 1 : 0) }

  /// Pages in memory now.
  public var residentPages: Int { @export(interface) get { pages.withLock { $0.tree.count - $0.swapped } } }
  /// Pages that it has, in memory or on a swap area.
  public var allocatedPages: Int { @export(interface) get { pages.withLock { $0.tree.count } } }

  /// Whether the page is in memory.
  @export(interface)
  public func isResident(_ index: UInt64) -> Bool {
    pages.withLock { pages in
      switch pages.find(index) {
      case .ready, .busy: true
      case .absent, .swapped: false
      }
    }
  }

  /// Whether there is a page, in memory or on a swap area.
  @export(interface)
  public func hasPage(_ index: UInt64) -> Bool { pages.withLock { $0.find(index) != .absent } }

  /// How many of `count` bytes from `offset` on can be read without waiting for storage: those in memory, and zeros of holes.
  @export(interface)
  public func countInMemory(from offset: UInt64, _ count: UInt64) -> UInt64 {
    var position = offset
    let end = offset &+ count
    while position < end {
      let isThere = pages.withLock { pages in
        switch pages.find(position / pageSize) {
        case .ready: true
        case .absent: !hasStore
        case .busy, .swapped: false
        }
      }
      guard isThere else { break }
      position = (position / pageSize &+ 1) &* pageSize
      Thread.checkReschedule()
    }
    return min(position, end) &- offset
  }

  func readFromStore(_ index: UInt64, _ frames: [PageFrameNumber]) throws(Errno) {
    guard let store = unsafe store else { throw .EIO }
    // SAFETY: the buffer is used during the call only; the caller holds a reference to each frame.
    try unsafe frames.withUnsafeBufferPointer { buffer throws(Errno) in
      try unsafe store.readPages(self, index: index, frames: buffer)
    }
    Thread.current.transfers.fetched &+= UInt64(frames.count) &* pageSize
  }

  func writeToStore(_ batch: WriteBatch) throws(Errno) {
    guard let store = unsafe store else { return }
    var frames = batch.frames
    // SAFETY: as above; the frames of an inline array lie in a row.
    try unsafe withUnsafePointer(to: &frames) { pointer throws(Errno) in
      let first = unsafe UnsafeRawPointer(pointer).assumingMemoryBound(to: PageFrameNumber.self)
      try unsafe store.writePages(
        self, index: batch.start, frames: UnsafeBufferPointer(start: first, count: batch.count))
    }
  }

  /// Enters the object among those with dirty pages, if there is a flusher to look at them. The pages are locked.
  func enterDirtyObjects() -> Bool {
    guard let store = unsafe store else { return false }
    return DirtyObjects.add(self, store)
  }
}
