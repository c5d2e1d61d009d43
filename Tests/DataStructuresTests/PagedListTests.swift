import Testing

@testable import DataStructures

@Suite struct PagedListTests {
  @Test func `elements come back in order, whatever their size`() {
    var bytes = PagedList<UInt8>()
    var pairs = PagedList<(Int, [Int])>()
    for index in 0..<20_000 {
      bytes.append(UInt8(truncatingIfNeeded: index &* 7))
      pairs.append((index, [index, index]))
    }
    #expect(bytes.count == 20_000 && pairs.count == 20_000)
    for index in 0..<20_000 {
      if bytes[index] != UInt8(truncatingIfNeeded: index &* 7) { Issue.record("byte \(index)") }
      if pairs[index].0 != index || pairs[index].1 != [index, index] { Issue.record("pair \(index)") }
    }
  }

  @Test func `an element larger than a page has a part of its own`() {
    var list = PagedList<InlineArray<1000, UInt64>>()
    for index in 0..<5 { list.append(InlineArray(repeating: UInt64(index))) }
    #expect((0..<5).map { list[$0][999] } == [0, 1, 2, 3, 4])
  }
}
