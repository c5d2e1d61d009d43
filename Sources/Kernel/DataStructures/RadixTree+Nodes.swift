// The nodes of the radix tree: descending, growing, shrinking, tags.
//
// What readers without a lock rely on: a node appears in the tree complete, by one store; a node that leaves keeps its
// shift, and either has no items or (a root that became superfluous) still leads to where they are; an item's slot
// becomes 0 before its node leaves.

import Synchronization

extension RadixTree {
  @inline(__always) var root: RadixNode? {
    get { RadixNode(address: rootAddress.load(ordering: .acquiring)) }
    set { rootAddress.store(newValue?.address ?? 0, ordering: .releasing) }
  }

  // MARK: Descending

  /// The lowest node on the way to `index`, when the way is complete.
  @inline(__always)
  func leaf(of index: UInt64) -> RadixNode? {
    guard var node = root, node.covers(index) else { return nil }
    var shift = node.shift
    while shift > 0 {
      guard let child = node.child(Int(truncatingIfNeeded: index &>> shift) & 63) else { return nil }
      node = child
      shift &-= 6
    }
    return node
  }

  /// Slots of one leaf: `base` is the index of its first one.
  typealias Run = (leaf: RadixNode, base: UInt64, slots: UInt64)

  /// The first leaf with items at or behind `start` that have the tag, and the slots of those items.
  func firstRun(_ start: UInt64, _ tag: RadixTreeTag?) -> Run? {
    guard let root, root.covers(start) else { return nil }
    return nextRun(root, start, tag)
  }

  /// The run behind another one, from where that was: usually in the next leaf of the same node.
  @inline(__always)
  func nextRun(after run: Run, _ tag: RadixTreeTag?) -> Run? {
    let position = run.base &+ 64
    guard position != 0, var node = run.leaf.parent else { return nil }
    // Slot 0 is that of the next node: the carry ran through.
    while node.slot(of: position) == 0 {
      guard let parent = node.parent else { return nil }
      node = parent
    }
    return nextRun(node, position, tag)
  }

  /// As `firstRun`, from a node on in which `start` lies.
  private func nextRun(_ first: RadixNode, _ start: UInt64, _ tag: RadixTreeTag?) -> Run? {
    var node = first
    var position = start
    while true {
      let shift = node.shift
      let slot = node.slot(of: position)
      let slots = node.slots(tag) & (~0 &<< UInt64(slot))
      if slots != 0 {
        if shift == 0 { return (node, position & ~63, slots) }
        let found = slots.trailingZeroBitCount
        // A later slot: from its first index on.
        if found != slot { position = (position &>> shift & ~63 | UInt64(found)) &<< shift }
        if let child = node.child(found) {
          node = child
          continue
        }
        // Emptied while we looked: on behind it.
        position = (position &>> shift &+ 1) &<< shift
        if position == 0 { return nil }
        if node.slot(of: position) != 0 { continue }
      } else {
        position = ((position &>> shift | 63) &+ 1) &<< shift
        if position == 0 { return nil }
      }
      // The first node above that the carry did not run through.
      repeat {
        guard let parent = node.parent else { return nil }
        node = parent
      } while node.slot(of: position) == 0
    }
  }

  func first(_ start: UInt64, _ tag: RadixTreeTag?) -> (index: UInt64, value: UInt)? {
    var next = firstRun(start, tag)
    while var run = next {
      while run.slots != 0 {
        let slot = run.slots.trailingZeroBitCount
        run.slots &= run.slots &- 1
        let value = run.leaf[slot]
        if value != 0 { return (run.base | UInt64(slot), value) }
      }
      // Taken out while we looked.
      next = nextRun(after: run, tag)
    }
    return nil
  }

  // MARK: Growing

  @inline(__always)
  func fill(_ leaf: RadixNode, _ slot: Int, _ value: UInt) {
    leaf[slot] = value
    leaf.present |= 1 << UInt64(slot)
    count &+= 1
  }

  /// The leaf for `index`. If it has to be made it appears with the value in it, and `isNew` is true.
  @inline(__always)
  func makePlace(
    _ index: UInt64, _ value: UInt
  ) throws(RadixTreeFailure) -> (leaf: RadixNode, slot: Int, isNew: Bool) {
    precondition(value != 0)
    let slot = Int(truncatingIfNeeded: index) & 63
    if let leaf = leaf(of: index) { return (leaf, slot, false) }
    return (try makeLeaf(index, value), slot, true)
  }

  @inline(never)
  private func makeLeaf(_ index: UInt64, _ value: UInt) throws(RadixTreeFailure) -> RadixNode {
    if root == nil {
      var shift: UInt64 = 0
      while index >> (shift &+ 6) != 0 { shift &+= 6 }
      let path = try makePath(index, value, topShift: shift)
      root = path.top
      return path.leaf
    }
    try raiseRoot(index)
    guard var node = root else { throw .noMemory }
    while let child = node.child(node.slot(of: index)) { node = child }
    // The way ends at a node above the leaves.
    let slot = node.slot(of: index)
    let path: (top: RadixNode, leaf: RadixNode)
    do throws(RadixTreeFailure) { path = try makePath(index, value, topShift: node.shift &- 6) } catch {
      lowerRoot()
      throw error
    }
    path.top.parent = node
    path.top.slotInParent = slot
    node[slot] = path.top.address
    node.present |= 1 << UInt64(slot)
    return path.leaf
  }

  /// A new node, nil when there is no memory.
  private func makeNode(shift: UInt64) -> RadixNode? {
    guard let memory = unsafe nodes.allocateNode() else { return nil }
    let node = unsafe RadixNode(memory)
    node.initialize(shift: UInt8(truncatingIfNeeded: shift))
    return node
  }

  /// The nodes from a leaf with one item up to the one with `topShift`, not in the tree yet.
  private func makePath(
    _ index: UInt64, _ value: UInt, topShift: UInt64
  ) throws(RadixTreeFailure) -> (top: RadixNode, leaf: RadixNode) {
    guard let leaf = makeNode(shift: 0) else { throw .noMemory }
    leaf[leaf.slot(of: index)] = value
    leaf.present = 1 << UInt64(leaf.slot(of: index))
    var top = leaf
    while top.shift < topShift {
      guard let above = makeNode(shift: top.shift &+ 6) else {
        // From the top down: each has one child.
        while top.shift > 0 {
          guard let child = top.child(top.slot(of: index)) else { break }
          unsafe nodes.freeNode(top.base)
          top = child
        }
        unsafe nodes.freeNode(top.base)
        throw .noMemory
      }
      let slot = above.slot(of: index)
      above[slot] = top.address
      above.present = 1 << UInt64(slot)
      top.parent = above
      top.slotInParent = slot
      top = above
    }
    count &+= 1
    return (top, leaf)
  }

  /// Puts nodes above the root until it covers `index`.
  private func raiseRoot(_ index: UInt64) throws(RadixTreeFailure) {
    while let top = root, !top.covers(index) {
      guard let above = makeNode(shift: top.shift &+ 6) else {
        lowerRoot()
        throw .noMemory
      }
      above[0] = top.address
      above.present = 1
      for tag in RadixTreeTag.allCases where top[tag: tag] != 0 { above[tag: tag] = 1 }
      top.slotInParent = 0
      top.parent = above
      root = above
    }
  }

  // MARK: Shrinking

  /// Frees the node if it is empty, and then its parents; lowers the root while only its first slot is in use.
  @inline(__always)
  func trim(_ start: RadixNode) {
    if start.present == 0 { removeEmpty(start) }
    if let root, root.present == 1, root.shift > 0 { lowerRoot() }
  }

  private func removeEmpty(_ start: RadixNode) {
    var node = start
    while node.present == 0 {
      guard let parent = node.parent else {
        root = nil
        unsafe nodes.freeNodeAfterReaders(node.base)
        return
      }
      let slot = node.slotInParent
      parent[slot] = 0
      parent.present &= ~(1 << UInt64(slot))
      unsafe nodes.freeNodeAfterReaders(node.base)
      node = parent
    }
  }

  private func lowerRoot() {
    while let top = root, top.shift > 0, top.present == 1, let child = top.child(0) {
      child.parent = nil
      root = child
      unsafe nodes.freeNodeAfterReaders(top.base)
    }
  }

  /// Takes all nodes out and hands them to `free`, lower ones first.
  func freeAll(_ free: (RadixNode) -> Void) {
    var next = root
    root = nil
    count = 0
    while let node = next {
      if node.shift > 0, node.present != 0 {
        let slot = node.present.trailingZeroBitCount
        node.present &= node.present &- 1
        next = node.child(slot)
      } else {
        next = node.parent
        free(node)
      }
    }
  }

  // MARK: Tags

  /// Sets a tag of some slots of a leaf, and above; whether one of them did not have it.
  @inline(__always) @discardableResult
  func set(_ tag: RadixTreeTag, _ leaf: RadixNode, _ slots: UInt64) -> Bool {
    let before = leaf[tag: tag]
    if before & slots == slots { return false }
    leaf[tag: tag] = before | slots
    // A leaf with the tag is known above already.
    if before == 0 { propagate(tag, leaf) }
    return true
  }

  private func propagate(_ tag: RadixTreeTag, _ leaf: RadixNode) {
    var node = leaf
    while let parent = node.parent {
      let before = parent[tag: tag]
      parent[tag: tag] = before | 1 << UInt64(node.slotInParent)
      if before != 0 { return }
      node = parent
    }
  }

  /// Clears a tag of a slot, and above it where it was the last; whether it was set.
  @inline(__always) @discardableResult
  func clear(_ tag: RadixTreeTag, _ leaf: RadixNode, _ slot: Int) -> Bool {
    let before = leaf[tag: tag]
    let mask: UInt64 = 1 << UInt64(slot)
    if before & mask == 0 { return false }
    leaf[tag: tag] = before & ~mask
    if before == mask { withdraw(tag, leaf) }
    return true
  }

  private func withdraw(_ tag: RadixTreeTag, _ leaf: RadixNode) {
    var node = leaf
    while let parent = node.parent {
      let rest = parent[tag: tag] & ~(1 << UInt64(node.slotInParent))
      parent[tag: tag] = rest
      if rest != 0 { return }
      node = parent
    }
  }
}
