// The structures that are compared, behind one protocol. The generic code is specialised for each: no witness table is
// left in the measured loops.

import CRadixTree
import DataStructures
import HashTreeCollections

/// A map from 64-bit indices to words other than 0.
protocol Table: SendableMetatype {
  static var name: String { get }
  init()
  mutating func insert(_ value: UInt, at index: UInt64)
  mutating func remove(at index: UInt64)
  func value(at index: UInt64) -> UInt
  /// Copies the first items at or behind `start` into `values`; how many.
  func gather(from start: UInt64, into values: UnsafeMutableBufferPointer<UInt>) -> Int
}

extension Table {
  /// What is left to a table without an order: looking up one index after the other.
  func gather(from start: UInt64, into values: UnsafeMutableBufferPointer<UInt>) -> Int {
    var found = 0
    var index = start
    let end = start + 16 * UInt64(values.count)
    while found < values.count, index < end {
      let value = value(at: index)
      if value != 0 {
        values[found] = value
        found += 1
      }
      index += 1
    }
    return found
  }
}

/// A table whose items have tags.
protocol TaggedTable: Table {
  mutating func setTag(at index: UInt64)
  /// Copies the tag to another one from `first` through `last`; how many items had it.
  mutating func sweep(_ first: UInt64, _ last: UInt64) -> Int
}

final class OurTree: TaggedTable {
  static let name = "RadixTree"
  let tree = RadixTree()
  let indices = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: 64)
  deinit { indices.deallocate() }
  func gather(from start: UInt64, into values: UnsafeMutableBufferPointer<UInt>) -> Int {
    tree.gather(from: start, indices: indices, values: values)
  }
  func setTag(at index: UInt64) { tree.setTag(.first, at: index) }
  func sweep(_ first: UInt64, _ last: UInt64) -> Int {
    var position: UInt64? = first
    return tree.copyTag(.first, to: .second, from: &position, through: last)
  }
  @inline(__always) func insert(_ value: UInt, at index: UInt64) { try? tree.insert(value, at: index) }
  @inline(__always) func remove(at index: UInt64) { tree.remove(at: index) }
  @inline(__always) func value(at index: UInt64) -> UInt { tree[index] }
}

final class CTree: TaggedTable {
  static let name = "C"
  // By address: no checks of exclusive access in the way.
  let tree: UnsafeMutablePointer<c_radix_tree>
  let indices = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: 64)
  init() {
    tree = .allocate(capacity: 1)
    tree.initialize(to: c_radix_tree())
  }
  deinit {
    c_radix_remove_all(tree)
    indices.deallocate()
    tree.deallocate()
  }
  @inline(__always) func insert(_ value: UInt, at index: UInt64) { _ = c_radix_insert(tree, index, value) }
  @inline(__always) func remove(at index: UInt64) { _ = c_radix_remove(tree, index) }
  @inline(__always) func value(at index: UInt64) -> UInt { c_radix_get(tree, index) }
  func gather(from start: UInt64, into values: UnsafeMutableBufferPointer<UInt>) -> Int {
    c_radix_gang(tree, start, indices.baseAddress, values.baseAddress, values.count)
  }
  func setTag(at index: UInt64) { c_radix_set_tag(tree, index, 0) }
  func sweep(_ first: UInt64, _ last: UInt64) -> Int { c_radix_sweep(tree, first, last, 0, 1) }
}

struct HashTable: Table {
  static let name = "Dictionary"
  var items: [UInt64: UInt] = [:]
  mutating func insert(_ value: UInt, at index: UInt64) { items[index] = value }
  mutating func remove(at index: UInt64) { items[index] = nil }
  func value(at index: UInt64) -> UInt { items[index] ?? 0 }
}

/// All columns in the order of the keys.
struct SortedArray: TaggedTable {
  static let name = "sorted array"
  var keys: [UInt64] = []
  var values: [UInt] = []
  var tags: [UInt8] = []

  func place(of index: UInt64) -> Int {
    var low = 0
    var high = keys.count
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < index { low = middle + 1 } else { high = middle }
    }
    return low
  }
  mutating func insert(_ value: UInt, at index: UInt64) {
    let place = place(of: index)
    keys.insert(index, at: place)
    values.insert(value, at: place)
    tags.insert(0, at: place)
  }
  mutating func remove(at index: UInt64) {
    let place = place(of: index)
    keys.remove(at: place)
    values.remove(at: place)
    tags.remove(at: place)
  }
  func value(at index: UInt64) -> UInt {
    let place = place(of: index)
    return place < keys.count && keys[place] == index ? values[place] : 0
  }
  func gather(from start: UInt64, into found: UnsafeMutableBufferPointer<UInt>) -> Int {
    let place = place(of: start)
    let count = min(found.count, values.count - place)
    for offset in 0..<count { found[offset] = values[place + offset] }
    return count
  }
  mutating func setTag(at index: UInt64) { tags[place(of: index)] |= 1 }
  /// Along a column of marks.
  mutating func sweep(_ first: UInt64, _ last: UInt64) -> Int {
    var found = 0
    for place in place(of: first)..<place(of: last + 1) where tags[place] & 1 != 0 {
      tags[place] |= 2
      found += 1
    }
    return found
  }
}

struct HashTrie: Table {
  static let name = "TreeDictionary"
  var items: TreeDictionary<UInt64, UInt> = [:]
  mutating func insert(_ value: UInt, at index: UInt64) { items[index] = value }
  mutating func remove(at index: UInt64) { items[index] = nil }
  func value(at index: UInt64) -> UInt { items[index] ?? 0 }
}
