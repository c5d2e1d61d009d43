// Atomic operations on words of user memory, and the identity of a word that several spaces can see: what futexes need.
// The words are changed in the direct map, where user programs' own atomic instructions on other CPUs meet ours.

import LinuxABI
import Scheduling
import Synchronization

/// Names a word of user memory, the same for all programs that share it.
public struct SharedKey: Hashable {
  /// The memory object, or the address space for private memory.
  public let identity: ObjectIdentifier
  /// The offset in the object, or the address.
  public let offset: UInt64
  /// Keeps the object alive, so that no other object gets its identity while a thread waits.
  public let holder: AnyObject

  init(_ holder: AnyObject, _ offset: UInt64) {
    self.holder = holder
    self.offset = offset
    identity = ObjectIdentifier(holder)
  }

  @export(interface)
  public static func == (left: SharedKey, right: SharedKey) -> Bool {
    left.identity == right.identity && left.offset == right.offset
  }

  @export(interface)
  public func hash(into hasher: inout Hasher) {
    hasher.combine(identity)
    hasher.combine(offset)
  }
}

extension UserMemory {
  /// Loads a word atomically. `address` must be a multiple of four.
  ///
  /// - Throws: EFAULT, EINVAL.
  @export(interface)
  public static func atomicLoad(_ address: UInt64, in space: AddressSpace? = nil) throws(Errno) -> UInt32 {
    var result: UInt32 = 0
    try unsafe withWord(address, .read, space) { word in
      result = unsafe word.pointee.load(ordering: .sequentiallyConsistent)
    }
    return result
  }

  /// Stores `desired` if the word is `expected`; returns what was there.
  ///
  /// - Throws: EFAULT, EINVAL.
  @export(interface)
  public static func atomicCompareExchange(
    _ address: UInt64, expected: UInt32, desired: UInt32, in space: AddressSpace? = nil
  ) throws(Errno) -> UInt32 {
    var result: UInt32 = 0
    try unsafe withWord(address, .write, space) { word in
      result = unsafe word.pointee.compareExchange(
        expected: expected, desired: desired, ordering: .sequentiallyConsistent
      ).original
    }
    return result
  }

  /// Replaces the word by what `change` makes of it; returns what was there (FUTEX_WAKE_OP).
  ///
  /// - Throws: EFAULT, EINVAL.
  @export(interface)
  public static func atomicUpdate(
    _ address: UInt64, in space: AddressSpace? = nil, _ change: (UInt32) -> UInt32
  ) throws(Errno) -> UInt32 {
    while true {
      let old = try atomicLoad(address, in: space)
      if try atomicCompareExchange(address, expected: old, desired: change(old), in: space) == old { return old }
    }
  }

  private static func withWord(
    _ address: UInt64, _ access: Access, _ space: AddressSpace?, _ body: (UnsafeMutablePointer<Atomic<UInt32>>) -> Void
  ) throws(Errno) {
    guard address % 4 == 0 else { throw .EINVAL }
    guard let space = space ?? AddressSpace.current else { throw .EFAULT }
    let isDone = unsafe space.withPage(address, access, .byProgram) { pointer in
      // SAFETY: aligned and within a page that is mapped while the table lock is held; Atomic<UInt32> has the layout of
      // a 32-bit word.
      unsafe body(pointer.assumingMemoryBound(to: Atomic<UInt32>.self))
    }
    if !isDone { throw .EFAULT }
  }

  /// The identity of the word at `address` among all programs: of its object in a shared mapping, else of the space.
  ///
  /// - Throws: EFAULT.
  @export(interface)
  public static func sharedKey(of address: UInt64, in space: AddressSpace? = nil) throws(Errno) -> SharedKey {
    guard let space = space ?? AddressSpace.current else { throw .EFAULT }
    let key = space.areas.withReadLock { state -> SharedKey? in
      guard let area = state.map.find(address) else { return nil }
      guard let object = area.object, area.isShared else { return SharedKey(space, address) }
      return SharedKey(object, area.pageOffset &* pageSize &+ (address &- area.start))
    }
    guard let key else { throw .EFAULT }
    return key
  }
}
