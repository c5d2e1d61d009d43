// Grace periods: when has every CPU left the code in which it was? (McKenney and Slingwine, "Read-Copy Update", 1998.)
//
// Each CPU has a word that only it writes. Its lowest bits are not zero while the CPU is *inside*: in kernel code, where
// it may hold pointers that it found without a lock. Whenever it gives all of them up (it switches threads, idles, goes
// to user code) the generation in the upper bits changes. A CPU that waits for the others notes the words of those
// which are inside; when each of them is outside or has another generation, nobody holds anything any more that was
// unlinked before. CPUs that are outside, idle ones and those that run user code, are never waited for or woken.
//
// Every change of a word is a full barrier, and the words are read behind one. Either the waiting CPU sees that the
// other is inside, or the other sees what was unlinked: it cannot be that both come too late.

import Synchronization

/// A place for one deferred call, within the object that the call is about: deferring allocates nothing. It belongs to
/// the grace periods until the call.
@safe public struct DeferredCall {
  fileprivate var next: UnsafeMutablePointer<DeferredCall>?
  fileprivate var function: DeferredFunction?

  public init() {}
}

/// Called with the address of its `DeferredCall`, at a point where the CPU holds no lock; it must not sleep.
public typealias DeferredFunction = @convention(c) (UnsafeMutableRawPointer) -> Void

/// The grace periods of a set of CPUs. The kernel has one, behind `RCU`.
@safe public final class GracePeriods {
  /// What a CPU's word is made of.
  private enum Word {
    static var inside: UInt64 { 1 }
    static var insideMask: UInt64 { 0xff }
    static var user: UInt64 { 1 << 8 }
    static var generation: UInt64 { 1 << 16 }
  }

  /// Deferred calls, oldest first.
  private struct CallList {
    var first: UnsafeMutablePointer<DeferredCall>?
    var last: UnsafeMutablePointer<DeferredCall>?
  }

  /// One CPU's state, on cache lines of its own. All but the word is that CPU's alone.
  private struct CPUState: ~Copyable {
    let word = Atomic<UInt64>(0)
    /// Calls that wait for the grace period after the current one.
    var collecting = CallList()
    /// Calls that wait for the CPUs in `remaining` to change their words.
    var waiting = CallList()
    var remaining: UInt64 = 0
    var padding: InlineArray<9, UInt64> = InlineArray(repeating: 0)
  }

  private let cpuCount: Int
  private let states: UnsafeMutablePointer<CPUState>
  /// The words that a waiting CPU has seen: `cpuCount` for each.
  private let seen: UnsafeMutablePointer<UInt64>

  // SAFETY (of this file): both arrays are made here for CPU indices below cpuCount and live as long as the object. A
  // CPU touches its own state only, except for the words, which are atomic. A deferred call's memory is lent to us.

  /// - Parameter cpuCount: at most 64. All CPUs are outside at first.
  @export(interface) public init(cpuCount: Int) {
    precondition(cpuCount > 0 && cpuCount <= 64)
    self.cpuCount = cpuCount
    unsafe states = .allocate(capacity: cpuCount)
    for cpu in 0..<cpuCount { unsafe (states + cpu).initialize(to: CPUState()) }
    unsafe seen = .allocate(capacity: cpuCount * cpuCount)
    unsafe seen.initialize(repeating: 0, count: cpuCount * cpuCount)
  }

  deinit {
    unsafe states.deinitialize(count: cpuCount)
    unsafe states.deallocate()
    unsafe seen.deallocate()
  }

  @inline(__always)
  private func change(_ cpu: Int, by difference: UInt64) {
    unsafe states[cpu].word.wrappingAdd(difference, ordering: .sequentiallyConsistent)
  }

  // MARK: What the CPU itself reports

  /// The CPU may hold pointers from now on. Nests.
  @inline(__always) public func enter(_ cpu: Int) { change(cpu, by: Word.inside) }
  /// The CPU holds nothing any more, if it entered once only.
  @inline(__always) public func leave(_ cpu: Int) { change(cpu, by: Word.generation &- Word.inside) }
  /// Undoes one of several nested entries; the last one is a `leave`.
  @export(interface) public func leaveNested(_ cpu: Int) {
    var word = unsafe states[cpu].word.load(ordering: .relaxed)
    while true {
      let change = word & Word.insideMask == 1 ? Word.generation &- Word.inside : 0 &- Word.inside
      let result = unsafe states[cpu].word.compareExchange(
        expected: word, desired: word &+ change, ordering: .sequentiallyConsistent)
      if result.exchanged { return }
      word = result.original
    }
  }
  /// As `leave`, to run user code.
  @inline(__always) public func leaveForUser(_ cpu: Int) {
    change(cpu, by: Word.generation &- Word.inside &+ Word.user)
  }
  @inline(__always) public func enterFromUser(_ cpu: Int) { change(cpu, by: Word.inside &- Word.user) }
  /// The CPU stays inside and holds nothing at this moment.
  @inline(__always) public func pass(_ cpu: Int) { change(cpu, by: Word.generation) }

  /// How often the CPU has entered and not left.
  @export(interface) public func depth(_ cpu: Int) -> Int {
    unsafe Int(states[cpu].word.load(ordering: .relaxed) & Word.insideMask)
  }

  /// A value that changes when the CPU stops running user code; nil while it does something else.
  @export(interface) public func userRun(_ cpu: Int) -> UInt64? {
    let word = unsafe states[cpu].word.load(ordering: .sequentiallyConsistent)
    return word & Word.user != 0 ? word : nil
  }

  // MARK: Deferred calls

  /// Whether calls of this CPU wait.
  @inline(__always) public func hasPending(_ cpu: Int) -> Bool {
    unsafe states[cpu].collecting.first != nil || states[cpu].waiting.first != nil
  }

  /// Calls `function` on this CPU, in one of its next `poll`s, when no reader can still hold what was unlinked before.
  @export(interface)
  public func deferCall(_ cpu: Int, _ call: UnsafeMutablePointer<DeferredCall>, _ function: DeferredFunction) {
    unsafe call.pointee.next = nil
    unsafe call.pointee.function = function
    if let last = unsafe states[cpu].collecting.last {
      unsafe last.pointee.next = call
    } else {
      unsafe states[cpu].collecting.first = call
    }
    unsafe states[cpu].collecting.last = call
  }

  /// Makes the calls whose grace period is over, and begins another one for those that came meanwhile. The CPU itself
  /// holds nothing.
  ///
  /// - Complexity: O(CPUs) and the calls made.
  @export(interface) public func poll(_ cpu: Int) {
    pass(cpu)
    if unsafe states[cpu].waiting.first != nil { advance(cpu) }
    if unsafe states[cpu].waiting.first == nil, unsafe states[cpu].collecting.first != nil { begin(cpu) }
  }

  private func begin(_ cpu: Int) {
    unsafe states[cpu].waiting = states[cpu].collecting
    unsafe states[cpu].collecting = CallList()
    var remaining: UInt64 = 0
    // Behind the full barrier of `pass`.
    for other in 0..<cpuCount where other != cpu {
      let word = unsafe states[other].word.load(ordering: .sequentiallyConsistent)
      guard word & Word.insideMask != 0 else { continue }
      unsafe seen[cpu &* cpuCount &+ other] = word
      remaining |= 1 << UInt64(other)
    }
    unsafe states[cpu].remaining = remaining
    if remaining == 0 { makeCalls(cpu) }
  }

  private func advance(_ cpu: Int) {
    var rest = unsafe states[cpu].remaining
    while rest != 0 {
      let other = rest.trailingZeroBitCount
      rest &= rest &- 1
      let word = unsafe states[other].word.load(ordering: .sequentiallyConsistent)
      let before = unsafe seen[cpu &* cpuCount &+ other]
      if word & Word.insideMask == 0 || word / Word.generation != before / Word.generation {
        unsafe states[cpu].remaining &= ~(1 << UInt64(other))
      }
    }
    if unsafe states[cpu].remaining == 0 { makeCalls(cpu) }
  }

  private func makeCalls(_ cpu: Int) {
    var next = unsafe states[cpu].waiting.first
    unsafe states[cpu].waiting = CallList()
    while let call = unsafe next {
      // The call may free its own memory.
      unsafe next = call.pointee.next
      unsafe call.pointee.function.unsafelyUnwrapped(UnsafeMutableRawPointer(call))
    }
  }
}
