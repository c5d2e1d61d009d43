// One entry of the system-call table. The table is also documentation: each entry says how much of the call exists, and
// how its parameters are shown in a trace.

import LinuxABI
import Process

/// How much of a system call Apus implements.
public enum Coverage: Sendable {
  /// Everything that Linux documents.
  case full
  /// What is missing.
  case partial(StaticString)
}

/// A system call: its number, name, coverage, parameters and function.
public struct SystemCall {
  /// The body of a call: takes its arguments from the frame, returns the result.
  public typealias Handler = (inout SystemCallFrame) throws(Errno) -> Int64

  public let number: Int
  public let name: StaticString
  public let coverage: Coverage
  /// The parameters for traces, `name:type` separated by spaces. The types are:
  /// d descriptor · D directory descriptor (AT_FDCWD) · i signed · u unsigned · x hexadecimal · o octal mode ·
  /// p pointer · s string · F open flags · P protection · M mmap flags · S signal · G signal set (pointer) ·
  /// C clone flags · K clock · T timespec (pointer) · V string vector (pointer) · W wait status (pointer, after the
  /// call) · b bytes that the call fills in (pointer; as many as the result says) · B bytes that it takes (as many as
  /// the next argument says).
  public let parameters: StaticString
  public let handler: Handler

  public init(
    _ number: Int, _ name: StaticString, _ coverage: Coverage, _ parameters: StaticString, _ handler: @escaping Handler
  ) {
    self.number = number
    self.name = name
    self.coverage = coverage
    self.parameters = parameters
    self.handler = handler
  }
}
