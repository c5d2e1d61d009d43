// What happens when memory is exhausted and reclaim found nothing: the process that holds most of it is killed, and the
// rest goes on (proc(5), oom_score_adj).

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import VirtualMemory

/// The out-of-memory policy, installed in VirtualMemory.
public final class OutOfMemoryKiller: OutOfMemoryPolicy {
  public static let shared = OutOfMemoryKiller()

  /// Kills by this policy since boot (/proc/vmstat, oom_kill).
  public let kills = Atomic<UInt64>(0)

  private init() {}

  /// Makes this the policy in force.
  @export(interface)
  public static func install() { MemoryPressure.install(shared) }

  /// A process's claim to be killed: its pages plus the adjustment in thousandths of all memory; nil for never.
  static func badness(residentPages: UInt64, totalPages: UInt64, adjustment: Int) -> Int64? {
    guard adjustment > -1000 else { return nil }
    let pages = Int64(clamping: residentPages)
    return max(1, pages + Int64(adjustment) * Int64(clamping: totalPages) / 1000)
  }

  /// Chooses a process and kills it.
  ///
  /// - Returns: whether memory may be expected to become free: a process was killed or is dying already.
  @export(interface)
  public func memoryExhausted() -> Bool {
    var victim: Process?
    var worst: Int64 = 0
    var pages = 0
    for process in ProcessTable.processes() {
      guard let space = process.anyTask?.sharedAddressSpace else { continue }
      // A dying process will free its memory: wait for that before killing another.
      if process.signals.withLock({ $0.exitStatus != nil }) {
        return !Thread.current.hasFatalSignal
      }
      let resident = space.residentPages
      let adjustment = process.outOfMemoryAdjustment.load(ordering: .relaxed)
      guard
        let badness = OutOfMemoryKiller.badness(
          residentPages: UInt64(resident), totalPages: UInt64(MemoryStatistics.snapshot().total), adjustment: adjustment
        )
      else { continue }
      if badness > worst { (victim, worst, pages) = (process, badness, resident) }
    }
    guard let victim else { return false }
    kills.add(1, ordering: .relaxed)
    let name = victim.anyTask?.commandName.string ?? "?"
    Log.error(
      "Out of memory: killed process \(victim.pid) (\(name)), anon-rss:\(UInt64(pages) * pageSize / 1024)kB",
      from: .memory)
    victim.beginExit(.killed(SIGKILL))
    return !Thread.current.hasFatalSignal
  }

  /// Memory for a fault of `task` could not be found: it cannot go on.
  func endCurrent(_ task: Task) {
    guard !task.hasFatalSignal else { return }
    Log.error("Out of memory: killed process \(task.process.pid) (\(task.commandName.string))", from: .memory)
    kills.add(1, ordering: .relaxed)
    task.process.beginExit(.killed(SIGKILL))
  }
}
