// Where the nodes of radix trees come from and where they go. The tree is below the allocators and below RCU, so the code that
// owns a tree says so.

/// Makes and frees nodes.
public protocol RadixNodeSource: AnyObject {
  /// `RadixTree.nodeSize` bytes with any contents, aligned to 16; nil when there is no memory. Called with the tree's lock.
  func allocateNode() -> UnsafeMutableRawPointer?
  /// Frees a node at once: nobody else has seen it, or nobody reads any more.
  func freeNode(_ node: UnsafeMutableRawPointer)
  /// Frees a node when everyone who reads without a lock now is done. Until then its contents stay as they are, except
  /// for the two words at `RadixTree.deferralOffset`. Called with the tree's lock.
  func freeNodeAfterReaders(_ node: UnsafeMutableRawPointer)
  /// Makes sure that the next `count` calls of `allocateNode` succeed, as far as the caller neither sleeps nor moves to
  /// another CPU; false when there is no memory.
  func reserveNodes(_ count: Int) -> Bool
}

/// Nodes from the heap, for trees that are read under the lock that they are written under.
public final class HeapRadixNodes: RadixNodeSource {
  public static let shared = HeapRadixNodes()

  public func allocateNode() -> UnsafeMutableRawPointer? {
    // The header of a node is a line of the cache.
    .allocate(byteCount: RadixTree.nodeSize, alignment: 64)
  }
  public func freeNode(_ node: UnsafeMutableRawPointer) { unsafe node.deallocate() }
  public func freeNodeAfterReaders(_ node: UnsafeMutableRawPointer) { unsafe node.deallocate() }
  public func reserveNodes(_ count: Int) -> Bool { true }
}
