// Scatter-gather lists: memory that is consecutive for a device or its user, piece by piece, each piece a run of physical
// memory. Neighbours are joined as they come, so a list is as short as memory allows.

/// A run of physical memory.
public struct MemorySegment: Equatable, Sendable {
  public var physicalAddress: UInt64
  public var length: UInt32

  @inline(__always)
  public init(physicalAddress: UInt64, length: UInt32) {
    self.physicalAddress = physicalAddress
    self.length = length
  }

  @inline(__always)
  public var end: UInt64 { physicalAddress &+ UInt64(length) }
}

/// A scatter-gather list. Keeps its storage when it is emptied, so that a list in use for good allocates nothing.
public struct SegmentList {
  public private(set) var segments: [MemorySegment] = []
  /// Bytes in all segments.
  public private(set) var byteCount = 0

  @export(interface)
  public init(capacity: Int = 0) { segments.reserveCapacity(capacity) }

  @inline(__always)
  public var count: Int { segments.count }

  /// Whether memory at `address` would make the list longer.
  @export(interface)
  public func needsSegment(for address: UInt64, length: Int) -> Bool {
    guard let last = segments.last else { return true }
    return last.end != address || length > Int(UInt32.max - last.length)
  }

  /// Adds memory behind what is there; a neighbour of the last segment becomes a part of it.
  @export(interface)
  public mutating func append(_ address: UInt64, length: Int) {
    precondition(length >= 0 && length <= Int(UInt32.max))
    if length == 0 { return }
    byteCount += length
    if needsSegment(for: address, length: length) {
      segments.append(MemorySegment(physicalAddress: address, length: UInt32(truncatingIfNeeded: length)))
    } else {
      segments[segments.count - 1].length += UInt32(truncatingIfNeeded: length)
    }
  }

  /// Adds the first `length` bytes of a page.
  @inline(__always)
  public mutating func append(_ frame: PageFrameNumber, length: Int = PhysicalMemory.pageSize) {
    append(frame.physicalAddress, length: length)
  }

  @export(interface)
  public mutating func removeAll() {
    segments.removeAll(keepingCapacity: true)
    byteCount = 0
  }
}
