// The routines that compilers call by themselves (Sources/Machine/C/memory.S and soft_float.c), against the host's.

import Machine
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct RuntimeRoutineTests {
  @Test func `memcpy and memmove copy exactly the bytes asked for, whatever overlaps`() {
    var random = SeededGenerator("memmove")
    for length in Array(0...300) + [511, 512, 513, 4095, 4096, 5000] {
      for _ in 0..<4 {
        let source = (0..<5200).map { _ in UInt8.random(in: 0...255, using: &random) }
        let from = random.below(5200 - length)
        let to =
          random.below(2) == 0 ? random.below(5200 - length) : max(0, min(5200 - length, from + random.below(40) - 20))
        var expected = source
        expected.replaceSubrange(to..<to + length, with: source[from..<from + length])
        var bytes = source
        let moved = unsafe bytes.withUnsafeMutableBytes { buffer in
          let target = unsafe buffer.baseAddress! + to
          return unsafe machine_memmove(target, buffer.baseAddress! + from, UInt64(length)) == target
        }
        #expect(moved && bytes == expected, "length \(length), from \(from), to \(to)")
        var target = [UInt8](repeating: 0xaa, count: 5200)
        unsafe source.withUnsafeBytes { source in
          unsafe target.withUnsafeMutableBytes {
            _ = unsafe machine_memcpy($0.baseAddress! + to, source.baseAddress! + from, UInt64(length))
          }
        }
        #expect(Array(target[to..<to + length]) == Array(source[from..<from + length]))
        #expect(target[..<to].allSatisfy { $0 == 0xaa } && target[(to + length)...].allSatisfy { $0 == 0xaa })
      }
    }
  }

  @Test func `memset sets exactly the bytes asked for`() {
    for length in Array(0...300) + [4096, 5000] {
      for start in 0..<8 {
        var bytes = [UInt8](repeating: 1, count: 5200)
        unsafe bytes.withUnsafeMutableBytes {
          let target = unsafe $0.baseAddress! + start
          #expect(unsafe machine_memset(target, 0x1f7, UInt64(length)) == target)
        }
        #expect(bytes[start..<start + length].allSatisfy { $0 == 0xf7 })
        #expect(bytes[..<start].allSatisfy { $0 == 1 } && bytes[(start + length)...].allSatisfy { $0 == 1 })
      }
    }
  }

  @Test func `memcmp orders like the host's`() {
    var random = SeededGenerator("memcmp")
    for _ in 0..<SeededGenerator.steps(10_000) {
      let a = (0..<random.below(40)).map { _ in UInt8(random.below(3) * 127) }
      var b = a
      if !b.isEmpty, random.below(4) != 0 { b[random.below(b.count)] = UInt8.random(in: 0...255, using: &random) }
      let ours = unsafe machine_memcmp(a, b, UInt64(a.count)).signum()
      #expect(unsafe ours == memcmp(a, b, a.count).signum())
    }
  }

  @Test func `soft floating point agrees with the processor`() {
    var random = SeededGenerator("soft float")
    func isSame(_ bits: UInt64, _ value: Double) -> Bool {
      let ours = Double(bitPattern: bits)
      if value.isNaN { return ours.isNaN }
      // Results below the normal range become zero.
      if value.isSubnormal || value == 0 || abs(value) == .leastNormalMagnitude {
        return abs(ours) <= .leastNormalMagnitude
      }
      return ours == value
    }
    let special: [Double] = [
      0, -0.0, 1, -1, 0.5, 0.75, 3, .infinity, -.infinity, .nan, .greatestFiniteMagnitude, .leastNormalMagnitude,
      .leastNonzeroMagnitude, .ulpOfOne, 1 + .ulpOfOne, 4503599627370497.5, 9007199254740992, -2.5, 1e19, -1e19,
    ]
    func value() -> Double {
      switch random.below(5) {
      case 0: special[random.below(special.count)]
      case 1: Double(random.below(100_000)) / Double(1 + random.below(8))
      case 2: Double(Int64(bitPattern: random.next()) >> Int64(random.below(63)))
      case 3: Double(bitPattern: random.next())
      default: (Double(random.next() >> 11) + 1) * exp2(Double(random.below(60) - 90))
      }
    }
    for step in 0..<SeededGenerator.steps(50_000) {
      let (a, b) = (value(), value())
      let (x, y) = (a.bitPattern, b.bitPattern)
      let integer = Int64(bitPattern: random.next()) >> Int64(random.below(63))
      let fits = a > -9e18 && a < 9e18
      if !isSame(machine_soft___muldf3(x, y), a * b) || !isSame(machine_soft___divdf3(x, y), a / b)
        || !isSame(machine_soft___floatdidf(integer), Double(integer))
        || fits && machine_soft___fixdfdi(x) != Int64(a)
        || (machine_soft___gtdf2(x, y) > 0) != (a > b) || (machine_soft___ltdf2(x, y) < 0) != (a < b)
        || (machine_soft___eqdf2(x, y) == 0) != (a == b)
        || (machine_soft___unorddf2(x, y) != 0) != (a.isNaN || b.isNaN)
        || !a.isNaN && Double(bitPattern: machine_soft_ceil(x)) != a.rounded(.up)
      {
        Issue.record("step \(step): \(a) and \(b), or \(integer)")
        return
      }
    }
  }
}
