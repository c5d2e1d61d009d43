// Each CPU's own stock: free frames and, for each slab cache, free objects. The kernel is never preempted in kernel
// mode and touches this memory outside interrupts only, so the CPU needs no lock for it.

import KernelCore
import Machine

/// One CPU's stock of free frames. An entry's top bit says that the frame is known to read as zero.
struct LocalFrames {
  static var capacity: Int { 64 }
  static var batch: Int { 32 }
  static var knownZero: UInt32 { 1 << 31 }

  var count: Int
  var allocated: UInt64  // for statistics: frames ever handed out and taken back here
  var freed: UInt64
  var entries: InlineArray<64, UInt32>
}

/// One CPU's stock of free objects of one cache.
struct Magazine {
  static var slots: Int { 62 }
  static var stride: Int { 512 }

  var count: Int
  var objects: InlineArray<62, UInt>
}

enum LocalMemory {
  static var framesSize: Int { 512 }
  static var stride: Int { (framesSize + Magazine.stride * PhysicalMemory.maximumCaches + 4095) & ~4095 }
}

extension PhysicalMemory {
  // SAFETY: localMemory has a zeroed area of LocalMemory.stride bytes for each CPU index; the two structs fit into the
  // places given to them (checked by a unit test), and only their CPU touches them.

  @inline(__always) var localFrames: UnsafeMutablePointer<LocalFrames> { unsafe localFrames(of: CPU.currentIndex) }

  @inline(__always) func localFrames(of cpu: Int) -> UnsafeMutablePointer<LocalFrames> {
    unsafe (state.pointee.localMemory + cpu &* LocalMemory.stride).assumingMemoryBound(to: LocalFrames.self)
  }

  @inline(__always) func magazine(_ cache: Int) -> UnsafeMutablePointer<Magazine> {
    unsafe magazine(cache, of: CPU.currentIndex)
  }

  @inline(__always) func magazine(_ cache: Int, of cpu: Int) -> UnsafeMutablePointer<Magazine> {
    unsafe (state.pointee.localMemory
      + (cpu &* LocalMemory.stride &+ LocalMemory.framesSize &+ cache &* Magazine.stride))
      .assumingMemoryBound(to: Magazine.self)
  }
}
