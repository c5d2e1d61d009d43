// /proc/sys/vm: write-back, caches and watermarks (Linux: Documentation/admin-guide/sysctl/vm.rst, also for the bounds).

import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Synchronization
import VirtualMemory

extension SystemControl {
  static var writeBack: [ProcEntry] {
    [
      parameter("dirty_ratio", 0...100, DirtyLimits.ratio) { DirtyLimits.ratio = $0 },
      parameter("dirty_bytes", 2 * 4096...Int.max, DirtyLimits.bytes) { DirtyLimits.bytes = $0 },
      parameter("dirty_background_ratio", 0...100, DirtyLimits.backgroundRatio) { DirtyLimits.backgroundRatio = $0 },
      parameter("dirty_background_bytes", 1...Int.max, DirtyLimits.backgroundBytes) {
        DirtyLimits.backgroundBytes = $0
      },
      parameter("dirty_writeback_centisecs", 0...Int(Int32.max), DirtyLimits.interval) { DirtyLimits.interval = $0 },
      parameter("dirty_expire_centisecs", 0...Int(Int32.max), DirtyLimits.expiry) { DirtyLimits.expiry = $0 },
    ]
  }

  static var caches: [ProcEntry] {
    [
      .text(
        "drop_caches", 0o200,
        sink: { value throws(Errno) in
          guard let what = value.decimal(), (1...4).contains(what) else { throw .EINVAL }
          try requireAdministrator()
          // 4 asks for no message, and there is none.
          if what & 1 != 0 { Reclaim.dropPageCache() }
          if what & 2 != 0 { Shrinkers.dropAll() }
        }
      ) { () throws(Errno) in TextBuffer() },
      parameter("vfs_cache_pressure", 0...Int(Int32.max), DentryCache.pressure.load(ordering: .relaxed)) {
        DentryCache.pressure.store($0, ordering: .relaxed)
      },
      parameter("min_free_kbytes", 0...Int(Int32.max), FrameAllocator.minimumFree) { FrameAllocator.minimumFree = $0 },
      parameter("watermark_scale_factor", 1...3000, FrameAllocator.watermarkScale) {
        FrameAllocator.watermarkScale = $0
      },
    ]
  }
}
