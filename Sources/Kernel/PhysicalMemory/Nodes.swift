// Nodes and their zones, as they are laid out at boot.
//
// A node is a range of memory and the CPUs that are near to it. Real machines have several; a machine with one can be
// divided into as many as one likes, to see how programs behave on the others (`numa=fake=N`). Within a node, frames
// that 32-bit devices can reach are a zone of their own (DMA32, the first 4 GiB of physical memory), which others use
// last.

import KernelCore
import Machine
import Synchronization

extension PhysicalMemory {
  static var maximumNodes: Int { 8 }
  /// One node may lie on both sides of the end of DMA32.
  static var maximumZones: Int { 9 }
  /// The first frame that devices with addresses of 32 bits cannot reach.
  static var endOfDMA32: UInt64 { 1 << (32 &- pageShift) }

  // SAFETY (of this file): runs once, before anything is allocated; there is room for `maximumZones` zones.

  /// Divides the memory into at most `wanted` nodes of about the same size, and these into zones.
  func makeZones(nodes wanted: Int) {
    let (reserved, frameCount) = unsafe (state.pointee.reservedFrames, state.pointee.frameCount)
    // A node begins at a multiple of the largest block and has at least four of these.
    let unit = UInt64(1) << UInt64(Self.maximumOrder)
    let units = frameCount / unit
    let nodes = max(1, min(wanted, Self.maximumNodes, Int(units / 4)))
    var start = reserved
    for node in 0..<nodes {
      let end = node == nodes &- 1 ? frameCount : max(UInt64(node &+ 1) * units / UInt64(nodes) * unit, start)
      if start < Self.endOfDMA32 { addZone("DMA32", node, start, min(end, Self.endOfDMA32)) }
      if end > Self.endOfDMA32 { addZone("Normal", node, max(start, Self.endOfDMA32), end) }
      start = end
    }
    unsafe state.pointee.nodeCount = nodes
    for node in 0..<nodes { orderZones(of: node) }
    protectDMA32()
  }

  /// The node of the CPU that runs the caller: CPUs are dealt out to the nodes in turn.
  @inline(__always) var localNode: Int {
    let nodes = unsafe state.pointee.nodeCount
    return nodes == 1 ? 0 : CPU.currentIndex % nodes
  }

  /// Who could use frames of DMA32 only because Normal is full leaves some (Linux: lowmem_reserve_ratio 256).
  private func protectDMA32() {
    var normal = 0
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      if unsafe zone.pointee.first >= Self.endOfDMA32 {
        normal &+= unsafe Int(truncatingIfNeeded: zone.pointee.end &- zone.pointee.first)
      }
    }
    for index in 0..<(unsafe state.pointee.zoneCount) {
      let zone = unsafe state.pointee.zones + index
      if unsafe zone.pointee.first < Self.endOfDMA32 {
        let frames = unsafe Int(truncatingIfNeeded: zone.pointee.end &- zone.pointee.first)
        unsafe zone.pointee.protection = min(normal / 256, frames / 2)
      }
    }
  }

  private func addZone(_ name: StaticString, _ node: Int, _ first: UInt64, _ end: UInt64) {
    let index = unsafe state.pointee.zoneCount
    guard end > first, index < Self.maximumZones else { return }
    unsafe (state.pointee.zones + index).initialize(
      to: Zone(
        name: name, index: index, node: node, first: first, end: end, blockSize: state.pointee.pageBlocks.size))
    unsafe state.pointee.zoneCount = index &+ 1
  }

  /// A node's own zones, the highest first; then those of the next nodes, round.
  private func orderZones(of node: Int) {
    let (zones, nodes) = unsafe (state.pointee.zoneCount, state.pointee.nodeCount)
    var place = node &* Self.maximumZones
    for distance in 0..<nodes {
      let other = (node &+ distance) % nodes
      var index = zones &- 1
      while index >= 0 {
        if unsafe state.pointee.zones[index].node == other {
          unsafe state.pointee.zoneOrder[place] = UInt8(truncatingIfNeeded: index)
          place &+= 1
        }
        index &-= 1
      }
    }
  }
}

extension FrameAllocator {
  /// The node of the CPU that runs the caller.
  public static var localNode: Int { @export(interface) get { PhysicalMemory.system.localNode } }
}

extension PhysicalMemory {
  /// The node that a frame belongs to.
  func node(of number: PageFrameNumber) -> Int { unsafe zone(holding: number.rawValue).pointee.node }
}
