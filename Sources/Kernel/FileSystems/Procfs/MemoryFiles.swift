// What /proc says about memory in use: meminfo, slabinfo, vmstat (proc(5)).

import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import VirtualMemory

enum MemoryFiles {
  static func memory() -> TextBuffer {
    let frames = MemoryStatistics.snapshot()
    let memory = VirtualMemoryStatistics.snapshot()
    func kibibytes(_ pages: Int) -> Int { pages * 4 }
    let fileCache = memory.cachedPages - memory.sharedMemoryPages
    let reclaim = ReclaimStatistics.snapshot()
    let limit = CommitAccounting.limit
    let huge = HugePagePool.statistics
    return SystemFormat.memory([
      ("MemTotal", kibibytes(frames.total)), ("MemFree", kibibytes(frames.free)),
      // What could be had without hurting: free memory and clean pages of files.
      ("MemAvailable", kibibytes(max(0, frames.free - frames.low + fileCache - memory.dirtyPages))),
      ("Buffers", 0), ("Cached", kibibytes(memory.cachedPages)), ("SwapCached", kibibytes(SwapSpace.cachedPages)),
      ("Active", kibibytes(reclaim.activeAnonymous + reclaim.activeFile)),
      ("Inactive", kibibytes(reclaim.inactiveAnonymous + reclaim.inactiveFile)),
      ("Active(anon)", kibibytes(reclaim.activeAnonymous)), ("Inactive(anon)", kibibytes(reclaim.inactiveAnonymous)),
      ("Active(file)", kibibytes(reclaim.activeFile)), ("Inactive(file)", kibibytes(reclaim.inactiveFile)),
      ("Unevictable", 0), ("Mlocked", 0), ("SwapTotal", kibibytes(SwapSpace.totalPages)),
      ("SwapFree", kibibytes(SwapSpace.freePages)),
      ("Zswap", 0), ("Zswapped", 0),
      ("Dirty", kibibytes(memory.dirtyPages)), ("Writeback", kibibytes(memory.writeBackPages)),
      ("AnonPages", kibibytes(memory.anonymousPages)),
      ("Mapped", kibibytes(fileCache)), ("Shmem", kibibytes(memory.sharedMemoryPages)), ("KReclaimable", 0),
      ("Slab", kibibytes(frames.slab)), ("SReclaimable", 0), ("SUnreclaim", kibibytes(frames.slab)),
      ("KernelStack", ProcessTable.counters().threads * 32), ("PageTables", kibibytes(memory.pageTablePages)),
      ("SecPageTables", 0),
      ("NFS_Unstable", 0), ("Bounce", 0), ("WritebackTmp", 0), ("CommitLimit", kibibytes(limit)),
      ("Committed_AS", kibibytes(memory.committedPages)), ("VmallocTotal", 0), ("VmallocUsed", 0),
      ("VmallocChunk", 0), ("Percpu", kibibytes(frames.perCPU)), ("HardwareCorrupted", 0), ("AnonHugePages", 0),
      ("ShmemHugePages", 0), ("ShmemPmdMapped", 0), ("FileHugePages", 0), ("FilePmdMapped", 0), ("CmaTotal", 0),
      ("CmaFree", 0), ("HugePages_Total", huge.total), ("HugePages_Free", huge.free), ("HugePages_Rsvd", huge.reserved),
      ("HugePages_Surp", huge.surplus), ("Hugepagesize", 2048), ("Hugetlb", kibibytes(huge.frames)),
      ("DirectMap4k", 0), ("DirectMap2M", 0), ("DirectMap1G", 0),
    ])
  }

  static func zones() -> TextBuffer {
    ZoneFormat.zones(
      ZoneStatistics.snapshot(), nodes: (0..<MemoryZone.nodeCount).map { NodeListStatistics.snapshot($0) },
      cpus: CPU.count)
  }

  static func slabs() -> TextBuffer {
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

  static func virtualMemory() -> TextBuffer {
    let frames = MemoryStatistics.snapshot()
    let memory = VirtualMemoryStatistics.snapshot()
    let reclaim = ReclaimStatistics.snapshot()
    let dirty = DirtyLimits.levels()
    func value(_ count: Int) -> UInt64 { UInt64(max(0, count)) }
    return SystemFormat.counters([
      ("nr_inactive_anon", value(reclaim.inactiveAnonymous)), ("nr_active_anon", value(reclaim.activeAnonymous)),
      ("nr_inactive_file", value(reclaim.inactiveFile)), ("nr_active_file", value(reclaim.activeFile)),
      ("nr_swapcached", value(SwapSpace.cachedPages)), ("pswpin", value(reclaim.swappedIn)),
      ("pswpout", value(reclaim.swappedOut)),
      // Ours: of these, pages that left while ordinary allocations failed.
      ("apus_pswpout_exhausted", value(reclaim.swappedOutExhausted)),
      ("allocstall_normal", value(reclaim.stalls)),
      ("pgactivate", value(reclaim.activated)), ("pgdeactivate", value(reclaim.deactivated)),
      ("pgscan_kswapd", value(reclaim.scannedByDaemon)),
      ("pgscan_direct", value(reclaim.scanned - reclaim.scannedByDaemon)),
      ("pgsteal_kswapd", value(reclaim.stolenByDaemon)),
      ("pgsteal_direct", value(reclaim.stolen - reclaim.stolenByDaemon)), ("drop_pagecache", value(reclaim.cacheDrops)),
      ("pageoutrun", value(reclaim.daemonRuns)),
      ("pgmigrate_success", value(reclaim.migrated)), ("pgmigrate_fail", value(reclaim.migrationsFailed)),
      ("compact_migrate_scanned", value(reclaim.migrationScanned)), ("compact_daemon_wake", value(reclaim.compactions)),
      ("compact_fail", value(reclaim.compactionsFailed)), ("compact_success", value(reclaim.compactionsDone)),
      ("nr_free_pages", value(frames.free)), ("nr_anon_pages", value(memory.anonymousPages)),
      ("nr_file_pages", value(memory.cachedPages)), ("nr_shmem", value(memory.sharedMemoryPages)),
      ("nr_dirty", value(memory.dirtyPages)), ("nr_writeback", value(memory.writeBackPages)),
      ("nr_dirtied", value(memory.dirtied)), ("nr_written", value(memory.written)),
      ("nr_dirty_threshold", value(dirty.limit)), ("nr_dirty_background_threshold", value(dirty.background)),
      ("nr_slab_unreclaimable", value(frames.slab)),
      ("nr_page_table_pages", value(memory.pageTablePages)), ("pgalloc_normal", frames.allocations),
      ("pgfree", frames.frees), ("pgfault", value(memory.faults)), ("pgmajfault", value(memory.majorFaults)),
      ("oom_kill", OutOfMemoryKiller.shared.killCount),
    ])
  }
}
