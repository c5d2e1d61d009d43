// The CPU that runs the caller, and data that belongs to one CPU.

import Machine

/// The processors of this machine.
public enum CPU {
  /// The number of CPUs that the machine offers. Written once by the boot CPU.
  public nonisolated(unsafe) static var count = 1

  /// The index of the CPU on which the caller runs; it stays true until the calling thread sleeps or yields.
  @inline(__always)
  public static var currentIndex: Int {
    // SAFETY: the record of a running CPU is never freed.
    unsafe Int(truncatingIfNeeded: machine_this_cpu().pointee.index)
  }

  /// How many spin locks this CPU holds.
  @inline(__always)
  public static var lockDepth: Int {
    // SAFETY: as above; the field is written by this CPU alone.
    unsafe Int(truncatingIfNeeded: machine_this_cpu().pointee.preempt_depth)
  }

  @inline(__always)
  static func adjustLockDepth(_ change: Int) {
    // SAFETY: as above.
    unsafe machine_this_cpu().pointee.preempt_depth &+= UInt64(bitPattern: Int64(change))
  }
}

/// One value for each CPU. The kernel is not preempted in kernel mode, so the current CPU's value needs no lock.
@safe public final class PerCPU<Value> {
  private let values: UnsafeMutablePointer<Value>

  /// Makes a value for each possible CPU by calling `make` with its index.
  public init(_ make: (Int) -> Value) {
    // SAFETY: allocated and initialised here for every index that `currentIndex` can have; never freed while in use.
    unsafe values = .allocate(capacity: Int(MACHINE_MAX_CPUS))
    for index in 0..<Int(MACHINE_MAX_CPUS) {
      unsafe (values + index).initialize(to: make(index))
    }
  }

  deinit {
    unsafe values.deinitialize(count: Int(MACHINE_MAX_CPUS))
    unsafe values.deallocate()
  }

  /// This CPU's value.
  public final var current: Value {
    @inline(__always) get { unsafe values[CPU.currentIndex] }
    @inline(__always) set { unsafe values[CPU.currentIndex] = newValue }
  }

  /// Another CPU's value; reading it is racy unless the value is itself safe to share.
  public final subscript(cpu: Int) -> Value {
    get {
      precondition(cpu >= 0 && cpu < Int(MACHINE_MAX_CPUS))
      return unsafe values[cpu]
    }
    set {
      precondition(cpu >= 0 && cpu < Int(MACHINE_MAX_CPUS))
      unsafe values[cpu] = newValue
    }
  }
}
