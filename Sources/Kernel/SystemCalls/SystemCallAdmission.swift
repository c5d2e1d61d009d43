// Which system calls begin even when there is no memory for kernel objects: those that end something, give memory back, wait
// without making anything, or only look. All others are admitted first (`KernelMemory.admit`): they wait until memory has
// been found, or fail with ENOMEM.

import KernelCore
import LinuxABI
import VirtualMemory

enum SystemCallAdmission {
  /// Lets a call begin.
  ///
  /// - Throws: ENOMEM.
  @inline(__always)
  static func admit(_ number: UInt64) throws(Errno) {
    if AdmissionGate.isClosed { try admitSlowly(number) }
  }

  @inline(never)
  private static func admitSlowly(_ number: UInt64) throws(Errno) {
    guard !exempt.contains(Int(truncatingIfNeeded: number)) else { return }
    try KernelMemory.admit()
  }

  private static let exempt: Set<Int> = [
    0, 17, 19, 295, 327,  // read, pread64, readv, preadv, preadv2
    3, 436,  // close, close_range
    5, 8,  // fstat, lseek
    11, 28, 76, 77,  // munmap, madvise, truncate, ftruncate
    13, 14, 15, 127, 131,  // rt_sigaction, rt_sigprocmask, rt_sigreturn, rt_sigpending, sigaltstack
    128, 130,  // rt_sigtimedwait, rt_sigsuspend
    24, 34, 35, 230,  // sched_yield, pause, nanosleep, clock_nanosleep
    39, 102, 104, 107, 108, 110, 111, 121, 124, 186,  // getpid and its relatives
    60, 231,  // exit, exit_group
    61, 247,  // wait4, waitid
    62, 200, 234, 129, 297,  // kill, tkill, tgkill; rt_sigqueueinfo and rt_tgsigqueueinfo, which look for themselves
    84, 87, 263,  // rmdir, unlink, unlinkat
    96, 97, 98, 99, 100, 201, 228, 229,  // clocks, limits, usage
    150, 152,  // munlock, munlockall
    202, 218, 219, 273,  // futex, set_tid_address, restart_syscall, set_robust_list
    226, 255,  // timer_delete, inotify_rm_watch
  ]
}
