// Page frames by number: physical address divided by the page size.

/// The number of a page frame of physical memory. 0 stands for "none" wherever numbers are linked: the first frames
/// hold the allocator itself and are never handed out.
public struct PageFrameNumber: Hashable, Comparable, Sendable {
  public let rawValue: UInt64

  @inline(__always) public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  /// The frame that holds a physical address.
  @inline(__always) public init(physicalAddress: UInt64) { rawValue = physicalAddress >> PhysicalMemory.pageShift }

  /// The address of the frame's first byte.
  @inline(__always) public var physicalAddress: UInt64 { rawValue << PhysicalMemory.pageShift }

  @inline(__always) public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// The frame `count` places further on.
  @inline(__always) public func advanced(by count: Int) -> Self {
    Self(rawValue &+ UInt64(bitPattern: Int64(count)))
  }

  /// The frame's descriptor, in the machine's memory.
  public var frame: PageFrame { @export(interface) get { PhysicalMemory.system.frame(self) } }

  /// The frame's first byte in the direct map.
  public var pointer: UnsafeMutableRawPointer { unsafe DirectMap.pointer(to: self) }
}

/// The part of the kernel's address space that shows all physical memory.
public enum DirectMap {
  /// Where the first byte of a frame can be read and written.
  @export(interface) public static func pointer(to number: PageFrameNumber) -> UnsafeMutableRawPointer {
    unsafe PhysicalMemory.system.pointer(to: number)
  }

  /// The physical address behind a pointer into the direct map.
  @export(interface) public static func physicalAddress(of pointer: UnsafeRawPointer) -> UInt64 {
    unsafe PhysicalMemory.system.physicalAddress(of: pointer)
  }
}
