// Memory for a test of its own: allocators on a fresh mapping, so that tests which use it up disturb nobody.

import KernelCore
import LinuxABI
import Synchronization
import Testing

@testable import PhysicalMemory

#if canImport(Glibc)
  import Glibc
#endif

final class TestMemory {
  let base: UnsafeMutableRawPointer
  let size: Int
  let memory: PhysicalMemory

  init(megabytes: Int, nodes: Int = 1, usesSlob: Bool = false) {
    size = megabytes << 20
    unsafe base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)!
    unsafe memory = PhysicalMemory(layingOut: base, size: UInt64(size), cpuCount: 64, nodes: nodes, usesSlob: usesSlob)
  }
  deinit { unsafe munmap(base, size) }

  var free: Int { memory.statistics().free }

  /// Pages of the mapping that the host has given memory to.
  var residentPages: Int {
    var map = [UInt8](repeating: 0, count: size / 4096)
    _ = unsafe map.withUnsafeMutableBufferPointer { unsafe mincore(base, size, $0.baseAddress) }
    return map.count { $0 & 1 != 0 }
  }

  func bytes(_ number: PageFrameNumber, frames: Int = 1) -> UnsafeMutableBufferPointer<UInt64> {
    unsafe UnsafeMutableBufferPointer(
      start: memory.pointer(to: number).assumingMemoryBound(to: UInt64.self), count: 512 * frames)
  }

  /// Checks every list of every zone: links, kinds, alignment, types of page blocks, no two buddies free, counters.
  func checkZone() {
    for index in 0..<(unsafe memory.state.pointee.zoneCount) { unsafe check(memory.state.pointee.zones + index) }
  }

  private func check(_ zone: UnsafeMutablePointer<Zone>) {
    let frames = unsafe memory.state.pointee.frames
    let blocks = unsafe memory.state.pointee.pageBlocks
    var total = unsafe Int(zone.pointee.setAside - zone.pointee.untouched)
    let neverSetAside = unsafe Int(zone.pointee.end - zone.pointee.untouchedSetAside)
    total += neverSetAside
    for order in 0...PhysicalMemory.maximumOrder {
      for type in MigrateType.allCases {
        let list = Zone.list(order, type)
        var number = unsafe zone.pointee.heads[list]
        var previous: UInt32 = 0
        var count = 0
        while number != 0 {
          let descriptor = unsafe frames + Int(number)
          #expect(unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == order)
          #expect(unsafe descriptor.pointee.previous == previous)
          #expect(number % (1 << UInt32(order)) == 0)
          let last = UInt64(number) + 1 << UInt64(order) - 1
          #expect(blocks.type(of: UInt64(number)) == type && blocks.type(of: last) == type)
          #expect(unsafe blocks.zone(of: UInt64(number)) == zone.pointee.index)
          if order < PhysicalMemory.maximumOrder {
            let other = number ^ 1 << UInt32(order)
            let buddy = unsafe frames + Int(other)
            let isReserve = blocks.type(of: UInt64(other)) == .reserve
            #expect(
              unsafe !(buddy.pointee.kind == .free && Int(buddy.pointee.order) == order)
                || isReserve != (type == .reserve))
          }
          previous = number
          number = unsafe descriptor.pointee.next
          count += 1
        }
        #expect(unsafe count == Int(zone.pointee.counts[list]))
        total += count << order
      }
    }
    #expect(unsafe total == zone.pointee.freeFrames.load(ordering: .relaxed))
    let setAside = (0...PhysicalMemory.maximumOrder).reduce(neverSetAside) {
      unsafe $0 + Int(zone.pointee.counts[Zone.list($1, .reserve)]) << $1
    }
    #expect(unsafe setAside == zone.pointee.freeSetAside.load(ordering: .relaxed))
  }
}
