// Ancillary data (cmsg(3)): a chain of headers with data, each aligned to eight bytes. Out of a program it is copied once, then
// taken apart; into a program it is put together from what the family tells.

import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

/// One control message of a sender.
public struct ControlMessage {
  public var level: Int32
  public var type: Int32
  public var data: [UInt8]

  /// sizeof(struct cmsghdr).
  public static var headerSize: Int { 16 }

  @export(interface)
  public init(level: Int32, type: Int32, data: [UInt8]) {
    self.level = level
    self.type = type
    self.data = data
  }

  /// Takes apart what msg_control pointed to.
  ///
  /// - Throws: EINVAL for a header whose length is impossible.
  @export(interface)
  public static func parse(_ bytes: [UInt8]) throws(Errno) -> [ControlMessage] {
    var result: [ControlMessage] = []
    var place = 0
    while bytes.count - place >= headerSize {
      let length = Int(truncatingIfNeeded: number(bytes, place, 8))
      guard length >= headerSize, length <= bytes.count - place else { throw .EINVAL }
      result.append(
        ControlMessage(
          level: Int32(truncatingIfNeeded: number(bytes, place + 8, 4)),
          type: Int32(truncatingIfNeeded: number(bytes, place + 12, 4)),
          data: Array(bytes[place + headerSize..<place + length])))
      place += (length + 7) & ~7
      if place > bytes.count { break }
    }
    return result
  }

  /// A little-endian number of `size` bytes.
  @export(interface)
  public static func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<size { value |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
    return value
  }

  @export(interface)
  public static func word(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
  }

  @export(interface)
  public static func longWord(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }
}

/// One control message for a receiver.
public enum ReceivedControl {
  case data(level: Int32, type: Int32, [UInt8])
  /// Open files, each with a reference that is the receiver's: they get descriptors (SCM_RIGHTS).
  case files([OpenFile])
  /// The sender, who becomes a pidfd (SCM_PIDFD).
  case process(PeerIdentity)
}
