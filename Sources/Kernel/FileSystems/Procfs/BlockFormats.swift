// The texts about block devices: /proc/partitions, /proc/diskstats and /proc/swaps (Linux: Documentation/admin-guide/iostats.rst).

import Block
import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

extension SystemFormat {
  /// A block device, as the files show it.
  struct Disk {
    var major: UInt32
    var minor: UInt32
    var name: ByteString
    var sectorCount: UInt64
    var statistics = BlockStatistics()

    init(major: UInt32, minor: UInt32, name: ByteString, sectorCount: UInt64) {
      self.major = major
      self.minor = minor
      self.name = name
      self.sectorCount = sectorCount
    }

    init(_ device: BlockDevice) {
      self.init(
        major: device.number.major, minor: device.number.minor, name: device.name, sectorCount: device.sectorCount)
      statistics = device.statistics
    }
  }

  static func partitions(_ disks: [Disk]) -> TextBuffer {
    var text = TextBuffer()
    text.append("major minor  #blocks  name\n\n")
    for disk in disks {
      text.append(decimal: UInt64(disk.major), width: 4)
      text.append("  ")
      text.append(decimal: UInt64(disk.minor), width: 7)
      text.append(" ")
      text.append(decimal: disk.sectorCount / 2, width: 10)
      text.append(" ")
      text.append(disk.name)
      text.append("\n")
    }
    return text
  }

  static func diskStatistics(_ disks: [Disk]) -> TextBuffer {
    var text = TextBuffer()
    for disk in disks {
      let statistics = disk.statistics
      text.append(decimal: UInt64(disk.major), width: 4)
      text.append(" ")
      text.append(decimal: UInt64(disk.minor), width: 7)
      text.append(" ")
      text.append(disk.name)
      func add(_ value: UInt64) {
        text.append(" ")
        text.append(decimal: value)
      }
      func add(_ operation: BlockStatistics.Operation) {
        add(operation.count)
        add(operation.joined)
        add(operation.sectors)
        add(operation.nanoseconds / 1_000_000)
      }
      add(statistics.reads)
      add(statistics.writes)
      add(UInt64(max(0, statistics.underWay)))
      add(statistics.busyNanoseconds / 1_000_000)
      add(statistics.weightedNanoseconds / 1_000_000)
      add(statistics.discards)
      add(statistics.flushes.count)
      add(statistics.flushes.nanoseconds / 1_000_000)
      text.append("\n")
    }
    return text
  }

  /// /proc/swaps; sizes in KiB.
  static func swaps(_ areas: [SwapAreaStatistics]) -> TextBuffer {
    var text = TextBuffer()
    text.append("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    for area in areas {
      text.append(area.name)
      for _ in 0..<max(1, 40 - area.name.count) { text.append(" ") }
      text.append(area.isFile ? "file\t" : "partition")
      for pages in [area.size, area.used] {
        text.append("\t")
        text.append(decimal: pages * 4)
        if pages * 4 < 10_000_000 { text.append("\t") }
      }
      text.append("\t")
      text.append(decimal: area.priority)
      text.append("\n")
    }
    return text
  }
}
