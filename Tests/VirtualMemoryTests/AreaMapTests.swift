import TestSupport
import Testing

@testable import VirtualMemory

extension VirtualMemoryTests {
  @Test func `holes are found where a bitmap says they are`() throws {
    var random = SeededGenerator("area map")
    let space = try AddressSpace.create()
    let map = AreaMap()
    let slots = 600
    var taken = [Bool](repeating: false, count: slots)
    for _ in 0..<SeededGenerator.modelSteps(10_000) {
      let start = random.below(slots - 1)
      let length = 1 + random.below(min(20, slots - start))
      let range = start..<start + length
      switch random.below(3) {
      case 0 where !taken[range].contains(true):
        map.insert(
          VirtualMemoryArea(
            space: space, start: UInt64(start) * page, end: UInt64(start + length) * page, protection: .read,
            maximumProtection: .all, flags: [], object: nil, pageOffset: 0, source: nil))
        for slot in range { taken[slot] = true }
      case 1:
        if let area = map.find(UInt64(start) * page) {
          #expect(taken[start])
          map.remove(area)
          for slot in Int(area.start / page)..<Int(area.end / page) { taken[slot] = false }
        } else {
          #expect(!taken[start])
        }
      default:
        let low = random.below(slots / 2)
        let high = low + random.below(slots - low)
        let expected =
          length > high - low
          ? nil : (low...high - length).last { !taken[$0..<$0 + length].contains(true) }
        let found = map.highestHole(of: UInt64(length) * page, low: UInt64(low) * page, high: UInt64(high) * page)
        #expect(found == expected.map { UInt64($0) * page })
        let lowest =
          length > high - low ? nil : (low...high - length).first { !taken[$0..<$0 + length].contains(true) }
        #expect(
          map.lowestHole(of: UInt64(length) * page, low: UInt64(low) * page, high: UInt64(high) * page)
            == lowest.map { UInt64($0) * page })
        #expect(
          map.overlaps(UInt64(start) * page, UInt64(start + length) * page, respectingGaps: true)
            == taken[range].contains(true))
      }
    }
    while let area = map.first { map.remove(area) }
  }
}
