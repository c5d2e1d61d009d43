// A virtual memory area: a range of addresses with one protection and one source of contents. Areas of a space don't
// overlap; the tree of them (AreaMap) answers what lies at an address and where a hole is.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// What a file mapping is called and where it comes from, for /proc/PID/maps. The code that opens the file provides it; the
/// area's reference to it is what keeps the object's store alive.
public protocol MappingSource: AnyObject {
  /// The path, or a name such as `/memfd:x (deleted)`.
  var mappingName: ByteString { get }
  /// The device number as stat(2) gives it (st_dev) and the inode number.
  var mappingDevice: UInt64 { get }
  var mappingInode: UInt64 { get }
  /// An error of write-back that the mapped file has not learnt of yet (msync(2)).
  func takeWriteError() -> Errno?
  /// Whether contents may be taken out of the file (MADV_REMOVE): its seals may forbid that.
  var allowsHoles: Bool { get }
}

extension MappingSource {
  public func takeWriteError() -> Errno? { nil }
  public var allowsHoles: Bool { true }
}

/// One range of an address space. Its fields change under the space's write lock only; start, end and offset of an area
/// with an object moreover under the object's lock of mappings, because truncation and write-back read them there.
final class VirtualMemoryArea {
  unowned(unsafe) let space: AddressSpace
  var start: UInt64
  var end: UInt64
  var protection: Protection
  /// What mprotect(2) may grant, and debuggers may do: a shared mapping of a file that is opened for reading, or sealed, never
  /// becomes writable, a file of a noexec mount never executable.
  let maximumProtection: Protection
  var flags: MappingFlags
  let object: MemoryObject?
  /// Where in the object `start` is, in pages.
  var pageOffset: UInt64
  let source: (any MappingSource)?
  /// On which nodes pages go (mbind(2)); nil leaves it to the thread that touches them.
  var policy: MemoryPolicy?
  /// Huge pages that the area shared with a relative by fork were taken away for that one: an absent page may have had contents,
  /// and must not read as zeros. Set under the page-table lock, never cleared.
  var hasLostHugePages = false

  /// The page after the last one that a write fault filled in, and how many pages the next one shall fill (a power of
  /// two). Under the page-table lock.
  var nextFault: UInt64 = 0
  var faultWindow: UInt64 = 0
  /// The same of read faults on the object's pages.
  var nextRead: UInt64 = 0
  var readWindow: UInt64 = 0

  // The area's place in the space's tree and the summary of the subtree below it.
  var links = TreeLinks<VirtualMemoryArea>()
  var subtreeStart: UInt64 = 0
  var subtreeEnd: UInt64 = 0
  /// The largest hole between two areas of the subtree.
  var subtreeGap: UInt64 = 0

  private let account = Thread.current.account
  /// What an area costs the kernel.
  static var kernelBytes: Int { 256 }

  init(
    space: AddressSpace, start: UInt64, end: UInt64, protection: Protection, maximumProtection: Protection,
    flags: MappingFlags, object: MemoryObject?, pageOffset: UInt64, source: (any MappingSource)?
  ) {
    // SAFETY: a space outlives its areas: it removes them all before it ends.
    unsafe self.space = space
    self.start = start
    self.end = end
    self.protection = protection
    self.maximumProtection = maximumProtection
    self.flags = flags
    self.object = object
    self.pageOffset = pageOffset
    self.source = source
    Counters.add(1, to: Counters.areas)
    account.charge(Self.kernelBytes)
  }

  deinit {
    account.release(Self.kernelBytes)
    Counters.add(-1, to: Counters.areas)
  }

  var length: UInt64 { end &- start }
  var pageCount: Int { Int(truncatingIfNeeded: length / pageSize) }
  var isShared: Bool { flags.contains(.shared) }
  /// Addresses below a growing area where nothing else is placed (stack_guard_gap).
  static var guardGap: UInt64 { 256 * pageSize }
  /// The first address that the area claims: a growing one keeps a gap below itself free.
  var claimedStart: UInt64 {
    guard flags.contains(.growsDown) else { return start }
    return start > Self.guardGap ? start &- Self.guardGap : 0
  }

  @inline(__always)
  func contains(_ address: UInt64) -> Bool { start <= address && address < end }

  /// The object's page at `address`.
  @inline(__always)
  func objectIndex(_ address: UInt64) -> UInt64 { pageOffset &+ (address &- start) / pageSize }

  /// Whether writes make private copies.
  var copiesOnWrite: Bool { !isShared }
  /// Whether programs may write to the object through this area, now or after mprotect(2).
  var mayWriteObject: Bool { isShared && maximumProtection.contains(.write) }

  /// Whether an access could ever be granted without changing the area.
  @inline(__always)
  func permits(_ access: Access) -> Bool {
    switch access {
    // x86 has no write-only and no execute-only pages.
    case .read: !protection.isEmpty
    case .write: protection.contains(.write)
    case .execute: protection.contains(.execute)
    }
  }

  /// Whether ptrace may do this although the program may not: reading anything readable some day, writing a private copy.
  func allowsDebugger(_ access: Access) -> Bool {
    switch access {
    case .read, .execute: maximumProtection.contains(.read)
    case .write: !isShared && maximumProtection.contains(.write)
    }
  }

  /// Whether `next`, which begins where this area ends, could be a part of it.
  func canMerge(with next: VirtualMemoryArea) -> Bool {
    end == next.start && protection == next.protection && maximumProtection == next.maximumProtection
      && flags == next.flags && policy == next.policy && hasLostHugePages == next.hasLostHugePages
      && object === next.object && source === next.source
      && (object == nil || pageOffset &+ length / pageSize == next.pageOffset)
      && !flags.contains(.growsDown)
  }

  /// An area with this one's properties for [start, end) in `space`.
  func copy(start: UInt64, end: UInt64, in space: AddressSpace) -> VirtualMemoryArea {
    // Promises of huge pages stay with the space that they were made to.
    let isOurs = unsafe space === self.space
    let copy = VirtualMemoryArea(
      space: space, start: start, end: end, protection: protection, maximumProtection: maximumProtection,
      flags: isOurs ? flags : flags.subtracting(.hugeReserved),
      object: object, pageOffset: object == nil ? 0 : objectIndex(start), source: source)
    copy.policy = policy
    copy.hasLostHugePages = hasLostHugePages
    return copy
  }
}

/// The tree of a space's areas, ordered by start and summarised by gap.
enum AreaMembership: TreeMembership {
  static func key(of area: VirtualMemoryArea) -> UInt64 { area.start }
  static func links(of area: VirtualMemoryArea) -> TreeLinks<VirtualMemoryArea> { area.links }
  static func setLinks(_ links: TreeLinks<VirtualMemoryArea>, of area: VirtualMemoryArea) { area.links = links }
  static var isAugmented: Bool { true }

  static func update(_ area: VirtualMemoryArea) {
    var start = area.claimedStart
    var end = area.end
    var gap: UInt64 = 0
    if let left = area.links.leftChild {
      gap = max(left.subtreeGap, start > left.subtreeEnd ? start &- left.subtreeEnd : 0)
      start = left.subtreeStart
    }
    if let right = area.links.rightChild {
      gap = max(gap, right.subtreeGap, right.subtreeStart > end ? right.subtreeStart &- end : 0)
      end = right.subtreeEnd
    }
    area.subtreeStart = start
    area.subtreeEnd = end
    area.subtreeGap = gap
  }
}
