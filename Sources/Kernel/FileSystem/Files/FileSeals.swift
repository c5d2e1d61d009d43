// Seals of a memfd (memfd_create(2), fcntl(2) F_ADD_SEALS): promises about a file's content that cannot be taken back.

import KernelCore
import LinuxABI

/// The seals of one file.
public final class FileSeals {
  private let bits: SpinLock<UInt32>

  /// - Parameter bits: F_SEAL_SEAL for a file that was made without MFD_ALLOW_SEALING.
  @export(interface)
  public init(_ bits: UInt32) { self.bits = SpinLock(bits, rank: .inode) }

  public var current: UInt32 { @export(interface) get { bits.withLock { $0 } } }

  public func has(_ seal: UInt32) -> Bool { current & seal != 0 }

  /// - Parameter denyWritableMappings: sees to it that there are none from now on; false when there are some.
  /// - Throws: EINVAL, EPERM, EBUSY when F_SEAL_WRITE meets writable mappings.
  @export(interface)
  public func add(_ new: UInt32, denyWritableMappings: () -> Bool) throws(Errno) {
    let known = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC
    guard new & ~known == 0 else { throw .EINVAL }
    try bits.withLock { bits throws(Errno) in
      if bits & F_SEAL_SEAL != 0 { throw .EPERM }
      if new & F_SEAL_WRITE != 0, bits & F_SEAL_WRITE == 0, !denyWritableMappings() { throw .EBUSY }
      bits |= new
    }
  }

  /// Whether the contents may be changed, by writes or through new mappings.
  public var allowWriting: Bool { @export(interface) get { current & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) == 0 } }

  /// Checks a write of `range` to a file of `size` bytes.
  @export(interface)
  public func checkWrite(end: UInt64, size: UInt64) throws(Errno) {
    let bits = current
    guard allowWriting else { throw .EPERM }
    if bits & F_SEAL_GROW != 0, end > size { throw .EPERM }
  }

  /// Checks a change of the size.
  @export(interface)
  public func checkResize(from old: UInt64, to new: UInt64) throws(Errno) {
    let bits = current
    if new < old, bits & F_SEAL_SHRINK != 0 { throw .EPERM }
    if new > old, bits & F_SEAL_GROW != 0 { throw .EPERM }
  }
}
