// The structures that are compared, behind one protocol. The generic code is specialised for each: no witness table is
// left in the measured loops.

import CRadixTree
import DataStructures
import HashTreeCollections

/// A map from 64-bit indices to words other than 0.
protocol Table {
  static var name: String { get }
  init()
  mutating func insert(_ value: UInt, at index: UInt64)
  mutating func remove(at index: UInt64)
  func value(at index: UInt64) -> UInt
}

final class OurTree: Table {
  static let name = "RadixTree"
  let tree = RadixTree()
  @inline(__always) func insert(_ value: UInt, at index: UInt64) { try? tree.insert(value, at: index) }
  @inline(__always) func remove(at index: UInt64) { tree.remove(at: index) }
  @inline(__always) func value(at index: UInt64) -> UInt { tree[index] }
}

final class CTree: Table {
  static let name = "C"
  // By address: no checks of exclusive access in the way.
  let tree: UnsafeMutablePointer<c_radix_tree>
  init() {
    tree = .allocate(capacity: 1)
    tree.initialize(to: c_radix_tree())
  }
  deinit {
    c_radix_remove_all(tree)
    tree.deallocate()
  }
  @inline(__always) func insert(_ value: UInt, at index: UInt64) { _ = c_radix_insert(tree, index, value) }
  @inline(__always) func remove(at index: UInt64) { _ = c_radix_remove(tree, index) }
  @inline(__always) func value(at index: UInt64) -> UInt { c_radix_get(tree, index) }
}

struct HashTable: Table {
  static let name = "Dictionary"
  var items: [UInt64: UInt] = [:]
  mutating func insert(_ value: UInt, at index: UInt64) { items[index] = value }
  mutating func remove(at index: UInt64) { items[index] = nil }
  func value(at index: UInt64) -> UInt { items[index] ?? 0 }
}

/// Both columns in the order of the keys.
struct SortedArray: Table {
  static let name = "sorted array"
  var keys: [UInt64] = []
  var values: [UInt] = []

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
  }
  mutating func remove(at index: UInt64) {
    let place = place(of: index)
    keys.remove(at: place)
    values.remove(at: place)
  }
  func value(at index: UInt64) -> UInt {
    let place = place(of: index)
    return place < keys.count && keys[place] == index ? values[place] : 0
  }
}

struct HashTrie: Table {
  static let name = "TreeDictionary"
  var items: TreeDictionary<UInt64, UInt> = [:]
  mutating func insert(_ value: UInt, at index: UInt64) { items[index] = value }
  mutating func remove(at index: UInt64) { items[index] = nil }
  func value(at index: UInt64) -> UInt { items[index] ?? 0 }
}
