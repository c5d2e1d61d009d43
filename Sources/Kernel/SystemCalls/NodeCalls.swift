// Memory policies: on which nodes pages go (numa(7)). A thread has one; ranges of memory have none of their own.

import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

/// set_mempolicy(2), get_mempolicy(2), move_pages(2).
public enum NodeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(238, "set_mempolicy", .full, "mode:i nodes:p maximum:u", setPolicy),
      SystemCall(
        239, "get_mempolicy", .partial("ranges have no policy of their own"),
        "mode:p nodes:p maximum:u address:p flags:x", getPolicy),
      SystemCall(
        279, "move_pages", .partial("says where pages are; those elsewhere stay there (EBUSY)"),
        "pid:i count:u pages:p nodes:p status:p flags:x", movePages),
    ]
  }

  // linux/mempolicy.h
  private enum Mode {
    static let preferred: Int32 = 1
    static let bind: Int32 = 2
    static let interleave: Int32 = 3
    static let local: Int32 = 4
    static let preferredMany: Int32 = 5
    static let staticNodes: Int32 = 1 << 15
    static let relativeNodes: Int32 = 1 << 14
  }
  private enum Query {
    static let node: UInt64 = 1
    static let address: UInt64 = 2
    static let allowed: UInt64 = 4
  }

  private static var present: UInt64 { (1 << UInt64(MemoryZone.nodeCount)) - 1 }

  private static func setPolicy(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.int(0) & (Mode.staticNodes | Mode.relativeNodes)
    guard flags != Mode.staticNodes | Mode.relativeNodes else { throw .EINVAL }
    let nodes = try readNodes(frame.a1, maximum: frame.a2)
    let policy: MemoryPolicy
    switch frame.int(0) & ~flags {
    case 0, Mode.local:
      guard nodes == 0, flags == 0 else { throw .EINVAL }
      policy = MemoryPolicy()
    case Mode.preferred where nodes == 0:
      guard flags == 0 else { throw .EINVAL }
      policy = MemoryPolicy()
    case Mode.preferred:
      policy = MemoryPolicy(.preferred, nodes: 1 << UInt64(try usable(nodes).trailingZeroBitCount))
    case Mode.preferredMany: policy = MemoryPolicy(.preferred, nodes: try usable(nodes))
    case Mode.bind: policy = MemoryPolicy(.bind, nodes: try usable(nodes))
    case Mode.interleave: policy = MemoryPolicy(.interleave, nodes: try usable(nodes))
    default: throw .EINVAL
    }
    frame.task.memoryPolicy = policy
    return 0
  }

  /// A set without a node that exists is EINVAL.
  private static func usable(_ nodes: UInt64) throws(Errno) -> UInt64 {
    guard nodes & present != 0 else { throw .EINVAL }
    return nodes & present
  }

  /// A node set of user memory. Linux takes `maximum` for one more than the number of bits.
  private static func readNodes(_ address: UInt64, maximum: UInt64) throws(Errno) -> UInt64 {
    guard address != 0, maximum > 1 else { return 0 }
    let bits = maximum - 1
    guard bits <= 4096 * 8 else { throw .EINVAL }
    var result: UInt64 = 0
    for word in 0..<(bits + 63) / 64 {
      var value = try UserMemory.read(address &+ word * 8, as: UInt64.self)
      if bits - word * 64 < 64 { value &= (1 << (bits - word * 64)) - 1 }
      if word == 0 { result = value } else if value != 0 { throw .EINVAL }
    }
    return result
  }

  private static func writeNodes(_ nodes: UInt64, to address: UInt64, maximum: UInt64) throws(Errno) {
    guard maximum > UInt64(MemoryZone.nodeCount), maximum <= 4096 * 8 else { throw .EINVAL }
    for word in 0..<(maximum - 1 + 63) / 64 {
      try UserMemory.write(word == 0 ? nodes : UInt64(0), to: address &+ word * 8)
    }
  }

  private static func getPolicy(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.a4
    guard flags & ~(Query.node | Query.address | Query.allowed) == 0 else { throw .EINVAL }
    let policy = frame.task.memoryPolicy
    if flags & Query.allowed != 0 {
      guard flags == Query.allowed else { throw .EINVAL }
      if frame.a1 != 0 { try writeNodes(present, to: frame.a1, maximum: frame.a2) }
      if frame.a0 != 0 { try UserMemory.write(Int32(0), to: frame.a0) }
      return 0
    }
    guard flags & Query.address != 0 || frame.a3 == 0 else { throw .EINVAL }
    var mode = number(of: policy)
    if flags & Query.address != 0, flags & Query.node != 0 {
      // The page is brought in if need be.
      _ = try UserMemory.read(frame.a3, as: UInt8.self)
      mode = Int32(frame.addressSpace.node(at: frame.a3) ?? FrameAllocator.localNode)
    } else if flags & Query.node != 0 {
      guard policy.mode == .interleave else { throw .EINVAL }
      mode = Int32(policy.turn)
    } else if flags & Query.address != 0 {
      _ = try UserMemory.read(frame.a3, as: UInt8.self)
    }
    if frame.a0 != 0 { try UserMemory.write(mode, to: frame.a0) }
    if frame.a1 != 0 { try writeNodes(policy.nodes, to: frame.a1, maximum: frame.a2) }
    return 0
  }

  private static func number(of policy: MemoryPolicy) -> Int32 {
    switch policy.mode {
    case .local: 0
    case .preferred: policy.nodes & (policy.nodes - 1) == 0 ? Mode.preferred : Mode.preferredMany
    case .bind: Mode.bind
    case .interleave: Mode.interleave
    }
  }

  /// Each page's node, or the error that moving it meets, goes to `status`.
  private static func movePages(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a5 & ~6 == 0 else { throw .EINVAL }
    if frame.int(0) != 0, frame.int(0) != frame.task.process.pid {
      guard ProcessTable.task(frame.int(0)) != nil else { throw .ESRCH }
      throw .EPERM
    }
    var elsewhere: Int64 = 0
    for index in 0..<frame.a1 {
      let address = try UserMemory.read(frame.a2 &+ index &* 8, as: UInt64.self)
      let node = frame.addressSpace.node(at: address)
      var status = node.map { Int32($0) } ?? -Errno.ENOENT.rawValue
      if frame.a3 != 0 {
        let wanted = try UserMemory.read(frame.a3 &+ index &* 4, as: Int32.self)
        guard wanted >= 0, wanted < 64, present & (1 << UInt64(wanted)) != 0 else { throw .ENODEV }
        if let node, node != Int(wanted) {
          status = -Errno.EBUSY.rawValue
          elsewhere += 1
        }
      }
      if frame.a4 != 0 { try UserMemory.write(status, to: frame.a4 &+ index &* 4) }
      if index & 255 == 255 { Thread.checkReschedule() }
    }
    return elsewhere
  }
}
