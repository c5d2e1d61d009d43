// Random steps that can be repeated: each test prints its seed; APUS_SEED sets it.

import Glibc

public struct SeededGenerator: RandomNumberGenerator {
  /// What the steps follow from; a test's messages name it.
  public let seed: UInt64
  private var state: UInt64

  /// A generator for `test`, with a seed that is printed.
  public init(_ test: StaticString) {
    if let text = unsafe getenv("APUS_SEED"), let seed = UInt64(unsafe String(cString: text)) {
      self.init(seed: seed)
    } else {
      self.init(seed: UInt64.random(in: 1 ... .max))
    }
    print("\(test): APUS_SEED=\(seed)")
  }

  /// A generator that always takes the same steps.
  public init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// The number of steps of a long test: `usual`, or as many per cent of it as APUS_EFFORT says.
  public static func steps(_ usual: Int) -> Int {
    guard let text = unsafe getenv("APUS_EFFORT"), let percent = Int(unsafe String(cString: text)), percent > 0
    else { return usual }
    return max(1, usual * percent / 100)
  }

  /// The number of steps of a comparison with a model, of which a test makes `parts`: `usual`, or APUS_STEPS in all parts
  /// together.
  public static func modelSteps(_ usual: Int, parts: Int = 1) -> Int {
    forgetBacktraces()
    guard let text = unsafe getenv("APUS_STEPS"), let wanted = Int(unsafe String(cString: text)) else {
      return steps(usual)
    }
    return max(1, wanted / parts)
  }

  /// In these tests errors are ordinary results, by the hundred thousand, and half of the time would go to the backtraces
  /// that Swift Testing takes of each: its hooks in the Swift runtime are taken out.
  private static func forgetBacktraces() {
    for name in ["_swift_willThrow", "_swift_willThrowTypedImpl"] {
      // SAFETY: the runtime's hooks are words that hold a function or nil.
      guard let hook = unsafe dlsym(nil, name) else { continue }
      unsafe hook.storeBytes(of: 0, as: UInt.self)
    }
  }

  // SplitMix64 (Steele, Lea, Flood 2014).
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  public mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}
