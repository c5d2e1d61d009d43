// Each CPU's own stock: free frames of each migrate type and, for each slab cache, free objects. The kernel is never
// preempted in kernel mode and touches this memory outside interrupts only, so the CPU needs no lock for it.

import KernelCore
import Machine

/// One CPU's free frames of one migrate type, a stack. An entry's top bit says that the frame is known to read as zero.
struct FrameStock {
  static var capacity: Int { 64 }
  static var knownZero: UInt32 { 1 << 31 }

  var count: Int
  var entries: InlineArray<64, UInt32>
}

/// What one CPU's frames have in common.
struct LocalFrames {
  var allocated: UInt64  // for statistics: frames ever handed out and taken back here
  var freed: UInt64
}

/// One CPU's stock of free objects of one cache.
struct Magazine {
  static var slots: Int { 62 }
  static var stride: Int { 512 }

  var count: Int
  var objects: InlineArray<62, UInt>
}

/// Where these things lie: LocalFrames, a stock for each of three migrate types and one that is put aside, magazines.
enum LocalMemory {
  static var stocksOffset: Int { 64 }
  static var stockStride: Int { 272 }
  static var putAside: Int { 3 }
  static var framesSize: Int { 1536 }
  static var stride: Int { (framesSize + Magazine.stride * PhysicalMemory.maximumCaches + 4095) & ~4095 }
}

extension PhysicalMemory {
  // SAFETY: localMemory has a zeroed area of LocalMemory.stride bytes for each CPU index; the structs fit into the places
  // given to them (checked by a unit test), and only their CPU touches them.

  @inline(__always) var localFrames: UnsafeMutablePointer<LocalFrames> { unsafe localFrames(of: CPU.currentIndex) }

  @inline(__always) func localFrames(of cpu: Int) -> UnsafeMutablePointer<LocalFrames> {
    unsafe (state.pointee.localMemory + cpu &* LocalMemory.stride).assumingMemoryBound(to: LocalFrames.self)
  }

  /// The stock with a number: that of a migrate type's raw value, or `LocalMemory.putAside`.
  @inline(__always)
  func stock(_ number: Int, _ local: UnsafeMutablePointer<LocalFrames>) -> UnsafeMutablePointer<FrameStock> {
    unsafe (UnsafeMutableRawPointer(local) + (LocalMemory.stocksOffset &+ number &* LocalMemory.stockStride))
      .assumingMemoryBound(to: FrameStock.self)
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
