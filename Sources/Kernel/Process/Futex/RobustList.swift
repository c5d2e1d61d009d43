// Robust futexes (get_robust_list(2), the kernel's robust-futex-ABI document): a thread leaves a list of the locks that
// it holds; when it ends, the kernel marks each as orphaned and wakes one waiter. The list is user memory and believed
// in nothing: it is walked a bounded number of steps, and every bad address ends the walk.

import CLinuxABI
import KernelCore
import LinuxABI
import VirtualMemory

enum RobustList {
  /// ROBUST_LIST_LIMIT.
  private static let limit = 2048

  /// Releases the locks on the list of `task`, which is ending and still has its address space.
  static func release(of task: Task) {
    let head = task.robustList
    guard head != 0 else { return }
    task.robustList = 0
    guard let list = try? UserMemory.read(head, as: linux_robust_list_head.self) else { return }
    let pending = list.pending
    var entry = list.next
    var steps = 0
    while entry & ~1 != head && steps < limit {
      // The next link is read first: once the lock is released its memory may go away.
      let next = try? UserMemory.read(entry & ~1, as: UInt64.self)
      if entry & ~1 != pending & ~1 {
        guard handle(entry, list.futex_offset, task, isPending: false) else { return }
      }
      guard let next else { return }
      entry = next
      steps += 1
    }
    if pending != 0 { _ = handle(pending, list.futex_offset, task, isPending: true) }
  }

  /// Marks one lock as orphaned when `task` owns it; false when its memory cannot be reached.
  private static func handle(_ entry: UInt64, _ offset: Int64, _ task: Task, isPending: Bool) -> Bool {
    // Bit 0 marks a priority-inheritance futex: its waiters are not ours to wake.
    let isInheriting = entry & 1 != 0
    let address = (entry & ~1) &+ UInt64(bitPattern: offset)
    guard address & 3 == 0 else { return false }
    do throws(Errno) {
      var old = try UserMemory.atomicLoad(address)
      while true {
        // The thread died between clearing the word and waking: a waiter may sleep on a free lock.
        if isPending && !isInheriting && old == 0 {
          _ = try Futex.wake(address: address, count: 1, bitset: .max, scope: .shared)
          return true
        }
        guard old & FUTEX_TID_MASK == UInt32(bitPattern: task.tid) else { return true }
        let new = old & FUTEX_WAITERS | FUTEX_OWNER_DIED
        let found = try UserMemory.atomicCompareExchange(address, expected: old, desired: new)
        if found == old { break }
        old = found
      }
      if old & FUTEX_WAITERS != 0 && !isInheriting {
        _ = try Futex.wake(address: address, count: 1, bitset: .max, scope: .shared)
      }
      return true
    } catch {
      return false
    }
  }
}
