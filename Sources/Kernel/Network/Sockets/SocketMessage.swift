// What travels through the layer: a message on its way from a program to a family, and one from a family to a program.

import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

/// MSG_… of the caller.
public struct MessageFlags: OptionSet, Sendable {
  public var rawValue: Int32

  @inline(__always)
  public init(rawValue: Int32) { self.rawValue = rawValue }

  public static var outOfBand: MessageFlags { MessageFlags(rawValue: MSG_OOB) }
  public static var peek: MessageFlags { MessageFlags(rawValue: MSG_PEEK) }
  public static var truncated: MessageFlags { MessageFlags(rawValue: MSG_TRUNC) }
  public static var controlTruncated: MessageFlags { MessageFlags(rawValue: MSG_CTRUNC) }
  public static var dontWait: MessageFlags { MessageFlags(rawValue: MSG_DONTWAIT) }
  public static var waitAll: MessageFlags { MessageFlags(rawValue: MSG_WAITALL) }
}

/// A message of a program.
public struct OutgoingMessage {
  public var buffer: TransferBuffer
  public var flags: MessageFlags
  /// Where to, for sockets that are not connected or do not care.
  public var destination: SocketAddress?
  public var control: [ControlMessage]

  @export(interface)
  public init(
    _ buffer: TransferBuffer, flags: MessageFlags = [], to destination: SocketAddress? = nil,
    control: [ControlMessage] = []
  ) {
    self.buffer = buffer
    self.flags = flags
    self.destination = destination
    self.control = control
  }
}

/// The place for a message, and what a family put there.
public struct IncomingMessage {
  public var buffer: TransferBuffer
  public var flags: MessageFlags
  /// Where from; nil when the family does not say.
  public var source: SocketAddress?
  /// msg_flags for the program.
  public var resultFlags: MessageFlags = []
  /// In the order in which the program gets them.
  public var control: [ReceivedControl] = []

  @export(interface)
  public init(_ buffer: TransferBuffer, flags: MessageFlags = []) {
    self.buffer = buffer
    self.flags = flags
  }

  /// Nobody takes the control messages: files among them end.
  @export(interface)
  public mutating func dropControl() {
    for message in control {
      if case .files(let files) = message { for file in files { file.release() } }
    }
    control = []
  }
}
