// One argument after the other, by the letters of `SystemCall.parameters`.

import CLinuxABI
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Shows the arguments of a call.
struct ArgumentFormatter {
  private let types: [UInt8]
  private let arguments: SystemCallTrace.Arguments

  init(_ parameters: StaticString, _ arguments: SystemCallTrace.Arguments) {
    types = ArgumentFormatter.types(of: ByteString(parameters))
    self.arguments = arguments
  }

  /// The type letters of a format: the character behind each colon.
  static func types(of parameters: ByteString) -> [UInt8] {
    parameters.split(separator: 0x20).compactMap { word in
      guard let colon = word.bytes.lastIndex(of: 0x3a), colon + 1 < word.bytes.count else { return nil }
      return word.bytes[colon + 1]
    }
  }

  /// Arguments which only the finished call can show: a buffer that it filled, a status that it stored. A buffer is
  /// taken for an input when the name of the call says so, which the table expresses with the upper-case `B`.
  private func isOutput(_ type: UInt8) -> Bool { type == UInt8(ascii: "W") || type == UInt8(ascii: "b") }

  /// The arguments up to the first that needs the call's result.
  mutating func appendInputs(to line: inout TextBuffer) {
    for (index, type) in types.enumerated() {
      if isOutput(type) { return }
      if index > 0 { line.append(", ") }
      append(type, index, result: nil, to: &line)
    }
  }

  /// The rest.
  mutating func appendOutputs(to line: inout TextBuffer, _ result: Int64) {
    guard let first = types.firstIndex(where: isOutput) else { return }
    for index in first..<types.count {
      if index > 0 { line.append(", ") }
      append(types[index], index, result: result, to: &line)
    }
  }

  private func append(_ type: UInt8, _ index: Int, result: Int64?, to line: inout TextBuffer) {
    let value = arguments[index]
    switch type {
    case UInt8(ascii: "d"), UInt8(ascii: "i"): line.append(signed: Int64(Int32(truncatingIfNeeded: value)))
    case UInt8(ascii: "D"): appendDirectory(value, to: &line)
    case UInt8(ascii: "u"): line.append(decimal: value)
    case UInt8(ascii: "x"):
      line.append("0x")
      line.append(hex: value)
    case UInt8(ascii: "o"):
      line.append("0")
      line.append(octal: value & 0o177777)
    case UInt8(ascii: "s"): appendString(value, to: &line)
    case UInt8(ascii: "F"): FlagNames.appendOpenFlags(value, to: &line)
    case UInt8(ascii: "P"): FlagNames.append(value, FlagNames.protection, zero: "PROT_NONE", to: &line)
    case UInt8(ascii: "M"): FlagNames.append(value, FlagNames.mapping, zero: "0", to: &line)
    case UInt8(ascii: "C"): FlagNames.appendCloneFlags(value, to: &line)
    case UInt8(ascii: "S"): FlagNames.appendSignal(Int32(truncatingIfNeeded: value), to: &line)
    case UInt8(ascii: "G"): appendSignalSet(value, to: &line)
    case UInt8(ascii: "K"): FlagNames.appendClock(Int32(truncatingIfNeeded: value), to: &line)
    case UInt8(ascii: "T"): appendTime(value, to: &line)
    case UInt8(ascii: "V"): appendVector(value, to: &line)
    case UInt8(ascii: "W"): appendStatus(value, result, to: &line)
    case UInt8(ascii: "b"):
      let length = result.map { $0 < 0 ? 0 : $0 } ?? 0
      appendBytes(value, UInt64(length), to: &line, isValid: (result ?? -1) >= 0)
    case UInt8(ascii: "B"): appendBytes(value, index < 5 ? arguments[index + 1] : 0, to: &line, isValid: true)
    default: ArgumentFormatter.appendPointer(value, to: &line)
    }
  }

  static func appendPointer(_ value: UInt64, to line: inout TextBuffer) {
    if value == 0 {
      line.append("NULL")
    } else {
      line.append("0x")
      line.append(hex: value)
    }
  }

  private func appendDirectory(_ value: UInt64, to line: inout TextBuffer) {
    let descriptor = Int32(truncatingIfNeeded: value)
    if descriptor == -100 { line.append("AT_FDCWD") } else { line.append(signed: Int64(descriptor)) }
  }

  // MARK: From user memory; what cannot be read is shown as an address

  private func appendString(_ address: UInt64, to line: inout TextBuffer) {
    guard address != 0, let text = try? UserMemory.copyInString(from: address, limit: 4096) else {
      return ArgumentFormatter.appendPointer(address, to: &line)
    }
    ArgumentFormatter.appendQuoted(text.bytes, limit: 256, isCut: false, to: &line)
  }

  private func appendBytes(_ address: UInt64, _ count: UInt64, to line: inout TextBuffer, isValid: Bool) {
    let shown = Int(min(count, UInt64(SystemCallTrace.stringLimit)))
    guard isValid, address != 0, let bytes = try? UserMemory.copyIn(from: address, count: shown) else {
      return ArgumentFormatter.appendPointer(address, to: &line)
    }
    ArgumentFormatter.appendQuoted(
      bytes, limit: SystemCallTrace.stringLimit, isCut: count > UInt64(shown), to: &line)
  }

  /// Bytes in quotes, with C escapes.
  static func appendQuoted(_ bytes: [UInt8], limit: Int, isCut: Bool, to line: inout TextBuffer) {
    line.append("\"")
    for byte in bytes.prefix(limit) {
      switch byte {
      case 0x0a: line.append("\\n")
      case 0x09: line.append("\\t")
      case 0x0d: line.append("\\r")
      case 0x22: line.append("\\\"")
      case 0x5c: line.append("\\\\")
      case 0x20..<0x7f: line.append(byte: byte)
      default:
        line.append("\\")
        line.append(octal: UInt64(byte), width: 3)
      }
    }
    line.append("\"")
    if isCut || bytes.count > limit { line.append("...") }
  }

  private func appendVector(_ address: UInt64, to line: inout TextBuffer) {
    guard address != 0 else { return line.append("NULL") }
    line.append("[")
    for index in UInt64(0)..<16 {
      guard let pointer = try? UserMemory.read(address &+ index * 8, as: UInt64.self), pointer != 0 else { break }
      if index > 0 { line.append(", ") }
      if index == 15 {
        line.append("...")
      } else {
        appendString(pointer, to: &line)
      }
    }
    line.append("]")
  }

  private func appendTime(_ address: UInt64, to line: inout TextBuffer) {
    guard address != 0, let time = try? UserMemory.read(address, as: linux_time_pair.self) else {
      return ArgumentFormatter.appendPointer(address, to: &line)
    }
    line.append("{tv_sec=")
    line.append(signed: time.seconds)
    line.append(", tv_nsec=")
    line.append(signed: time.fraction)
    line.append("}")
  }

  private func appendSignalSet(_ address: UInt64, to line: inout TextBuffer) {
    guard address != 0, let bits = try? UserMemory.read(address, as: UInt64.self) else {
      return ArgumentFormatter.appendPointer(address, to: &line)
    }
    line.append("[")
    var isFirst = true
    for signal in Int32(1)...64 where SignalSet(rawValue: bits).contains(signal) {
      if !isFirst { line.append(" ") }
      isFirst = false
      FlagNames.appendSignal(signal, to: &line)
    }
    line.append("]")
  }

  private func appendStatus(_ address: UInt64, _ result: Int64?, to line: inout TextBuffer) {
    guard address != 0, let result, result > 0, let status = try? UserMemory.read(address, as: Int32.self) else {
      return ArgumentFormatter.appendPointer(address, to: &line)
    }
    let (code, value) = WaitStatus(rawValue: status).childCode
    line.append("[{")
    switch code {
    case CLD_EXITED: line.append("exited ")
    case CLD_STOPPED: line.append("stopped ")
    case CLD_CONTINUED: line.append("continued ")
    default: line.append("killed ")
    }
    if code == CLD_EXITED { line.append(signed: Int64(value)) } else { FlagNames.appendSignal(value, to: &line) }
    line.append("}]")
  }
}
