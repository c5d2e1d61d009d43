// Changing the watermarks of the zones: /proc/sys/vm/min_free_kbytes and watermark_scale_factor (Linux:
// Documentation/admin-guide/sysctl/vm.rst).
//
//     minimum   the zone's share of what shall be kept free
//     low       a distance above it: a quarter of it, or the scale's part of the zone
//     high      twice the distance above it

import Synchronization

extension FrameAllocator {
  private static let scale = Atomic<Int>(10)

  /// What ordinary allocations leave of all zones, in KiB. Setting it has bounds: a quarter of what it is at boot, for the
  /// kernel's own objects come from it, and of a zone.
  public static var minimumFree: Int {
    @export(interface) get { MemoryStatistics.snapshot().minimum * (PhysicalMemory.pageSize >> 10) }
    @export(interface) set {
      PhysicalMemory.system.setWatermarks(
        minimum: newValue / (PhysicalMemory.pageSize >> 10), scale: scale.load(ordering: .relaxed))
    }
  }

  /// The least distance between the watermarks, in ten-thousandths of a zone.
  public static var watermarkScale: Int {
    @export(interface) get { scale.load(ordering: .relaxed) }
    @export(interface) set {
      scale.store(newValue, ordering: .relaxed)
      PhysicalMemory.system.setWatermarks(minimum: MemoryStatistics.snapshot().minimum, scale: newValue)
    }
  }
}

extension PhysicalMemory {
  /// - Parameters:
  ///   - minimum: for all zones together, in frames.
  ///   - scale: in ten-thousandths of a zone.
  func setWatermarks(minimum: Int, scale: Int) {
    // SAFETY: zones are never freed; the levels are words that are read without a lock, each by itself.
    var total = 0
    for index in 0..<(unsafe state.pointee.zoneCount) {
      total += unsafe (state.pointee.zones + index).pointee.frameCount
    }
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      let frames = unsafe zone.pointee.frameCount
      let share = minimum.multipliedReportingOverflow(by: frames)
      let wanted = share.overflow ? frames : share.partialValue / max(1, total)
      let level = min(max(wanted, Zone.defaultMinimum(frames: frames) / 4), frames / 4)
      let distance = max(level / 4, frames * scale / 10_000)
      unsafe zone.pointee.minimum = level
      unsafe zone.pointee.low = level + distance
      unsafe zone.pointee.high = level + 2 * distance
    }
  }
}
