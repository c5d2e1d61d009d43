// Failing allocations on purpose, for tests: each allocation of an operation in turn, to show that none of them, when it fails,
// loses anything. A thread of a program asks for it through /proc/thread-self/fail-nth, with the kernel option `fault-injection`;
// unit tests call it.
//
// What counts as an allocation is every place that can fail for want of memory: frames, objects of slab caches, admissions of
// system calls, promises of memory. What cannot fail is not counted.

import KernelCore
import LinuxABI
import Machine
import Synchronization

/// One allocation that is going to fail.
public enum AllocationFailure {
  /// Allocations until then; negative when none is to fail.
  private static let left = Atomic<Int>(-1)
  private static let failed = Atomic<Bool>(false)
  /// Whose allocations count: a thread, or 0 on the host for any.
  private static let owner = Atomic<UInt>(0)
  /// One load for allocations while nothing is to fail.
  private static let isArmed = Atomic<Bool>(false)

  /// Makes one allocation of this thread fail, after `count` that don't. Those of code that cannot fail are not counted.
  @export(interface)
  public static func fail(after count: Int) {
    failed.store(false, ordering: .relaxed)
    owner.store(current, ordering: .relaxed)
    left.store(count, ordering: .relaxed)
    isArmed.store(true, ordering: .relaxed)
    AdmissionGate.close(.injection)
  }

  /// Ends it; the answer is whether one has failed.
  @export(interface)
  public static func stop() -> Bool {
    isArmed.store(false, ordering: .relaxed)
    AdmissionGate.open(.injection)
    left.store(-1, ordering: .relaxed)
    return failed.load(ordering: .relaxed)
  }

  /// Allocations that are still going to succeed, one more than `fail` was told at first; 0 when one has failed.
  public static var remaining: Int {
    @export(interface) get { failed.load(ordering: .relaxed) ? 0 : left.load(ordering: .relaxed) + 1 }
  }

  /// Whether an allocation of this thread was made to fail: looking for memory is pointless then.
  @inline(__always)
  public static var hasFailed: Bool { isArmed.load(ordering: .relaxed) && hasFailedHere }

  private static var hasFailedHere: Bool {
    @export(interface) get { failed.load(ordering: .relaxed) && isOurs }
  }

  /// Counts an allocation.
  ///
  /// - Throws: ENOMEM when it is the one.
  @inline(__always)
  public static func check() throws(Errno) {
    if isArmed.load(ordering: .relaxed) { try count() }
  }

  @inline(never) @export(interface)
  public static func count() throws(Errno) {
    guard isOurs, left.load(ordering: .relaxed) >= 0,
      left.wrappingSubtract(1, ordering: .relaxed).newValue < 0
    else { return }
    failed.store(true, ordering: .relaxed)
    throw .ENOMEM
  }

  private static var isOurs: Bool {
    let owner = owner.load(ordering: .relaxed)
    return owner == 0 || owner == current
  }

  /// The running thread of the kernel.
  private static var current: UInt {
    #if hasFeature(Embedded)
      // SAFETY: the record of a running CPU is never freed; the pointer is compared only.
      return UInt(bitPattern: unsafe machine_this_cpu().pointee.current)
    #else
      return 0
    #endif
  }
}
