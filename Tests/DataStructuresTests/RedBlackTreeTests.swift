import TestSupport
import Testing

@testable import DataStructures

/// An element of a tree: keeps the sum of its subtree as its summary, and notes when it goes away.
private final class Item {
  let key: Int
  let serial: Int
  var links = TreeLinks<Item>()
  var subtreeCount = 1
  nonisolated(unsafe) static var living = 0

  init(key: Int, serial: Int) {
    self.key = key
    self.serial = serial
    Self.living += 1
  }
  deinit { Self.living -= 1 }
}

private enum ByKey: TreeMembership {
  static func key(of element: Item) -> Int { element.key }
  static func links(of element: Item) -> TreeLinks<Item> { element.links }
  static func setLinks(_ links: TreeLinks<Item>, of element: Item) { element.links = links }
  static var isAugmented: Bool { true }
  static func update(_ element: Item) {
    element.subtreeCount =
      1 + (element.links.leftChild?.subtreeCount ?? 0) + (element.links.rightChild?.subtreeCount ?? 0)
  }
}

/// Checks colours, links and summaries below an element; returns the number of black elements on each path.
private func check(_ item: Item?, parent: Item?) -> Int {
  guard let item else { return 1 }
  let links = item.links
  #expect(unsafe links.parent?.takeUnretainedValue() === parent)
  if links.isRed {
    #expect(parent != nil && parent?.links.isRed == false)
  }
  let left = check(links.leftChild, parent: item)
  let right = check(links.rightChild, parent: item)
  #expect(left == right)
  #expect(
    item.subtreeCount == 1 + (links.leftChild?.subtreeCount ?? 0) + (links.rightChild?.subtreeCount ?? 0))
  return left + (links.isRed ? 0 : 1)
}

@Suite(.serialized) struct RedBlackTreeTests {
  @Test func `a tree agrees with a sorted array over random steps`() {
    var random = SeededGenerator("red-black tree")
    let tree = RedBlackTree<ByKey>()
    var model: [Item] = []
    func lowerBound(_ key: Int) -> Int {
      var low = 0
      var high = model.count
      while low < high {
        let middle = (low + high) / 2
        if model[middle].key < key { low = middle + 1 } else { high = middle }
      }
      return low
    }
    for step in 0..<SeededGenerator.modelSteps(20_000) {
      let growing = (step / 5_000) % 2 == 0
      let key = random.below(2000)
      if random.below(10) < (growing ? 6 : 4) {
        let item = Item(key: key, serial: step)
        tree.insert(item)
        model.insert(item, at: lowerBound(key + 1))
      } else if !model.isEmpty {
        let index = random.below(model.count)
        tree.remove(model[index])
        #expect(!model[index].links.isLinked)
        model.remove(at: index)
      }
      let probe = random.below(2100) - 50
      let index = lowerBound(probe)
      let above = index < model.count ? model[index] : nil
      let end = lowerBound(probe + 1)
      let below = end > 0 ? model[end - 1] : nil
      if tree.ceiling(probe) !== above || tree.floor(probe) !== below || tree.count != model.count
        || tree.first !== model.first || tree.last !== model.last
        || tree.find(probe) !== (above?.key == probe ? above : nil)
      {
        Issue.record("step \(step): the tree differs from the model")
        return
      }
      if step % 5000 == 0 {
        _ = check(tree.root, parent: nil)
        #expect(tree.root?.links.isRed != true)
        var seen: [Int] = []
        tree.visit { item in
          seen.append(item.serial)
          return true
        }
        #expect(seen == model.map(\.serial))
        var back = tree.last
        var backwards: [Int] = []
        while let item = back {
          backwards.append(item.serial)
          back = tree.previous(before: item)
        }
        #expect(Array(backwards.reversed()) == seen)
      }
    }
    model = []
    #expect(Item.living == tree.count)
    tree.removeAll()
    #expect(Item.living == 0)
    #expect(tree.isEmpty && tree.first == nil && tree.last == nil)
  }

  @Test func `a tree that goes away releases its elements`() {
    do {
      let tree = RedBlackTree<ByKey>()
      for key in 0..<100 { tree.insert(Item(key: key, serial: key)) }
      #expect(Item.living == 100)
    }
    #expect(Item.living == 0)
  }

  @Test func `equal keys stay in the order of insertion`() {
    let tree = RedBlackTree<ByKey>()
    for serial in 0..<50 { tree.insert(Item(key: 7, serial: serial)) }
    var serials: [Int] = []
    tree.visit { item in
      serials.append(item.serial)
      return true
    }
    #expect(serials == Array(0..<50))
    #expect(tree.find(7)?.serial == 0)
  }
}
