// The fake machine with memory for the kernel's allocators; threads, which are its CPUs.

import Glibc
import Machine
import PhysicalMemory

/// The one that a process may have.
nonisolated(unsafe) private var machine: (megabytes: UInt64, options: String)?

/// Sets up the kernel's memory of a machine of this size, with options for the kernel ("slob"), unless there is one already.
public func startMachine(megabytes: UInt64, options: String = "") {
  if let machine {
    guard machine == (megabytes, options) else { fatalError("a process has one machine: select a suite with --filter") }
    return
  }
  machine = (megabytes, options)
  guard let boot = unsafe machine_fake_boot_info(megabytes << 20), let text = unsafe strdup("append=\(options)") else {
    exit(1)
  }
  unsafe boot.pointee.configuration = UnsafePointer(text)
  unsafe boot.pointee.configuration_length = UInt64(strlen(text)) + 1
  unsafe PhysicalMemory.initialize(boot)
}

/// Threads that do the same at the same time; the caller is one of them. They stay until the process ends.
public final class Team {
  private let barrier = UnsafeMutablePointer<pthread_barrier_t>.allocate(capacity: 1)
  private var work: () -> Void = {}
  private let isAlone: Bool

  public init(threads: Int) {
    isAlone = threads == 1
    unsafe pthread_barrier_init(barrier, nil, UInt32(threads))
    for _ in 1..<threads {
      var thread = pthread_t()
      unsafe pthread_create(
        &thread, nil,
        { team in
          let team = unsafe Unmanaged<Team>.fromOpaque(team!).takeUnretainedValue()
          while true { team.workOnce() }
        }, Unmanaged.passRetained(self).toOpaque())
    }
  }

  /// Does `work` on each thread; returns when all are done.
  public func run(_ work: @escaping () -> Void) {
    if isAlone { return work() }
    self.work = work
    workOnce()
  }

  private func workOnce() {
    unsafe pthread_barrier_wait(barrier)
    work()
    unsafe pthread_barrier_wait(barrier)
  }
}
