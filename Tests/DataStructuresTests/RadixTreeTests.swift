import TestSupport
import Testing

@testable import DataStructures

/// Counts nodes and fails when it is told to.
final class TestNodes: RadixNodeSource {
  var living = 0
  /// Allocations until one fails; nil: none does.
  var untilFailure: Int?
  var reserved = 0

  func allocateNode() -> UnsafeMutableRawPointer? {
    if reserved > 0 {
      reserved -= 1
    } else if let left = untilFailure {
      if left == 0 { return nil }
      untilFailure = left - 1
    }
    living += 1
    let node = UnsafeMutableRawPointer.allocate(byteCount: RadixTree.nodeSize, alignment: 16)
    unsafe node.initializeMemory(as: UInt8.self, repeating: 0xa5, count: RadixTree.nodeSize)
    return unsafe node
  }
  func freeNode(_ node: UnsafeMutableRawPointer) {
    living -= 1
    unsafe node.initializeMemory(as: UInt8.self, repeating: 0x5a, count: RadixTree.nodeSize)
    unsafe node.deallocate()
  }
  func freeNodeAfterReaders(_ node: UnsafeMutableRawPointer) { unsafe freeNode(node) }
  func reserveNodes(_ count: Int) -> Bool {
    guard untilFailure == nil else { return false }
    reserved = max(reserved, count)
    return true
  }
}

extension RadixTree {
  /// What is wrong with the tree's structure, nil when nothing is.
  func fault(nodes living: Int) -> String? {
    var items = 0
    var seen = 0
    func visit(_ node: RadixNode, _ parent: RadixNode?, _ slot: Int) -> String? {
      seen += 1
      if node.parent != parent || parent != nil && node.slotInParent != slot { return "wrong parent" }
      if let parent, node.shift + 6 != parent.shift { return "wrong shift" }
      if node.present == 0 { return "an empty node" }
      for slot in 0..<64 {
        let isPresent = node.present >> UInt64(slot) & 1 != 0
        if isPresent != (node[slot] != 0) { return "present bits differ from slots" }
        for tag in RadixTreeTag.allCases {
          let isTagged = node[tag: tag] >> UInt64(slot) & 1 != 0
          if isTagged && !isPresent { return "a tag without an item" }
          if node.shift > 0, let child = node.child(slot), (child[tag: tag] != 0) != isTagged {
            return "a tag that is not that of the nodes below"
          }
        }
        if node.shift > 0, let child = node.child(slot), let fault = visit(child, node, slot) { return fault }
      }
      if node.shift == 0 { items += node.present.nonzeroBitCount }
      return nil
    }
    if let root {
      if root.shift > 0 && root.present == 1 { return "a root higher than needed" }
      if let fault = visit(root, nil, 0) { return fault }
    }
    if items != count { return "\(items) items, but count is \(count)" }
    if seen != living { return "\(seen) nodes in the tree, \(living) allocated" }
    return nil
  }

  func items(from start: UInt64 = 0, tagged tag: RadixTreeTag? = nil, limit: Int) -> [UInt64: UInt] {
    var indices = [UInt64](repeating: 0, count: limit)
    var found = [UInt](repeating: 0, count: limit)
    let count = indices.withUnsafeMutableBufferPointer { indices in
      unsafe found.withUnsafeMutableBufferPointer {
        unsafe gather(from: start, tagged: tag, indices: indices, values: $0)
      }
    }
    #expect(zip(indices[..<count], indices[..<count].dropFirst()).allSatisfy { $0 < $1 })
    return Dictionary(uniqueKeysWithValues: zip(indices, found).prefix(count))
  }
}

/// Ranges of indices: dense, spread over all heights, near the end of the index space, and mixed.
private func randomIndex(_ spread: Int, _ random: inout SeededGenerator) -> UInt64 {
  switch spread {
  case 0: UInt64(random.below(3000))
  case 1: UInt64(random.below(64)) << UInt64(random.below(59))
  case 2: UInt64.max - UInt64(random.below(500))
  default: random.below(2) == 0 ? random.next() & 0xff00_0000_0000_01ff : UInt64(random.below(100_000))
  }
}

@Test(arguments: 0..<4) func `a radix tree agrees with a dictionary over random steps`(spread: Int) {
  var random = SeededGenerator("radix tree")
  let nodes = TestNodes()
  let tree = RadixTree(nodes: nodes)
  var values: [UInt64: UInt] = [:]
  var tags: [Set<UInt64>] = [[], [], []]
  let steps = SeededGenerator.modelSteps(250_000, parts: 4)
  for step in 0..<steps {
    let index = randomIndex(spread, &random)
    let tag = RadixTreeTag.allCases[random.below(3)]
    // The tree grows and shrinks in turns.
    switch random.below(step / 6000 % 2 == 0 ? 10 : 7) + (step / 6000 % 2 == 0 ? 0 : 4) {
    case 0..<4:
      let value = UInt(random.next() | 1)
      var hasFailed = false
      do throws(RadixTreeFailure) { try tree.insert(value, at: index) } catch { hasFailed = error == .exists }
      #expect(hasFailed == (values[index] != nil))
      if !hasFailed { values[index] = value }
    case 4:
      let value = UInt(random.next() | 1)
      #expect((try? tree.update(value, at: index)) == values.updateValue(value, forKey: index) ?? 0)
    case 5:
      let value = UInt(random.next() | 1)
      #expect(tree.replace(at: index, with: value) == values[index] ?? 0)
      if values[index] != nil { values[index] = value }
    case 6, 7:
      let target = random.below(2) == 0 ? index : values.keys.first ?? index
      #expect(tree.remove(at: target) == values.removeValue(forKey: target) ?? 0)
      for tag in 0..<3 { tags[tag].remove(target) }
    case 8:
      #expect(
        tree.setTag(tag, at: index) == (values[index] != nil && tags[tag.rawValue].insert(index).inserted))
    case 9:
      #expect(tree.clearTag(tag, at: index) == (tags[tag.rawValue].remove(index) != nil))
    default:
      let target = values.keys.first ?? index
      #expect(tree.remove(at: target) == values.removeValue(forKey: target) ?? 0)
      for tag in 0..<3 { tags[tag].remove(target) }
    }
    if tree[index] != values[index] ?? 0 || tree.slot(at: index)?.value ?? 0 != values[index] ?? 0
      || tree.count != values.count || tree.hasTag(tag, at: index) != tags[tag.rawValue].contains(index)
      || tree.hasTag(tag) != !tags[tag.rawValue].isEmpty
    {
      Issue.record("spread \(spread), step \(step): the tree differs from the model")
      return
    }
    guard step % 10_000 == 0 || step == steps - 1 else { continue }
    let start = randomIndex(spread, &random)
    #expect(tree.next(from: start)?.index == values.keys.filter { $0 >= start }.min())
    #expect(tree.next(from: start, tagged: tag)?.index == tags[tag.rawValue].filter { $0 >= start }.min())
    #expect(tree.items(limit: values.count + 1) == values)
    #expect(tree.items(from: start, limit: values.count + 1) == values.filter { $0.key >= start })
    #expect(Set(tree.items(tagged: tag, limit: values.count + 1).keys) == tags[tag.rawValue])
    // A sweep over a range, in one go or in pieces.
    let target = RadixTreeTag.allCases[(tag.rawValue + 1) % 3]
    let last = max(start, randomIndex(spread, &random))
    let swept = tags[tag.rawValue].filter { start <= $0 && $0 <= last }
    var position: UInt64? = start
    var found = 0
    while position != nil {
      found += tree.copyTag(
        tag, to: target, from: &position, through: last, limit: random.below(2) == 0 ? .max : 1 + random.below(200))
    }
    #expect(found == swept.count)
    tags[target.rawValue].formUnion(swept)
    if let fault = tree.fault(nodes: nodes.living) {
      Issue.record("spread \(spread), step \(step): \(fault)")
      return
    }
  }
  if spread % 2 == 0 {
    for index in values.keys { tree.remove(at: index) }
  } else {
    tree.removeAll()
  }
  #expect(tree.isEmpty && tree.root == nil && nodes.living == 0)
}

@Test func `an insert without memory leaves the tree as it was`() throws {
  var random = SeededGenerator("radix tree without memory")
  for spread in 0..<4 {
    let nodes = TestNodes()
    let tree = RadixTree(nodes: nodes)
    var values: [UInt64: UInt] = [:]
    for _ in 0..<60 {
      let index = randomIndex(spread, &random)
      // The first allocation fails, then the second, until there are enough.
      var allowed = 0
      while true {
        nodes.untilFailure = allowed
        do throws(RadixTreeFailure) {
          _ = try tree.update(7, at: index)
          break
        } catch {
          #expect(error == .noMemory)
          #expect(tree.fault(nodes: nodes.living) == nil && tree[index] == 0 && tree.count == values.count)
        }
        allowed += 1
      }
      #expect(allowed <= RadixTree.maximumNodesForInsert)
      values[index] = 7
      #expect(tree.items(limit: values.count + 1) == values)
    }
  }
}

@Test func `an insert after a preload does not fail`() throws {
  let nodes = TestNodes()
  let tree = RadixTree(nodes: nodes)
  for index in [0, .max, 1 << 63, 64, 4096, UInt64.max - 64, 1 << 40] {
    nodes.untilFailure = nil
    try tree.preload()
    nodes.untilFailure = 0
    try tree.insert(1, at: index)
    #expect(throws: RadixTreeFailure.exists) { try tree.insert(1, at: index) }
  }
  #expect(throws: RadixTreeFailure.noMemory) { try tree.preload() }
  // The worst case needs all of them.
  let second = RadixTree(nodes: nodes)
  nodes.untilFailure = nil
  nodes.reserved = 0
  try second.insert(1, at: 0)
  try second.preload()
  nodes.untilFailure = 0
  try second.insert(1, at: .max)
  #expect(nodes.reserved == 0)
}

@Test func `a tree gives its nodes back when it ends`() throws {
  let nodes = TestNodes()
  do {
    let tree = RadixTree(nodes: nodes)
    for index in 0..<1000 as Range<UInt64> { try tree.insert(1, at: index * index * index) }
    #expect(nodes.living > 100)
  }
  #expect(nodes.living == 0)
}

@Test func `a slot tells when its item has gone`() throws {
  let tree = RadixTree()
  try tree.insert(5, at: 100)
  try tree.insert(6, at: 101)
  let slot = try #require(tree.slot(at: 100))
  tree.replace(at: 100, with: 9)
  #expect(slot.value == 9)
  tree.remove(at: 100)
  #expect(slot.value == 0 && tree.slot(at: 100) == nil)
}

@Test func `a tree of objects holds one reference to each`() throws {
  final class Page {
    nonisolated(unsafe) static var living = 0
    init() { Self.living += 1 }
    deinit { Self.living -= 1 }
  }
  do {
    let nodes = TestNodes()
    let tree = ObjectRadixTree<Page>(nodes: nodes)
    for index in 0..<1000 as Range<UInt64> { try tree.insert(Page(), at: index * 37) }
    #expect(Page.living == 1000)
    try tree.insert(Page(), at: 0)
    #expect(Page.living == 1000)
    tree.remove(at: 37)
    #expect(Page.living == 999)
    tree.tree.setTag(.second, at: 74)
    #expect(tree.next(from: 0, tagged: .second)?.index == 74)
    nodes.untilFailure = 0
    #expect(throws: RadixTreeFailure.noMemory) { try tree.insert(Page(), at: 1 << 40) }
    #expect(Page.living == 999)
  }
  #expect(Page.living == 0)
}
