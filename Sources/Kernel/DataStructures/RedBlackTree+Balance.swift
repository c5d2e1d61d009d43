// How the tree keeps its balance: rotations, and the two repairs that follow Cormen, Leiserson, Rivest and Stein,
// "Introduction to Algorithms", chapter 13. A missing child counts as black.

extension RedBlackTree {
  // SAFETY (of every access in this file and of the searches): a node reachable from the root, or being inserted, is
  // kept alive by the reference that the tree owns; `_withUnsafeGuaranteedRef` borrows it for the access only.

  @inline(__always) func links(_ node: Node) -> TreeLinks<Element> {
    unsafe node._withUnsafeGuaranteedRef { Membership.links(of: $0) }
  }
  @inline(__always) func setLinks(_ links: TreeLinks<Element>, _ node: Node) {
    unsafe node._withUnsafeGuaranteedRef { Membership.setLinks(links, of: $0) }
  }
  @inline(__always) func key(_ node: Node) -> Key {
    unsafe node._withUnsafeGuaranteedRef { Membership.key(of: $0) }
  }
  @inline(__always) func isSame(_ a: Node?, _ b: Node) -> Bool {
    guard let a = unsafe a else { return false }
    return unsafe a.toOpaque() == b.toOpaque()
  }
  @inline(__always) func setLeft(_ child: Node?, of node: Node) {
    var place = unsafe links(node)
    unsafe place.left = child
    unsafe setLinks(place, node)
  }
  @inline(__always) func setRight(_ child: Node?, of node: Node) {
    var place = unsafe links(node)
    unsafe place.right = child
    unsafe setLinks(place, node)
  }
  @inline(__always) func setParent(_ parent: Node?, of node: Node) {
    var place = unsafe links(node)
    unsafe place.parent = parent
    unsafe setLinks(place, node)
  }
  @inline(__always) func setRed(_ isRed: Bool, _ node: Node) {
    var place = unsafe links(node)
    place.isRed = isRed
    unsafe setLinks(place, node)
  }
  @inline(__always) func isRed(_ node: Node?) -> Bool {
    guard let node = unsafe node else { return false }
    return unsafe links(node).isRed
  }

  func leftmost(_ start: Node) -> Node {
    var node = unsafe start
    while let left = unsafe links(node).left { unsafe node = left }
    return unsafe node
  }
  func rightmost(_ start: Node) -> Node {
    var node = unsafe start
    while let right = unsafe links(node).right { unsafe node = right }
    return unsafe node
  }

  @inline(__always) func update(_ node: Node) {
    if Membership.isAugmented { unsafe node._withUnsafeGuaranteedRef { Membership.update($0) } }
  }
  func updateUpwards(_ start: Node?) {
    var next = unsafe start
    while let node = unsafe next {
      unsafe update(node)
      unsafe next = links(node).parent
    }
  }

  /// Puts `replacement` in the place of `node` below `parent`.
  func replaceChild(_ node: Node, of parent: Node?, by replacement: Node?) {
    if let parent = unsafe parent {
      if unsafe isSame(links(parent).left, node) {
        unsafe setLeft(replacement, of: parent)
      } else {
        unsafe setRight(replacement, of: parent)
      }
    } else {
      unsafe rootNode = replacement
    }
    if let replacement = unsafe replacement { unsafe setParent(parent, of: replacement) }
  }

  /// The right child of `node` rises into its place.
  func rotateLeft(_ node: Node) {
    guard let riser = unsafe links(node).right else { return }
    let inner = unsafe links(riser).left
    unsafe replaceChild(node, of: links(node).parent, by: riser)
    unsafe setRight(inner, of: node)
    if let inner = unsafe inner { unsafe setParent(node, of: inner) }
    unsafe setLeft(node, of: riser)
    unsafe setParent(riser, of: node)
    unsafe update(node)
    unsafe update(riser)
  }

  /// The left child of `node` rises into its place.
  func rotateRight(_ node: Node) {
    guard let riser = unsafe links(node).left else { return }
    let inner = unsafe links(riser).right
    unsafe replaceChild(node, of: links(node).parent, by: riser)
    unsafe setLeft(inner, of: node)
    if let inner = unsafe inner { unsafe setParent(node, of: inner) }
    unsafe setRight(node, of: riser)
    unsafe setParent(riser, of: node)
    unsafe update(node)
    unsafe update(riser)
  }

  /// A red node was added; its parent may be red too.
  func balanceAfterInsertion(_ added: Node) {
    var node = unsafe added
    while let parent = unsafe links(node).parent, unsafe links(parent).isRed, let grand = unsafe links(parent).parent {
      let parentIsLeft = unsafe isSame(links(grand).left, parent)
      let uncle = unsafe parentIsLeft ? links(grand).right : links(grand).left
      if let uncle = unsafe uncle, unsafe links(uncle).isRed {
        unsafe setRed(false, parent)
        unsafe setRed(false, uncle)
        unsafe setRed(true, grand)
        unsafe node = grand
        continue
      }
      var top = unsafe parent
      if parentIsLeft {
        if unsafe isSame(links(parent).right, node) {
          unsafe rotateLeft(parent)
          unsafe top = node
        }
        unsafe setRed(false, top)
        unsafe setRed(true, grand)
        unsafe rotateRight(grand)
      } else {
        if unsafe isSame(links(parent).left, node) {
          unsafe rotateRight(parent)
          unsafe top = node
        }
        unsafe setRed(false, top)
        unsafe setRed(true, grand)
        unsafe rotateLeft(grand)
      }
      break
    }
    if let root = unsafe rootNode { unsafe setRed(false, root) }
  }

  /// Takes a node out of the structure. A node with two children gives its place and colour to its successor.
  func unlink(_ node: Node) {
    let place = unsafe links(node)
    var child: Node?
    var childParent: Node?
    var lostBlack: Bool
    if let left = unsafe place.left, let right = unsafe place.right {
      let successor = unsafe leftmost(right)
      let successorPlace = unsafe links(successor)
      lostBlack = !successorPlace.isRed
      unsafe child = successorPlace.right
      if unsafe isSame(right, successor) {
        unsafe childParent = successor
      } else {
        unsafe childParent = successorPlace.parent
        if let parent = unsafe successorPlace.parent { unsafe replaceChild(successor, of: parent, by: child) }
        unsafe setRight(right, of: successor)
        unsafe setParent(successor, of: right)
      }
      unsafe replaceChild(node, of: place.parent, by: successor)
      unsafe setLeft(left, of: successor)
      unsafe setParent(successor, of: left)
      unsafe setRed(place.isRed, successor)
    } else {
      lostBlack = !place.isRed
      unsafe child = place.left ?? place.right
      unsafe childParent = place.parent
      unsafe replaceChild(node, of: place.parent, by: child)
    }
    if Membership.isAugmented { unsafe updateUpwards(childParent) }
    if lostBlack { unsafe balanceAfterRemoval(child, parent: childParent) }
  }

  /// The paths through `start`, which may be missing, below `startParent` have one black node too few.
  private func balanceAfterRemoval(_ start: Node?, parent startParent: Node?) {
    var node = unsafe start
    var next = unsafe startParent
    while unsafe !isRed(node), let parent = unsafe next {
      let nodeIsLeft: Bool
      if let node = unsafe node {
        nodeIsLeft = unsafe isSame(links(parent).left, node)
      } else {
        nodeIsLeft = unsafe links(parent).left == nil
      }
      // A sibling exists: its subtree has a black node more than this one.
      guard var sibling = unsafe nodeIsLeft ? links(parent).right : links(parent).left else { break }
      if unsafe links(sibling).isRed {
        unsafe setRed(false, sibling)
        unsafe setRed(true, parent)
        if nodeIsLeft { unsafe rotateLeft(parent) } else { unsafe rotateRight(parent) }
        guard let nephew = unsafe nodeIsLeft ? links(parent).right : links(parent).left else { break }
        unsafe sibling = nephew
      }
      let near = unsafe nodeIsLeft ? links(sibling).left : links(sibling).right
      let far = unsafe nodeIsLeft ? links(sibling).right : links(sibling).left
      if unsafe !isRed(near) && !isRed(far) {
        unsafe setRed(true, sibling)
        unsafe node = parent
        unsafe next = links(parent).parent
        continue
      }
      if unsafe !isRed(far) {
        if let near = unsafe near { unsafe setRed(false, near) }
        unsafe setRed(true, sibling)
        if nodeIsLeft { unsafe rotateRight(sibling) } else { unsafe rotateLeft(sibling) }
        guard let risen = unsafe nodeIsLeft ? links(parent).right : links(parent).left else { break }
        unsafe sibling = risen
      }
      unsafe setRed(isRed(parent), sibling)
      unsafe setRed(false, parent)
      if let outer = unsafe nodeIsLeft ? links(sibling).right : links(sibling).left { unsafe setRed(false, outer) }
      if nodeIsLeft { unsafe rotateLeft(parent) } else { unsafe rotateRight(parent) }
      return
    }
    if let node = unsafe node { unsafe setRed(false, node) }
  }
}
