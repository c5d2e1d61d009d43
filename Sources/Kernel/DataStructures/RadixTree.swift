// A sparse array: 64-bit index to a word. The page cache keeps its frames here, by page index.
//
// Nodes have 64 slots, so six bits of the index select a slot on each level, and the height is that of the largest
// index present. Each slot has three *tags*; a tag is set in an inner node when it is set anywhere below, so that the
// next dirty page of a huge file is found without visiting clean ones. A node is freed with its last item.
//
// Values are words other than 0 (frame numbers, pointers); `ObjectRadixTree` keeps references. A writer
// excludes other writers. Look-ups need no lock if the tree's `RadixNodeSource` keeps nodes until their readers have left:
// they see each item as it was at some moment of the look-up.

import Synchronization

/// One of the three marks of an item.
public enum RadixTreeTag: Int, CaseIterable {
  case first = 0
  case second = 1
  case third = 2
}

/// Why an item could not be put into a tree, which is then as it was before.
public enum RadixTreeFailure: Error {
  /// There is an item at the index already (EEXIST).
  case exists
  /// There is no memory for a node (ENOMEM).
  case noMemory
}

/// A sparse array of words, indexed by UInt64. Operations take O(log₆₄ of the largest index) time.
@safe public final class RadixTree {
  public static var nodeSize: Int { 576 }
  /// Where a node has two words for its source, which frees it.
  public static var deferralOffset: Int { 552 }
  /// Nodes that one insert needs at most: the root rises by ten levels, and all eleven but the root are new.
  public static var maximumNodesForInsert: Int { 20 }

  /// What readers start from.
  let rootAddress = Atomic<UInt>(0)
  let nodes: any RadixNodeSource
  private let countWord = Atomic<Int>(0)
  /// The number of items.
  public internal(set) var count: Int {
    @inline(__always) get { countWord.load(ordering: .relaxed) }
    @inline(__always) set { countWord.store(newValue, ordering: .relaxed) }
  }

  @export(interface) public init(nodes: any RadixNodeSource = HeapRadixNodes.shared) { self.nodes = nodes }

  /// No readers are left.
  deinit { freeAll { [nodes] node in unsafe nodes.freeNode(node.base) } }

  public var isEmpty: Bool { count == 0 }

  // MARK: Looking up, without a lock

  /// The value at `index`, or 0.
  public subscript(index: UInt64) -> UInt {
    @export(interface) get {
      guard let leaf = leaf(of: index) else { return 0 }
      return leaf[Int(truncatingIfNeeded: index) & 63]
    }
  }

  /// The place where the value at `index` is, nil when there is none.
  @export(interface) public func slot(at index: UInt64) -> RadixTreeSlot? {
    guard let leaf = leaf(of: index) else { return nil }
    let slot = unsafe RadixTreeSlot(word: leaf.slotPointer(Int(truncatingIfNeeded: index) & 63))
    return slot.value == 0 ? nil : slot
  }

  /// The first item at or behind `start`.
  @export(interface) public func next(from start: UInt64) -> (index: UInt64, value: UInt)? { first(start, nil) }

  /// The first item at or behind `start` that has the tag.
  @export(interface) public func next(from start: UInt64, tagged tag: RadixTreeTag) -> (index: UInt64, value: UInt)? {
    first(start, tag)
  }

  /// Copies items from `start` on, in order, into the two buffers (as many as fit into both); how many there were.
  /// With `indices[n - 1] + 1` the search goes on.
  @export(interface) public func gather(
    from start: UInt64, tagged tag: RadixTreeTag? = nil, indices: UnsafeMutableBufferPointer<UInt64>,
    values: UnsafeMutableBufferPointer<UInt>
  ) -> Int {
    let limit = min(indices.count, values.count)
    guard limit > 0, let firstIndex = indices.baseAddress, let firstValue = values.baseAddress else {
      return 0
    }
    var found = 0
    var next = firstRun(start, tag)
    while var run = next {
      while run.slots != 0 {
        let slot = run.slots.trailingZeroBitCount
        run.slots &= run.slots &- 1
        let value = run.leaf[slot]
        if value == 0 { continue }
        // SAFETY: found < limit, which is at most either count.
        unsafe firstIndex[found] = run.base | UInt64(slot)
        unsafe firstValue[found] = value
        found &+= 1
        if found == limit { return found }
      }
      next = nextRun(after: run, tag)
    }
    return found
  }

  /// Whether the item at `index` has the tag.
  @export(interface) public func hasTag(_ tag: RadixTreeTag, at index: UInt64) -> Bool {
    guard let leaf = leaf(of: index) else { return false }
    return leaf[tag: tag] >> (index & 63) & 1 != 0
  }

  /// Whether any item has the tag. O(1).
  @export(interface) public func hasTag(_ tag: RadixTreeTag) -> Bool {
    guard let root else { return false }
    return root[tag: tag] != 0
  }

  // MARK: Changing

  /// Puts a value other than 0 at `index`, where there is none.
  @export(interface) public func insert(_ value: UInt, at index: UInt64) throws(RadixTreeFailure) {
    let place = try makePlace(index, value)
    if place.isNew { return }
    guard place.leaf[place.slot] == 0 else { throw .exists }
    fill(place.leaf, place.slot, value)
  }

  /// Puts a value other than 0 at `index`; the value that was there before, or 0. A value that replaces another one
  /// inherits its tags.
  @export(interface) @discardableResult
  public func update(_ value: UInt, at index: UInt64) throws(RadixTreeFailure) -> UInt {
    let place = try makePlace(index, value)
    if place.isNew { return 0 }
    let previous = place.leaf[place.slot]
    if previous == 0 { fill(place.leaf, place.slot, value) } else { place.leaf[place.slot] = value }
    return previous
  }

  /// Replaces the value at `index`, which keeps its tags; the value before. Nothing happens, and the result is 0, when
  /// there is none.
  @export(interface) @discardableResult
  public func replace(at index: UInt64, with value: UInt) -> UInt {
    precondition(value != 0)
    guard let leaf = leaf(of: index) else { return 0 }
    let slot = Int(truncatingIfNeeded: index) & 63
    let previous = leaf[slot]
    if previous != 0 { leaf[slot] = value }
    return previous
  }

  /// Takes out the value at `index`, and its tags; 0 when there is none.
  @export(interface) @discardableResult
  public func remove(at index: UInt64) -> UInt {
    guard let leaf = leaf(of: index) else { return 0 }
    let slot = Int(truncatingIfNeeded: index) & 63
    let value = leaf[slot]
    guard value != 0 else { return 0 }
    clear(.first, leaf, slot)
    clear(.second, leaf, slot)
    clear(.third, leaf, slot)
    leaf[slot] = 0
    leaf.present &= ~(1 << UInt64(slot))
    count &-= 1
    trim(leaf)
    return value
  }

  /// Takes out everything. O(count).
  @export(interface) public func removeAll() {
    freeAll { [nodes] node in
      if node.shift == 0 { for slot in 0..<64 { node[slot] = 0 } }
      unsafe nodes.freeNodeAfterReaders(node.base)
    }
  }

  /// Makes sure that the next insert or update does not fail for want of memory, if the caller does not sleep until then.
  /// Without the tree's lock.
  @export(interface) public func preload() throws(RadixTreeFailure) {
    guard nodes.reserveNodes(Self.maximumNodesForInsert) else { throw .noMemory }
  }

  // MARK: Tags

  /// Sets the tag of the item at `index`, if there is one; whether it was not set before.
  @export(interface) @discardableResult
  public func setTag(_ tag: RadixTreeTag, at index: UInt64) -> Bool {
    let slot = Int(truncatingIfNeeded: index) & 63
    guard let leaf = leaf(of: index), leaf[slot] != 0 else { return false }
    return set(tag, leaf, 1 << UInt64(slot))
  }

  /// Clears the tag of the item at `index`; whether it was set.
  @export(interface) @discardableResult
  public func clearTag(_ tag: RadixTreeTag, at index: UInt64) -> Bool {
    guard let leaf = leaf(of: index) else { return false }
    return clear(tag, leaf, Int(truncatingIfNeeded: index) & 63)
  }

  /// Sets `target` on items that have `source`, from `start` through `last`, until at least `limit` were found; how many
  /// were. `start` is then behind what was looked at, or nil when that was everything.
  @export(interface) @discardableResult
  public func copyTag(
    _ source: RadixTreeTag, to target: RadixTreeTag, from start: inout UInt64?, through last: UInt64, limit: Int = .max
  ) -> Int {
    guard let first = start else { return 0 }
    start = nil
    guard let root, first <= last, root.covers(first) else { return 0 }
    var sweep = RadixTagSweep(source: source, target: target, first: first, last: last, limit: limit)
    sweep.visit(root, 0)
    start = sweep.rest
    return sweep.found
  }
}

/// Where a tree has an item. Without the tree's lock it tells whether the item is still there; its memory is held by the
/// read section in which it was found.
@safe public struct RadixTreeSlot {
  let word: UnsafeMutablePointer<Atomic<UInt>>

  /// The item's value; 0 when it has been taken out.
  // SAFETY: see above.
  @inline(__always) public var value: UInt { unsafe word.pointee.load(ordering: .acquiring) }
}
