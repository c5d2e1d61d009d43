// setsockopt(2) and getsockopt(2) for SOL_SOCKET (socket(7)), with Linux's values, minima and errors.

import Identity
import KernelCore
import LinuxABI
import Synchronization

extension Socket {
  // MARK: Setting

  /// setsockopt(2).
  ///
  /// - Throws: ENOPROTOOPT for an unknown option; EINVAL for a short or bad value; EPERM, EOPNOTSUPP, EDOM.
  @export(interface)
  public final func set(level: Int32, _ name: Int32, _ value: [UInt8], by credentials: Credentials) throws(Errno) {
    guard level == SOL_SOCKET else { return try setOption(level: level, name, value) }
    guard value.count >= 4 else { throw .EINVAL }
    let number = Int32(truncatingIfNeeded: ControlMessage.number(value, 0, 4))
    if try setSwitch(name, number != 0) { return }
    switch name {
    case SO_SNDBUF, SO_SNDBUFFORCE:
      let size = try bufferSize(
        number, forced: name == SO_SNDBUFFORCE, SocketLimits.largestSendBuffer.value, credentials)
      budget.limit = max(size * 2, SocketLimits.smallestSendBuffer)
    case SO_RCVBUF, SO_RCVBUFFORCE:
      let size = try bufferSize(
        number, forced: name == SO_RCVBUFFORCE, SocketLimits.largestReceiveBuffer.value, credentials)
      options.withLock { $0.receiveBuffer = max(size * 2, SocketLimits.smallestReceiveBuffer) }
    case SO_LINGER:
      guard value.count >= 8 else { throw .EINVAL }
      let seconds = Int32(truncatingIfNeeded: ControlMessage.number(value, 4, 4))
      options.withLock { options in
        if number == 0 { options.switches.remove(.linger) } else { options.switches.insert(.linger) }
        if number != 0 { options.lingerSeconds = seconds }
      }
    case SO_PRIORITY:
      guard (0...6).contains(number) || credentials.has(.networkAdministration) || credentials.has(.rawSockets) else {
        throw .EPERM
      }
      options.withLock { $0.priority = number }
    case SO_MARK:
      guard credentials.has(.networkAdministration) || credentials.has(.rawSockets) else { throw .EPERM }
      options.withLock { $0.mark = UInt32(bitPattern: number) }
    case SO_RCVLOWAT:
      options.withLock { $0.receiveLowWater = number < 0 ? .max : max(1, number) }
    case SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW:
      let time = try Self.timeout(value)
      options.withLock { $0.receiveTimeout = time }
    case SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW:
      let time = try Self.timeout(value)
      options.withLock { $0.sendTimeout = time }
    case SO_PEEK_OFF:
      guard supportsPeekOffset else { throw .EOPNOTSUPP }
      options.withLock { $0.peekOffset = number }
    case SO_BSDCOMPAT: break
    case SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ERROR: throw .ENOPROTOOPT
    default: throw .ENOPROTOOPT
    }
  }

  /// - Returns: whether the option is one that is on or off.
  private func setSwitch(_ name: Int32, _ isOn: Bool) throws(Errno) -> Bool {
    let times: SocketOptions.Switches = [.timestamp, .preciseTimestamp, .newTimestamp]
    var cleared: SocketOptions.Switches = []
    var value: SocketOptions.Switches
    switch name {
    case SO_TIMESTAMP_OLD: (cleared, value) = (times, .timestamp)
    case SO_TIMESTAMP_NEW: (cleared, value) = (times, [.timestamp, .newTimestamp])
    case SO_TIMESTAMPNS_OLD: (cleared, value) = (times, .preciseTimestamp)
    case SO_TIMESTAMPNS_NEW: (cleared, value) = (times, [.preciseTimestamp, .newTimestamp])
    default:
      guard let single = Self.single(name) else { return false }
      (cleared, value) = (single, single)
    }
    if name == SO_REUSEPORT, !supportsPortSharing { throw .EOPNOTSUPP }
    if name == SO_PASSCRED || name == SO_PASSPIDFD, !passesIdentities { throw .EOPNOTSUPP }
    if !isOn { value = [] }
    options.withLock { $0.switches = $0.switches.subtracting(cleared).union(value) }
    return true
  }

  private static func single(_ name: Int32) -> SocketOptions.Switches? {
    switch name {
    case SO_DEBUG: .debug
    case SO_REUSEADDR: .reuseAddress
    case SO_DONTROUTE: .dontRoute
    case SO_BROADCAST: .broadcast
    case SO_KEEPALIVE: .keepAlive
    case SO_OOBINLINE: .urgentInline
    case SO_NO_CHECK: .noChecksum
    case SO_REUSEPORT: .reusePort
    case SO_PASSCRED: .passCredentials
    case SO_PASSPIDFD: .passProcess
    case SO_RXQ_OVFL: .dropCounter
    default: nil
    }
  }

  private func bufferSize(_ number: Int32, forced: Bool, _ limit: Int, _ credentials: Credentials) throws(Errno) -> Int
  {
    guard forced else { return min(Int(UInt32(bitPattern: number)), limit) }
    guard credentials.has(.networkAdministration) else { throw .EPERM }
    return min(max(0, Int(number)), Int(Int32.max / 2))
  }

  /// struct timeval. A negative time is none at all, as on Linux: the call does not wait.
  private static func timeout(_ value: [UInt8]) throws(Errno) -> Nanoseconds {
    guard value.count >= 16 else { throw .EINVAL }
    let seconds = Int64(bitPattern: ControlMessage.number(value, 0, 8))
    let micro = Int64(bitPattern: ControlMessage.number(value, 8, 8))
    guard micro >= 0, micro < 1_000_000 else { throw .EDOM }
    // Zero is for ever; what is negative is over at once.
    if seconds < 0 { return Nanoseconds(1) }
    return Nanoseconds(seconds: UInt64(seconds), microseconds: UInt64(micro))
  }

  // MARK: Getting

  /// getsockopt(2): the value; the caller cuts it to the program's length.
  ///
  /// - Throws: ENOPROTOOPT for an unknown option; ENOTCONN, ERANGE, EOPNOTSUPP.
  @export(interface)
  public final func value(level: Int32, _ name: Int32, limit: Int) throws(Errno) -> [UInt8] {
    guard level == SOL_SOCKET else { return try option(level: level, name, limit: limit) }
    if let single = Self.single(name) {
      if name == SO_PASSCRED || name == SO_PASSPIDFD, !passesIdentities { throw .EOPNOTSUPP }
      return Self.flag(options.withLock { $0.switches.contains(single) })
    }
    let state = options.withLock { $0 }
    switch name {
    case SO_TYPE: return Self.number(type)
    case SO_DOMAIN: return Self.number(family)
    case SO_PROTOCOL: return Self.number(protocolNumber)
    case SO_ERROR: return Self.number(takeError()?.rawValue ?? 0)
    case SO_SNDBUF: return Self.number(Int32(clamping: budget.limit))
    case SO_RCVBUF: return Self.number(Int32(clamping: state.receiveBuffer))
    case SO_LINGER: return Self.flag(state.switches.contains(.linger)) + Self.number(state.lingerSeconds)
    case SO_PRIORITY: return Self.number(state.priority)
    case SO_MARK: return ControlMessage.word(state.mark)
    case SO_RCVLOWAT: return Self.number(state.receiveLowWater)
    case SO_SNDLOWAT: return Self.number(1)
    case SO_BSDCOMPAT: return Self.number(0)
    case SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW: return Self.timeval(state.receiveTimeout)
    case SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW: return Self.timeval(state.sendTimeout)
    case SO_TIMESTAMP_OLD: return Self.flag(Self.has(state, .timestamp, new: false))
    case SO_TIMESTAMP_NEW: return Self.flag(Self.has(state, .timestamp, new: true))
    case SO_TIMESTAMPNS_OLD: return Self.flag(Self.has(state, .preciseTimestamp, new: false))
    case SO_TIMESTAMPNS_NEW: return Self.flag(Self.has(state, .preciseTimestamp, new: true))
    case SO_ACCEPTCONN: return Self.flag(isListening)
    case SO_PEEK_OFF:
      guard supportsPeekOffset else { throw .EOPNOTSUPP }
      return Self.number(state.peekOffset)
    case SO_COOKIE:
      guard limit >= 8 else { throw .EINVAL }
      return ControlMessage.longWord(cookie)
    case SO_PEERCRED:
      guard let peer = peerIdentity else {
        return ControlMessage.word(0) + ControlMessage.word(.max) + ControlMessage.word(.max)
      }
      return peer.bytes
    case SO_PEERGROUPS:
      guard let peer = peerIdentity else { throw .ENODATA }
      return peer.groups.flatMap { ControlMessage.word($0) }
    default: throw .ENOPROTOOPT
    }
  }

  private static func has(_ state: SocketOptions, _ kind: SocketOptions.Switches, new: Bool) -> Bool {
    state.switches.contains(kind) && state.switches.contains(.newTimestamp) == new
  }

  private static func number(_ value: Int32) -> [UInt8] { ControlMessage.word(UInt32(bitPattern: value)) }
  private static func flag(_ value: Bool) -> [UInt8] { number(value ? 1 : 0) }

  private static func timeval(_ time: Nanoseconds) -> [UInt8] {
    ControlMessage.longWord(time.seconds) + ControlMessage.longWord(time.fraction / 1000)
  }
}
