// What /proc says about the zones of physical memory: buddyinfo, pagetypeinfo, zoneinfo (proc(5)), column by column as
// Linux has them.

import KernelCore
import PhysicalMemory
import VirtualMemory

enum ZoneFormat {
  /// Free blocks of each order.
  static func buddies(_ zones: [ZoneStatistics]) -> TextBuffer {
    var text = TextBuffer()
    for zone in zones {
      head(zone, &text)
      text.append(" ")
      for blocks in zone.freeBlocks { column(blocks, 6, &text) }
      text.append("\n")
    }
    return text
  }

  /// Linux's names for migrate types, each with ours. There is no contiguous memory area for devices (CMA), and page
  /// blocks are not isolated as a whole.
  private static var types: [(name: ByteString, type: MigrateType?)] {
    [
      ("Unmovable", .unmovable), ("Movable", .movable), ("Reclaimable", .reclaimable), ("HighAtomic", .reserve),
      ("CMA", nil), ("Isolate", nil),
    ]
  }

  /// Free blocks of each order and migrate type, and page blocks of each type.
  static func pageTypes(_ zones: [ZoneStatistics], pageBlockOrder: Int) -> TextBuffer {
    var text = TextBuffer(reserving: 4096)
    text.append("Page block order: ")
    text.append(decimal: pageBlockOrder)
    text.append("\nPages per block:  ")
    text.append(decimal: 1 << pageBlockOrder)
    text.append("\n\n")
    text.append(ByteString("Free pages count per migrate type at order"), leftAlignedIn: 43)
    text.append(" ")
    for order in 0...PhysicalMemory.maximumOrder { column(order, 6, &text) }
    text.append("\n")
    for zone in zones {
      for (name, type) in types {
        text.append("Node ")
        text.append(decimal: zone.node, width: 4)
        text.append(", zone ")
        rightAligned(ByteString(zone.name), 8, &text)
        text.append(", type ")
        rightAligned(name, 12, &text)
        text.append(" ")
        for order in 0...PhysicalMemory.maximumOrder {
          column(type.map { zone.freeBlocksByType[Int($0.rawValue)][order] } ?? 0, 6, &text)
        }
        text.append("\n")
      }
    }
    text.append("\n")
    text.append(ByteString("Number of blocks type "), leftAlignedIn: 23)
    for (name, _) in types {
      rightAligned(name, 12, &text)
      text.append(" ")
    }
    text.append("\n")
    for zone in zones {
      head(zone, &text)
      text.append(" ")
      for (_, type) in types { column(type.map { zone.pageBlocks[Int($0.rawValue)] } ?? 0, 12, &text) }
      text.append("\n")
    }
    return text
  }

  /// Everything about each zone. Of what the frames hold only reclaim's lists are counted by node: other such lines are
  /// not there.
  static func zones(_ zones: [ZoneStatistics], nodes: [NodeListStatistics], cpus: Int) -> TextBuffer {
    var text = TextBuffer(reserving: 4096)
    var latest: Int?
    for zone in zones {
      head(zone, &text)
      if zone.node != latest, zone.node < nodes.count {
        let lists = nodes[zone.node]
        text.append("\n  per-node stats")
        for (title, value) in [
          ("\n      nr_inactive_anon ", lists.inactiveAnonymous), ("\n      nr_active_anon ", lists.activeAnonymous),
          ("\n      nr_inactive_file ", lists.inactiveFile), ("\n      nr_active_file ", lists.activeFile),
        ] as [(StaticString, Int)] {
          text.append(title)
          text.append(decimal: value)
        }
        latest = zone.node
      }
      let frames = zone.frames
      for (title, value) in [
        ("\n  pages free     ", zone.free), ("\n        boost    ", 0), ("\n        min      ", zone.minimum),
        ("\n        low      ", zone.low), ("\n        high     ", zone.high), ("\n        spanned  ", frames),
        ("\n        present  ", frames), ("\n        managed  ", frames), ("\n        cma      ", 0),
      ] as [(StaticString, Int)] {
        text.append(title)
        text.append(decimal: value)
      }
      text.append("\n        protection: (0, ")
      text.append(decimal: zone.protection)
      text.append(")\n      nr_free_pages ")
      text.append(decimal: zone.free)
      text.append("\n  pagesets")
      for cpu in 0..<min(cpus, zone.stocks.count) {
        for (title, value) in [
          ("\n    cpu: ", cpu), ("\n              count: ", zone.stocks[cpu]),
          ("\n              high:  ", zone.stockLimit), ("\n              batch: ", zone.batch),
          ("\n  vm stats threshold: ", 0),
        ] as [(StaticString, Int)] {
          text.append(title)
          text.append(decimal: value)
        }
      }
      text.append("\n  node_unreclaimable:  0\n  start_pfn:           ")
      text.append(decimal: zone.first)
      text.append("\n")
    }
    return text
  }

  private static func head(_ zone: ZoneStatistics, _ text: inout TextBuffer) {
    text.append("Node ")
    text.append(decimal: zone.node)
    text.append(", zone ")
    rightAligned(ByteString(zone.name), 8, &text)
  }

  private static func column(_ value: Int, _ width: Int, _ text: inout TextBuffer) {
    text.append(decimal: max(0, value), width: width)
    text.append(" ")
  }

  private static func rightAligned(_ name: ByteString, _ width: Int, _ text: inout TextBuffer) {
    text.pad(width - name.count, with: 0x20)
    text.append(name)
  }
}
