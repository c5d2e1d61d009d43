// Memory policies: on which nodes pages go (numa(7)), of threads and of ranges of memory; and moving pages between nodes.

import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import VirtualMemory

/// mbind(2), set_mempolicy(2), get_mempolicy(2), migrate_pages(2), move_pages(2), set_mempolicy_home_node(2).
public enum NodeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(
        237, "mbind", .partial("pages that several processes show stay where they are (EIO with MPOL_MF_STRICT)"),
        "address:p length:u mode:i nodes:p maximum:u flags:x", bind),
      SystemCall(238, "set_mempolicy", .full, "mode:i nodes:p maximum:u", setPolicy),
      SystemCall(239, "get_mempolicy", .full, "mode:p nodes:p maximum:u address:p flags:x", getPolicy),
      SystemCall(
        256, "migrate_pages", .partial("pages that several processes show stay where they are"),
        "pid:i maximum:u old:p new:p", migratePages),
      SystemCall(
        279, "move_pages", .partial("pages that several processes show stay where they are (EBUSY)"),
        "pid:i count:u pages:p nodes:p status:p flags:x", movePages),
      SystemCall(450, "set_mempolicy_home_node", .full, "address:p length:u node:u flags:x", setHomeNode),
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
    let wish = try readPolicy(frame.int(0), frame.a1, maximum: frame.a2)
    frame.task.memoryPolicy = try wish.policy() ?? MemoryPolicy()
    return 0
  }

  /// A mode and nodes, as programs give them.
  private struct Wish {
    var mode: Int32
    var flags: Int32
    var nodes: UInt64

    /// The policy; nil for MPOL_DEFAULT.
    ///
    /// - Throws: EINVAL.
    func policy() throws(Errno) -> MemoryPolicy? {
      switch mode {
      case 0, Mode.local:
        guard nodes == 0, flags == 0 else { throw .EINVAL }
        return mode == 0 ? nil : MemoryPolicy()
      case Mode.preferred where nodes == 0:
        guard flags == 0 else { throw .EINVAL }
        return MemoryPolicy()
      case Mode.preferred:
        return MemoryPolicy(.preferred, nodes: 1 << UInt64(try usable(nodes).trailingZeroBitCount))
      case Mode.preferredMany: return MemoryPolicy(.preferred, nodes: try usable(nodes))
      case Mode.bind: return MemoryPolicy(.bind, nodes: try usable(nodes))
      default: return MemoryPolicy(.interleave, nodes: try usable(nodes))
      }
    }
  }

  /// - Throws: EINVAL for a mode that does not exist; EFAULT.
  private static func readPolicy(_ mode: Int32, _ address: UInt64, maximum: UInt64) throws(Errno) -> Wish {
    let flags = mode & (Mode.staticNodes | Mode.relativeNodes)
    guard flags != Mode.staticNodes | Mode.relativeNodes, 0...Mode.preferredMany ~= mode & ~flags else { throw .EINVAL }
    return Wish(mode: mode & ~flags, flags: flags, nodes: try readNodes(address, maximum: maximum))
  }

  // MARK: Ranges

  private enum Move {
    static let strict: UInt64 = 1
    static let own: UInt64 = 2
    static let all: UInt64 = 4
  }

  private static func bind(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let wish = try readPolicy(frame.int(2), frame.a3, maximum: frame.a4)
    var flags = frame.a5
    guard flags & ~(Move.strict | Move.own | Move.all) == 0 else { throw .EINVAL }
    if flags & Move.all != 0, !frame.credentials.has(.nice) { throw .EPERM }
    guard frame.a0 & (pageSize - 1) == 0 else { throw .EINVAL }
    if wish.mode == 0 { flags &= ~Move.strict }
    let (sum, overflow) = frame.a1.addingReportingOverflow(pageSize - 1)
    let (end, wraps) = frame.a0.addingReportingOverflow(sum & ~(pageSize - 1))
    guard !overflow, !wraps else { throw .EINVAL }
    if end == frame.a0 { return 0 }
    let policy = try wish.policy()
    try frame.addressSpace.setMemoryPolicy(frame.a0, end, policy)
    // By default, and next to the CPU, no place is wrong; preferred nodes and those that take turns are where pages belong.
    guard flags != 0, let policy, policy.nodes != 0 else { return 0 }
    let stayed = move(
      frame.addressSpace, frame.a0, end, from: present & ~policy.nodes,
      to: flags & (Move.own | Move.all) != 0 ? policy.nodes : nil)
    if stayed > 0, flags & Move.strict != 0 { throw .EIO }
    return 0
  }

  private static func setHomeNode(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a0 & (pageSize - 1) == 0, frame.a3 == 0, frame.a2 < UInt64(MemoryZone.nodeCount) else { throw .EINVAL }
    // As on Linux the sum may wrap to nothing, but not to an end below the start.
    let end = frame.a0 &+ ((frame.a1 &+ (pageSize - 1)) & ~(pageSize - 1))
    guard end >= frame.a0 else { throw .EINVAL }
    if end == frame.a0 { return 0 }
    try frame.addressSpace.setHomeNode(frame.a0, end, Int(clamping: frame.a2))
    return 0
  }

  /// Moves the pages of [start, end) that lie on `old` to `new`, if that is given; how many stay.
  private static func move(
    _ space: AddressSpace, _ start: UInt64, _ end: UInt64, from old: UInt64, to new: UInt64?
  ) -> Int64 {
    guard old != 0 else { return 0 }
    var stayed: Int64 = 0
    var position = start
    while position < end, position < AddressSpace.userLimit {
      if Thread.current.hasFatalSignal { break }
      for address in space.pages(on: old, from: &position, to: end, limit: 256) {
        guard let new else {
          stayed += 1
          continue
        }
        switch space.movePage(at: address, to: new) {
        case .done, .absent: break
        case .busy, .noMemory: stayed += 1
        }
      }
      Thread.checkReschedule()
    }
    return stayed
  }

  private static func migratePages(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let old = try readNodes(frame.a2, maximum: frame.a1)
    let new = try readNodes(frame.a3, maximum: frame.a1)
    let space = frame.int(0) == 0 ? frame.addressSpace : try MemoryCalls.space(of: frame.int(0), frame)
    guard new & ~present == 0 || frame.credentials.has(.nice) else { throw .EPERM }
    guard new & present != 0 else { throw .EINVAL }
    return move(space, 0, AddressSpace.userLimit, from: old & present & ~new, to: new & present)
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
    var nodes = policy.nodes
    if flags & Query.address != 0, flags & Query.node != 0 {
      // The page is brought in if need be.
      _ = try UserMemory.read(frame.a3, as: UInt8.self)
      mode = Int32(frame.addressSpace.node(at: frame.a3) ?? FrameAllocator.localNode)
    } else if flags & Query.node != 0 {
      guard policy.mode == .interleave else { throw .EINVAL }
      mode = Int32(policy.turn)
    } else if flags & Query.address != 0 {
      let range = try frame.addressSpace.memoryPolicy(at: frame.a3)
      mode = range.map { $0.mode == .local ? Mode.local : number(of: $0) } ?? 0
      nodes = range?.nodes ?? 0
    }
    if frame.a0 != 0 { try UserMemory.write(mode, to: frame.a0) }
    if frame.a1 != 0 { try writeNodes(nodes, to: frame.a1, maximum: frame.a2) }
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
    guard frame.a5 & ~(Move.own | Move.all) == 0 else { throw .EINVAL }
    if frame.a5 & Move.all != 0, !frame.credentials.has(.nice) { throw .EPERM }
    let space = frame.int(0) == 0 ? frame.addressSpace : try MemoryCalls.space(of: frame.int(0), frame)
    var elsewhere: Int64 = 0
    for index in 0..<frame.a1 {
      let address = try UserMemory.read(frame.a2 &+ index &* 8, as: UInt64.self)
      let node = space.node(at: address)
      var status = node.map { Int32($0) } ?? -Errno.ENOENT.rawValue
      if frame.a3 != 0 {
        let wanted = try UserMemory.read(frame.a3 &+ index &* 4, as: Int32.self)
        guard wanted >= 0, wanted < 64, present & (1 << UInt64(wanted)) != 0 else { throw .ENODEV }
        if let node, node != Int(wanted) {
          switch space.movePage(at: address, to: 1 << UInt64(wanted)) {
          case .done: status = wanted
          case .absent: status = -Errno.ENOENT.rawValue
          case .busy: (status, elsewhere) = (-Errno.EBUSY.rawValue, elsewhere + 1)
          case .noMemory: (status, elsewhere) = (-Errno.ENOMEM.rawValue, elsewhere + 1)
          }
        }
      }
      if frame.a4 != 0 { try UserMemory.write(status, to: frame.a4 &+ index &* 4) }
      if index & 255 == 255 {
        Thread.checkReschedule()
        if frame.task.hasFatalSignal { throw .EINTR }
      }
    }
    return elsewhere
  }
}
