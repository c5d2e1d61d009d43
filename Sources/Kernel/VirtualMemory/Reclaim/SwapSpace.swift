// All swap areas, and the swap cache: pages that are in memory and have a slot as well.
//
// A page leaves memory in these steps, and comes back in the opposite order:
//
//     slots taken, busy ──▶ entries name the slot ──▶ written ──▶ the frame leaves the cache and is free
//
// A frame in the cache has one reference from here. A cached page whose slot no entry names any more leaves the cache at
// once: then it is ordinary memory of the one who has it, and the slot is free. So a page that can be written to is never
// in the cache, and what is there is the same as on the device, unless its frame is marked dirty.
//
// One spin lock, of rank `swap`: taken under page-table locks and the page cache's.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// A line of /proc/swaps.
public struct SwapAreaStatistics {
  public var name: ByteString
  public var isFile: Bool
  /// In pages.
  public var size: Int
  public var used: Int
  public var priority: Int
}

/// The swap areas of the machine.
public enum SwapSpace {
  struct State {
    var areas: [SwapArea?] = []
    var leastPriority = -1
  }
  static let state = SpinLock(State(), rank: .swap)
  /// Woken when busy slots are ready.
  static let ready = WaitQueue()

  private static let totalValue = Atomic<Int>(0)
  private static let freeValue = Atomic<Int>(0)
  private static let cachedValue = Atomic<Int>(0)

  /// Pages that swap areas can hold, and that could still go there.
  public static var totalPages: Int { totalValue.load(ordering: .relaxed) }
  public static var freePages: Int { freeValue.load(ordering: .relaxed) }
  /// Pages in the swap cache.
  public static var cachedPages: Int { cachedValue.load(ordering: .relaxed) }

  // MARK: Areas

  /// Makes `device` a swap area: swapon(2). Areas of higher priority are filled first.
  ///
  /// - Parameter priority: 0 and more; nil for less than that of all areas before.
  /// - Throws: EBUSY (in use already), EINVAL (no room for a page), EPERM (too many areas), ENOMEM.
  @export(interface)
  public static func enable(_ device: any SwapDevice, priority: Int? = nil) throws(Errno) {
    let least = state.withLock { state in
      if priority == nil { state.leastPriority -= 1 }
      return state.leastPriority
    }
    let area = try SwapArea(device: device, priority: priority ?? least)
    try state.withLock { state throws(Errno) in
      for other in state.areas {
        if let other, other.device.swapName == device.swapName { throw .EBUSY }
      }
      if let index = state.areas.firstIndex(where: { $0 == nil }) {
        state.areas[index] = area
      } else {
        guard state.areas.count < SwapEntry.maximumAreas else { throw .EPERM }
        state.areas.append(area)
      }
    }
    totalValue.add(area.capacity, ordering: .relaxed)
    freeValue.add(area.capacity, ordering: .relaxed)
  }

  /// The areas in use, for /proc/swaps.
  @export(interface)
  public static func statistics() -> [SwapAreaStatistics] {
    let areas = state.withLock { $0.areas }
    var result: [SwapAreaStatistics] = []
    for area in areas {
      guard let area else { continue }
      result.append(
        SwapAreaStatistics(
          name: area.device.swapName, isFile: area.device.isSwapFile, size: area.capacity,
          used: state.withLock { _ in area.capacity - area.freeSlots }, priority: area.priority))
    }
    return result
  }

  /// Takes the area out of the count of what can be used, and forbids new pages there; nil when there is none.
  static func beginDisabling(_ name: ByteString) -> (area: SwapArea, index: Int)? {
    let found: (area: SwapArea, index: Int)? = state.withLock { state in
      for (index, area) in state.areas.enumerated() {
        guard let area, !area.isClosing, area.device.swapName == name else { continue }
        area.isClosing = true
        totalValue.subtract(area.capacity, ordering: .relaxed)
        freeValue.subtract(area.freeSlots, ordering: .relaxed)
        return (area, index)
      }
      return nil
    }
    return found
  }

  /// Ends what `beginDisabling` began: the area is empty and goes, or stays in use.
  static func endDisabling(_ area: SwapArea, _ index: Int, isEmpty: Bool) {
    state.withLock { state in
      if isEmpty {
        state.areas[index] = nil
      } else {
        area.isClosing = false
        totalValue.add(area.capacity, ordering: .relaxed)
        freeValue.add(area.freeSlots, ordering: .relaxed)
      }
    }
  }

  // MARK: Slots

  private static func change(_ state: inout State, _ entry: SwapEntry, _ body: (inout SwapSlot) -> Void) {
    guard entry.area < state.areas.count, let area = state.areas[entry.area] else {
      panic("a swap entry without an area")
    }
    var slot = area[entry.slot]
    let wasFree = slot.isFree
    body(&slot)
    if slot.references == 0, slot.frame == nil { slot = SwapSlot() }
    area[entry.slot] = slot
    if wasFree != slot.isFree, !area.isClosing { freeValue.add(wasFree ? -1 : 1, ordering: .relaxed) }
  }

  /// What is known about a slot; a free one where there is none: who asks may look beyond the end for neighbours, or has
  /// read a frame's entry without the lock while the page left the cache, and the area was taken out of use.
  private static func slot(_ state: borrowing State, _ entry: SwapEntry) -> SwapSlot {
    guard entry.area < state.areas.count, let area = state.areas[entry.area], area.hasSlot(entry.slot) else {
      return SwapSlot()
    }
    return area[entry.slot]
  }

  /// One more reference to a page on the device: its page-table entry was copied.
  static func retain(_ entry: SwapEntry) {
    state.withLock { change(&$0, entry) { $0.references += 1 } }
  }

  /// One reference less. The last one frees the slot; a copy in the cache goes as well.
  static func release(_ entry: SwapEntry) {
    let orphan: PageFrameNumber? = state.withLock { state in
      var orphan: PageFrameNumber?
      change(&state, entry) { slot in
        precondition(slot.references > 0)
        slot.references -= 1
        if slot.references == 0, !slot.isBusy { orphan = takeFrame(&slot) }
      }
      return orphan
    }
    if let orphan { Frames.release(orphan) }
  }

  /// How many page-table entries and object pages name the slot.
  static func references(_ entry: SwapEntry) -> Int { state.withLock { slot($0, entry).references } }

  /// Takes the frame out of the cache; the cache's reference is the caller's now.
  private static func takeFrame(_ slot: inout SwapSlot) -> PageFrameNumber? {
    guard let frame = slot.frame else { return nil }
    slot.frame = nil
    PageOwner.setSwapEntry(nil, of: frame)
    cachedValue.subtract(1, ordering: .relaxed)
    return frame
  }

  private static func put(_ frame: PageFrameNumber, _ entry: SwapEntry, _ slot: inout SwapSlot) {
    Frames.retain(frame)
    slot.frame = frame
    slot.isBusy = true
    PageOwner.setSwapEntry(entry, of: frame)
    cachedValue.add(1, ordering: .relaxed)
  }

  // MARK: Out

  /// Puts frames into the cache under fresh slots in a row, busy and named by nobody yet.
  ///
  /// - Parameter frame: the frame to put under the nth slot.
  /// - Returns: the first slot and how many there are, at most `count`; nil when no area has room.
  static func reserve(count: Int, _ frame: (Int) -> PageFrameNumber) -> (entry: SwapEntry, count: Int)? {
    state.withLock { state in
      var best: Int?
      for (index, area) in state.areas.enumerated() {
        guard let area, !area.isClosing, area.freeSlots > 0 else { continue }
        if let other = best, let chosen = state.areas[other], chosen.priority >= area.priority { continue }
        best = index
      }
      guard let best, let (slot, found) = state.areas[best]?.findFree(wanted: count) else { return nil }
      let first = SwapEntry(area: best, slot: slot)
      for place in 0..<found {
        let entry = first.advanced(by: place)
        change(&state, entry) { put(frame(place), entry, &$0) }
      }
      return (first, found)
    }
  }

  /// Makes the cached frame of `entry` busy, so that it can be written or leave; false when another thread has it busy,
  /// or it is in the cache no more.
  static func makeBusy(_ entry: SwapEntry, _ frame: PageFrameNumber) -> Bool {
    state.withLock { state in
      let slot = slot(state, entry)
      guard slot.frame == frame, !slot.isBusy else { return false }
      change(&state, entry) { $0.isBusy = true }
      return true
    }
  }

  enum Outcome {
    /// The page stays in memory, and in the cache as long as its slot is named.
    case kept
    /// The page is on the device: its frame leaves the cache.
    case stored
  }

  /// Ends a busy period.
  static func finish(_ entry: SwapEntry, _ outcome: Outcome) {
    let frame: PageFrameNumber? = state.withLock { state in
      var frame: PageFrameNumber?
      change(&state, entry) { slot in
        slot.isBusy = false
        if outcome == .stored || slot.references == 0 { frame = takeFrame(&slot) }
      }
      return frame
    }
    ready.wakeAll()
    if let frame { Frames.release(frame) }
  }

  /// The device and the slot number of an entry.
  static func device(_ entry: SwapEntry) -> (any SwapDevice)? {
    state.withLock { $0.areas[entry.area]?.device }
  }

  // MARK: In

  enum Page {
    case ready(PageFrameNumber)
    case busy
    /// On the device only.
    case stored
    /// No entry names the slot.
    case free
  }

  /// What the cache has of `entry`; a ready page comes with a reference for the caller.
  static func lookUp(_ entry: SwapEntry) -> Page {
    state.withLock { state in
      let slot = slot(state, entry)
      if slot.isBusy { return .busy }
      if let frame = slot.frame {
        Frames.retain(frame)
        return .ready(frame)
      }
      return slot.references > 0 ? .stored : .free
    }
  }

  /// Whether the page of `entry` is on the device only.
  static func isStored(_ entry: SwapEntry) -> Bool {
    state.withLock { state in
      let slot = slot(state, entry)
      return slot.references > 0 && slot.frame == nil && !slot.isBusy
    }
  }

  /// Puts a frame that is to be read into under `entry`, busy; false if there is no need any more.
  static func beginRead(_ entry: SwapEntry, _ frame: PageFrameNumber) -> Bool {
    state.withLock { state in
      let slot = slot(state, entry)
      guard slot.references > 0, slot.frame == nil, !slot.isBusy else { return false }
      change(&state, entry) { put(frame, entry, &$0) }
      return true
    }
  }

  /// Ends a read that failed: the page is on the device only, as before.
  static func cancelRead(_ entry: SwapEntry) { finish(entry, .stored) }

  enum Ownership {
    /// Nobody else has the page or names it: it left the cache and is the caller's alone.
    case exclusive
    case shared
  }

  /// Turns the caller's reference to the slot into one to its frame; nil when the frame is not to be had just now.
  /// The caller has a reference to the frame, which it is going to show for `owner` at `page`.
  static func take(_ entry: SwapEntry, _ frame: PageFrameNumber, owner: OwnerNumber, page: UInt64) -> Ownership? {
    let result: (Ownership, PageFrameNumber?)? = state.withLock { state in
      let slot = slot(state, entry)
      guard slot.frame == frame, !slot.isBusy, slot.references > 0 else { return nil }
      var orphan: PageFrameNumber?
      PageOwner.set(frame, owner: owner, page: page)
      change(&state, entry) { slot in
        slot.references -= 1
        if slot.references == 0 { orphan = takeFrame(&slot) }
      }
      // Two references are the caller's and the cache's; page tables may have kept the frame when others lost it.
      return (orphan != nil && Frames.users(frame) == 2 ? .exclusive : .shared, orphan)
    }
    if let orphan = result?.1 { Frames.release(orphan) }
    return result?.0
  }

  /// Notes that an anonymous page is at another address from now on.
  static func movePage(_ frame: PageFrameNumber, to page: UInt64) {
    state.withLock { _ in PageOwner.set(frame, owner: PageOwner.owner(frame), page: page) }
  }

  /// Waits until `entry` is not busy.
  static func waitUntilReady(_ entry: SwapEntry) {
    // Uninterruptible and without a deadline: it cannot fail.
    try? ready.wait(.uninterruptible) { state.withLock { !slot($0, entry).isBusy } }
  }
}
