import Testing

@testable import KernelCore

@Suite struct LogTests {
  @Test func `a source may show ten messages in five seconds, and the next one says how many it could not`() {
    var allowance = MessageAllowance()
    let start: UInt64 = 100_000_000_000
    for _ in 0..<10 { #expect(allowance.admit(at: start) == (true, 0)) }
    for _ in 0..<90 { #expect(allowance.admit(at: start + 4_999_999_999) == (false, 0)) }
    #expect(allowance.suppressed == 90)
    #expect(allowance.admit(at: start + 5_000_000_000) == (true, 90))
    #expect(allowance.admit(at: start + 5_000_000_000) == (true, 0))
  }

  @Test func `messages that go on and on are ever fewer, until there is a pause`() {
    var allowance = MessageAllowance(longestPeriod: MessageAllowance.period << 9)
    var time: UInt64 = 100_000_000_000
    var shown = 0
    // Ten a second for an hour.
    for _ in 0..<36000 {
      if allowance.admit(at: time).shown { shown += 1 }
      time += 100_000_000
    }
    // Ten, and one in each of ten periods that become longer.
    #expect((18...20).contains(shown))
    time += 2 * allowance.longestPeriod
    for index in 0..<10 { #expect(allowance.admit(at: time).shown, "\(index)") }
    #expect(!allowance.admit(at: time).shown)
  }
}
