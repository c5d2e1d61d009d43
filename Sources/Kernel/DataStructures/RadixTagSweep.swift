// The sweep "what has this tag is to get that one": what is dirty now is to be written.
//
// A leaf that was not used lately is a miss of the cache: its tags are in one line, and the sweep touches no other. The way
// on is known from the node above, not from the leaf, so that the processor goes on to the next leaves while it waits for one.

/// One sweep. By its end inner nodes have the new tag where something below has it.
struct RadixTagSweep {
  let source: RadixTreeTag
  let target: RadixTreeTag
  /// The first and the last index of the sweep.
  let first: UInt64
  let last: UInt64
  /// It stops when so many items were found.
  let limit: Int
  private(set) var found = 0
  /// Behind what was looked at, if it stopped.
  private(set) var rest: UInt64?

  init(source: RadixTreeTag, target: RadixTreeTag, first: UInt64, last: UInt64, limit: Int) {
    self.source = source
    self.target = target
    self.first = first
    self.last = last
    self.limit = limit
  }

  /// Sweeps the node whose first slot begins at index `base`.
  mutating func visit(_ node: RadixNode, _ base: UInt64) {
    let slots = slotsInRange(node, base) & node[tag: source]
    if node.shift == 0 { mark(node, slots) } else { descend(node, base, slots) }
  }

  private mutating func descend(_ node: RadixNode, _ base: UInt64, _ slots: UInt64) {
    let shift = node.shift
    var left = slots
    var marked: UInt64 = 0
    while left != 0 {
      let slot = UInt64(left.trailingZeroBitCount)
      left &= left &- 1
      guard let child = node.child(Int(slot)) else { continue }
      let before = found
      let childBase = base | slot &<< shift
      visit(child, childBase)
      if found != before { marked |= 1 &<< slot }
      guard found >= limit else { continue }
      // The child may have stopped within itself.
      let end = childBase | (1 &<< shift &- 1)
      if rest == nil, end < last { rest = end &+ 1 }
      break
    }
    let tagged = node[tag: target]
    if tagged | marked != tagged { node[tag: target] = tagged | marked }
  }

  @inline(__always)
  private mutating func mark(_ leaf: RadixNode, _ slots: UInt64) {
    found &+= slots.nonzeroBitCount
    let tagged = leaf[tag: target]
    // A line that stays as it is need not be written.
    if tagged | slots != tagged { leaf[tag: target] = tagged | slots }
  }

  /// The node's slots that reach into the sweep.
  @inline(__always)
  private func slotsInRange(_ node: RadixNode, _ base: UInt64) -> UInt64 {
    var slots = ~UInt64(0)
    if base < first { slots &<<= UInt64(node.slot(of: first)) }
    // Smart shift: by 64 and more the result is 0.
    let end = base | ~(~UInt64(0) << (node.shift &+ 6))
    if end > last { slots &= ~0 &>> UInt64(63 &- node.slot(of: last)) }
    return slots
  }
}
