// The nodes of the radix tree: growing, shrinking, descending.

// SAFETY (of this file): a node is reachable from the root or from the caller's descent only, is freed when it has no
// item left and is unlinked first, and slots of nodes with shift > 0 hold nothing but pointers to nodes.
extension RadixTree {
  static func makeNode(shift: UInt8, parent: NodePointer?, slot: Int) -> NodePointer {
    let node = NodePointer.allocate(capacity: 1)
    unsafe node.initialize(
      to: Node(
        slots: InlineArray(repeating: 0), tags: InlineArray(repeating: 0), present: 0, parent: parent, shift: shift,
        slotInParent: UInt8(truncatingIfNeeded: slot)))
    return unsafe node
  }

  @inline(__always)
  static func slot(of index: UInt64, in node: NodePointer) -> Int {
    unsafe Int(truncatingIfNeeded: index >> UInt64(node.pointee.shift)) & 63
  }

  @inline(__always)
  static func child(of node: NodePointer, _ slot: Int) -> NodePointer? {
    unsafe NodePointer(bitPattern: node.pointee.slots[slot])
  }

  /// Whether `index` lies within the subtree of a root with this shift.
  @inline(__always)
  static func covers(_ index: UInt64, shift: UInt8) -> Bool {
    // Smart shift: by 64 and more the result is 0.
    index >> (UInt64(shift) &+ 6) == 0
  }

  /// The lowest node on the way to `index`, and the slot in it, when the way is complete.
  @inline(__always)
  func leaf(of index: UInt64) -> (node: NodePointer, slot: Int)? {
    guard var node = unsafe root, unsafe Self.covers(index, shift: node.pointee.shift) else { return nil }
    while unsafe node.pointee.shift > 0 {
      guard let child = unsafe Self.child(of: node, Self.slot(of: index, in: node)) else { return nil }
      unsafe node = child
    }
    return unsafe (node, Self.slot(of: index, in: node))
  }

  /// The root, made or raised until it covers `index`.
  func rootCovering(_ index: UInt64) -> NodePointer {
    guard var top = unsafe root else {
      var shift: UInt8 = 0
      while !Self.covers(index, shift: shift) { shift &+= 6 }
      let node = unsafe Self.makeNode(shift: shift, parent: nil, slot: 0)
      unsafe root = node
      return unsafe node
    }
    while unsafe !Self.covers(index, shift: top.pointee.shift) {
      let node = unsafe Self.makeNode(shift: top.pointee.shift &+ 6, parent: nil, slot: 0)
      unsafe node.pointee.slots[0] = UInt(bitPattern: top)
      unsafe node.pointee.present = 1
      for tag in 0..<3 where unsafe top.pointee.tags[tag] != 0 { unsafe node.pointee.tags[tag] = 1 }
      unsafe top.pointee.parent = node
      unsafe top.pointee.slotInParent = 0
      unsafe top = node
    }
    unsafe root = top
    return unsafe top
  }

  /// Frees the node if it is empty, and then its parents; lowers the root while only its first slot is in use.
  func trim(_ start: NodePointer) {
    var node = unsafe start
    while unsafe node.pointee.present == 0 {
      let parent = unsafe node.pointee.parent
      let slot = unsafe Int(node.pointee.slotInParent)
      unsafe node.deallocate()
      guard let parent = unsafe parent else {
        unsafe root = nil
        return
      }
      unsafe parent.pointee.slots[slot] = 0
      unsafe parent.pointee.present &= ~(1 << UInt64(slot))
      unsafe node = parent
    }
    while let top = unsafe root, unsafe top.pointee.shift > 0, unsafe top.pointee.present == 1,
      let child = unsafe Self.child(of: top, 0)
    {
      unsafe child.pointee.parent = nil
      unsafe root = child
      unsafe top.deallocate()
    }
  }

  /// Clears a tag of a slot, and above it where it was the last.
  func clear(_ tag: Int, _ start: NodePointer, _ startSlot: Int) {
    var node = unsafe start
    var slot = startSlot
    while true {
      let mask = UInt64(1) << UInt64(slot)
      guard unsafe node.pointee.tags[tag] & mask != 0 else { return }
      unsafe node.pointee.tags[tag] &= ~mask
      guard unsafe node.pointee.tags[tag] == 0, let parent = unsafe node.pointee.parent else { return }
      slot = unsafe Int(node.pointee.slotInParent)
      unsafe node = parent
    }
  }

  /// The first item at or behind `start` along slots whose bit is set in the word which `candidates` names.
  @inline(__always)
  func scan(from start: UInt64, _ candidates: (NodePointer) -> UInt64) -> (index: UInt64, value: UInt)? {
    guard var node = unsafe root, unsafe Self.covers(start, shift: node.pointee.shift) else { return nil }
    var position = start
    while true {
      let shift = unsafe UInt64(node.pointee.shift)
      let slot = unsafe Self.slot(of: position, in: node)
      let word = unsafe candidates(node) & (~0 << UInt64(slot))
      if word == 0 {
        // Nothing left here: go on behind this node's range. The range of the root is the last.
        guard let parent = unsafe node.pointee.parent else { return nil }
        let behind = position >> (shift &+ 6) &+ 1
        position = behind << (shift &+ 6)
        if position >> (shift &+ 6) != behind { return nil }
        // The first parent that the carry did not run through: the bits that select slots in the others became zero.
        var ancestor: NodePointer? = unsafe parent
        while let above = unsafe ancestor, unsafe Self.slot(of: position, in: above) == 0 {
          unsafe ancestor = above.pointee.parent
        }
        guard let above = unsafe ancestor else { return nil }
        unsafe node = above
        continue
      }
      let found = word.trailingZeroBitCount
      if found != slot {
        // A later slot: start at its first index.
        let base = shift &+ 6 >= 64 ? 0 : (position >> (shift &+ 6)) << (shift &+ 6)
        position = base | UInt64(found) << shift
      }
      if shift == 0 { return unsafe (position, node.pointee.slots[found]) }
      guard let child = unsafe Self.child(of: node, found) else { return nil }
      unsafe node = child
    }
  }
}
