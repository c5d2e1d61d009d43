// What /sys consists of, as a description: names with attributes, links and further directories. The set of entries of a
// directory is made when it is looked at, so that it may depend on the machine.

import KernelCore
import LinuxABI

/// An entry of a directory of /sys.
struct SysEntry {
  enum Content {
    /// A file with a text, usually one value and a newline.
    case attribute(() -> TextBuffer)
    case link(ByteString)
    case directory(() -> [SysEntry])
  }
  var name: ByteString
  var content: Content

  static func attribute(_ name: ByteString, _ text: @escaping () -> TextBuffer) -> SysEntry {
    SysEntry(name: name, content: .attribute(text))
  }

  /// An attribute that is one line.
  static func line(_ name: ByteString, _ value: @escaping () -> ByteString) -> SysEntry {
    .attribute(name) {
      var text = TextBuffer()
      text.append(value())
      text.append("\n")
      return text
    }
  }

  static func link(_ name: ByteString, to target: ByteString) -> SysEntry {
    SysEntry(name: name, content: .link(target))
  }

  static func directory(_ name: ByteString, _ entries: @escaping () -> [SysEntry]) -> SysEntry {
    SysEntry(name: name, content: .directory(entries))
  }
}
