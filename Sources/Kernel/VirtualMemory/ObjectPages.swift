// The pages of a memory object by index: a radix tree of words, each a frame number with two marks. Tags of the tree drive
// write-back, which finds the pages that it is about without looking at the others:
//
// ```
//              written to              sync begins                    batch taken             stored
//    clean ───────────────▶ dirty ───────────────────▶ dirty, chosen ─────────────▶ in flight ────────▶ clean
//                             ▲                                                         │
//                             └──────────────── written to meanwhile, or failed ────────┘
// ```
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
  }

  private static var presentBit: UInt { 1 }
  private static var busyBit: UInt { 2 }
  /// Differs from the store.
  static var dirtyTag: RadixTreeTag { .first }
  /// Is being stored.
  static var writeBackTag: RadixTreeTag { .second }
  /// Was dirty when a sync began that has not come to it yet.
  static var chosenTag: RadixTreeTag { .third }

  /// Errors of the store so far, and the last of them: whoever waits for a page that another sync stores has to know.
  var writeErrors = 0
  var lastWriteError = Errno.EIO

  @inline(__always)
  func find(_ index: UInt64) -> Page { Self.page(tree[index]) }

  @inline(__always)
  static func page(_ value: UInt) -> Page {
    if value == 0 { return .absent }
    if value & busyBit != 0 { return .busy }
    return .ready(frame(value))
  }

  static func frame(_ value: UInt) -> PageFrameNumber { PageFrameNumber(UInt64(value >> 2)) }
  static func isBusy(_ value: UInt) -> Bool { value & busyBit != 0 }

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

  /// Takes the page out; the caller takes over the reference. `wasDirty` has to be counted by the caller.
  func remove(at index: UInt64) -> (frame: PageFrameNumber, wasDirty: Bool)? {
    let wasDirty = tree.hasTag(Self.dirtyTag, at: index)
    let value = tree.remove(at: index)
    return value == 0 ? nil : (Self.frame(value), wasDirty)
  }
}
