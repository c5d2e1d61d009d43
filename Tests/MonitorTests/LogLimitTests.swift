import Testing

@testable import Monitor

@Suite struct LogLimitTests {
  @Test func `a burst is written, and then as many lines as time allows`() {
    var limit = LogLimit()
    let start: UInt64 = 1_000_000_000_000
    for _ in 0..<LogLimit.burst { #expect(limit.admit(at: start) == 0) }
    for _ in 0..<7 { #expect(limit.admit(at: start) == nil) }
    #expect(limit.suppressed == 7)
    #expect(limit.admit(at: start + LogLimit.linePeriod) == 7, "one line more, which says how many were suppressed")
    #expect(limit.admit(at: start + LogLimit.linePeriod) == nil)
    for _ in 0..<LogLimit.burst { _ = limit.admit(at: start + 10 * LogLimit.burst * LogLimit.linePeriod) }
    #expect(
      limit.admit(at: start + 10 * LogLimit.burst * LogLimit.linePeriod) == nil,
      "the allowance does not grow beyond a burst")
  }

  @Test func `the clock may begin at nothing`() {
    var limit = LogLimit()
    for _ in 0..<LogLimit.burst { #expect(limit.admit(at: 0) == 0) }
    #expect(limit.admit(at: 0) == nil)
  }

  @Test(arguments: [
    ("plain\n", "plain\n"), ("\u{1b}[31m", "\\x1b[31m"), ("tab\t", "tab\t"), ("\r\u{7f}\u{9b}", "\\x0d\\x7f\\xc2\\x9b"),
  ])
  func `nothing that commands a terminal is written`(_ text: String, _ expected: String) {
    #expect(LogLimit.printable(text) == expected)
  }
}
