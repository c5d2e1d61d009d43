// The pages of a memory object by index: a radix tree of words, each a frame number with two marks. The dirty tag of the
// tree says which pages differ from the store, so write-back finds them without looking at the others.

import DataStructures
import PhysicalMemory

/// The tree of an object's pages, and what was learnt about the order in which they are read.
struct ObjectPages {
  let tree = RadixTree()
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
  static var dirtyTag: RadixTreeTag { .first }

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

  /// The tree takes over the caller's reference to the frame.
  mutating func insert(_ frame: PageFrameNumber, at index: UInt64, busy: Bool) {
    _ = tree.insert(Self.value(frame, busy: busy), at: index)
  }

  /// Takes the page out; the caller takes over the reference. `wasDirty` has to be counted by the caller.
  mutating func remove(at index: UInt64) -> (frame: PageFrameNumber, wasDirty: Bool)? {
    let wasDirty = tree.hasTag(Self.dirtyTag, at: index)
    let value = tree.remove(at: index)
    return value == 0 ? nil : (Self.frame(value), wasDirty)
  }
}
