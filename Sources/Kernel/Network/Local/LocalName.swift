// The names of local sockets (unix(7), "Address format"): a path in the file tree, bytes behind a NUL in a table of the network
// namespace, or none.

import KernelCore
import LinuxABI
import Scheduling
import Sockets
import Synchronization
import VirtualMemory

/// A name that a program gave.
enum LocalName {
  case path(ByteString)
  /// With the NUL in front.
  case abstract(ByteString)

  /// sizeof(struct sockaddr_un).
  private static var largest: Int { 110 }

  /// - Throws: EINVAL for another family, no name at all, or too long a one.
  init(_ address: SocketAddress) throws(Errno) {
    guard address.count > 2, address.count <= Self.largest, address.family == AF_UNIX else { throw .EINVAL }
    let bytes = address.bytes[2...]
    if bytes.first == 0 {
      self = .abstract(ByteString(bytes))
    } else {
      self = .path(ByteString(bytes.prefix { $0 != 0 }))
    }
  }

  /// The name as getsockname(2) tells it: a path ends with a NUL.
  var address: SocketAddress {
    switch self {
    case .path(let path): SocketAddress(family: AF_UNIX, path.bytes + [0])
    case .abstract(let name): SocketAddress(family: AF_UNIX, name.bytes)
    }
  }

  /// Whether bind(2) shall choose a name: the address is the family alone.
  static func isAutomatic(_ address: SocketAddress) -> Bool { address.count == 2 && address.family == AF_UNIX }
}

/// The abstract names, for each type of socket. A name is in the table as long as its socket is open.
enum AbstractNames {
  private static let table = SpinLock([Key: LocalSocket](), rank: .socketNames)
  private static let nextAutomatic = Atomic<UInt32>(0)

  private struct Key: Hashable {
    var type: Int32
    var name: ByteString
  }

  static func find(_ name: ByteString, type: Int32) -> LocalSocket? {
    table.withLock { $0[Key(type: type, name: name)] }
  }

  /// - Throws: EADDRINUSE, ENOMEM.
  static func add(_ name: ByteString, _ socket: LocalSocket) throws(Errno) {
    let key = Key(type: socket.type, name: name)
    // The table grows under its lock.
    let (count, capacity) = table.withLock { ($0.count, $0.capacity) }
    try KernelMemory.admitGrowth(count: count, capacity: capacity, stride: 48)
    try table.withLock { table throws(Errno) in
      guard table[key] == nil else { throw .EADDRINUSE }
      table[key] = socket
    }
  }

  static func remove(_ name: ByteString, _ socket: LocalSocket) {
    let key = Key(type: socket.type, name: name)
    // The caller has the socket: nothing ends under the lock.
    table.withLock { table in if table[key] === socket { table[key] = nil } }
  }

  /// Gives the socket a name of five hexadecimal digits that is free.
  ///
  /// - Throws: ENOSPC when there is none.
  static func addAutomatic(_ socket: LocalSocket) throws(Errno) -> ByteString {
    for _ in 0..<(1 << 20) {
      let number = nextAutomatic.add(1, ordering: .relaxed).oldValue & 0xfffff
      var text = TextBuffer()
      text.append(byte: 0)
      text.append(hex: UInt64(number), width: 5)
      let name = text.byteString
      do throws(Errno) {
        try add(name, socket)
        return name
      } catch {
        guard error == .EADDRINUSE else { throw error }
        Thread.checkReschedule()
      }
    }
    throw .ENOSPC
  }
}
