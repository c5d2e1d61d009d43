// Output processing of a terminal (c_oflag, POSIX 11.2.3): what programs write and what the terminal echoes, on the way
// to the device. It follows the cursor's column, which tabs, ONOCR and the erasing of tabs need.

import LinuxABI

/// Turns a program's bytes into the device's.
struct OutputProcessor {
  /// Where the cursor stands, counted from 0; UTF-8 continuation bytes take no column.
  private(set) var column = 0

  /// Appends what `byte` becomes.
  mutating func process(_ byte: UInt8, _ settings: TerminalSettings, into bytes: inout [UInt8]) {
    guard settings.output.contains(.OPOST) else { return bytes.append(byte) }
    switch byte {
    case Character.newline:
      if settings.output.contains(.ONLRET) { column = 0 }
      if settings.output.contains(.ONLCR) {
        column = 0
        bytes.append(Character.carriageReturn)
      }
      bytes.append(byte)
    case Character.carriageReturn:
      if settings.output.contains(.ONOCR) && column == 0 { return }
      if settings.output.contains(.OCRNL) {
        if settings.output.contains(.ONLRET) { column = 0 }
        bytes.append(Character.newline)
      } else {
        column = 0
        bytes.append(byte)
      }
    case Character.tab:
      let width = 8 - column % 8
      column += width
      if settings.output.isSuperset(of: .TABDLY) {
        bytes.append(contentsOf: repeatElement(Character.space, count: width))
      } else {
        bytes.append(byte)
      }
    case Character.backspace:
      if column > 0 { column -= 1 }
      bytes.append(byte)
    default:
      var byte = byte
      if settings.output.contains(.OLCUC), byte >= 0x61, byte <= 0x7a { byte -= 0x20 }
      if !Character.isControl(byte) && !Character.isContinuation(byte, settings) { column += 1 }
      bytes.append(byte)
    }
  }

  /// Moves the cursor back over `count` columns.
  mutating func backspace(_ count: Int, into bytes: inout [UInt8]) {
    bytes.append(contentsOf: repeatElement(Character.backspace, count: count))
    column = max(0, column - count)
  }

  /// The bytes that terminals give a meaning.
  enum Character {
    static let bell: UInt8 = 7
    static let backspace: UInt8 = 8
    static let tab: UInt8 = 9
    static let newline: UInt8 = 10
    static let carriageReturn: UInt8 = 13
    static let space: UInt8 = 32

    static func isControl(_ byte: UInt8) -> Bool { byte < 0x20 || byte == 0x7F }
    /// A byte inside a UTF-8 character, when the terminal handles them (IUTF8).
    static func isContinuation(_ byte: UInt8, _ settings: TerminalSettings) -> Bool {
      settings.input.contains(.IUTF8) && byte & 0xC0 == 0x80
    }
    static func isWord(_ byte: UInt8) -> Bool {
      (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte == 0x5f
    }
  }
}
