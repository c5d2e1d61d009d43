import TestSupport
import Testing

@testable import DataStructures

private final class Waiter {
  let number: Int
  var links = ListLinks<Waiter>()
  init(_ number: Int) { self.number = number }
}

private enum InQueue: ListMembership {
  static func links(of element: Waiter) -> ListLinks<Waiter> { element.links }
  static func setLinks(_ links: ListLinks<Waiter>, of element: Waiter) { element.links = links }
}

@Test func `a list agrees with an array over random steps`() {
  var random = SeededGenerator("list")
  let list = IntrusiveList<InQueue>()
  var model: [Waiter] = []
  for step in 0..<SeededGenerator.modelSteps(20_000) {
    switch random.below(6) {
    case 0:
      let waiter = Waiter(step)
      list.append(waiter)
      model.append(waiter)
    case 1:
      let waiter = Waiter(step)
      list.prepend(waiter)
      model.insert(waiter, at: 0)
    case 2 where !model.isEmpty:
      let index = random.below(model.count)
      let waiter = Waiter(step)
      list.insert(waiter, before: model[index])
      model.insert(waiter, at: index)
    case 3 where !model.isEmpty:
      let popped = list.popFirst()
      #expect(popped === model.removeFirst())
    case 4 where !model.isEmpty, 5 where !model.isEmpty:
      let index = random.below(model.count)
      list.remove(model[index])
      model.remove(at: index)
    default: break
    }
    if list.count != model.count || list.first !== model.first || list.last !== model.last {
      Issue.record("step \(step): the list differs from the model")
      return
    }
    if step % 1000 == 0 {
      var seen: [Int] = []
      list.visit { waiter in
        seen.append(waiter.number)
        return true
      }
      #expect(seen == model.map(\.number))
    }
  }
  list.visit { waiter in
    list.remove(waiter)
    return true
  }
  #expect(list.isEmpty)
}

@Test func `a ring buffer agrees with an array over random steps`() {
  var random = SeededGenerator("ring buffer")
  let ring = RingBuffer(minimumCapacity: 100)
  #expect(ring.capacity == 128)
  var model: [UInt8] = []
  for step in 0..<SeededGenerator.modelSteps(20_000) {
    switch random.below(6) {
    case 0, 1:
      let bytes = (0..<random.below(80)).map { _ in UInt8.random(in: 0...255, using: &random) }
      let written = unsafe bytes.withUnsafeBytes { unsafe ring.write($0) }
      #expect(written == min(bytes.count, 128 - model.count))
      model += bytes.prefix(written)
    case 2:
      let byte = UInt8(truncatingIfNeeded: step)
      if ring.write(byte) { model.append(byte) } else { #expect(model.count == 128) }
    case 3:
      var bytes = [UInt8](repeating: 0, count: random.below(80))
      let count = unsafe bytes.withUnsafeMutableBytes { unsafe ring.read(into: $0) }
      #expect(Array(bytes.prefix(count)) == Array(model.prefix(bytes.count)))
      model.removeFirst(count)
    case 4:
      if random.below(2) == 0 {
        #expect(ring.removeLast() == model.popLast())
      } else {
        #expect(ring.readByte() == (model.isEmpty ? nil : model.removeFirst()))
      }
    default:
      let amount = random.below(20)
      ring.discard(amount)
      model.removeFirst(min(amount, model.count))
    }
    #expect(ring.count == model.count && ring.freeCount == 128 - model.count)
    if step % 100 == 0 {
      var bytes = [UInt8](repeating: 0, count: 128)
      let offset = random.below(128)
      let count = unsafe bytes.withUnsafeMutableBytes { unsafe ring.peek(into: $0, at: offset) }
      #expect(Array(bytes.prefix(count)) == Array(model.dropFirst(offset)))
    }
  }
}
