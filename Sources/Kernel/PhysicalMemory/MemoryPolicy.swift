// On which nodes pages go: those of a thread (set_mempolicy(2)) or of a range of its memory (mbind(2)).

import KernelCore
import LinuxABI
import Synchronization

/// A rule for the choice of a node.
public struct MemoryPolicy: Equatable, Sendable {
  public enum Mode: Sendable {
    /// The node of the CPU, then its neighbours (MPOL_DEFAULT, MPOL_LOCAL).
    case local
    /// One of these nodes first, then as `local` (MPOL_PREFERRED, MPOL_PREFERRED_MANY).
    case preferred
    /// These nodes only (MPOL_BIND).
    case bind
    /// These nodes in turn (MPOL_INTERLEAVE).
    case interleave
  }
  public var mode: Mode
  /// A bit for each node.
  public var nodes: UInt64
  /// Which of the nodes comes first; nil is that of the CPU, if it is among them (set_mempolicy_home_node(2)).
  public var home: Int?
  /// The node whose turn it is.
  public private(set) var turn = 0

  @inline(__always)
  public init(_ mode: Mode = .local, nodes: UInt64 = 0) {
    self.mode = mode
    self.nodes = nodes
    if nodes != 0 { turn = nodes.trailingZeroBitCount }
  }

  /// The same for a page of a range, `index` pages from its beginning: interleaving goes by the place.
  @export(interface)
  public func forPage(_ index: UInt64) -> MemoryPolicy {
    guard mode == .interleave, nodes != 0 else { return self }
    var left = nodes
    for _ in 0..<index % UInt64(nodes.nonzeroBitCount) { left &= left &- 1 }
    return MemoryPolicy(.preferred, nodes: 1 << UInt64(left.trailingZeroBitCount))
  }

  mutating func takeTurn() -> Int {
    let result = turn
    let later = nodes & ~((2 << UInt64(turn)) &- 1)
    turn = (later != 0 ? later : nodes).trailingZeroBitCount
    return result
  }
}

extension FrameAllocator {
  /// Allocates a single frame on a node that the policy allows; an interleaving policy goes on to the next node.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public static func allocate(options: AllocationOptions, by policy: inout MemoryPolicy) throws(Errno)
    -> PageFrameNumber
  {
    try PhysicalMemory.system.allocate(options: options, by: &policy)
  }
}

extension PageFrameNumber {
  /// The node in whose memory the frame lies.
  public var node: Int { @export(interface) get { PhysicalMemory.system.node(of: self) } }
}

extension PhysicalMemory {
  // SAFETY (of this file): zones are never freed.

  func allocate(options: AllocationOptions, by policy: inout MemoryPolicy) throws(Errno) -> PageFrameNumber {
    let nodes = unsafe policy.nodes & ((1 << UInt64(state.pointee.nodeCount)) &- 1)
    guard nodes != 0, policy.mode != .local else { return try allocateSingle(options) }
    if policy.mode == .interleave {
      if let frame = allocate(on: policy.takeTurn(), options) { return frame }
      return try allocateSingle(options)
    }
    // The CPU's own node first, if it is among them and no other was chosen.
    let home = policy.home ?? localNode
    if nodes & (1 << UInt64(home)) != 0, let frame = allocate(on: home, options) { return frame }
    var left = nodes
    while left != 0 {
      if let frame = allocate(on: left.trailingZeroBitCount, options) { return frame }
      left &= left &- 1
    }
    if policy.mode == .bind { throw .ENOMEM }
    return try allocateSingle(options)
  }

  /// A frame of one node's zones, past the CPU's stock.
  private func allocate(on node: Int, _ options: AllocationOptions) -> PageFrameNumber? {
    let type = MigrateType(rawValue: UInt8(truncatingIfNeeded: options.migrateType)).unsafelyUnwrapped
    for place in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + Int(state.pointee.zoneOrder[node &* Self.maximumZones &+ place])
      guard unsafe zone.pointee.node == node else { break }
      unsafe zone.pointee.lock.acquire()
      let block = unsafe available(zone, options) > 0 ? buddy(zone).take(order: 0, type: type) : nil
      unsafe zone.pointee.lock.release()
      guard let block else { continue }
      unsafe noteLevel(zone, order: 0)
      let number = PageFrameNumber(block.number)
      unsafe prepare(descriptor(block.number), order: 0, Self.flags(options))
      if options.contains(.zeroed), !block.isKnownZero {
        unsafe pointer(to: number).initializeMemory(as: UInt8.self, repeating: 0, count: Self.pageSize)
      }
      return number
    }
    return nil
  }
}
