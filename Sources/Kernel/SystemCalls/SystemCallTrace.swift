// strace-like lines: `[pid] name(argument, …) = result`. The parameter formats of the table say how each argument is
// shown; what is read from user memory for that is read before the call for inputs, and after it for results.

import CLinuxABI
import KernelCore
import LinuxABI
import Machine
import Process
import VirtualMemory

/// Writes traces of system calls.
public enum SystemCallTrace {
  /// Takes the finished lines, each with its newline. Installed by Boot when tracing is asked for.
  public nonisolated(unsafe) static var sink: ((ByteString) -> Void)?

  /// Strings are cut after so many bytes, as strace does.
  static let stringLimit = 32

  struct Arguments {
    var values: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    init(_ r: machine_registers) { values = (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9) }

    subscript(_ index: Int) -> UInt64 {
      switch index {
      case 0: values.0
      case 1: values.1
      case 2: values.2
      case 3: values.3
      case 4: values.4
      default: values.5
      }
    }
  }

  /// The text up to the end of the inputs; what the call itself fills in comes in `finish`.
  static func begin(_ task: Task, _ number: UInt64) -> TextBuffer {
    var line = TextBuffer(reserving: 160)
    line.append("[")
    line.append(signed: Int64(task.tid))
    line.append("] ")
    // SAFETY of the read: strings may be changed by the call itself (execve): they are shown as they were.
    let arguments = Arguments(task.registerSnapshot)
    guard let call = SystemCallTable.call(number) else {
      appendUnknown(&line, number, arguments)
      return line
    }
    line.append(call.name)
    line.append("(")
    var formatter = ArgumentFormatter(call.parameters, arguments)
    formatter.appendInputs(to: &line)
    return line
  }

  private static func appendUnknown(_ line: inout TextBuffer, _ number: UInt64, _ arguments: Arguments) {
    if let known = SystemCallNames.all.first(where: { $0.0 == Int(truncatingIfNeeded: number) }) {
      line.append(known.1)
      line.append("(")
    } else {
      line.append("syscall_")
      line.append(hex: number)
      line.append("(")
    }
    for index in 0..<6 {
      if index > 0 { line.append(", ") }
      ArgumentFormatter.appendPointer(arguments[index], to: &line)
    }
  }

  static func finish(_ line: inout TextBuffer, _ number: UInt64, _ arguments: Arguments, _ result: Int64) {
    if let call = SystemCallTable.call(number) {
      var formatter = ArgumentFormatter(call.parameters, arguments)
      formatter.appendOutputs(to: &line, result)
    }
    line.append(") = ")
    // exit(2) and exit_group(2) don't return.
    if number == 60 || number == 231 { line.append("?") } else { appendResult(result, to: &line) }
    line.append("\n")
    sink?(line.byteString)
  }

  /// A result as strace shows it: a number, an address, or -1 with the error's name.
  static func appendResult(_ result: Int64, to line: inout TextBuffer) {
    if result < 0 && result >= -4095 {
      let error = Errno(rawValue: Int32(truncatingIfNeeded: -result))
      line.append(error.rawValue >= 512 ? "? " : "-1 ")
      line.append(error.name)
    } else if result >= 0 && result < 0x1_0000_0000 {
      line.append(signed: result)
    } else {
      ArgumentFormatter.appendPointer(UInt64(bitPattern: result), to: &line)
    }
  }
}
