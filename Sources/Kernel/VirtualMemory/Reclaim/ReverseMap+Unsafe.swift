// The reverse mapping: from a frame to the page-table entries that show it.
//
//     frame ──owner──▶ table of owners ─┬─▶ AddressFamily ──▶ spaces related by fork; the page is at the same address in all
//                                       └─▶ MemoryObject ──▶ the areas that map the object
//
// It may miss an entry (a page moved by mremap while it was shared, a space that is busy): then the frame keeps a reference
// more than reclaim can explain, and stays. It never finds a wrong one: an entry counts only if it holds the frame.
//
// A number in the place of a pointer, looked up under a lock: an owner that ends leaves the table first, and a stale number finds
// none, or one that does not have the frame. The lock is held during a walk: no space that it finds ends meanwhile.
//
// SAFETY: an owner is in the table, and a space in its family, only while it lives; both leave under the lock.

import KernelCore
import PhysicalMemory

enum ReverseMap {
  @safe fileprivate enum Owner {
    case none(nextFree: UInt32)
    case family(Unmanaged<AddressFamily>)
    case object(Unmanaged<MemoryObject>)
  }

  /// A part of the table: many small parts need no large run of frames.
  fileprivate final class Part { var owners = InlineArray<256, Owner>(repeating: .none(nextFree: 0)) }

  /// What the lock protects: the table, and the members of families.
  struct Owners {
    fileprivate var parts: [Part] = []
    /// The first unused number; 0 is never one.
    fileprivate var firstFree: UInt32 = 0

    fileprivate subscript(number: UInt32) -> Owner {
      get { parts[Int(number >> 8)].owners[Int(number & 255)] }
      nonmutating set { parts[Int(number >> 8)].owners[Int(number & 255)] = newValue }
    }

    fileprivate mutating func add(_ owner: Owner) -> OwnerNumber {
      if firstFree == 0 {
        let base = UInt32(parts.count) << 8
        parts.append(Part())
        for number in (max(base, 1)..<base + 256).reversed() {
          self[number] = .none(nextFree: firstFree)
          firstFree = number
        }
      }
      let number = firstFree
      if case .none(let next) = self[number] { firstFree = next }
      self[number] = owner
      return OwnerNumber(rawValue: number)
    }

    /// The family that may show an anonymous frame.
    func family(_ frame: PageFrameNumber) -> Unmanaged<AddressFamily>? {
      let number = PageOwner.owner(frame).rawValue
      guard number != 0, number >> 8 < parts.count, case .family(let family) = self[number] else { return nil }
      return unsafe family
    }

    /// The object that a frame may belong to.
    func object(_ frame: PageFrameNumber) -> Unmanaged<MemoryObject>? {
      let number = PageOwner.owner(frame).rawValue
      guard number != 0, number >> 8 < parts.count, case .object(let object) = self[number] else { return nil }
      return unsafe object
    }
  }

  static let owners = SpinLock(Owners(), rank: .reclaim)

  static func register(_ object: MemoryObject) -> OwnerNumber {
    owners.withLock { unsafe $0.add(.object(Unmanaged.passUnretained(object))) }
  }

  static func register(_ family: AddressFamily) -> OwnerNumber {
    owners.withLock { unsafe $0.add(.family(Unmanaged.passUnretained(family))) }
  }

  /// All address spaces.
  static func spaces() -> [AddressSpace] {
    owners.withLock { owners in
      var result: [AddressSpace] = []
      for number in 1..<UInt32(max(1, owners.parts.count << 8)) {
        guard case .family(let family) = owners[number] else { continue }
        // SAFETY: a member is alive: it leaves before its end begins, and its users hold it.
        unsafe family._withUnsafeGuaranteedRef { family in
          for member in unsafe family.members { unsafe result.append(member.takeUnretainedValue()) }
        }
      }
      return result
    }
  }

  /// Calls `body` with the object that has this number; nil if there is none. Under the lock: it does not end meanwhile.
  static func withObject<Result>(_ number: OwnerNumber, _ body: (MemoryObject) -> Result) -> Result? {
    owners.withLock { owners in
      guard number.rawValue >> 8 < owners.parts.count, case .object(let object) = owners[number.rawValue] else {
        return nil
      }
      // SAFETY: in the table, hence alive.
      return unsafe object._withUnsafeGuaranteedRef { body($0) }
    }
  }

  /// How many numbers there are.
  static var capacity: Int { owners.withLock { $0.parts.count << 8 } }

  static func unregister(_ number: OwnerNumber) {
    owners.withLock { owners in
      owners[number.rawValue] = .none(nextFree: owners.firstFree)
      owners.firstFree = number.rawValue
    }
  }
}

/// Address spaces that come from one program by fork: a private page that several of them share is at the same address in
/// each. execve makes a new family.
@safe final class AddressFamily {
  private(set) var number = OwnerNumber.none
  /// Under the lock of `ReverseMap.owners`. Not retained: a space leaves before it ends.
  fileprivate var members: [Unmanaged<AddressSpace>] = unsafe []
  /// Where the last page was found: neighbours are often in the same space.
  private var latest = 0

  init() { number = ReverseMap.register(self) }

  deinit { ReverseMap.unregister(number) }

  func join(_ space: AddressSpace) {
    ReverseMap.owners.withLock { _ in unsafe members.append(Unmanaged.passUnretained(space)) }
  }

  func leave(_ space: AddressSpace) {
    ReverseMap.owners.withLock { _ in
      let wanted = unsafe Unmanaged.passUnretained(space).toOpaque()
      guard let place = unsafe members.lastIndex(where: { unsafe $0.toOpaque() == wanted }) else { return }
      unsafe members.swapAt(place, members.count - 1)
      unsafe members.removeLast()
    }
  }

  /// Its spaces.
  func spaces() -> [AddressSpace] {
    ReverseMap.owners.withLock { _ in
      // SAFETY: in the list, hence alive.
      unsafe members.map { unsafe $0.takeUnretainedValue() }
    }
  }

  /// Calls `body` with `limit` spaces from the one at `place` on, and says whether they were the last. Who comes or goes between
  /// two calls may be missed, or visited twice.
  func visitMembers(from place: inout Int, limit: Int, _ body: (AddressSpace) -> Void) -> Bool {
    ReverseMap.owners.withLock { _ in
      let end = unsafe min(place + limit, members.count)
      while place < end {
        // SAFETY: in the list, hence alive.
        unsafe members[place]._withUnsafeGuaranteedRef { body($0) }
        place += 1
      }
      return unsafe place >= members.count
    }
  }

  /// Calls `body` with each space until it says that there are no more entries to be found. Under the lock.
  func forEachMember(_ body: (AddressSpace) -> WalkStep) {
    let count = unsafe members.count
    if latest >= count { latest = 0 }
    for step in 0..<count {
      let place = latest &+ step < count ? latest &+ step : latest &+ step &- count
      // SAFETY: in the list, hence alive.
      let next = unsafe members[place]._withUnsafeGuaranteedRef { body($0) }
      if next == .stop {
        latest = place
        return
      }
    }
  }
}

enum WalkStep { case goOn, stop }
