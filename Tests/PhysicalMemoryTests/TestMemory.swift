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

  init(megabytes: Int) {
    size = megabytes << 20
    unsafe base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)!
    unsafe memory = PhysicalMemory(layingOut: base, size: UInt64(size), cpuCount: 64)
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

  /// Checks every list of the zone: links, kinds, alignment, no two buddies free, counters.
  func checkZone() {
    let zone = unsafe memory.state.pointee.zones
    let frames = unsafe memory.state.pointee.frames
    var total = unsafe Int(zone.pointee.end - zone.pointee.untouched)
    for order in 0...PhysicalMemory.maximumOrder {
      var number = unsafe zone.pointee.heads[order]
      var previous: UInt32 = 0
      var count = 0
      while number != 0 {
        let descriptor = unsafe frames + Int(number)
        #expect(unsafe descriptor.pointee.kind == .free && Int(descriptor.pointee.order) == order)
        #expect(unsafe descriptor.pointee.previous == previous)
        #expect(number % (1 << UInt32(order)) == 0)
        if order < PhysicalMemory.maximumOrder {
          let buddy = unsafe frames + Int(number ^ 1 << UInt32(order))
          #expect(unsafe !(buddy.pointee.kind == .free && Int(buddy.pointee.order) == order))
        }
        previous = number
        number = unsafe descriptor.pointee.next
        count += 1
      }
      #expect(unsafe count == Int(zone.pointee.counts[order]))
      total += count << order
    }
    #expect(unsafe total == zone.pointee.freeFrames.load(ordering: .relaxed))
  }
}
