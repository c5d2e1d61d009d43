// A sparse array: 64-bit index to a word. The page cache keeps its frames here, by page index.
//
// Nodes have 64 slots, so six bits of the index select a slot on each level, and the height is that of the largest
// index present. Each slot has three *tags*; a tag is set in an inner node when it is set anywhere below, so that the
// next dirty page of a huge file is found without visiting clean ones. A node is freed with its last item.
//
// Values are words other than 0 (frame numbers, pointers); `ObjectRadixTree` keeps references. The caller provides for
// mutual exclusion.

/// One of the three marks of an item.
public enum RadixTreeTag: Int {
  case first = 0
  case second = 1
  case third = 2
}

/// A sparse array of words, indexed by UInt64. Operations take O(log₆₄ of the largest index) time.
@safe public final class RadixTree {
  @safe struct Node {
    var slots: InlineArray<64, UInt>
    var tags: InlineArray<3, UInt64>
    var present: UInt64
    var parent: UnsafeMutablePointer<Node>?
    var shift: UInt8  // of the index bits that select a slot here
    var slotInParent: UInt8
  }
  typealias NodePointer = UnsafeMutablePointer<Node>

  var root: NodePointer?
  /// The number of items.
  public internal(set) var count = 0

  @export(interface) public init() {}

  deinit { removeAll() }

  public var isEmpty: Bool { count == 0 }

  /// The value at `index`, or 0.
  public subscript(index: UInt64) -> UInt {
    @export(interface) get {
      guard let (node, slot) = unsafe leaf(of: index) else { return 0 }
      return unsafe node.pointee.slots[slot]
    }
  }

  /// Puts a value other than 0 at `index`; the value that was there before, or 0. A value that replaces another one
  /// inherits its tags.
  @export(interface) @discardableResult
  public func insert(_ value: UInt, at index: UInt64) -> UInt {
    precondition(value != 0)
    var node = unsafe rootCovering(index)
    while unsafe node.pointee.shift > 0 {
      let slot = unsafe Self.slot(of: index, in: node)
      if let child = unsafe Self.child(of: node, slot) {
        unsafe node = child
      } else {
        let child = unsafe Self.makeNode(shift: node.pointee.shift &- 6, parent: node, slot: slot)
        unsafe node.pointee.slots[slot] = UInt(bitPattern: child)
        unsafe node.pointee.present |= 1 << UInt64(slot)
        unsafe node = child
      }
    }
    let slot = unsafe Self.slot(of: index, in: node)
    let previous = unsafe node.pointee.slots[slot]
    unsafe node.pointee.slots[slot] = value
    unsafe node.pointee.present |= 1 << UInt64(slot)
    if previous == 0 { count &+= 1 }
    return previous
  }

  /// Takes out the value at `index`, and its tags; 0 when there is none.
  @export(interface) @discardableResult
  public func remove(at index: UInt64) -> UInt {
    guard let (node, slot) = unsafe leaf(of: index) else { return 0 }
    let value = unsafe node.pointee.slots[slot]
    guard value != 0 else { return 0 }
    for tag in 0..<3 { unsafe clear(tag, node, slot) }
    unsafe node.pointee.slots[slot] = 0
    unsafe node.pointee.present &= ~(1 << UInt64(slot))
    count &-= 1
    unsafe trim(node)
    return value
  }

  /// Takes out everything. O(count).
  @export(interface) public func removeAll() {
    var next = unsafe root
    unsafe root = nil
    count = 0
    while let node = unsafe next {
      if unsafe node.pointee.shift > 0 && node.pointee.present != 0 {
        let slot = unsafe node.pointee.present.trailingZeroBitCount
        unsafe node.pointee.present &= ~(1 << UInt64(slot))
        unsafe next = Self.child(of: node, slot)
      } else {
        unsafe next = node.pointee.parent
        unsafe node.deallocate()
      }
    }
  }

  // MARK: Finding the next

  /// The first item at or behind `start`.
  @export(interface) public func next(from start: UInt64) -> (index: UInt64, value: UInt)? {
    unsafe scan(from: start) { unsafe $0.pointee.present }
  }

  /// The first item at or behind `start` that has the tag.
  @export(interface) public func next(from start: UInt64, tagged tag: RadixTreeTag) -> (index: UInt64, value: UInt)? {
    unsafe scan(from: start) { unsafe $0.pointee.tags[tag.rawValue] }
  }

  /// Copies items from `start` on, in order, into the two buffers (as many as fit into both); how many there were.
  /// With `indices[n - 1] + 1` the search goes on.
  @export(interface) public func gather(
    from start: UInt64, tagged tag: RadixTreeTag? = nil, indices: UnsafeMutableBufferPointer<UInt64>,
    values: UnsafeMutableBufferPointer<UInt>
  ) -> Int {
    let limit = min(indices.count, values.count)
    var found = 0
    var position = start
    while found < limit {
      guard let item = if let tag { next(from: position, tagged: tag) } else { next(from: position) } else { break }
      // SAFETY: found < limit, which is at most either count.
      unsafe indices[found] = item.index
      unsafe values[found] = item.value
      found &+= 1
      if item.index == .max { break }
      position = item.index &+ 1
    }
    return found
  }

  // MARK: Tags

  /// Sets the tag of the item at `index`; nothing happens when there is none.
  @export(interface) public func setTag(_ tag: RadixTreeTag, at index: UInt64) {
    guard let place = unsafe leaf(of: index), unsafe place.node.pointee.slots[place.slot] != 0 else { return }
    var (node, slot) = unsafe place
    while true {
      let mask = UInt64(1) << UInt64(slot)
      if unsafe node.pointee.tags[tag.rawValue] & mask != 0 { return }
      unsafe node.pointee.tags[tag.rawValue] |= mask
      guard let parent = unsafe node.pointee.parent else { return }
      slot = unsafe Int(node.pointee.slotInParent)
      unsafe node = parent
    }
  }

  /// Clears the tag of the item at `index`.
  @export(interface) public func clearTag(_ tag: RadixTreeTag, at index: UInt64) {
    guard let (node, slot) = unsafe leaf(of: index) else { return }
    unsafe clear(tag.rawValue, node, slot)
  }

  /// Whether the item at `index` has the tag.
  @export(interface) public func hasTag(_ tag: RadixTreeTag, at index: UInt64) -> Bool {
    guard let (node, slot) = unsafe leaf(of: index) else { return false }
    return unsafe node.pointee.tags[tag.rawValue] >> UInt64(slot) & 1 != 0
  }

  /// Whether any item has the tag. O(1).
  @export(interface) public func hasTag(_ tag: RadixTreeTag) -> Bool {
    guard let root = unsafe root else { return false }
    return unsafe root.pointee.tags[tag.rawValue] != 0
  }
}
