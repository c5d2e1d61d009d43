// Failing allocations on purpose, for tests on the host: each allocation of an operation in turn, to show that none of
// them, when it fails, loses anything. The kernel's image has nothing of it.

#if !hasFeature(Embedded)
  import LinuxABI
  import Synchronization

  /// One allocation of frames that is going to fail.
  public enum AllocationFailure {
    /// Allocations until then; negative when none is to fail.
    private static let left = Atomic<Int>(-1)
    private static let hasFailed = Atomic<Bool>(false)

    /// Makes one allocation fail, after `count` that don't. Those of code that cannot fail are not counted.
    public static func fail(after count: Int) {
      hasFailed.store(false, ordering: .relaxed)
      left.store(count, ordering: .relaxed)
    }

    /// Ends it; the answer is whether one has failed.
    public static func stop() -> Bool {
      left.store(-1, ordering: .relaxed)
      return hasFailed.load(ordering: .relaxed)
    }

    static func check(_ options: AllocationOptions) throws(Errno) {
      guard left.load(ordering: .relaxed) >= 0, !options.contains(.reserved) else { return }
      guard left.wrappingSubtract(1, ordering: .relaxed).newValue < 0 else { return }
      hasFailed.store(true, ordering: .relaxed)
      throw .ENOMEM
    }
  }
#endif
