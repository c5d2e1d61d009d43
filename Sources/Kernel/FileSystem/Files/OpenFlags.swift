// The flags of an open file: open(2)'s, as fcntl(F_GETFL) reports them.

import LinuxABI

/// Flags of open(2).
public struct OpenFlags: OptionSet, Sendable {
  public var rawValue: Int32

  @inline(__always)
  public init(rawValue: Int32) { self.rawValue = rawValue }

  public static var readOnly: OpenFlags { [] }
  public static var writeOnly: OpenFlags { OpenFlags(rawValue: O_WRONLY) }
  public static var readWrite: OpenFlags { OpenFlags(rawValue: O_RDWR) }
  public static var create: OpenFlags { OpenFlags(rawValue: O_CREAT) }
  public static var exclusive: OpenFlags { OpenFlags(rawValue: O_EXCL) }
  public static var noControllingTerminal: OpenFlags { OpenFlags(rawValue: O_NOCTTY) }
  public static var truncate: OpenFlags { OpenFlags(rawValue: O_TRUNC) }
  public static var append: OpenFlags { OpenFlags(rawValue: O_APPEND) }
  public static var nonBlocking: OpenFlags { OpenFlags(rawValue: O_NONBLOCK) }
  public static var dataSync: OpenFlags { OpenFlags(rawValue: O_DSYNC) }
  public static var sync: OpenFlags { OpenFlags(rawValue: O_SYNC) }
  public static var direct: OpenFlags { OpenFlags(rawValue: O_DIRECT) }
  public static var largeFile: OpenFlags { OpenFlags(rawValue: O_LARGEFILE) }
  public static var directory: OpenFlags { OpenFlags(rawValue: O_DIRECTORY) }
  public static var noFollow: OpenFlags { OpenFlags(rawValue: O_NOFOLLOW) }
  public static var noAccessTime: OpenFlags { OpenFlags(rawValue: O_NOATIME) }
  public static var closeOnExec: OpenFlags { OpenFlags(rawValue: O_CLOEXEC) }
  public static var path: OpenFlags { OpenFlags(rawValue: O_PATH) }
  public static var temporary: OpenFlags { OpenFlags(rawValue: O_TMPFILE) }

  /// Whether read(2) is allowed. Access mode 3 allows neither reading nor writing, only ioctl(2) (open(2), NOTES).
  public var allowsReading: Bool {
    rawValue & O_PATH == 0 && (rawValue & O_ACCMODE == O_RDONLY || rawValue & O_ACCMODE == O_RDWR)
  }
  /// Whether write(2) is allowed.
  public var allowsWriting: Bool {
    rawValue & O_PATH == 0 && (rawValue & O_ACCMODE == O_WRONLY || rawValue & O_ACCMODE == O_RDWR)
  }
}
