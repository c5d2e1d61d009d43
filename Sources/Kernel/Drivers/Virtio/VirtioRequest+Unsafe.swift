// A request to a device: pieces of physical memory which the device reads, then pieces which it fills. Requests are
// objects that drivers keep and use again, so that the usual path allocates nothing.

import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// A request to a device.
///
/// From `submit` until its completion a request, and the memory that it names, belongs to the queue.
open class VirtioRequest {
  final var segments: [MemorySegment] = []
  /// How many of the segments the device reads; the rest it fills.
  final var readableCount = 0
  /// How many bytes the device put into the writable segments, once the request is complete.
  public final internal(set) var written = 0
  final let state = Atomic<Bool>(false)
  /// Who sleeps for the completion.
  final var sleeper: Thread?
  /// The next of the requests that were found complete together.
  final var nextComplete: VirtioRequest?

  @export(interface)
  public init() {}

  public final var isComplete: Bool {
    @inline(__always) get { state.load(ordering: .acquiring) }
  }

  /// Makes room for so many segments, so that adding them allocates nothing.
  @export(interface)
  public final func reserveCapacity(_ count: Int) { segments.reserveCapacity(count) }

  /// Forgets the segments.
  @export(interface)
  public final func reset() {
    segments.removeAll(keepingCapacity: true)
    readableCount = 0
  }

  /// Adds memory for the device to read; all of it comes before the memory to fill.
  @export(interface)
  public final func addReadable(_ segment: MemorySegment) {
    precondition(readableCount == segments.count, "a readable segment behind a writable one")
    segments.append(segment)
    readableCount += 1
  }

  /// Adds memory for the device to fill.
  @export(interface)
  public final func addWritable(_ segment: MemorySegment) { segments.append(segment) }

  /// Called once, when the device has finished, by whichever thread noticed; no lock is held. It may be in an interrupt
  /// handler: it must not sleep. Not called for requests that a thread waits for (`Virtqueue.perform`).
  open func didComplete() {}
}

/// Physically contiguous memory for the headers and small data of requests.
@safe public final class DeviceMemory {
  public let physicalAddress: UInt64
  public let count: Int
  private let first: PageFrameNumber

  /// Allocates `2^order` pages; their contents are unspecified.
  /// - Throws: ENOMEM.
  @export(interface)
  public init(order: Int) throws(Errno) {
    first = try FrameAllocator.allocate(order: order, options: .mayReclaim)
    physicalAddress = first.physicalAddress
    count = PhysicalMemory.pageSize << order
  }

  /// Allocates `2^order` pages, or the largest smaller power of two that can be had at once: memory may be full of single
  /// pages.
  /// - Throws: ENOMEM when there is not a single page.
  @export(interface)
  public init(orderAtMost order: Int) throws(Errno) {
    var order = order
    var block: PageFrameNumber?
    while order > 0 {
      block = try? FrameAllocator.allocate(order: order)
      if block != nil { break }
      order -= 1
    }
    if let block { first = block } else { first = try FrameAllocator.allocate(order: 0, options: .mayReclaim) }
    physicalAddress = first.physicalAddress
    count = PhysicalMemory.pageSize << order
  }

  deinit { FrameAllocator.free(first) }

  /// The memory.
  public var bytes: UnsafeMutableRawBufferPointer {
    // SAFETY: the block is this object's until deinit, and `count` bytes long.
    @inline(__always) get { unsafe UnsafeMutableRawBufferPointer(start: DirectMap.pointer(to: first), count: count) }
  }

  /// A part of it, as a segment of a request.
  @inline(__always)
  public func segment(_ offset: Int, _ length: Int) -> MemorySegment {
    precondition(offset >= 0 && length >= 0 && offset + length <= count)
    return MemorySegment(physicalAddress: physicalAddress + UInt64(offset), length: UInt32(truncatingIfNeeded: length))
  }
}
