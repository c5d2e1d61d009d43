// The files directly below /proc, apart from processes: which there are, and where their contents come from.

import Block
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import Sockets
import VirtualMemory

/// The fixed entries of /proc.
enum SystemFiles {
  static var entries: [ProcEntry] {
    [
      .link("self") { () throws(Errno) in
        guard let task = Task.running else { throw .ENOENT }
        return ProcName.of(task.process.pid)
      },
      .link("thread-self") { () throws(Errno) in
        guard let task = Task.running else { throw .ENOENT }
        return ProcName.of(task.process.pid) + "/task/" + ProcName.of(task.tid)
      },
      .link("mounts") { () throws(Errno) in "self/mounts" },
      .text("version") { () throws(Errno) in SystemFormat.version() },
      .text("uptime") { () throws(Errno) in
        SystemFormat.uptime(
          Clock.monotonicNanoseconds, idle: (0..<CPU.count).reduce(0) { $0 + Scheduler.idleTime(cpu: $1) })
      },
      .text("loadavg") { () throws(Errno) in
        let counters = ProcessTable.counters()
        let running = Scheduler.runnableThreads
        return SystemFormat.loadAverage(
          LoadAverage.sample(running: running), running: running, threads: counters.threads, lastPid: counters.lastPid)
      },
      .text("meminfo") { () throws(Errno) in MemoryFiles.memory() },
      .text("stat") { () throws(Errno) in SystemFormat.statistics(statistics()) },
      .text("cpuinfo") { () throws(Errno) in ProcessorDescription.current().text(count: CPU.count) },
      .text("cmdline") { () throws(Errno) in
        // The machine's configuration names the command and its environment, which are nobody else's business.
        let options = BootParameters.values("append").reduce(ByteString()) { $0 + " " + $1 }
        return SystemFormat.line("root=" + (BootParameters.value("root") ?? "") + options)
      },
      .text("filesystems") { () throws(Errno) in
        var text = TextBuffer()
        for name in FileSystemTypes.names() {
          text.append("nodev\t")
          text.append(name)
          text.append("\n")
        }
        return text
      },
      .text("devices") { () throws(Errno) in devices() },
      .text("partitions") { () throws(Errno) in
        SystemFormat.partitions(BlockDevices.all().map { SystemFormat.Disk($0) })
      },
      .text("diskstats") { () throws(Errno) in
        SystemFormat.diskStatistics(BlockDevices.all().map { SystemFormat.Disk($0) })
      },
      .text("swaps") { () throws(Errno) in SystemFormat.swaps(SwapSpace.statistics()) },
      .text("modules") { () throws(Errno) in TextBuffer() },
      .text("interrupts") { () throws(Errno) in
        var text = TextBuffer()
        text.append("           ")
        for cpu in 0..<CPU.count {
          text.append("CPU")
          text.append(ByteString(SystemFormat.number(cpu).bytes.dropLast()), leftAlignedIn: 8)
        }
        text.append("\n")
        return text
      },
      .text("buddyinfo") { () throws(Errno) in ZoneFormat.buddies(ZoneStatistics.snapshot()) },
      .text("pagetypeinfo", 0o400) { () throws(Errno) in
        ZoneFormat.pageTypes(ZoneStatistics.snapshot(), pageBlockOrder: ZoneStatistics.pageBlockOrder)
      },
      .text("zoneinfo") { () throws(Errno) in MemoryFiles.zones() },
      .text("slabinfo", 0o400) { () throws(Errno) in MemoryFiles.slabs() },
      .text("vmstat") { () throws(Errno) in MemoryFiles.virtualMemory() },
      .text("sysrq-trigger", 0o200, sink: { command throws(Errno) in try SystemControl.request(command) }) {
        () throws(Errno) in TextBuffer()
      },
      .directory("net", NetworkFiles.all().map { .text($0.name, sink: nil, $0.source) }),
      .directory("sys", SystemControl.entries),
      .directory("apus", [.text("counters") { () throws(Errno) in counters() }]),
    ]
  }

  // MARK: Contents

  /// Busy time is measured by CPU, its division into user and system time by task: the CPUs' is divided as the tasks' sum.
  private static func statistics() -> SystemFormat.Statistics {
    var usage = ResourceUsage()
    for process in ProcessTable.processes() {
      usage.add(process.usage)
      usage.add(process.usageOfChildren)
    }
    let counters = ProcessTable.counters()
    let uptime = Clock.monotonicNanoseconds
    var result = SystemFormat.Statistics()
    for cpu in 0..<CPU.count {
      let idle = min(Scheduler.idleTime(cpu: cpu), uptime)
      let busy = uptime - idle
      let total = usage.userTime &+ usage.systemTime
      // In microseconds, so that the product stays within 64 bits for years.
      let user = total == 0 ? 0 : (busy / 1000) * (usage.userTime / 1000 * 1024 / max(1, total / 1000)) / 1024 * 1000
      result.cpus.append(.init(user: min(user, busy), system: busy - min(user, busy), idle: idle))
    }
    result.contextSwitches = Scheduler.contextSwitches
    result.bootTime = (Clock.realtimeNanoseconds &- uptime) / 1_000_000_000
    result.forks = counters.forksSinceBoot
    result.running = Scheduler.runnableThreads
    return result
  }

  private static func devices() -> TextBuffer {
    var text = TextBuffer()
    text.append("Character devices:\n")
    appendDevices(.characterDevice, to: &text)
    text.append("\nBlock devices:\n")
    appendDevices(.blockDevice, to: &text)
    return text
  }

  private static func appendDevices(_ kind: FileKind, to text: inout TextBuffer) {
    var seen: [(UInt32, ByteString)] = []
    for entry in DeviceFiles.all() where entry.kind == kind {
      if !seen.contains(where: { $0.0 == entry.number.major && $0.1 == entry.driver }) {
        seen.append((entry.number.major, entry.driver))
      }
    }
    seen.sort { $0.0 != $1.0 ? $0.0 < $1.0 : $0.1 < $1.1 }
    for (major, name) in seen {
      text.append(decimal: UInt64(major), width: 3)
      text.append(" ")
      text.append(name)
      text.append("\n")
    }
  }

  /// What tests look at to find leaks: after a program has ended, all but the sums must be as before.
  private static func counters() -> TextBuffer {
    let processes = ProcessTable.counters()
    let frames = MemoryStatistics.snapshot()
    let memory = VirtualMemoryStatistics.snapshot()
    func value(_ count: Int) -> UInt64 { UInt64(max(0, count)) }
    return SystemFormat.counters([
      ("processes", value(processes.processes)), ("threads", value(processes.threads)),
      ("identifiers", value(processes.identifiers)), ("forks", processes.forksSinceBoot),
      ("address_spaces", value(memory.addressSpaces)), ("areas", value(memory.areas)),
      ("memory_objects", value(memory.memoryObjects)), ("frames_total", value(frames.total)),
      ("frames_free", value(frames.free)), ("frames_untouched", value(frames.untouched)),
      ("frames_slab", value(frames.slab)), ("frames_heap", value(frames.heapPages)),
      ("pages_anonymous", value(memory.anonymousPages)), ("pages_cached", value(memory.cachedPages)),
      ("pages_tables", value(memory.pageTablePages)), ("faults", value(memory.faults)),
      ("faults_major", value(memory.majorFaults)), ("copies_on_write", value(memory.copies)),
      ("bytes_copied", value(memory.copiedBytes)),
      ("writers_throttled", value(memory.throttled)),
      ("machine_maps", value(memory.machineMaps)), ("machine_unmaps", value(memory.machineUnmaps)),
      ("machine_protects", value(memory.machineProtects)), ("machine_commits", value(memory.machineCommits)),
      ("context_switches", Scheduler.contextSwitches), ("dentries", value(DentryCache.count)),
    ])
  }
}
