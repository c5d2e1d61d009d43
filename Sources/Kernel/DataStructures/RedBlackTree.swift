// A balanced search tree whose links live in its elements.
//
// Memory areas, timers and run queues need "the first at or after", "the last at or before" and removal of a known
// element, without an allocation per insertion. The elements are objects; a *membership* (a type with static functions
// only) says where an element keeps its links and what its key is, so an object can be in several trees at once, and
// neither a superclass nor a final class is asked for.
//
// The tree owns one reference to each element: taken by `insert`, handed back by `remove`. The links themselves are
// unmanaged, hence a descent or a rotation counts no references. Elements with equal keys are kept in the order of
// their insertion.
//
// Balance is that of Guibas and Sedgewick: the root is black, a red node has black children, every path to a leaf
// passes equally many black nodes. A membership may be *augmented*: it keeps a summary of the subtree in each element
// (the largest gap below it, say), and the tree calls `update` from the bottom up wherever a subtree has changed.

/// The place of an element in a tree; an element stores one for each tree that it can be in.
@safe public struct TreeLinks<Element: AnyObject> {
  @usableFromInline var left: Unmanaged<Element>?
  @usableFromInline var right: Unmanaged<Element>?
  @usableFromInline var parent: Unmanaged<Element>?
  @usableFromInline var isRed = false
  /// Whether the element is in a tree now.
  public internal(set) var isLinked = false

  public init() {}

  /// The element whose subtree comes before this one.
  public var leftChild: Element? { unsafe left?.takeUnretainedValue() }
  /// The element whose subtree comes after this one.
  public var rightChild: Element? { unsafe right?.takeUnretainedValue() }
}

/// How elements take part in a tree.
public protocol TreeMembership {
  associatedtype Element: AnyObject
  associatedtype Key: Comparable
  /// The order of the elements; it may not change while the element is in the tree, except such that its order among
  /// the other elements stays the same.
  static func key(of element: Element) -> Key
  static func links(of element: Element) -> TreeLinks<Element>
  static func setLinks(_ links: TreeLinks<Element>, of element: Element)
  /// Whether `update` has to be called.
  static var isAugmented: Bool { get }
  /// Computes the element's summary from itself and the summaries of its two children.
  static func update(_ element: Element)
}

extension TreeMembership {
  public static var isAugmented: Bool { false }
  public static func update(_ element: Element) {}
}

/// An ordered collection of objects with intrusive links. All operations take O(log n) time unless said otherwise; the
/// caller provides for mutual exclusion.
@safe public final class RedBlackTree<Membership: TreeMembership> {
  public typealias Element = Membership.Element
  public typealias Key = Membership.Key
  /// A reference that is not counted: valid as long as the element stays in the tree.
  public typealias Node = Unmanaged<Element>

  /// The element at the top, for searches guided by a summary.
  public internal(set) var rootNode: Node?
  // The ends are kept, so that the next timer and the next thread to run are found in constant time.
  public private(set) var firstNode: Node?
  public private(set) var lastNode: Node?
  /// The number of elements.
  public private(set) var count = 0

  public init() {}

  deinit { removeAll() }

  public var isEmpty: Bool { unsafe rootNode == nil }
  public var root: Element? { unsafe rootNode?.takeUnretainedValue() }
  /// The element with the smallest key. O(1).
  public var first: Element? { unsafe firstNode?.takeUnretainedValue() }
  /// The element with the largest key. O(1).
  public var last: Element? { unsafe lastNode?.takeUnretainedValue() }

  // MARK: Searching

  /// The first element with this key.
  public func find(_ key: Key) -> Element? {
    guard let node = unsafe ceilingNode(key), unsafe self.key(node) == key else { return nil }
    return unsafe node.takeUnretainedValue()
  }

  /// The first element whose key is at least `key`.
  public func ceiling(_ key: Key) -> Element? { unsafe ceilingNode(key)?.takeUnretainedValue() }

  /// The last element whose key is at most `key`.
  public func floor(_ key: Key) -> Element? { unsafe floorNode(key)?.takeUnretainedValue() }

  /// `ceiling` without taking a reference.
  public func ceilingNode(_ key: Key) -> Node? {
    var best: Node? = nil
    var next = unsafe rootNode
    while let node = unsafe next {
      if unsafe self.key(node) < key {
        unsafe next = links(node).right
      } else {
        unsafe best = node
        unsafe next = links(node).left
      }
    }
    return unsafe best
  }

  /// `floor` without taking a reference.
  public func floorNode(_ key: Key) -> Node? {
    var best: Node? = nil
    var next = unsafe rootNode
    while let node = unsafe next {
      if unsafe key < self.key(node) {
        unsafe next = links(node).left
      } else {
        unsafe best = node
        unsafe next = links(node).right
      }
    }
    return unsafe best
  }

  /// The element that follows in order; O(1) on average over a traversal.
  public func next(after element: Element) -> Element? {
    unsafe nextNode(after: Unmanaged.passUnretained(element))?.takeUnretainedValue()
  }

  /// The element that precedes in order.
  public func previous(before element: Element) -> Element? {
    unsafe previousNode(before: Unmanaged.passUnretained(element))?.takeUnretainedValue()
  }

  /// `next` without taking a reference.
  public func nextNode(after start: Node) -> Node? {
    if let right = unsafe links(start).right { return unsafe leftmost(right) }
    var node = unsafe start
    while let parent = unsafe links(node).parent {
      if unsafe isSame(links(parent).left, node) { return unsafe parent }
      unsafe node = parent
    }
    return nil
  }

  /// `previous` without taking a reference.
  public func previousNode(before start: Node) -> Node? {
    if let left = unsafe links(start).left { return unsafe rightmost(left) }
    var node = unsafe start
    while let parent = unsafe links(node).parent {
      if unsafe isSame(links(parent).right, node) { return unsafe parent }
      unsafe node = parent
    }
    return nil
  }

  /// Calls `body` for each element in order, until it answers false. It may not change the tree.
  public func visit<E: Error>(_ body: (Element) throws(E) -> Bool) throws(E) {
    var next = unsafe firstNode
    while let node = unsafe next {
      if try unsafe !body(node.takeUnretainedValue()) { return }
      unsafe next = nextNode(after: node)
    }
  }

  // MARK: Changing

  /// Adds an element, behind those with the same key. It must not be in a tree by this membership.
  public func insert(_ element: Element) {
    precondition(!Membership.links(of: element).isLinked, "the element is in a tree already")
    let node = unsafe Unmanaged.passRetained(element)
    let key = Membership.key(of: element)
    var parent: Node? = nil
    var next = unsafe rootNode
    var goesLeft = false
    var isFirst = true
    var isLast = true
    while let current = unsafe next {
      unsafe parent = current
      goesLeft = unsafe key < self.key(current)
      if goesLeft {
        isLast = false
        unsafe next = links(current).left
      } else {
        isFirst = false
        unsafe next = links(current).right
      }
    }
    var fresh = TreeLinks<Element>()
    unsafe fresh.parent = parent
    fresh.isRed = true
    fresh.isLinked = true
    unsafe setLinks(fresh, node)
    if let parent = unsafe parent {
      if goesLeft { unsafe setLeft(node, of: parent) } else { unsafe setRight(node, of: parent) }
    } else {
      unsafe rootNode = node
    }
    if isFirst { unsafe firstNode = node }
    if isLast { unsafe lastNode = node }
    count &+= 1
    if Membership.isAugmented { unsafe updateUpwards(node) }
    unsafe balanceAfterInsertion(node)
  }

  /// Takes the element out of this tree, which it must be in.
  public func remove(_ element: Element) {
    precondition(Membership.links(of: element).isLinked, "the element is not in a tree")
    let node = unsafe Unmanaged.passUnretained(element)
    if unsafe isSame(firstNode, node) { unsafe firstNode = nextNode(after: node) }
    if unsafe isSame(lastNode, node) { unsafe lastNode = previousNode(before: node) }
    unsafe unlink(node)
    unsafe setLinks(TreeLinks<Element>(), node)
    count &-= 1
    unsafe node.release()
  }

  /// Takes out all elements. O(n).
  public func removeAll() {
    // Depth first, without recursion: descend to a leaf, cut it off, go on at its parent.
    var next = unsafe rootNode
    unsafe rootNode = nil
    unsafe firstNode = nil
    unsafe lastNode = nil
    count = 0
    while let node = unsafe next {
      let place = unsafe links(node)
      if let child = unsafe place.left ?? place.right {
        unsafe next = child
        continue
      }
      if let parent = unsafe place.parent {
        if unsafe isSame(links(parent).left, node) {
          unsafe setLeft(nil, of: parent)
        } else {
          unsafe setRight(nil, of: parent)
        }
      }
      unsafe next = place.parent
      unsafe setLinks(TreeLinks<Element>(), node)
      unsafe node.release()
    }
  }

  /// Recomputes the summaries of `element` and everything above it, after its own contents have changed.
  public func updateSummaries(from element: Element) {
    unsafe updateUpwards(Unmanaged.passUnretained(element))
  }
}
