import TestSupport
import Testing

@testable import DataStructures

private func nodeCount(_ tree: RadixTree) -> Int {
  func visit(_ node: RadixTree.NodePointer) -> Int {
    guard unsafe node.pointee.shift > 0 else { return 1 }
    var total = 1
    for slot in 0..<64 {
      if let child = unsafe RadixTree.child(of: node, slot) { unsafe total += visit(child) }
    }
    return total
  }
  return unsafe tree.root.map { unsafe visit($0) } ?? 0
}

@Test func `a radix tree agrees with a dictionary over random steps`() {
  var random = SeededGenerator("radix tree")
  // Ranges of indices: dense, sparse, and near the ends of the index space.
  for spread in 0..<4 {
    let tree = RadixTree()
    var values: [UInt64: UInt] = [:]
    var tags: [Set<UInt64>] = [[], [], []]
    let kinds: [RadixTreeTag] = [.first, .second, .third]
    func randomIndex() -> UInt64 {
      switch spread {
      case 0: UInt64(random.below(3000))
      case 1: UInt64(random.below(64)) << UInt64(random.below(59))
      case 2: UInt64.max - UInt64(random.below(500))
      default: random.below(2) == 0 ? random.next() & 0xff00_0000_0000_01ff : UInt64(random.below(100_000))
      }
    }
    for step in 0..<SeededGenerator.steps(20_000) {
      let index = randomIndex()
      let tag = random.below(3)
      switch random.below(10) {
      case 0..<(step % 10_000 < 6000 ? 5 : 2):
        let value = UInt(random.next() | 1)
        #expect(tree.insert(value, at: index) == values.updateValue(value, forKey: index) ?? 0)
      case 5, 6, 7:
        let target = random.below(2) == 0 ? index : values.keys.first ?? index
        #expect(tree.remove(at: target) == values.removeValue(forKey: target) ?? 0)
        for tag in 0..<3 { tags[tag].remove(target) }
      case 8:
        tree.setTag(kinds[tag], at: index)
        if values[index] != nil { tags[tag].insert(index) }
      default:
        tree.clearTag(kinds[tag], at: index)
        tags[tag].remove(index)
      }
      if tree[index] != values[index] ?? 0 || tree.count != values.count
        || tree.hasTag(kinds[tag], at: index) != tags[tag].contains(index)
        || tree.hasTag(kinds[tag]) != !tags[tag].isEmpty
      {
        Issue.record("spread \(spread), step \(step): the tree differs from the model")
        return
      }
      if step % 1000 == 0 {
        let start = randomIndex()
        #expect(tree.next(from: start)?.index == values.keys.filter { $0 >= start }.min())
        #expect(tree.next(from: start, tagged: kinds[tag])?.index == tags[tag].filter { $0 >= start }.min())
        var indices = [UInt64](repeating: 0, count: values.count + 10)
        var found = [UInt](repeating: 0, count: values.count + 10)
        let count = unsafe indices.withUnsafeMutableBufferPointer { indices in
          unsafe found.withUnsafeMutableBufferPointer { unsafe tree.gather(from: 0, indices: indices, values: $0) }
        }
        #expect(Array(indices.prefix(count)) == values.keys.sorted())
        #expect(Array(found.prefix(count)) == values.sorted { $0.key < $1.key }.map(\.value))
        // A node exists for something, and the root is no higher than needed.
        let leaves = Set(values.keys.map { $0 >> 6 }).count
        #expect(nodeCount(tree) <= leaves * 11)
      }
    }
    for index in values.keys { tree.remove(at: index) }
    #expect(unsafe tree.root == nil)
    #expect(tree.isEmpty)
  }
}

@Test func `a tree of objects holds one reference to each`() {
  final class Page {
    nonisolated(unsafe) static var living = 0
    init() { Self.living += 1 }
    deinit { Self.living -= 1 }
  }
  do {
    let tree = ObjectRadixTree<Page>()
    for index in 0..<1000 as Range<UInt64> { tree.insert(Page(), at: index * 37) }
    #expect(Page.living == 1000)
    tree.insert(Page(), at: 0)
    #expect(Page.living == 1000)
    tree.remove(at: 37)
    #expect(Page.living == 999)
    tree.tree.setTag(.second, at: 74)
    #expect(tree.next(from: 0, tagged: .second)?.index == 74)
  }
  #expect(Page.living == 0)
}
