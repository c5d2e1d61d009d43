// The host-stream device: the command's standard descriptors, the host's terminal and the trace file, behind one
// virtqueue. The README has the whole protocol; its other side is Sources/Kernel/Drivers/Console/StreamProtocol.swift.

import Glibc

/// The streams of the device, by number.
public enum StreamNumber {
  public static let standardInput = 0
  public static let standardOutput = 1
  public static let standardError = 2
  public static let terminal = 3
  public static let trace = 4
  public static let count = 5
}

/// What the device's configuration says of a stream, one byte each.
public enum StreamPresence: UInt8, Sendable {
  /// Closed on the host: the command finds the descriptor closed.
  case absent = 0
  /// A file, pipe or socket.
  case stream = 1
  /// The host's terminal: the command gets the terminal (stream 3) of Apus.
  case terminal = 2
}

/// Operations of a request.
enum StreamOperation: UInt32 {
  case read = 1, write, seek, poll, attributes, close, window
}

/// The readable head of a request: 24 bytes, little endian.
public struct StreamRequest: Equatable, Sendable {
  static let length = 24
  var operation: UInt32
  var stream: UInt32
  var argument: UInt64
  var extra: UInt64

  init(operation: StreamOperation, stream: Int, argument: UInt64 = 0, extra: UInt64 = 0) {
    self.operation = operation.rawValue
    self.stream = UInt32(stream)
    self.argument = argument
    self.extra = extra
  }

  /// From the bytes that the guest wrote, which were copied once; nil when they are too few.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.length else { return nil }
    func word(_ place: Int, _ size: Int) -> UInt64 {
      (0..<size).reduce(0) { $0 | UInt64(bytes[place + $1]) << UInt64(8 * $1) }
    }
    operation = UInt32(word(0, 4))
    stream = UInt32(word(4, 4))
    argument = word(8, 8)
    extra = word(16, 8)
  }
}
