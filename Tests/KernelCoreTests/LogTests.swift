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
}
