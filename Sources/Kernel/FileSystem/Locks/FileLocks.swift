// Advisory locks on a file: record locks of fcntl(2), owned by a process (its descriptor table) or by an open file
// description, and whole-file locks of flock(2). Both kinds ignore each other, as on Linux.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// Who holds a lock.
public enum LockOwner: Hashable, Sendable {
  /// fcntl's classic locks: all threads that share a descriptor table.
  case table(ObjectIdentifier)
  /// OFD locks and flock: the open file description.
  case file(ObjectIdentifier)
}

/// A record lock, or a request for one.
public struct RecordLock: Equatable, Sendable {
  public var owner: LockOwner
  public var isExclusive: Bool
  /// The bytes `start...end`; `end` is `UInt64.max` for "to the end of the file, however it grows".
  public var start: UInt64
  public var end: UInt64
  /// What F_GETLK reports: the process, or -1 for OFD locks.
  public var processID: Int32
  /// Who pays for the lock.
  let account = Thread.current.account
  static var kernelBytes: Int { 64 }

  public static func == (left: RecordLock, right: RecordLock) -> Bool {
    left.owner == right.owner && left.isExclusive == right.isExclusive && left.start == right.start
      && left.end == right.end && left.processID == right.processID
  }

  public init(owner: LockOwner, isExclusive: Bool, start: UInt64, end: UInt64, processID: Int32) {
    self.owner = owner
    self.isExclusive = isExclusive
    self.start = start
    self.end = end
    self.processID = processID
  }

  @inline(__always)
  func overlaps(_ other: RecordLock) -> Bool { start <= other.end && other.start <= end }

  @inline(__always)
  func conflicts(with other: RecordLock) -> Bool {
    owner != other.owner && (isExclusive || other.isExclusive) && overlaps(other)
  }
}

/// The record locks of a file, as a value: sorted by start for each owner, never overlapping for one owner, neighbours of
/// the same kind merged.
struct RecordLockList {
  private(set) var locks: [RecordLock] = []

  /// The first lock that keeps `request` from being granted.
  func conflict(with request: RecordLock) -> RecordLock? { locks.first { $0.conflicts(with: request) } }

  /// Removes the owner's locks in `start...end`, splitting what sticks out. Needs memory only where one becomes two.
  mutating func remove(owner: LockOwner, start: UInt64, end: UInt64) {
    for index in locks.indices {
      let lock = locks[index]
      guard lock.owner == owner, lock.start <= end, start <= lock.end else { continue }
      var right = lock
      if lock.end > end { right.start = end + 1 }
      if lock.start < start {
        locks[index].end = start - 1
        if lock.end <= end { continue }
        locks.insert(right, at: index + 1)
        return right.account.charge(RecordLock.kernelBytes)
      }
      if lock.end > end { locks[index] = right }
    }
    removeAll { $0.owner == owner && start <= $0.start && $0.end <= end }
  }

  private mutating func removeAll(where isGone: (RecordLock) -> Bool) {
    locks.removeAll { lock in
      guard isGone(lock) else { return false }
      lock.account.release(RecordLock.kernelBytes)
      return true
    }
  }

  /// Grants `request`, which has no conflict: it replaces the owner's locks there and merges with neighbours.
  mutating func insert(_ request: RecordLock) {
    remove(owner: request.owner, start: request.start, end: request.end)
    var merged = request
    removeAll { lock in
      guard lock.owner == merged.owner, lock.isExclusive == merged.isExclusive else { return false }
      let touchesLeft = lock.end != .max && lock.end + 1 == merged.start
      let touchesRight = merged.end != .max && merged.end + 1 == lock.start
      if touchesLeft { merged.start = lock.start }
      if touchesRight { merged.end = lock.end }
      return touchesLeft || touchesRight
    }
    let index = locks.firstIndex { $0.start > merged.start } ?? locks.count
    locks.insert(merged, at: index)
    merged.account.charge(RecordLock.kernelBytes)
  }
}

/// All advisory locks of one inode, and who waits for them.
final class FileLocks {
  private struct State {
    var records = RecordLockList()
    /// flock(2): the holders.
    var whole: [(owner: LockOwner, isExclusive: Bool)] = []
  }
  private let state = SpinLock(State(), rank: .inode)
  private let queue = WaitQueue()
  /// Record locks of one file: each change looks at all of them.
  private static var mostRecords: Int { 32768 }

  /// Which owner of classic locks waits for which other: EDEADLK is a cycle here.
  private static let waiting = SpinLock([LockOwner: LockOwner](), rank: .inode)

  /// F_GETLK: the lock that is in the way.
  func conflict(with request: RecordLock) -> RecordLock? {
    state.withLock { $0.records.conflict(with: request) }
  }

  /// Sees to it that the list can grow, which happens under a spin lock.
  /// - Throws: ENOLCK, ENOMEM.
  func admitRecords() throws(Errno) {
    let (count, capacity) = state.withLock { ($0.records.locks.count, $0.records.locks.capacity) }
    guard count < Self.mostRecords else { throw .ENOLCK }
    guard count + 2 > capacity else { return try KernelMemory.admit() }
    try KernelMemory.admit(bytes: 2 * (count + 2) * MemoryLayout<RecordLock>.stride)
  }

  /// F_SETLK and F_SETLKW.
  /// - Throws: EAGAIN when the lock is taken and `waits` is false; EDEADLK; ERESTARTSYS.
  func set(_ request: RecordLock, waits: Bool) throws(Errno) {
    try admitRecords()
    if trySet(request) == nil { return didChange() }
    guard waits else { throw .EAGAIN }
    var deadlock = false
    defer { Self.waiting.withLock { _ = $0.removeValue(forKey: request.owner) } }
    try queue.wait(.interruptible) {
      guard let holder = trySet(request) else { return true }
      if case .table = request.owner { deadlock = Self.closesCycle(request.owner, holder) }
      return deadlock
    }
    if deadlock { throw .EDEADLK }
    didChange()
  }

  /// Grants the request or returns the owner that is in the way.
  private func trySet(_ request: RecordLock) -> LockOwner? {
    state.withLock { state in
      if let conflict = state.records.conflict(with: request) { return conflict.owner }
      state.records.insert(request)
      return nil
    }
  }

  /// Notes that `owner` waits for `holder`; whether that closes a cycle.
  private static func closesCycle(_ owner: LockOwner, _ holder: LockOwner) -> Bool {
    waiting.withLock { waiting in
      var next: LockOwner? = holder
      // Linux gives up after ten steps as well (MAX_DEADLK_ITERATIONS): a longer chain counts as none.
      for _ in 0..<10 {
        guard let current = next else { break }
        if current == owner { return true }
        next = waiting[current]
      }
      waiting[owner] = holder
      return false
    }
  }

  /// F_UNLCK.
  func unlock(owner: LockOwner, start: UInt64, end: UInt64) {
    let changed = state.withLock { state in
      guard state.records.locks.contains(where: { $0.owner == owner }) else { return false }
      state.records.remove(owner: owner, start: start, end: end)
      return true
    }
    if changed { didChange() }
  }

  /// flock(2) with LOCK_SH or LOCK_EX. Converting drops the old lock first, as Linux does.
  func setWhole(owner: LockOwner, isExclusive: Bool, waits: Bool) throws(Errno) {
    let held: Bool? = state.withLock { state in
      guard let index = state.whole.firstIndex(where: { $0.owner == owner }) else { return nil }
      return state.whole[index].isExclusive
    }
    if held == isExclusive { return }
    if held != nil { unlockWhole(owner: owner) }
    if trySetWhole(owner, isExclusive) { return }
    guard waits else { throw .EAGAIN }
    try queue.wait(.interruptible) { trySetWhole(owner, isExclusive) }
  }

  private func trySetWhole(_ owner: LockOwner, _ isExclusive: Bool) -> Bool {
    state.withLock { state in
      if state.whole.contains(where: { $0.isExclusive || isExclusive }) { return false }
      state.whole.append((owner, isExclusive))
      return true
    }
  }

  func unlockWhole(owner: LockOwner) {
    let changed = state.withLock { state in
      let before = state.whole.count
      state.whole.removeAll { $0.owner == owner }
      return state.whole.count != before
    }
    if changed { didChange() }
  }

  private func didChange() { queue.wakeAll() }
}

extension Inode {
  /// The owner's record locks go: a process closed a descriptor of the file.
  final func releaseLocks(ofTable table: DescriptorTable) {
    attachmentsIfPresent?.locks.unlock(owner: .table(ObjectIdentifier(table)), start: 0, end: .max)
  }

  /// The locks of an open file go with it.
  final func releaseLocks(ofFile file: OpenFile) {
    guard let locks = attachmentsIfPresent?.locks else { return }
    let owner = LockOwner.file(ObjectIdentifier(file))
    locks.unlock(owner: owner, start: 0, end: .max)
    locks.unlockWhole(owner: owner)
  }

  /// F_GETLK, F_OFD_GETLK: the lock that keeps `request` from being granted.
  @export(interface)
  public final func conflictingLock(with request: RecordLock) -> RecordLock? {
    attachmentsIfPresent?.locks.conflict(with: request)
  }

  /// F_SETLK, F_SETLKW and their OFD twins.
  @export(interface)
  public final func lockRecord(_ request: RecordLock, waits: Bool) throws(Errno) {
    try attachments.locks.set(request, waits: waits)
  }

  /// F_UNLCK of the bytes `start...end`.
  @export(interface)
  public final func unlockRecord(owner: LockOwner, start: UInt64, end: UInt64) throws(Errno) {
    guard let locks = attachmentsIfPresent?.locks else { return }
    // A hole in a lock makes two of it.
    if start > 0, end < .max { try locks.admitRecords() }
    locks.unlock(owner: owner, start: start, end: end)
  }

  /// flock(2).
  @export(interface)
  public final func lockWhole(_ file: OpenFile, isExclusive: Bool, waits: Bool) throws(Errno) {
    try attachments.locks.setWhole(
      owner: .file(ObjectIdentifier(file)), isExclusive: isExclusive, waits: waits)
  }

  /// flock(2) with LOCK_UN.
  @export(interface)
  public final func unlockWhole(_ file: OpenFile) {
    attachmentsIfPresent?.locks.unlockWhole(owner: .file(ObjectIdentifier(file)))
  }
}
