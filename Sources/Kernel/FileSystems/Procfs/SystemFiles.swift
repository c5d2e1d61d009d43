// The files directly below /proc, apart from processes: which there are, and where their contents come from.

import Block
import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
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
      .text("meminfo") { () throws(Errno) in memory() },
      .text("stat") { () throws(Errno) in SystemFormat.statistics(statistics()) },
      .text("cpuinfo") { () throws(Errno) in ProcessorDescription.current().text(count: CPU.count) },
      .text("cmdline") { () throws(Errno) in
        // The machine's configuration names the command and its environment, which are nobody else's business.
        SystemFormat.line("root=" + (BootParameters.value("root") ?? ""))
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
      .text("swaps") { () throws(Errno) in
        var text = TextBuffer()
        text.append("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        return text
      },
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
      .text("buddyinfo") { () throws(Errno) in buddies() },
      .text("slabinfo", 0o400) { () throws(Errno) in slabs() },
      .text("vmstat") { () throws(Errno) in virtualMemory() },
      .text("sysrq-trigger", 0o200, sink: { command throws(Errno) in try SystemControl.request(command) }) {
        () throws(Errno) in TextBuffer()
      },
      .directory("sys", SystemControl.entries),
      .directory("apus", [.text("counters") { () throws(Errno) in counters() }]),
    ]
  }

  // MARK: Contents

  private static func memory() -> TextBuffer {
    let frames = MemoryStatistics.snapshot()
    let memory = VirtualMemoryStatistics.snapshot()
    func kibibytes(_ pages: Int) -> Int { pages * 4 }
    let fileCache = memory.cachedPages - memory.sharedMemoryPages
    let limit = CommitAccounting.limit
    return SystemFormat.memory([
      ("MemTotal", kibibytes(frames.total)), ("MemFree", kibibytes(frames.free)),
      // What could be had without hurting: free memory and clean pages of files.
      ("MemAvailable", kibibytes(max(0, frames.free - frames.low + fileCache - memory.dirtyPages))),
      ("Buffers", 0), ("Cached", kibibytes(memory.cachedPages)), ("SwapCached", 0),
      ("Active", kibibytes(memory.anonymousPages + fileCache)), ("Inactive", 0),
      ("Active(anon)", kibibytes(memory.anonymousPages)), ("Inactive(anon)", 0), ("Active(file)", kibibytes(fileCache)),
      ("Inactive(file)", 0), ("Unevictable", 0), ("Mlocked", 0), ("SwapTotal", 0), ("SwapFree", 0),
      ("Dirty", kibibytes(memory.dirtyPages)), ("Writeback", 0), ("AnonPages", kibibytes(memory.anonymousPages)),
      ("Mapped", kibibytes(fileCache)), ("Shmem", kibibytes(memory.sharedMemoryPages)), ("KReclaimable", 0),
      ("Slab", kibibytes(frames.slab)), ("SReclaimable", 0), ("SUnreclaim", kibibytes(frames.slab)),
      ("KernelStack", ProcessTable.counters().threads * 32), ("PageTables", kibibytes(memory.pageTablePages)),
      ("NFS_Unstable", 0), ("Bounce", 0), ("WritebackTmp", 0), ("CommitLimit", kibibytes(limit)),
      ("Committed_AS", kibibytes(memory.committedPages)), ("VmallocTotal", 0), ("VmallocUsed", 0),
      ("VmallocChunk", 0), ("Percpu", 0), ("HugePages_Total", 0), ("Hugepagesize", 2048),
    ])
  }

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

  private static func buddies() -> TextBuffer {
    var text = TextBuffer()
    for zone in ZoneStatistics.snapshot() {
      text.append("Node 0, zone ")
      let name = ByteString(zone.name)
      text.pad(8 - name.count, with: 0x20)
      text.append(name)
      text.append(" ")
      for blocks in zone.freeBlocks {
        text.append(decimal: UInt64(max(0, blocks)), width: 6)
        text.append(" ")
      }
      text.append("\n")
    }
    return text
  }

  private static func slabs() -> TextBuffer {
    var text = TextBuffer()
    text.append("slabinfo - version: 2.1\n")
    text.append("# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>")
    text.append(" : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n")
    for slab in SlabStatistics.snapshot() {
      text.append(ByteString(slab.name), leftAlignedIn: 17)
      for (value, width) in [
        (slab.activeObjects, 7), (slab.totalObjects, 7), (slab.objectSize, 7), (slab.objectsPerSlab, 5),
        (slab.framesPerSlab, 5),
      ] {
        text.append(" ")
        text.append(decimal: UInt64(max(0, value)), width: width - 1)
      }
      text.append(" : tunables    0    0    0 : slabdata ")
      text.append(decimal: UInt64(slab.slabs), width: 6)
      text.append(decimal: UInt64(slab.slabs), width: 7)
      text.append("      0\n")
    }
    return text
  }

  private static func virtualMemory() -> TextBuffer {
    let frames = MemoryStatistics.snapshot()
    let memory = VirtualMemoryStatistics.snapshot()
    func value(_ count: Int) -> UInt64 { UInt64(max(0, count)) }
    return SystemFormat.counters([
      ("nr_free_pages", value(frames.free)), ("nr_anon_pages", value(memory.anonymousPages)),
      ("nr_file_pages", value(memory.cachedPages)), ("nr_shmem", value(memory.sharedMemoryPages)),
      ("nr_dirty", value(memory.dirtyPages)), ("nr_writeback", 0), ("nr_slab_unreclaimable", value(frames.slab)),
      ("nr_page_table_pages", value(memory.pageTablePages)), ("pgalloc_normal", frames.allocations),
      ("pgfree", frames.frees), ("pgfault", value(memory.faults)), ("pgmajfault", value(memory.majorFaults)),
      ("oom_kill", OutOfMemoryKiller.shared.killCount),
    ])
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
      ("machine_maps", value(memory.machineMaps)), ("machine_unmaps", value(memory.machineUnmaps)),
      ("machine_protects", value(memory.machineProtects)), ("machine_commits", value(memory.machineCommits)),
      ("context_switches", Scheduler.contextSwitches), ("dentries", value(DentryCache.count)),
    ])
  }
}
