// Admission: whether an operation that makes kernel objects may begin.
//
// Swift cannot report that an object could not be made, so memory is looked at before: every system call passes `admit`
// unless it keeps nothing (SystemCallAdmission), and operations that make many objects, or a large one, pass it on their
// way. Pages of programs are refused at the zones' minimum, kernel objects at half of that: a program that fits goes on. What is
// then made without a look comes from the rest and from the frames set aside, more than all CPUs make between two looks.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling

/// The gate in front of kernel objects.
public enum KernelMemory {
  /// Lets an operation begin that makes small objects. May sleep while memory is short: the caller holds no spin lock.
  ///
  /// - Throws: ENOMEM when memory cannot be found, or the user holds too much of the kernel's.
  @inline(__always)
  public static func admit() throws(Errno) {
    LockOrder.mayWait()
    if AdmissionGate.isClosed { try admitSlowly() }
  }

  /// The same without sleeping, for loops that may hold locks which others need to give memory up.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  public static func check() throws(Errno) {
    if AdmissionGate.isClosed { try checkSlowly() }
  }

  @export(interface) @inline(never)
  public static func checkSlowly() throws(Errno) {
    try AllocationFailure.check()
    if FrameAllocator.isNearlyEmpty || Thread.current.account.isExceeded { throw .ENOMEM }
  }

  @export(interface) @inline(never)
  public static func admitSlowly() throws(Errno) {
    try AllocationFailure.check()
    guard !Thread.current.account.isExceeded else { throw .ENOMEM }
    if FrameAllocator.isNearlyEmpty {
      var relief = MemoryPressure.Relief()
      while FrameAllocator.isNearlyEmpty {
        guard relief.find() else { throw .ENOMEM }
      }
    }
    // Objects of more than a page are made without a look as well: long paths, messages.
    try findRun(of: largestSmallObject)
  }

  /// Lets an operation begin that makes an object of `bytes` bytes, which may be large: an array needs frames in a row.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func admit(bytes: Int) throws(Errno) {
    try admit()
    if bytes > Int(pageSize) { try findRun(of: bytes) }
  }

  private static func findRun(of bytes: Int) throws(Errno) {
    // Programs do not die for want of a long run; fragmentation is repaired, and then the operation fails. Others may take what
    // was made, and have what they took on its way to a swap area: with swap there is a second for it, as for a page.
    for attempt in 0..<500 {
      if FrameAllocator.hasRun(of: bytes) { return }
      if attempt == 0 { KernelHeap.trim() } else { _ = Shrinkers.reclaim(frames: 4 * (bytes / Int(pageSize) + 1)) }
      Compaction.compactAll()
      if attempt >= 4 { guard Reclaim.canSwap, MemoryPressure.pause() else { break } }
    }
    guard FrameAllocator.hasRun(of: bytes) else { throw .ENOMEM }
  }

  /// Lets an array of `count` elements of `stride` bytes grow by one, when that moves it to a larger place.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  public static func admitGrowth(count: Int, capacity: Int, stride: Int) throws(Errno) {
    if count >= capacity { try admit(bytes: 2 * max(count, 1) * stride) }
  }

  /// What `admit` answers for without being told.
  public static var largestSmallObject: Int { 8192 }
}
