import TestSupport
import Testing

@testable import DataStructures

@Test func `a bitmap agrees with an array of Booleans over random steps`() {
  var random = SeededGenerator("bitmap")
  for size in [1, 63, 64, 65, 500] {
    var bitmap = Bitmap(count: size)
    var model = [Bool](repeating: false, count: size)
    for step in 0..<SeededGenerator.modelSteps(10_000) {
      let low = random.below(size)
      let high = low + random.below(min(size - low, 90) + 1)
      switch random.below(4) {
      case 0:
        bitmap.set(low..<high)
        for index in low..<high { model[index] = true }
      case 1:
        bitmap.clear(low..<high)
        for index in low..<high { model[index] = false }
      default:
        let value = random.below(2) == 0
        bitmap[low] = value
        model[low] = value
      }
      let start = random.below(size)
      let length = 1 + random.below(20)
      let alignment = [1, 2, 3, 8].randomElement(using: &random)!
      let run = stride(from: 0, to: size, by: alignment).first { candidate in
        candidate >= start && candidate + length <= size && !model[candidate..<candidate + length].contains(true)
      }
      if bitmap.firstSet(from: start) != model[start...].firstIndex(of: true)
        || bitmap.firstZero(from: start) != model[start...].firstIndex(of: false)
        || bitmap.setCount != model.count(where: { $0 })
        || bitmap.firstZeroRun(length: length, from: start, alignment: alignment) != run
      {
        Issue.record("size \(size), step \(step): the bitmap differs from the model")
        return
      }
    }
  }
}

@Test func `identifiers agree with a set over random steps`() {
  var random = SeededGenerator("identifiers")
  for range in [0..<64, 3..<300, 0..<5000, 1..<300_000] {
    var allocator = IDAllocator(range: range)
    var used: Set<Int> = []
    var order: [Int] = []
    var cursor = range.lowerBound
    for step in 0..<SeededGenerator.steps(20_000) {
      let growing = step % 8000 < 5000
      switch random.below(10) {
      case 0..<(growing ? 4 : 1):
        let minimum = range.lowerBound + random.below(min(range.count, 200))
        let expected = (minimum..<min(range.upperBound, minimum + used.count + 1)).first { !used.contains($0) }
        let number = allocator.allocateSmallest(from: minimum)
        #expect(number == expected)
        if let number {
          used.insert(number)
          order.append(number)
        }
      case 4:
        let expected =
          (cursor..<min(range.upperBound, cursor + used.count + 1)).first { !used.contains($0) }
          ?? (range.lowerBound..<min(range.upperBound, range.lowerBound + used.count + 1)).first { !used.contains($0) }
        let number = allocator.allocateNext()
        #expect(number == expected)
        if let number {
          used.insert(number)
          order.append(number)
          cursor = number + 1 < range.upperBound ? number + 1 : range.lowerBound
        }
      case 5:
        let number = range.lowerBound - 5 + random.below(range.count + 10)
        let expected = range.contains(number) && !used.contains(number)
        #expect(allocator.allocate(number) == expected)
        if expected {
          used.insert(number)
          order.append(number)
        }
      case 6..<10 where !order.isEmpty:
        let place = random.below(order.count)
        let number = order[place]
        order.swapAt(place, order.count - 1)
        order.removeLast()
        used.remove(number)
        allocator.free(number)
      default: break
      }
      let probe = range.lowerBound + random.below(range.count)
      if allocator.contains(probe) != used.contains(probe) || allocator.count != used.count {
        Issue.record("range \(range), step \(step): the allocator differs from the model")
        return
      }
      if step % 1000 == 0 { #expect(allocator.firstUsed(from: probe) == used.filter { $0 >= probe }.min()) }
    }
  }
}
