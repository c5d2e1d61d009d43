// The pages of a memory object by index: a radix tree of words, each a frame number with two marks, or the name of a page that
// is on a swap area. Tags of the tree drive
// write-back, which finds the pages that it is about without looking at the others:
//
// ```
//              written to              sync begins                    batch taken             stored
//    clean ───────────────▶ dirty ───────────────────▶ dirty, chosen ─────────────▶ in flight ────────▶ clean
//                             ▲                                                         │
//                             └──────────────── written to meanwhile, or failed ────────┘
// ```
//
// The flusher takes dirty pages that are not chosen as well.
//
// Pages that become dirty after a sync has begun are not chosen by it: a program that keeps writing does not keep it busy.

import DataStructures
import LinuxABI
import PhysicalMemory

/// The tree of an object's pages, and what was learnt about the order in which they are read.
struct ObjectPages {
  /// Readers need no lock (`MemoryObject.lookUp`).
  let tree: RadixTree
  /// The page behind the last one that was read from the store, and how many were read at once.
  var nextRead: UInt64 = 0
  var readWindow = 0

  /// What the tree says about an index.
  enum Page: Equatable {
    case absent
    /// Being read from the store.
    case busy
    case ready(PageFrameNumber)
    /// On a swap area; only in objects without a store.
    case swapped(SwapEntry)
  }

  private static var presentBit: UInt { 1 }
  private static var busyBit: UInt { 2 }
  private static var marks: UInt { 3 }
  /// Differs from the store.
  static var dirtyTag: RadixTreeTag { .first }
  /// Is being stored.
  static var writeBackTag: RadixTreeTag { .second }
  /// Was dirty when a sync began that has not come to it yet.
  static var chosenTag: RadixTreeTag { .third }
  /// Is on a swap area. Such objects have no store, and nothing to choose.
  static var swappedTag: RadixTreeTag { .third }

  /// Pages of the tree that are on swap areas.
  private(set) var swapped = 0

  /// Whether the object is on the list of those with dirty pages, and where the flusher goes on in it.
  var isListed = false
  var flushPosition: UInt64 = 0

  @inline(__always)
  func find(_ index: UInt64) -> Page { Self.page(tree[index]) }

  @inline(__always)
  static func page(_ value: UInt) -> Page {
    switch value & marks {
    case presentBit: return .ready(frame(value))
    case busyBit: return .swapped(SwapEntry(rawValue: UInt64(value >> 2)))
    default: return value == 0 ? .absent : .busy
    }
  }

  static func frame(_ value: UInt) -> PageFrameNumber { PageFrameNumber(UInt64(value >> 2)) }
  static func isBusy(_ value: UInt) -> Bool { value & marks == marks }

  static func value(_ frame: PageFrameNumber, busy: Bool) -> UInt {
    UInt(truncatingIfNeeded: frame.rawValue) << 2 | presentBit | (busy ? busyBit : 0)
  }

  /// Makes sure that there are nodes for the next `insert`, if the caller does not sleep until then.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  static func preload(options: AllocationOptions = []) throws(Errno) {
    guard RadixNodePool.shared.reserveNodes(RadixTree.maximumNodesForInsert, options: options) else { throw .ENOMEM }
  }

  /// Puts a page where there is none; the tree takes over the caller's reference to the frame. False when there is no
  /// memory for a node, which `preload` rules out.
  func insert(_ frame: PageFrameNumber, at index: UInt64, busy: Bool) -> Bool {
    do throws(RadixTreeFailure) { try tree.insert(Self.value(frame, busy: busy), at: index) } catch { return false }
    return true
  }

  /// Whether a page of first...last has the tag.
  func hasTag(_ tag: RadixTreeTag, from first: UInt64, through last: UInt64) -> Bool {
    guard tree.hasTag(tag), let (index, _) = tree.next(from: first, tagged: tag) else { return false }
    return index <= last
  }

  /// Whether the page is dirty or on its way to the store.
  func isUnstored(_ index: UInt64) -> Bool {
    tree.hasTag(Self.dirtyTag, at: index) || tree.hasTag(Self.writeBackTag, at: index)
  }

  /// Takes the page, which is in memory, out; the caller takes over the reference. `wasDirty` has to be counted by the caller.
  func remove(at index: UInt64) -> (frame: PageFrameNumber, wasDirty: Bool)? {
    let wasDirty = tree.hasTag(Self.dirtyTag, at: index)
    let value = tree.remove(at: index)
    return value == 0 ? nil : (Self.frame(value), wasDirty)
  }

  // MARK: Swap

  /// Puts the name of a slot in the place of a page that is ready. The tree's reference to the frame is the caller's now,
  /// and the slot has one from the tree.
  mutating func replace(at index: UInt64, by entry: SwapEntry) {
    SwapSpace.retain(entry)
    _ = tree.replace(at: index, with: UInt(truncatingIfNeeded: entry.rawValue) << 2 | Self.busyBit)
    tree.setTag(Self.swappedTag, at: index)
    swapped += 1
  }

  /// Puts a page in the place of its slot's name, to which the tree has no reference any more; it takes over one to the frame.
  mutating func restore(_ frame: PageFrameNumber, at index: UInt64) {
    tree.clearTag(Self.swappedTag, at: index)
    _ = tree.replace(at: index, with: Self.value(frame, busy: false))
    swapped -= 1
  }

  /// Takes the name of a slot out.
  mutating func removeSwapped(at index: UInt64, _ entry: SwapEntry) {
    _ = tree.remove(at: index)
    SwapSpace.release(entry)
    swapped -= 1
  }

  /// The first page from `start` on that is on this swap area.
  func nextSwapped(from start: UInt64, area: Int) -> (index: UInt64, entry: SwapEntry)? {
    var position = start
    while let (index, value) = tree.next(from: position, tagged: Self.swappedTag) {
      if case .swapped(let entry) = Self.page(value), entry.area == area { return (index, entry) }
      guard index < .max else { return nil }
      position = index &+ 1
    }
    return nil
  }
}
