// /proc/PID/fail-nth, with the kernel option `fault-injection`: a thread makes one of its own next allocations fail (the file of
// this name that Linux has for fault injection). Tests fail every allocation of every system call with it in turn.
//
// Writing N makes the Nth allocation from then on fail; 0 ends it. Reading gives 0 when one has failed, else how many more
// must come. The allocations of system calls that only give back or look are not counted (SystemCallAdmission).

import KernelCore
import LinuxABI
import PhysicalMemory
import Process

enum FaultInjection {
  static let isEnabled = BootParameters.hasOption("fault-injection")

  /// - Throws: EINVAL; EPERM for other threads than the caller's.
  static func set(_ reference: TaskReference, _ value: ByteString) throws(Errno) {
    guard let count = value.decimal().flatMap({ Int(exactly: $0) }), count <= Int32.max else { throw .EINVAL }
    guard let task = Task.running, try reference.resolve().process === task.process else { throw .EPERM }
    if count == 0 { _ = AllocationFailure.stop() } else { AllocationFailure.fail(after: count - 1) }
  }
}
