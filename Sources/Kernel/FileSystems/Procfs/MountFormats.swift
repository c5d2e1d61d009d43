// /proc/PID/mounts, mountinfo and mountstats (proc(5), fstab(5)).

import KernelCore
import LinuxABI

/// A mount as the files show it.
struct MountLine {
  var identifier: UInt64
  var parent: UInt64
  var major: UInt32
  var minor: UInt32
  /// The directory of the file system that is mounted.
  var root: ByteString
  var mountPoint: ByteString
  /// "rw,nosuid,…": of the mount.
  var options: ByteString
  var type: ByteString
  var source: ByteString
  /// "rw,size=…": of the file system.
  var superOptions: ByteString
  /// What the file system has counted: lines.
  var statistics = ByteString()
}

enum MountFormat {
  static func mounts(_ lines: [MountLine]) -> TextBuffer {
    var text = TextBuffer(reserving: 512)
    for line in lines {
      text.append(escaped(line.source))
      text.append(" ")
      text.append(escaped(line.mountPoint))
      text.append(" ")
      text.append(line.type)
      text.append(" ")
      text.append(line.options)
      // The file system's own options follow those of the mount.
      if let comma = line.superOptions.bytes.firstIndex(of: 0x2c) {
        text.append(ByteString(line.superOptions.bytes[comma...]))
      }
      text.append(" 0 0\n")
    }
    return text
  }

  static func mountInformation(_ lines: [MountLine]) -> TextBuffer {
    var text = TextBuffer(reserving: 512)
    for line in lines {
      text.append(decimal: line.identifier)
      text.append(" ")
      text.append(decimal: line.parent)
      text.append(" ")
      text.append(decimal: UInt64(line.major))
      text.append(":")
      text.append(decimal: UInt64(line.minor))
      text.append(" ")
      text.append(escaped(line.root))
      text.append(" ")
      text.append(escaped(line.mountPoint))
      text.append(" ")
      text.append(line.options)
      text.append(" - ")
      text.append(line.type)
      text.append(" ")
      text.append(escaped(line.source))
      text.append(" ")
      text.append(line.superOptions)
      text.append("\n")
    }
    return text
  }

  static func mountStatistics(_ lines: [MountLine]) -> TextBuffer {
    var text = TextBuffer(reserving: 1024)
    for line in lines {
      text.append("device ")
      text.append(escaped(line.source))
      text.append(" mounted on ")
      text.append(escaped(line.mountPoint))
      text.append(" with fstype ")
      text.append(line.type)
      text.append("\n")
      text.append(line.statistics)
    }
    return text
  }

  /// Space, tab, newline and backslash in octal (getmntent(3)).
  static func escaped(_ name: ByteString) -> ByteString {
    var text = TextBuffer(reserving: name.count)
    for byte in name.bytes {
      switch byte {
      case 0x20, 0x09, 0x0a, 0x5c:
        text.append("\\")
        text.append(octal: UInt64(byte), width: 3)
      default: text.append(byte: byte)
      }
    }
    return name.isEmpty ? "none" : text.byteString
  }
}
