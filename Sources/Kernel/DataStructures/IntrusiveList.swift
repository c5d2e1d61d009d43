// A doubly linked list whose links live in its elements: constant-time insertion and removal without allocation, for
// queues in which objects wait and are taken out of the middle. As with `RedBlackTree`, a membership says where the
// links are, and the list owns one reference to each element.

/// The place of an element in a list; an element stores one for each list that it can be in.
@safe public struct ListLinks<Element: AnyObject> {
  var next: Unmanaged<Element>?
  var previous: Unmanaged<Element>?
  /// Whether the element is in a list now.
  public internal(set) var isLinked = false

  public init() {}
}

/// How elements take part in a list.
public protocol ListMembership {
  associatedtype Element: AnyObject
  static func links(of element: Element) -> ListLinks<Element>
  static func setLinks(_ links: ListLinks<Element>, of element: Element)
}

/// A queue of objects with intrusive links. All operations take constant time unless said otherwise; the caller
/// provides for mutual exclusion.
@safe public final class IntrusiveList<Membership: ListMembership> {
  public typealias Element = Membership.Element
  typealias Node = Unmanaged<Element>

  private var head: Node?
  private var tail: Node?
  /// The number of elements.
  public private(set) var count = 0

  public init() {}

  deinit { while popFirst() != nil {} }

  public var isEmpty: Bool { unsafe head == nil }
  public var first: Element? { unsafe head?.takeUnretainedValue() }
  public var last: Element? { unsafe tail?.takeUnretainedValue() }

  /// The element behind this one.
  public func next(after element: Element) -> Element? {
    unsafe Membership.links(of: element).next?.takeUnretainedValue()
  }
  /// The element in front of this one.
  public func previous(before element: Element) -> Element? {
    unsafe Membership.links(of: element).previous?.takeUnretainedValue()
  }

  /// Adds an element, which must not be in a list by this membership, at the end.
  public func append(_ element: Element) { unsafe link(element, after: tail, before: nil) }

  /// Adds an element at the front.
  public func prepend(_ element: Element) { unsafe link(element, after: nil, before: head) }

  /// Adds an element in front of another one, which is in this list.
  public func insert(_ element: Element, before other: Element) {
    unsafe link(element, after: Membership.links(of: other).previous, before: Unmanaged.passUnretained(other))
  }

  /// Takes an element out of this list, which it must be in.
  public func remove(_ element: Element) {
    let place = Membership.links(of: element)
    precondition(place.isLinked, "the element is not in a list")
    unsafe join(place.previous, place.next)
    Membership.setLinks(ListLinks(), of: element)
    count &-= 1
    unsafe Unmanaged.passUnretained(element).release()
  }

  /// Takes out the first element.
  public func popFirst() -> Element? {
    guard let first else { return nil }
    remove(first)
    return first
  }

  /// Calls `body` for each element in order, until it answers false. It may remove the element that it is called for,
  /// and no other. O(n).
  public func visit<E: Error>(_ body: (Element) throws(E) -> Bool) throws(E) {
    var following = unsafe head
    while let node = unsafe following {
      // SAFETY: nodes of the list are alive by the reference which the list owns; the successor is read before `body`
      // can take this element out.
      let element = unsafe node.takeUnretainedValue()
      unsafe following = Membership.links(of: element).next
      if try !body(element) { return }
    }
  }

  private func link(_ element: Element, after previous: Node?, before next: Node?) {
    precondition(!Membership.links(of: element).isLinked, "the element is in a list already")
    let node = unsafe Unmanaged.passRetained(element)
    var place = ListLinks<Element>()
    unsafe place.next = next
    unsafe place.previous = previous
    place.isLinked = true
    Membership.setLinks(place, of: element)
    unsafe join(previous, node)
    unsafe join(node, next)
    count &+= 1
  }

  /// Makes two elements neighbours; a missing one is the list's end.
  private func join(_ front: Node?, _ back: Node?) {
    // SAFETY: both are in the list or being inserted, hence alive.
    if let front = unsafe front {
      unsafe front._withUnsafeGuaranteedRef {
        var place = Membership.links(of: $0)
        unsafe place.next = back
        Membership.setLinks(place, of: $0)
      }
    } else {
      unsafe head = back
    }
    if let back = unsafe back {
      unsafe back._withUnsafeGuaranteedRef {
        var place = Membership.links(of: $0)
        unsafe place.previous = front
        Membership.setLinks(place, of: $0)
      }
    } else {
      unsafe tail = front
    }
  }
}
