// /proc/PID/numa_maps (numa(7)): for each area the rule for its pages, and on which nodes they lie.

import KernelCore
import LinuxABI
import PhysicalMemory
import VirtualMemory

enum NodeFormat {
  static func append(_ area: AreaSnapshot, _ policy: MemoryPolicy, nodes: Int, to text: inout TextBuffer) {
    let pages = area.residency
    let isHuge = area.flags.contains(.hugeTLB)
    let resident = isHuge ? pages.huge / 512 : pages.resident
    text.append(hex: area.start, width: 8)
    text.append(" ")
    append(policy, to: &text)
    if let name = area.source?.mappingName, area.source?.mappingInode != 0 {
      text.append(" file=")
      for byte in name.bytes {
        // What would split the line (octal, as in mounts).
        if byte == 0x0a || byte == 0x09 || byte == 0x20 || byte == 0x3d || byte == 0x5c {
          text.append("\\")
          text.append(octal: UInt64(byte), width: 3)
        } else {
          text.append(byte: byte)
        }
      }
    } else if area.flags.contains(.heap) {
      text.append(" heap")
    } else if area.flags.contains(.stack) {
      text.append(" stack")
    }
    if isHuge { text.append(" huge") }
    if resident > 0 {
      func field(_ name: StaticString, _ value: Int, if isShown: Bool) {
        guard isShown else { return }
        text.append(name)
        text.append(decimal: UInt64(value))
      }
      let dirty = isHuge ? resident : pages.dirty
      field(" anon=", pages.anonymous, if: pages.anonymous > 0)
      field(" dirty=", dirty, if: dirty > 0)
      field(" mapped=", resident, if: resident != pages.anonymous && resident != dirty)
      field(" mapmax=", pages.mostMappings, if: pages.mostMappings > 1)
      field(" swapcache=", pages.swapCached, if: pages.swapCached > 0)
      field(" active=", pages.active, if: !isHuge && pages.active < resident)
      for node in 0..<min(nodes, pages.nodes.count) where pages.nodes[node] > 0 {
        text.append(" N")
        text.append(decimal: UInt64(node))
        text.append("=")
        text.append(decimal: UInt64(pages.nodes[node] / (isHuge ? 512 : 1)))
      }
      text.append(isHuge ? " kernelpagesize_kB=2048" : " kernelpagesize_kB=4")
    }
    text.append("\n")
  }

  private static func append(_ policy: MemoryPolicy, to text: inout TextBuffer) {
    switch policy.mode {
    case .local:
      text.append("default")
      return
    case .preferred: text.append(policy.nodes.nonzeroBitCount == 1 ? "prefer:" : "prefer (many):")
    case .bind: text.append("bind:")
    case .interleave: text.append("interleave:")
    }
    var isFirst = true
    var node: UInt64 = 0
    while node < 64 {
      defer { node += 1 }
      guard policy.nodes >> node & 1 != 0 else { continue }
      if !isFirst { text.append(",") }
      isFirst = false
      text.append(decimal: node)
      let first = node
      while node < 63, policy.nodes >> (node + 1) & 1 != 0 { node += 1 }
      if node > first {
        text.append("-")
        text.append(decimal: node)
      }
    }
  }
}
