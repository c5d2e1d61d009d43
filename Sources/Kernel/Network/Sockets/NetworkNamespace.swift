// What belongs to a network: settings of /proc/sys/net, and the tables that families keep, such as names. There is one so far.

import KernelCore
import LinuxABI
import Synchronization

/// A number that administrators may change (/proc/sys/net).
public final class NetworkSetting: Sendable {
  public let name: StaticString
  public let range: ClosedRange<Int>
  private let number: Atomic<Int>

  init(_ name: StaticString, _ value: Int, from lowest: Int = 0) {
    self.name = name
    range = lowest...Int(Int32.max)
    number = Atomic(value)
  }

  public var value: Int {
    @export(interface) get { number.load(ordering: .relaxed) }
    @export(interface) set { number.store(newValue, ordering: .relaxed) }
  }
}

/// A network namespace.
public final class NetworkNamespace: Sendable {
  /// The first one, and so far the only one.
  public static let initial = NetworkNamespace()

  /// The longest queue of connections.
  public let longestBacklog = NetworkSetting("somaxconn", 4096)
  /// Datagrams that wait for a receiver of AF_UNIX.
  public let longestDatagramQueue = NetworkSetting("max_dgram_qlen", 10)

  private init() {}
}

/// net.core: what holds for all namespaces.
public enum SocketLimits {
  /// Two small messages, and one (Linux: SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF).
  public static var smallestSendBuffer: Int { 4608 }
  public static var smallestReceiveBuffer: Int { 2304 }

  /// The buffers of a new socket, and the largest that SO_SNDBUF and SO_RCVBUF set, before they are doubled.
  public static let defaultSendBuffer = NetworkSetting("wmem_default", 212_992, from: smallestSendBuffer)
  public static let defaultReceiveBuffer = NetworkSetting("rmem_default", 212_992, from: smallestReceiveBuffer)
  public static let largestSendBuffer = NetworkSetting("wmem_max", 4_194_304, from: smallestSendBuffer)
  public static let largestReceiveBuffer = NetworkSetting("rmem_max", 4_194_304, from: smallestReceiveBuffer)
  /// The largest control data of one message.
  public static let largestControl = NetworkSetting("optmem_max", 131_072)
}
