// What is in /sys: /sys/devices/system/cpu and /sys/devices/system/node (Linux: Documentation/ABI/stable/
// sysfs-devices-system-cpu and -node). Each CPU is a core of one thread in one package; they are dealt out to the nodes
// in turn.

import KernelCore
import LinuxABI
import PhysicalMemory

enum SysTree {
  static let root: () -> [SysEntry] = {
    [
      .directory("devices") { [.directory("system") { [.directory("cpu", cpus), .directory("node", nodes)] }] },
      .directory("kernel") { [] },
    ]
  }

  private static var cpuMask: UInt64 { mask(CPU.count) }
  private static var nodeMask: UInt64 { mask(MemoryZone.nodeCount) }
  private static func mask(_ count: Int) -> UInt64 { count >= 64 ? .max : (1 << UInt64(count)) - 1 }

  /// The CPUs of a node.
  private static func cpus(of node: Int) -> UInt64 {
    var result: UInt64 = 0
    for cpu in 0..<min(CPU.count, 64) where cpu % MemoryZone.nodeCount == node { result |= 1 << UInt64(cpu) }
    return result
  }

  // MARK: CPUs

  private static let cpus: () -> [SysEntry] = {
    var entries: [SysEntry] = [
      .line("kernel_max") { SysText.number(63) },
      .line("offline") { ByteString() },
      .line("online") { SysText.list(cpuMask) },
      .line("possible") { SysText.list(cpuMask) },
      .line("present") { SysText.list(cpuMask) },
    ]
    for cpu in 0..<CPU.count {
      entries.append(.directory("cpu" + SysText.number(cpu)) { directory(ofCPU: cpu) })
    }
    return entries
  }

  private static func directory(ofCPU cpu: Int) -> [SysEntry] {
    let node = "node" + SysText.number(cpu % MemoryZone.nodeCount)
    return [
      .link(node, to: "../../node/" + node),
      .directory("topology") {
        let (own, all) = (UInt64(1) << UInt64(cpu), cpuMask)
        return [
          .line("core_cpus") { SysText.mask(own) }, .line("core_cpus_list") { SysText.list(own) },
          .line("core_id") { SysText.number(cpu) },
          .line("core_siblings") { SysText.mask(all) }, .line("core_siblings_list") { SysText.list(all) },
          .line("die_id") { SysText.number(0) },
          .line("package_cpus") { SysText.mask(all) }, .line("package_cpus_list") { SysText.list(all) },
          .line("physical_package_id") { SysText.number(0) },
          .line("thread_siblings") { SysText.mask(own) }, .line("thread_siblings_list") { SysText.list(own) },
        ]
      },
    ]
  }

  // MARK: Nodes

  private static let nodes: () -> [SysEntry] = {
    var entries: [SysEntry] = [
      .line("has_cpu") {
        SysText.list((0..<MemoryZone.nodeCount).reduce(0) { cpus(of: $1) == 0 ? $0 : $0 | 1 << UInt64($1) })
      },
      .line("has_memory") { SysText.list(nodeMask) },
      .line("has_normal_memory") { SysText.list(nodeMask) },
      .line("online") { SysText.list(nodeMask) },
      .line("possible") { SysText.list(nodeMask) },
    ]
    for node in 0..<MemoryZone.nodeCount {
      entries.append(.directory("node" + SysText.number(node)) { directory(ofNode: node) })
    }
    return entries
  }

  private static func directory(ofNode node: Int) -> [SysEntry] {
    var entries: [SysEntry] = [
      .line("cpulist") { SysText.list(cpus(of: node)) },
      .line("cpumap") { SysText.mask(cpus(of: node)) },
      .line("distance") {
        // Fake nodes are all at the same distance; Linux's numbers, 10 and 20, say "here" and "elsewhere".
        var text = TextBuffer()
        for other in 0..<MemoryZone.nodeCount {
          if other > 0 { text.append(" ") }
          text.append(decimal: other == node ? 10 : 20)
        }
        return text.byteString
      },
      .attribute("meminfo") { memory(of: node) },
    ]
    for cpu in 0..<CPU.count where cpu % MemoryZone.nodeCount == node {
      let name = "cpu" + SysText.number(cpu)
      entries.append(.link(name, to: "../../cpu/" + name))
    }
    return entries
  }

  /// What is known of one node: its size and how much of it is free.
  private static func memory(of node: Int) -> TextBuffer {
    var (total, free) = (0, 0)
    for zone in ZoneStatistics.snapshot() where zone.node == node {
      total += zone.frames
      free += zone.free + zone.stocks.reduce(0, +)
    }
    var text = TextBuffer()
    for (title, frames) in [
      ("MemTotal:       ", total), ("MemFree:        ", free), ("MemUsed:        ", total - free),
    ]
      as [(StaticString, Int)]
    {
      text.append("Node ")
      text.append(decimal: node)
      text.append(" ")
      text.append(title)
      text.append(decimal: max(0, frames) * 4, width: 8)
      text.append(" kB\n")
    }
    return text
  }
}

/// Numbers and sets, as attributes spell them.
enum SysText {
  static func number(_ value: Int) -> ByteString {
    var text = TextBuffer()
    text.append(decimal: value)
    return text.byteString
  }

  /// "0-3,6".
  static func list(_ mask: UInt64) -> ByteString {
    var text = TextBuffer()
    text.append(rangesOf: mask)
    return text.byteString
  }

  /// Groups of 32 bits, the highest first: "00000000,0000000f".
  static func mask(_ mask: UInt64) -> ByteString {
    var text = TextBuffer()
    text.append(hex: mask >> 32, width: 8)
    text.append(",")
    text.append(hex: mask & 0xffff_ffff, width: 8)
    return text.byteString
  }
}
