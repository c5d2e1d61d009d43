// How the socket calls take their arguments and give their results: addresses, struct msghdr, control messages.

import FileSystem
import KernelCore
import LinuxABI
import Process
import Sockets
import Synchronization
import VirtualMemory

enum SocketArguments {
  /// The socket behind a descriptor.
  ///
  /// - Throws: EBADF, ENOTSOCK.
  static func file(_ use: borrowing FileUse) throws(Errno) -> SocketFile {
    guard let file = use.file as? SocketFile else { throw .ENOTSOCK }
    return file
  }

  // MARK: Addresses

  /// The address of bind(2), connect(2) and sendto(2).
  ///
  /// - Throws: EINVAL for a length that no address has; EFAULT.
  static func address(_ place: UInt64, _ count: Int32) throws(Errno) -> SocketAddress {
    guard count >= 0, Int(count) <= SocketAddress.largest else { throw .EINVAL }
    return SocketAddress(try UserMemory.copyIn(from: place, count: Int(count)))
  }

  /// Gives an address to a program that has room for as many bytes as the number at `lengthPlace` says, and says there how long it is.
  static func write(_ address: SocketAddress?, to place: UInt64, length lengthPlace: UInt64) throws(Errno) {
    let room = try UserMemory.read(lengthPlace, as: Int32.self)
    guard room >= 0 else { throw .EINVAL }
    if let address, room > 0 { try UserMemory.copyOut(to: place, Array(address.bytes.prefix(Int(room)))) }
    try UserMemory.write(Int32(clamping: address?.count ?? 0), to: lengthPlace)
  }

  // MARK: struct msghdr

  /// The fields: name at 0, its length at 8, vectors at 16 and 24, control data at 32 and 40, flags at 48.
  struct Header {
    var name: UInt64
    var nameLength: Int32
    var vectors: UInt64
    var vectorCount: UInt64
    var control: UInt64
    var controlLength: UInt64

    static var size: Int { 56 }

    init(_ place: UInt64) throws(Errno) {
      let bytes = try UserMemory.copyIn(from: place, count: Self.size)
      name = FileArguments.word(bytes, 0)
      nameLength = name == 0 ? 0 : Int32(truncatingIfNeeded: FileArguments.word(bytes, 8))
      vectors = FileArguments.word(bytes, 16)
      vectorCount = FileArguments.word(bytes, 24)
      control = FileArguments.word(bytes, 32)
      controlLength = control == 0 ? 0 : FileArguments.word(bytes, 40)
      guard nameLength >= 0 else { throw .EINVAL }
      nameLength = min(nameLength, Int32(SocketAddress.largest))
      guard vectorCount <= UInt64(IOV_MAX) else { throw .EMSGSIZE }
    }

    func buffer() throws(Errno) -> TransferBuffer { try FileArguments.vectors(vectors, vectorCount) }

    /// The control messages of a sender.
    ///
    /// - Throws: ENOBUFS when they are too long (net.core.optmem_max); EINVAL, EFAULT.
    func controlMessages() throws(Errno) -> [ControlMessage] {
      guard controlLength > 0 else { return [] }
      guard controlLength <= UInt64(SocketLimits.largestControl.value) else { throw .ENOBUFS }
      try KernelMemory.admit(bytes: Int(clamping: controlLength))
      return try ControlMessage.parse(try UserMemory.copyIn(from: control, count: Int(clamping: controlLength)))
    }
  }

  // MARK: Control messages for the program

  /// Writes control messages one after the other, as far as there is room; what has none sets MSG_CTRUNC.
  struct ControlWriter {
    private var place: UInt64
    private var room: Int
    private(set) var written = 0
    private(set) var flags: MessageFlags = []
    private let closeOnExec: Bool

    init(_ header: Header, closeOnExec: Bool) {
      place = header.control
      room = Int(clamping: header.controlLength)
      self.closeOnExec = closeOnExec
    }

    mutating func write(_ messages: [ReceivedControl], _ frame: SystemCallFrame) throws(Errno) {
      // Without a place for control data the program learns only that there was some.
      guard place != 0 else {
        if !messages.isEmpty { flags.insert(.controlTruncated) }
        return
      }
      for message in messages {
        switch message {
        case .data(let level, let type, let data): try put(level, type, data)
        case .files(let files): try put(files, frame)
        case .process(let identity): try putProcess(identity, frame)
        }
      }
    }

    private mutating func put(_ level: Int32, _ type: Int32, _ data: [UInt8]) throws(Errno) {
      guard room >= ControlMessage.headerSize else {
        flags.insert(.controlTruncated)
        return
      }
      let length = min(ControlMessage.headerSize + data.count, room)
      if length < ControlMessage.headerSize + data.count { flags.insert(.controlTruncated) }
      let header =
        ControlMessage.longWord(UInt64(length)) + ControlMessage.word(UInt32(bitPattern: level))
        + ControlMessage.word(UInt32(bitPattern: type))
      try UserMemory.copyOut(to: place, header + data.prefix(length - ControlMessage.headerSize))
      advance(length)
    }

    private mutating func advance(_ length: Int) {
      let space = min((length + 7) & ~7, room)
      place = place &+ UInt64(space)
      room -= space
      written += space
    }

    /// SCM_RIGHTS: gives as many files descriptors as there is room for; the others stay closed.
    private mutating func put(_ files: [OpenFile], _ frame: SystemCallFrame) throws(Errno) {
      let limit = room < ControlMessage.headerSize ? 0 : (room - ControlMessage.headerSize) / 4
      var count = 0
      for file in files.prefix(limit) {
        do throws(Errno) {
          let descriptor = try frame.descriptors.insert(file, closeOnExec: closeOnExec)
          do throws(Errno) {
            try UserMemory.write(descriptor, to: place &+ UInt64(ControlMessage.headerSize + 4 * count))
          } catch {
            try? frame.descriptors.close(descriptor)
            throw error
          }
        } catch { break }
        count += 1
      }
      if count < files.count { flags.insert(.controlTruncated) }
      guard count > 0 else { return }
      let length = ControlMessage.headerSize + 4 * count
      let header =
        ControlMessage.longWord(UInt64(length)) + ControlMessage.word(UInt32(bitPattern: SOL_SOCKET))
        + ControlMessage.word(UInt32(bitPattern: SCM_RIGHTS))
      try UserMemory.copyOut(to: place, header)
      advance(length)
    }

    /// SCM_PIDFD.
    private mutating func putProcess(_ identity: PeerIdentity, _ frame: SystemCallFrame) throws(Errno) {
      guard room >= ControlMessage.headerSize + 4, let process = identity.process as? Process else {
        flags.insert(.controlTruncated)
        return
      }
      let file = ProcessFile(process, flags: .readWrite)
      let descriptor = try frame.descriptors.insert(file, closeOnExec: true)
      try put(SOL_SOCKET, SCM_PIDFD, ControlMessage.word(UInt32(bitPattern: descriptor)))
    }
  }
}
