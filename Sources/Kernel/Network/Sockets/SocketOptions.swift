// The options of SOL_SOCKET that every socket has, whatever its family makes of them.

import KernelCore
import LinuxABI

/// The values.
struct SocketOptions {
  /// On and off.
  struct Switches: OptionSet {
    let rawValue: UInt32
    static var debug: Switches { Switches(rawValue: 1 << 0) }
    static var reuseAddress: Switches { Switches(rawValue: 1 << 1) }
    static var dontRoute: Switches { Switches(rawValue: 1 << 2) }
    static var broadcast: Switches { Switches(rawValue: 1 << 3) }
    static var keepAlive: Switches { Switches(rawValue: 1 << 4) }
    static var urgentInline: Switches { Switches(rawValue: 1 << 5) }
    static var noChecksum: Switches { Switches(rawValue: 1 << 6) }
    static var linger: Switches { Switches(rawValue: 1 << 7) }
    static var reusePort: Switches { Switches(rawValue: 1 << 8) }
    static var passCredentials: Switches { Switches(rawValue: 1 << 9) }
    static var passProcess: Switches { Switches(rawValue: 1 << 10) }
    static var timestamp: Switches { Switches(rawValue: 1 << 11) }
    static var preciseTimestamp: Switches { Switches(rawValue: 1 << 12) }
    /// The options with times of 64 bits were used, which programs tell apart by the control message's type only.
    static var newTimestamp: Switches { Switches(rawValue: 1 << 13) }
    static var dropCounter: Switches { Switches(rawValue: 1 << 14) }
  }

  var switches: Switches = []
  var receiveBuffer = SocketLimits.defaultReceiveBuffer.value
  var lingerSeconds: Int32 = 0
  var priority: Int32 = 0
  var mark: UInt32 = 0
  var receiveLowWater: Int32 = 1
  /// Zero: none.
  var receiveTimeout = Nanoseconds.zero
  var sendTimeout = Nanoseconds.zero
  /// SO_PEEK_OFF: where the next peek begins; negative: always at the front.
  var peekOffset: Int32 = -1
}

extension Socket {
  /// SO_PASSCRED: messages carry the sender's identity to this socket.
  public final var passesCredentials: Bool {
    @export(interface) get { options.withLock { $0.switches.contains(.passCredentials) } }
  }
  /// SO_PASSPIDFD: messages carry a pidfd of the sender to this socket.
  public final var passesProcess: Bool {
    @export(interface) get { options.withLock { $0.switches.contains(.passProcess) } }
  }
  /// Whether arriving messages get a time.
  public final var wantsTimestamps: Bool {
    @export(interface) get { options.withLock { !$0.switches.isDisjoint(with: [.timestamp, .preciseTimestamp]) } }
  }

  /// The control message that tells when a message arrived, in the form that the program asked for.
  @export(interface)
  public final func timestampMessage(_ time: UInt64) -> ReceivedControl {
    let switches = options.withLock { $0.switches }
    let isPrecise = switches.contains(.preciseTimestamp)
    let fraction = time % Nanoseconds.second
    let data =
      ControlMessage.longWord(time / Nanoseconds.second)
      + ControlMessage.longWord(isPrecise ? fraction : fraction / 1000)
    let isNew = switches.contains(.newTimestamp)
    let type =
      isPrecise
      ? (isNew ? SO_TIMESTAMPNS_NEW : SO_TIMESTAMPNS_OLD) : isNew ? SO_TIMESTAMP_NEW : SO_TIMESTAMP_OLD
    return .data(level: SOL_SOCKET, type: type, data)
  }

  /// SO_RCVBUF, as doubled.
  public final var receiveBuffer: Int { @export(interface) get { options.withLock { $0.receiveBuffer } } }

  /// How many bytes a read of `count` waits for (SO_RCVLOWAT, MSG_WAITALL).
  @export(interface)
  public final func lowWaterMark(_ count: Int, waitsForAll: Bool) -> Int {
    if waitsForAll { return count }
    return max(1, min(count, Int(options.withLock { $0.receiveLowWater })))
  }

  /// Where a peek begins; nil: at the front.
  public final var peekOffset: Int? {
    @export(interface) get {
      let offset = options.withLock { $0.peekOffset }
      return offset < 0 ? nil : Int(offset)
    }
  }

  /// A peek has shown `count` bytes more, or, below zero, a read has taken some.
  @export(interface)
  public final func movePeekOffset(by count: Int) {
    options.withLock { options in
      guard options.peekOffset >= 0 else { return }
      options.peekOffset = Int32(clamping: max(0, Int(options.peekOffset) + count))
    }
  }
}
