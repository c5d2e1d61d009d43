// What an inode is, device numbers and file times: the small values that every file system shares.

import KernelCore
import LinuxABI

/// The kinds of files (inode(7)).
public enum FileKind: UInt8, Sendable {
  case regular, directory, symbolicLink, characterDevice, blockDevice, fifo, socket

  /// The kind that the S_IFMT bits of a mode name; nil when they name none.
  @export(interface)
  public init?(mode: UInt32) {
    switch mode & S_IFMT {
    case S_IFREG: self = .regular
    case S_IFDIR: self = .directory
    case S_IFLNK: self = .symbolicLink
    case S_IFCHR: self = .characterDevice
    case S_IFBLK: self = .blockDevice
    case S_IFIFO: self = .fifo
    case S_IFSOCK: self = .socket
    default: return nil
    }
  }

  /// The S_IFMT bits.
  public var modeBits: UInt32 {
    @export(interface) get {
      switch self {
      case .regular: S_IFREG
      case .directory: S_IFDIR
      case .symbolicLink: S_IFLNK
      case .characterDevice: S_IFCHR
      case .blockDevice: S_IFBLK
      case .fifo: S_IFIFO
      case .socket: S_IFSOCK
      }
    }
  }

  /// The d_type of getdents64(2): the mode's format bits, shifted.
  public var directoryEntryType: UInt8 { UInt8(truncatingIfNeeded: modeBits >> 12) }

  public var isDevice: Bool { self == .characterDevice || self == .blockDevice }
}

/// A device's major and minor number (makedev(3): 12 and 20 bits).
public struct DeviceNumber: Hashable, Sendable {
  public var major: UInt32
  public var minor: UInt32

  @inline(__always)
  public init(major: UInt32, minor: UInt32) {
    self.major = major
    self.minor = minor
  }

  public static var none: DeviceNumber { DeviceNumber(major: 0, minor: 0) }

  /// From the encoding of mknod(2) and stat(2).
  @export(interface)
  public init(encoded: UInt64) {
    major = UInt32(truncatingIfNeeded: (encoded >> 8) & 0xfff | (encoded >> 32) & 0xffff_f000)
    minor = UInt32(truncatingIfNeeded: encoded & 0xff | (encoded >> 12) & 0xffff_ff00)
  }

  /// The encoding of stat(2).
  public var encoded: UInt64 {
    @export(interface) get {
      let major = UInt64(major)
      let minor = UInt64(minor)
      return (major & 0xfff) << 8 | (major & 0xffff_f000) << 32 | minor & 0xff | (minor & 0xffff_ff00) << 12
    }
  }
}

/// A time in an inode: seconds since 1970 UTC and nanoseconds.
public struct FileTime: Equatable, Sendable {
  public var seconds: Int64
  public var nanoseconds: UInt32

  @inline(__always)
  public init(seconds: Int64, nanoseconds: UInt32) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
  }

  public static var zero: FileTime { FileTime(seconds: 0, nanoseconds: 0) }

  /// The time now (CLOCK_REALTIME).
  @export(interface)
  public static func now() -> FileTime {
    let time = Clock.realtimeNanoseconds
    return FileTime(
      seconds: Int64(truncatingIfNeeded: time / 1_000_000_000),
      nanoseconds: UInt32(truncatingIfNeeded: time % 1_000_000_000))
  }
}
