// A sparse array of objects: the radix tree with references for values.

/// A sparse array of objects, indexed by UInt64, which holds one reference to each. The caller provides for mutual
/// exclusion, of readers too.
public final class ObjectRadixTree<Element: AnyObject> {
  /// The structure below, for tags and for the number of items. Values may not be changed through it.
  public let tree: RadixTree

  public init(nodes: any RadixNodeSource = HeapRadixNodes.shared) { tree = RadixTree(nodes: nodes) }

  deinit { removeAll() }

  public var count: Int { tree.count }
  public var isEmpty: Bool { tree.count == 0 }

  public subscript(index: UInt64) -> Element? { Self.object(tree[index]) }

  /// Puts an object at `index` and returns the one that was there.
  @discardableResult
  public func insert(_ object: Element, at index: UInt64) throws(RadixTreeFailure) -> Element? {
    // SAFETY: the tree's reference is taken here and released by the code that removes the word from the tree.
    let reference = unsafe Unmanaged.passRetained(object)
    do throws(RadixTreeFailure) {
      return Self.take(try tree.update(UInt(bitPattern: unsafe reference.toOpaque()), at: index))
    } catch {
      unsafe reference.release()
      throw error
    }
  }

  /// Takes out the object at `index`.
  @discardableResult
  public func remove(at index: UInt64) -> Element? { Self.take(tree.remove(at: index)) }

  /// The first object at or behind `start`.
  public func next(from start: UInt64) -> (index: UInt64, object: Element)? {
    guard let item = tree.next(from: start), let object = Self.object(item.value) else { return nil }
    return (item.index, object)
  }

  /// The first object at or behind `start` that has the tag.
  public func next(from start: UInt64, tagged tag: RadixTreeTag) -> (index: UInt64, object: Element)? {
    guard let item = tree.next(from: start, tagged: tag), let object = Self.object(item.value) else { return nil }
    return (item.index, object)
  }

  public func removeAll() {
    while let item = tree.next(from: 0) { remove(at: item.index) }
  }

  private static func object(_ bits: UInt) -> Element? {
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { return nil }
    // SAFETY: words of the tree are references taken by insert.
    return unsafe Unmanaged<Element>.fromOpaque(pointer).takeUnretainedValue()
  }

  private static func take(_ bits: UInt) -> Element? {
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { return nil }
    // SAFETY: the word left the tree just now; its reference goes to the caller.
    return unsafe Unmanaged<Element>.fromOpaque(pointer).takeRetainedValue()
  }
}
