// Guest memory as the devices see it: every address and length comes from the guest and is checked here, in one place.

/// The guest's memory, mapped in this process.
@safe public struct GuestMemory: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  private let size: UInt64

  /// - Parameter base: guest-physical address 0; mapped for the life of the process.
  public init(base: UnsafeMutableRawPointer, size: UInt64) {
    unsafe self.base = base
    self.size = size
  }

  /// The `count` bytes at guest-physical `address`, nil when they are not all memory.
  ///
  /// The guest may change them at any time: read what matters once, into a copy, and judge the copy.
  public func bytes(at address: UInt64, count: UInt64) -> UnsafeMutableRawBufferPointer? {
    guard address <= size, count <= size - address else { return nil }
    // SAFETY: the range lies in the mapping.
    return unsafe UnsafeMutableRawBufferPointer(start: base + Int(address), count: Int(count))
  }
}
