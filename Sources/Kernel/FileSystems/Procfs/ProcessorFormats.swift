// /proc/cpuinfo: what the CPUID instruction says, in Linux's names. Programs look for `flags` (which vector extensions
// there are), `processor` (how many there are) and `model name`.

import KernelCore
import LinuxABI

/// A processor, as CPUID describes it.
struct ProcessorDescription {
  var vendor = ByteString()
  var family: UInt32 = 0
  var model: UInt32 = 0
  var stepping: UInt32 = 0
  var name = ByteString()
  var flags: [StaticString] = []
  /// The line size of CLFLUSH, in bytes.
  var flushSize: UInt32 = 64
  var physicalBits: UInt32 = 40
  var virtualBits: UInt32 = 48

  /// The registers of a leaf and subleaf: eax, ebx, ecx, edx.
  typealias Leaf = (UInt32, UInt32) -> [UInt32]

  init() {}

  /// Asks `leaf`, the CPUID instruction (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E).
  init(_ leaf: Leaf) {
    let base = leaf(0, 0)
    vendor = Self.text([base[1], base[3], base[2]])
    let signature = leaf(1, 0)
    stepping = signature[0] & 15
    family = signature[0] >> 8 & 15
    model = signature[0] >> 4 & 15
    if family == 6 || family == 15 { model |= signature[0] >> 12 & 0xf0 }
    if family == 15 { family += signature[0] >> 20 & 255 }
    flushSize = (signature[1] >> 8 & 255) * 8
    for (bit, flag) in Self.leaf1EDX where signature[3] & (1 << bit) != 0 { flags.append(flag) }
    let extendedCount = leaf(0x8000_0000, 0)[0]
    let extended = extendedCount >= 0x8000_0001 ? leaf(0x8000_0001, 0) : [0, 0, 0, 0]
    for (bit, flag) in Self.extendedEDX where extended[3] & (1 << bit) != 0 { flags.append(flag) }
    for (bit, flag) in Self.leaf1ECX where signature[2] & (1 << bit) != 0 { flags.append(flag) }
    for (bit, flag) in Self.extendedECX where extended[2] & (1 << bit) != 0 { flags.append(flag) }
    if base[0] >= 7 {
      let seven = leaf(7, 0)
      for (bit, flag) in Self.leaf7EBX where seven[1] & (1 << bit) != 0 { flags.append(flag) }
      for (bit, flag) in Self.leaf7ECX where seven[2] & (1 << bit) != 0 { flags.append(flag) }
    }
    if extendedCount >= 0x8000_0004 {
      let words = (UInt32(0x8000_0002)...0x8000_0004).flatMap { leaf($0, 0) }
      name = Self.text(words)
    }
    if extendedCount >= 0x8000_0008 {
      let sizes = leaf(0x8000_0008, 0)[0]
      physicalBits = sizes & 255
      virtualBits = sizes >> 8 & 255
    }
  }

  private static func text(_ words: [UInt32]) -> ByteString {
    var bytes: [UInt8] = []
    for word in words {
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        let byte = UInt8(truncatingIfNeeded: word >> shift)
        if byte != 0 { bytes.append(byte) }
      }
    }
    while bytes.last == 0x20 { bytes.removeLast() }
    return ByteString(bytes)
  }

  // The bits that matter to user programs.
  private static let leaf1EDX: [(UInt32, StaticString)] = [
    (0, "fpu"), (4, "tsc"), (8, "cx8"), (15, "cmov"), (19, "clflush"), (23, "mmx"), (24, "fxsr"), (25, "sse"),
    (26, "sse2"), (28, "ht"),
  ]
  private static let leaf1ECX: [(UInt32, StaticString)] = [
    (0, "pni"), (1, "pclmulqdq"), (9, "ssse3"), (12, "fma"), (13, "cx16"), (19, "sse4_1"), (20, "sse4_2"),
    (22, "movbe"), (23, "popcnt"), (25, "aes"), (26, "xsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"),
    (31, "hypervisor"),
  ]
  private static let extendedEDX: [(UInt32, StaticString)] = [(11, "syscall"), (20, "nx"), (27, "rdtscp"), (29, "lm")]
  private static let extendedECX: [(UInt32, StaticString)] = [
    (0, "lahf_lm"), (5, "abm"), (6, "sse4a"), (8, "3dnowprefetch"), (16, "fma4"),
  ]
  private static let leaf7EBX: [(UInt32, StaticString)] = [
    (0, "fsgsbase"), (3, "bmi1"), (5, "avx2"), (8, "bmi2"), (9, "erms"), (16, "avx512f"), (17, "avx512dq"),
    (18, "rdseed"), (19, "adx"), (21, "avx512ifma"), (23, "clflushopt"), (24, "clwb"), (28, "avx512cd"),
    (29, "sha_ni"), (30, "avx512bw"), (31, "avx512vl"),
  ]
  private static let leaf7ECX: [(UInt32, StaticString)] = [
    (1, "avx512vbmi"), (6, "avx512_vbmi2"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (11, "avx512_vnni"),
    (12, "avx512_bitalg"), (14, "avx512_vpopcntdq"), (22, "rdpid"),
  ]

  /// The text for `count` processors like this one.
  func text(count: Int) -> TextBuffer {
    var text = TextBuffer(reserving: 1024 * count)
    func line(_ title: StaticString, _ value: ByteString) {
      text.append(title)
      text.append(": ")
      text.append(value)
      text.append("\n")
    }
    func line(_ title: StaticString, _ value: UInt64) {
      var number = TextBuffer()
      number.append(decimal: value)
      line(title, number.byteString)
    }
    for index in 0..<count {
      line("processor\t", UInt64(index))
      line("vendor_id\t", vendor)
      line("cpu family\t", UInt64(family))
      line("model\t\t", UInt64(model))
      line("model name\t", name)
      line("stepping\t", UInt64(stepping))
      line("physical id\t", 0)
      line("siblings\t", UInt64(count))
      line("core id\t\t", UInt64(index))
      line("cpu cores\t", UInt64(count))
      line("apicid\t\t", UInt64(index))
      line("fpu\t\t", "yes")
      line("fpu_exception\t", "yes")
      line("wp\t\t", "yes")
      var list = TextBuffer()
      for (place, flag) in flags.enumerated() {
        if place > 0 { list.append(" ") }
        list.append(flag)
      }
      line("flags\t\t", list.byteString)
      line("clflush size\t", UInt64(flushSize))
      line("cache_alignment\t", UInt64(flushSize))
      text.append("address sizes\t: ")
      text.append(decimal: UInt64(physicalBits))
      text.append(" bits physical, ")
      text.append(decimal: UInt64(virtualBits))
      text.append(" bits virtual\n\n")
    }
    return text
  }
}
