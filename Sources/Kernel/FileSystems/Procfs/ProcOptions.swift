// The mount options of procfs (proc(5)): hidepid, with which users do not see each other's processes, and gid, the group that
// sees them all the same.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process

/// How much of others' processes a mount of procfs shows.
struct ProcOptions {
  /// The values are those of the option.
  enum Hiding: Int {
    case off = 0
    /// Directories of others' processes are listed, and cannot be entered (EPERM).
    case access = 1
    /// They are not there (ENOENT).
    case presence = 2
    /// As `presence`; `gid` makes no exception.
    case untraceable = 4

    var name: StaticString {
      switch self {
      case .off: "off"
      case .access: "noaccess"
      case .presence: "invisible"
      case .untraceable: "ptraceable"
      }
    }
  }

  var hiding = Hiding.off
  var group: UInt32 = 0

  /// Parses "hidepid=2,gid=27"; values of hidepid are numbers or names.
  ///
  /// - Throws: EINVAL for what is unknown or malformed.
  init(_ text: ByteString) throws(Errno) {
    for option in text.split(separator: 0x2c) where !option.isEmpty {
      if option.hasPrefix("hidepid=") {
        hiding = try Self.hiding(ByteString(option.bytes.dropFirst(8)))
      } else if option.hasPrefix("gid=") {
        guard let number = ByteString(option.bytes.dropFirst(4)).decimal(), let group = UInt32(exactly: number) else {
          throw .EINVAL
        }
        self.group = group
      } else {
        throw .EINVAL
      }
    }
  }

  private static func hiding(_ value: ByteString) throws(Errno) -> Hiding {
    switch value {
    case "0", "off": return .off
    case "1", "noaccess": return .access
    case "2", "invisible": return .presence
    case "4", "ptraceable": return .untraceable
    default: throw .EINVAL
    }
  }

  /// As /proc/mounts shows them.
  var text: ByteString {
    var text = TextBuffer()
    if group != 0 {
      text.append(",gid=")
      text.append(decimal: UInt64(group))
    }
    if hiding != .off {
      text.append(",hidepid=")
      text.append(hiding.name)
    }
    return text.byteString
  }

  /// Whether the process is hidden from the task that runs, at this level or a stricter one.
  func hides(_ reference: TaskReference, from level: Hiding) -> Bool {
    guard hiding.rawValue >= level.rawValue, let reader = Task.running else { return false }
    if hiding != .untraceable, reader.credentials.isMember(of: group) { return false }
    return !reference.isAccessible()
  }
}
