// An address as programs give it: struct sockaddr, whose first two bytes name the family. What follows is the family's business.

import LinuxABI

/// A socket address.
public struct SocketAddress: Hashable {
  /// struct sockaddr, as long as the program said.
  public var bytes: [UInt8]

  /// sizeof(struct sockaddr_storage).
  public static var largest: Int { 128 }

  @inline(__always)
  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// An address of `family` with `data` behind it.
  @export(interface)
  public init(family: Int32, _ data: [UInt8] = []) {
    bytes = [UInt8(truncatingIfNeeded: family), UInt8(truncatingIfNeeded: family >> 8)] + data
  }

  public var count: Int { bytes.count }
  /// sa_family; nil when the address is too short to have one.
  public var family: Int32? {
    @export(interface) get { bytes.count < 2 ? nil : Int32(bytes[0]) | Int32(bytes[1]) << 8 }
  }
}
