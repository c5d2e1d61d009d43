// The inodes that are known, by the server's number, so that a file has one inode (and one page cache) whatever its
// names. The table owns its inodes and gives up those without other references when there are too many.

import FileSystem
import KernelCore
import LinuxABI

/// The inodes of a mounted directory.
final class InodeTable {
  private struct State {
    var places: [UInt64: Int] = [:]
    var slots: [VirtioFSInode?] = []
    var free: [Int] = []
    var hand = 0

    /// With its full size from the start: growing needs a large piece of memory, under the table's lock, when there may
    /// be none.
    init() {
      places.reserveCapacity(InodeTable.limit)
      slots.reserveCapacity(InodeTable.limit)
    }
  }
  private let state = SpinLock(State(), rank: .inode)
  /// Inodes beyond this are given up when they are not in use; those in use may be more. Twice what the dentry cache keeps
  /// in use, so that what a listing brought along is still there when it is looked at.
  static var limit: Int { 2 * DentryCache.limit }

  func find(_ node: UInt64) -> VirtioFSInode? {
    state.withLock { state in
      guard let place = state.places[node] else { return nil }
      state.slots[place]?.wasUsed = true
      return state.slots[place]
    }
  }

  /// Adds `inode`, unless there is one for its node already; the one that is in the table.
  @discardableResult
  func keep(_ inode: VirtioFSInode) -> VirtioFSInode {
    var victims: [VirtioFSInode] = []
    let kept = state.withLock { state in
      if let place = state.places[inode.node], let known = state.slots[place] { return known }
      if state.places.count >= Self.limit { Self.evict(&state, &victims) }
      let place: Int
      if let free = state.free.popLast() {
        place = free
        state.slots[place] = inode
      } else {
        place = state.slots.count
        state.slots.append(inode)
      }
      state.places[inode.node] = place
      return inode
    }
    // Inodes with their pages die here, outside the lock.
    withExtendedLifetime(victims) {}
    return kept
  }

  /// The file has no name any more: the inode goes with its last user.
  func remove(_ inode: VirtioFSInode) {
    let removed = state.withLock { state in
      guard let place = state.places[inode.node], state.slots[place] === inode else { return false }
      Self.clear(place, inode.node, &state)
      return true
    }
    _ = removed
  }

  func all() -> [VirtioFSInode] { state.withLock { $0.slots.compactMap { $0 } } }

  func removeAll() {
    let old = state.withLock { state in
      let old = state.slots
      state = State()
      return old
    }
    withExtendedLifetime(old) {}
  }

  private static func clear(_ place: Int, _ node: UInt64, _ state: inout State) {
    state.places[node] = nil
    state.slots[place] = nil
    state.free.append(place)
  }

  private static func evict(_ state: inout State, _ victims: inout [VirtioFSInode]) {
    for _ in 0..<min(64, state.slots.count) {
      if state.hand >= state.slots.count { state.hand = 0 }
      let place = state.hand
      state.hand += 1
      guard state.slots[place] != nil, isKnownUniquelyReferenced(&state.slots[place]), let inode = state.slots[place]
      else { continue }
      if inode.wasUsed {
        inode.wasUsed = false
        continue
      }
      clear(place, inode.node, &state)
      victims.append(inode)
    }
  }
}
