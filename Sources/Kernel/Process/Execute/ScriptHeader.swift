// The first line of a script: `#!interpreter [argument]` (execve(2), "Interpreter scripts"). Everything behind the
// interpreter's name is one argument.

import KernelCore
import LinuxABI

/// The interpreter that a script names.
struct ScriptHeader: Equatable {
  var interpreter: ByteString
  var argument: ByteString?

  /// Bytes of a file that are looked at (BINPRM_BUF_SIZE).
  static let length = 256

  /// Parses the beginning of a file; nil when it is no script.
  ///
  /// - Throws: ENOEXEC when the line names no interpreter, or its name is cut off.
  init?(_ bytes: [UInt8]) throws(Errno) {
    guard bytes.count >= 2, bytes[0] == 0x23, bytes[1] == 0x21 else { return nil }
    let start = bytes.prefix(ScriptHeader.length)
    let lineEnd = start.firstIndex(of: 0x0a)
    // A file that ends in the line is complete even without a newline.
    let isWhole = lineEnd != nil || start.count < ScriptHeader.length
    let line = Array(start[2..<(lineEnd ?? start.endIndex)].prefix { $0 != 0 })
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    guard let nameStart = line.firstIndex(where: { !isBlank($0) }) else { throw .ENOEXEC }
    let nameEnd = line[nameStart...].firstIndex(where: isBlank) ?? line.endIndex
    guard isWhole || nameEnd < line.endIndex else { throw .ENOEXEC }
    interpreter = ByteString(line[nameStart..<nameEnd])
    var rest = line[nameEnd...].drop(while: isBlank)
    while let last = rest.last, isBlank(last) { rest.removeLast() }
    argument = rest.isEmpty ? nil : ByteString(rest)
  }
}
