// The fake machine with memory for the kernel's allocators; threads, which are its CPUs.

import Glibc
import Machine
import PhysicalMemory

/// Sets up the kernel's memory of a machine of this size, with options for the kernel ("slob").
public func startMachine(megabytes: UInt64, options: String = "") {
  guard let boot = unsafe machine_fake_boot_info(megabytes << 20), let text = unsafe strdup("append=\(options)") else {
    exit(1)
  }
  unsafe boot.pointee.configuration = UnsafePointer(text)
  unsafe boot.pointee.configuration_length = UInt64(strlen(text)) + 1
  unsafe PhysicalMemory.initialize(boot)
}

/// Runs `body` on so many threads at once; the time from the first one's start to the last one's end, in nanoseconds.
public func onThreads(_ count: Int, _ body: @escaping () -> Void) -> UInt64 {
  final class Member {
    let body: () -> Void
    let barrier: UnsafeMutablePointer<pthread_barrier_t>
    var thread = pthread_t()
    var start: UInt64 = 0
    var end: UInt64 = 0
    init(_ body: @escaping () -> Void, _ barrier: UnsafeMutablePointer<pthread_barrier_t>) {
      self.body = body
      unsafe self.barrier = barrier
    }
  }
  let barrier = UnsafeMutablePointer<pthread_barrier_t>.allocate(capacity: 1)
  defer { unsafe barrier.deallocate() }
  unsafe pthread_barrier_init(barrier, nil, UInt32(count))
  let members = unsafe (0..<count).map { _ in unsafe Member(body, barrier) }
  for member in members {
    unsafe pthread_create(
      &member.thread, nil,
      { member in
        let member = unsafe Unmanaged<Member>.fromOpaque(member!).takeUnretainedValue()
        unsafe pthread_barrier_wait(member.barrier)
        member.start = now()
        member.body()
        member.end = now()
        return nil
      }, Unmanaged.passUnretained(member).toOpaque())
  }
  for member in members { unsafe pthread_join(member.thread, nil) }
  return members.map(\.end).max()! - members.map(\.start).min()!
}
