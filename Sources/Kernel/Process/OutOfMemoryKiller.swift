// What happens when memory is exhausted and reclaim found nothing: the process that holds most of it is killed, and the
// rest goes on (proc(5), oom_score_adj).

import FileSystem
import Identity
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

  private let isChoosing = Atomic<Bool>(false)

  private init() {}

  /// Makes this the policy in force.
  @export(interface)
  public static func install() { MemoryPressure.install(shared) }

  /// A process's claim to be killed: its pages plus the adjustment in thousandths of all memory; nil for never.
  static func badness(pages: UInt64, totalPages: UInt64, adjustment: Int) -> Int64? {
    guard adjustment > -1000 else { return nil }
    let pages = Int64(clamping: pages)
    return max(1, pages + Int64(adjustment) * Int64(clamping: totalPages) / 1000)
  }

  /// Pages that the end of a process would make free, or nearly so: what its tables show, the tables, and the kernel's
  /// objects for it. Nothing here waits for a lock that the process may hold while it waits for memory.
  private static func pages(of process: Process) -> (all: Int, resident: Int, user: UInt32)? {
    guard let task = process.anyTask, let space = task.sharedAddressSpace else { return nil }
    let memory = space.heldPages
    let bytes =
      task.sharedDescriptors.heldBytes + memory.areas * AddressSpace.areaBytes
      + process.signals.withLock { state in
        state.tasks.reduce(state.shared.heldBytes) { $0 + Task.kernelBytes + $1.pending.heldBytes }
      } + process.timers.heldBytes
    let all = memory.resident + memory.tables + bytes / Int(pageSize)
    return (all, memory.resident, task.sharedCredentials.realUser)
  }

  /// /proc/PID/oom_score: the claim in thousandths of all memory, raised by 1000 and cut by a third, as Linux shows it.
  @export(interface)
  public static func score(of process: Process) -> Int {
    guard let held = pages(of: process) else { return 0 }
    let adjustment = process.outOfMemoryAdjustment.load(ordering: .relaxed)
    guard adjustment > -1000 else { return 0 }
    let points = 1000 + held.all * 1000 / max(1, MemoryStatistics.snapshot().total) + adjustment
    return max(0, points) * 2 / 3
  }

  /// Chooses a process and kills it.
  ///
  /// - Returns: whether memory may be expected to become free: a process was killed or is dying already, or there is
  ///   memory by now, for others were killed while the caller looked for some.
  @export(interface)
  public func memoryExhausted() -> Bool {
    if isChoosing.exchange(true, ordering: .acquiring) { return !Thread.current.hasFatalSignal }
    defer { isChoosing.store(false, ordering: .releasing) }
    if FrameAllocator.shortage == 0, FrameAllocator.hasRun(of: KernelMemory.largestSmallObject) {
      return !Thread.current.hasFatalSignal
    }
    var claims: [Claim] = []
    let total = UInt64(MemoryStatistics.snapshot().total)
    for process in ProcessTable.processes() {
      // A dying process will free its memory, or is at it: wait for that before killing another.
      if process.signals.withLock({ $0.exitStatus != nil && !$0.tasks.isEmpty }) {
        return !Thread.current.hasFatalSignal
      }
      guard let held = Self.pages(of: process) else { continue }
      let adjustment = process.outOfMemoryAdjustment.load(ordering: .relaxed)
      guard var badness = Self.badness(pages: UInt64(held.all), totalPages: total, adjustment: adjustment) else {
        continue
      }
      // The machine ends with its first process, and all others with it: it comes last.
      if process.pid == ProcessTable.firstPid { badness = 1 }
      claims.append(Claim(process: process, user: held.user, badness: badness, resident: held.resident))
    }
    guard let victim = Self.choose(claims) else { return false }
    kills.add(1, ordering: .relaxed)
    let (process, resident) = (victim.process, UInt64(victim.resident) * pageSize / 1024)
    let name = process.anyTask?.commandName.string ?? "?"
    Log.error("Out of memory: killed process \(process.pid) (\(name)), anon-rss:\(resident)kB", from: .memory)
    process.beginExit(.killed(SIGKILL))
    return !Thread.current.hasFatalSignal
  }

  private struct Claim {
    var process: Process
    var user: UInt32
    var badness: Int64
    var resident: Int
  }

  /// The worst process of the user whose processes hold most together: many small ones must not outlast another user's
  /// single larger one.
  private static func choose(_ claims: [Claim]) -> Claim? {
    var sums: [(user: UInt32, badness: Int64)] = []
    for claim in claims {
      if let index = sums.firstIndex(where: { $0.user == claim.user }) {
        sums[index].badness &+= claim.badness
      } else {
        sums.append((claim.user, claim.badness))
      }
    }
    guard let worst = sums.max(by: { $0.badness < $1.badness }) else { return nil }
    return claims.filter { $0.user == worst.user }.max { $0.badness < $1.badness }
  }

  /// Memory for an access of `task`, the calling thread, could not be found: it cannot go on. A program that must not be killed
  /// waits as long as the end of another one may help; the access is tried again.
  func endCurrent(_ task: Task) {
    guard !task.hasFatalSignal else { return }
    if task.process.outOfMemoryAdjustment.load(ordering: .relaxed) <= -1000, memoryExhausted() { return }
    Log.error("Out of memory: killed process \(task.process.pid) (\(task.commandName.string))", from: .memory)
    kills.add(1, ordering: .relaxed)
    task.process.beginExit(.killed(SIGKILL))
  }
}
