// The areas of an address space: a red-black tree in which each node also knows the largest hole of its subtree, so that
// both questions of mmap, what is here and where is room, take O(log n).

import DataStructures
import Synchronization

/// The number of areas of a map.
final class AreaCount {
  let value = Atomic<Int>(0)
}

/// An ordered map of non-overlapping areas. The space's lock protects it.
struct AreaMap {
  private let tree = RedBlackTree<AreaMembership>()
  /// How many areas there are; readable without the lock.
  let size = AreaCount()

  var count: Int { tree.count }
  var first: VirtualMemoryArea? { tree.first }
  var last: VirtualMemoryArea? { tree.last }

  /// The area that contains `address`.
  func find(_ address: UInt64) -> VirtualMemoryArea? {
    guard let area = tree.floor(address), address < area.end else { return nil }
    return area
  }

  /// The first area that ends beyond `address`: the one that contains it, or the next one.
  func firstEnding(after address: UInt64) -> VirtualMemoryArea? {
    if let area = find(address) { return area }
    return tree.ceiling(address)
  }

  /// The last area that ends at or before `address`.
  func lastEnding(atOrBefore address: UInt64) -> VirtualMemoryArea? {
    guard address > 0, let area = tree.floor(address &- 1) else { return nil }
    return area.end <= address ? area : tree.previous(before: area)
  }

  func next(after area: VirtualMemoryArea) -> VirtualMemoryArea? { tree.next(after: area) }
  func previous(before area: VirtualMemoryArea) -> VirtualMemoryArea? { tree.previous(before: area) }

  func insert(_ area: VirtualMemoryArea) {
    tree.insert(area)
    size.value.store(tree.count, ordering: .relaxed)
  }

  func remove(_ area: VirtualMemoryArea) {
    tree.remove(area)
    size.value.store(tree.count, ordering: .relaxed)
  }

  /// Call it after an area's ends or flags changed in place; its order among the others must be the same.
  func didChange(_ area: VirtualMemoryArea) { tree.updateSummaries(from: area) }

  func visit<Failure: Error>(_ body: (VirtualMemoryArea) throws(Failure) -> Bool) throws(Failure) {
    try tree.visit(body)
  }

  func visitAll<Failure: Error>(_ body: (VirtualMemoryArea) throws(Failure) -> Void) throws(Failure) {
    try tree.visit { area throws(Failure) in
      try body(area)
      return true
    }
  }

  /// Whether an area, or the gap below a growing one, lies in [start, end).
  func overlaps(_ start: UInt64, _ end: UInt64, respectingGaps: Bool) -> Bool {
    guard let area = firstEnding(after: start) else { return false }
    return (respectingGaps ? area.claimedStart : area.start) < end
  }

  /// The highest address at which `length` bytes are free, within [low, high).
  ///
  /// - Complexity: O(log n): subtrees whose largest hole is too small are not entered.
  func highestHole(of length: UInt64, low: UInt64, high: UInt64) -> UInt64? {
    guard length <= high, low <= high &- length else { return nil }
    return highestHole(tree.root, length, low, high, low, high)
  }

  /// `before` and `after` are the ends of the areas (or of the window) around the subtree of `area`.
  private func highestHole(
    _ area: VirtualMemoryArea?, _ length: UInt64, _ before: UInt64, _ after: UInt64, _ low: UInt64, _ high: UInt64
  ) -> UInt64? {
    guard after >= before, after &- before >= length else { return nil }
    guard let area else { return after &- length }
    if isTooFull(area, length, before, after) { return nil }
    if let hole = highestHole(area.links.rightChild, length, max(area.end, low), after, low, high) { return hole }
    return highestHole(area.links.leftChild, length, before, min(area.claimedStart, high), low, high)
  }

  /// The lowest address at which `length` bytes are free, within [low, high).
  ///
  /// - Complexity: O(log n), as above.
  func lowestHole(of length: UInt64, low: UInt64, high: UInt64) -> UInt64? {
    guard length <= high, low <= high &- length else { return nil }
    return lowestHole(tree.root, length, low, high, low, high)
  }

  private func lowestHole(
    _ area: VirtualMemoryArea?, _ length: UInt64, _ before: UInt64, _ after: UInt64, _ low: UInt64, _ high: UInt64
  ) -> UInt64? {
    guard after >= before, after &- before >= length else { return nil }
    guard let area else { return before }
    if isTooFull(area, length, before, after) { return nil }
    let start = min(area.claimedStart, high)
    if let hole = lowestHole(area.links.leftChild, length, before, start, low, high) { return hole }
    return lowestHole(area.links.rightChild, length, max(area.end, low), after, low, high)
  }

  /// Whether the subtree of `area` has no hole of this size inside, so that only its two ends could have one, and they
  /// haven't.
  private func isTooFull(_ area: VirtualMemoryArea, _ length: UInt64, _ before: UInt64, _ after: UInt64) -> Bool {
    area.subtreeGap < length && (area.subtreeStart < before || area.subtreeStart &- before < length)
      && (area.subtreeEnd > after || after &- area.subtreeEnd < length)
  }
}
