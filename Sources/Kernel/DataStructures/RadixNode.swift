// A node of the radix tree, as memory: words at fixed places. Readers without a lock and the writer meet in them, so they
// are atomic: the writer stores with release what readers load with acquire (plain instructions on x86-64).
//
// ```
//   0  slots    64 words: items (shift 0) or addresses of nodes; 0 stands for nothing
// 512  present  one bit for each slot in use
// 520  tags     the same, for each tag: set when anything below has it
// 544  parent   the address of the node above
// 552  deferral two words for the node source, which frees the node when its readers have left
// 568  shift    of the index bits that select a slot here (one byte), and the slot in the parent (one byte)
// ```

import Synchronization

/// A node, by address.
// SAFETY (of this type): `base` is the address of RadixTree.nodeSize bytes, which are freed when the node is out of its
// tree and every reader that may have found it has left. Slot numbers are below 64, tags below 3.
@safe struct RadixNode: Equatable {
  let base: UnsafeMutableRawPointer

  @inline(__always) init(_ base: UnsafeMutableRawPointer) { unsafe self.base = base }
  @inline(__always) init?(address: UInt) {
    guard let base = unsafe UnsafeMutableRawPointer(bitPattern: address) else { return nil }
    unsafe self.base = base
  }
  @inline(__always) static func == (left: RadixNode, right: RadixNode) -> Bool { unsafe left.base == right.base }

  @inline(__always) var address: UInt { unsafe UInt(bitPattern: base) }

  @inline(__always)
  private func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt>.self)
  }

  /// Makes the memory a node without items.
  func initialize(shift: UInt8) {
    unsafe base.initializeMemory(as: UInt.self, repeating: 0, count: RadixTree.nodeSize / 8)
    unsafe base.storeBytes(of: shift, toByteOffset: 568, as: UInt8.self)
  }

  @inline(__always) func slotPointer(_ slot: Int) -> UnsafeMutablePointer<Atomic<UInt>> {
    unsafe word((slot & 63) &* 8)
  }
  @inline(__always) subscript(slot: Int) -> UInt {
    get { unsafe slotPointer(slot).pointee.load(ordering: .acquiring) }
    nonmutating set { unsafe slotPointer(slot).pointee.store(newValue, ordering: .releasing) }
  }
  @inline(__always) var present: UInt64 {
    get { unsafe UInt64(word(512).pointee.load(ordering: .relaxed)) }
    nonmutating set { unsafe word(512).pointee.store(UInt(newValue), ordering: .releasing) }
  }
  /// The bits of a tag.
  @inline(__always) subscript(tag tag: RadixTreeTag) -> UInt64 {
    get { unsafe UInt64(word(520 &+ tag.rawValue &* 8).pointee.load(ordering: .relaxed)) }
    nonmutating set { unsafe word(520 &+ tag.rawValue &* 8).pointee.store(UInt(newValue), ordering: .releasing) }
  }
  @inline(__always) var parent: RadixNode? {
    get { RadixNode(address: unsafe word(544).pointee.load(ordering: .acquiring)) }
    nonmutating set { unsafe word(544).pointee.store(newValue?.address ?? 0, ordering: .releasing) }
  }
  /// Constant from the node's first appearance in a tree on.
  @inline(__always) var shift: UInt64 { unsafe UInt64(base.load(fromByteOffset: 568, as: UInt8.self)) }
  /// The writer's alone.
  @inline(__always) var slotInParent: Int {
    get { unsafe Int(base.load(fromByteOffset: 569, as: UInt8.self)) }
    nonmutating set {
      unsafe base.storeBytes(of: UInt8(truncatingIfNeeded: newValue), toByteOffset: 569, as: UInt8.self)
    }
  }

  @inline(__always) func slot(of index: UInt64) -> Int { Int(truncatingIfNeeded: index &>> shift) & 63 }
  @inline(__always) func child(_ slot: Int) -> RadixNode? { RadixNode(address: self[slot]) }

  /// Whether `index` lies within the subtree, if this is the root.
  @inline(__always) func covers(_ index: UInt64) -> Bool {
    // Smart shift: by 64 and more the result is 0.
    index >> (shift &+ 6) == 0
  }

  /// The slots in use, or those with a tag.
  @inline(__always) func slots(_ tag: RadixTreeTag?) -> UInt64 {
    if let tag { self[tag: tag] } else { present }
  }
}
