// The events of poll(2) and epoll(7).

import LinuxABI

/// A set of poll events; the bits are Linux's, which poll and epoll share.
public struct PollEvents: OptionSet, Sendable {
  public var rawValue: UInt32

  @inline(__always)
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Data can be read without blocking.
  public static var readable: PollEvents { PollEvents(rawValue: POLLIN | POLLRDNORM) }
  /// Data can be written without blocking.
  public static var writable: PollEvents { PollEvents(rawValue: POLLOUT | POLLWRNORM) }
  public static var priority: PollEvents { PollEvents(rawValue: POLLPRI) }
  public static var error: PollEvents { PollEvents(rawValue: POLLERR) }
  public static var hangUp: PollEvents { PollEvents(rawValue: POLLHUP) }
  public static var invalid: PollEvents { PollEvents(rawValue: POLLNVAL) }
  public static var readHangUp: PollEvents { PollEvents(rawValue: POLLRDHUP) }
}
