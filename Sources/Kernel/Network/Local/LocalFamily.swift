// AF_UNIX as the socket layer sees it, and /proc/net/unix.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import Sockets
import Synchronization
import VirtualMemory

/// The family of local sockets.
public final class LocalFamily: AddressFamily {
  private init() {}

  /// Called once, at boot.
  @export(interface)
  public static func register() {
    AddressFamilies.register(AF_UNIX, LocalFamily())
    NetworkFiles.register("unix") { () throws(Errno) in try table() }
  }

  public func makeSocket(_ type: Int32, protocol number: Int32) throws(Errno) -> Socket {
    guard number == 0 || number == AF_UNIX else { throw .EPROTONOSUPPORT }
    switch type {
    case SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET: return LocalSocket(type: type, protocol: 0)
    // BSD's programs ask for it.
    case SOCK_RAW: return LocalSocket(type: SOCK_DGRAM, protocol: 0)
    default: throw .ESOCKTNOSUPPORT
    }
  }

  public func connectPair(_ left: Socket, _ right: Socket) throws(Errno) {
    guard let left = left as? LocalSocket, let right = right as? LocalSocket else { throw .EOPNOTSUPP }
    try LocalSocket.join(left, right)
  }

  /// The text of /proc/net/unix (proc(5)). Addresses of the kernel are not told.
  private static func table() throws(Errno) -> TextBuffer {
    let limit = LocalSocketList.count
    try KernelMemory.admit(bytes: 8 * limit)
    var text = TextBuffer()
    text.append("Num       RefCount Protocol Flags    Type St Inode Path\n")
    for socket in LocalSocketList.snapshot(limit: limit) {
      try KernelMemory.check()
      append(socket, to: &text)
      Thread.checkReschedule()
    }
    return text
  }

  private static func append(_ socket: LocalSocket, to text: inout TextBuffer) {
    let (phase, address) = socket.state.withLock { ($0.phase, $0.address) }
    let number = socket.inodeNumber.load(ordering: .acquiring)
    text.append("0000000000000000: 00000002 00000000 ")
    text.append(hex: phase == .listening ? 1 << 16 : 0, width: 8)
    text.append(" ")
    text.append(hex: UInt64(socket.type), width: 4)
    text.append(" ")
    // SS_CONNECTED and SS_UNCONNECTED; without a file SS_CONNECTING and SS_DISCONNECTING.
    let state: UInt64 = number == 0 ? (phase == .connected ? 2 : 4) : phase == .connected ? 3 : 1
    text.append(hex: state, width: 2)
    text.append(" ")
    text.append(decimal: number, width: 5)
    if let address {
      text.append(" ")
      var name = Array(address.bytes[2...])
      if name.first != 0 { name.removeLast() }
      for byte in name { text.append(byte: byte == 0 ? 0x40 : byte) }
    }
    text.append("\n")
  }
}
