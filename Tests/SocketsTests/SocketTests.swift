import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import TestSupport
import Testing
import VirtualMemory

@testable import Sockets

enum TestMemory {
  private static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(64 << 20))
    return true
  }()

  static func prepare() { precondition(isPrepared) }
}

/// A family that answers nothing.
private final class EmptyFamily: AddressFamily {
  func makeSocket(_ type: Int32, protocol number: Int32) throws(Errno) -> Socket {
    guard type != 4 else { throw .ESOCKTNOSUPPORT }
    return Socket(family: 45, type: type, protocol: number)
  }
  func connectPair(_ left: Socket, _ right: Socket) throws(Errno) { throw .EOPNOTSUPP }
}

@Suite struct SocketTests {
  private func bytes(_ value: Int32) -> [UInt8] { ControlMessage.word(UInt32(bitPattern: value)) }
  private func number(_ socket: Socket, _ name: Int32) throws -> Int32 {
    Int32(truncatingIfNeeded: ControlMessage.number(try socket.value(level: SOL_SOCKET, name, limit: 64), 0, 4))
  }

  @Test func `a family that nobody announced is refused, and one that was makes sockets`() throws {
    AddressFamilies.register(45, EmptyFamily())
    #expect(throws: Errno.EAFNOSUPPORT) { try AddressFamilies.makeSocket(44, type: 1, protocol: 0) }
    #expect(throws: Errno.EAFNOSUPPORT) { try AddressFamilies.makeSocket(-1, type: 1, protocol: 0) }
    #expect(throws: Errno.EINVAL) { try AddressFamilies.makeSocket(45, type: 11, protocol: 0) }
    #expect(throws: Errno.ESOCKTNOSUPPORT) { try AddressFamilies.makeSocket(45, type: 4, protocol: 0) }
    #expect(throws: Errno.EOPNOTSUPP) { try AddressFamilies.makePair(45, type: 1, protocol: 0) }
    let socket = try AddressFamilies.makeSocket(45, type: 2, protocol: 7)
    #expect(try number(socket, SO_DOMAIN) == 45 && number(socket, SO_TYPE) == 2 && number(socket, SO_PROTOCOL) == 7)
    #expect(throws: Errno.EOPNOTSUPP) { try socket.listen(1) }
    #expect(throws: Errno.EOPNOTSUPP) { try socket.value(level: SOL_SOCKET, SO_PASSCRED, limit: 4) }
  }

  @Test func `buffers are doubled, have a minimum and a maximum`() throws {
    let socket = Socket(family: 45, type: 1, protocol: 0)
    let user = Credentials(user: 1000, group: 1000)
    for (value, sent, received) in [
      (0, 4608, 2304), (3000, 6000, 6000), (.max, 8_388_608, 8_388_608), (-1, 8_388_608, 8_388_608),
    ] as [(Int32, Int32, Int32)] {
      try socket.set(level: SOL_SOCKET, SO_SNDBUF, bytes(value), by: user)
      try socket.set(level: SOL_SOCKET, SO_RCVBUF, bytes(value), by: user)
      #expect(try number(socket, SO_SNDBUF) == sent && number(socket, SO_RCVBUF) == received)
    }
    #expect(throws: Errno.EPERM) { try socket.set(level: SOL_SOCKET, SO_SNDBUFFORCE, bytes(5000), by: user) }
    try socket.set(level: SOL_SOCKET, SO_SNDBUFFORCE, bytes(.max), by: .root)
    #expect(try number(socket, SO_SNDBUF) == .max - 1)
    #expect(throws: Errno.EINVAL) { try socket.set(level: SOL_SOCKET, SO_SNDBUF, [1, 2, 3], by: user) }
    #expect(throws: Errno.ENOPROTOOPT) { try socket.set(level: SOL_SOCKET, 999, bytes(1), by: user) }
    #expect(throws: Errno.ENOPROTOOPT) { try socket.value(level: SOL_SOCKET, 31, limit: 64) }
  }

  @Test func `an error is told once`() throws {
    let socket = Socket(family: 45, type: 1, protocol: 0)
    socket.setError(.ECONNRESET)
    #expect(socket.hasError)
    #expect(try number(socket, SO_ERROR) == Errno.ECONNRESET.rawValue)
    #expect(try number(socket, SO_ERROR) == 0 && socket.takeError() == nil)
  }

  @Test func `any bytes are control messages or refused`() throws {
    var random = SeededGenerator("control messages")
    for _ in 0..<20000 {
      var data = (0..<Int.random(in: 0..<96, using: &random)).map { _ in UInt8.random(in: 0...3, using: &random) }
      // Lengths that could be right, so that more than the first header is reached.
      for place in stride(from: 0, to: max(0, data.count - 7), by: 8) where Bool.random(using: &random) {
        data[place] = UInt8.random(in: 0..<40, using: &random)
        for next in place + 1..<place + 8 { data[next] = 0 }
      }
      guard let messages = try? ControlMessage.parse(data) else { continue }
      #expect(messages.reduce(0) { $0 + 16 + $1.data.count } <= data.count)
    }
    let one = ControlMessage.longWord(18) + ControlMessage.word(1) + ControlMessage.word(2) + [8, 9]
    let padded = one + [0, 0, 0, 0, 0, 0]
    #expect(try ControlMessage.parse(padded + one).map(\.data) == [[8, 9], [8, 9]])
    #expect(throws: Errno.EINVAL) { try ControlMessage.parse(padded + one.dropLast()) }
  }

  @Test func `a packet gives back what was put in, and its budget when it ends`() throws {
    TestMemory.prepare()
    let budget = SendBudget(limit: 4096)
    for count in [0, 1, 3776, 3777, 4096, 4097, 100_000] {
      var content = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      var packet: PacketBuffer?
      try unsafe content.withUnsafeMutableBytes { memory in
        var buffer = unsafe TransferBuffer(kernel: memory)
        packet = try PacketBuffer.make(count, from: &buffer, budget: budget)
      }
      #expect(budget.usedBytes == PacketBuffer.trueSize(of: count) && budget.usedBytes >= count)
      let (start, length) = (count / 3, count / 2)
      var copy = [UInt8](repeating: 0, count: length)
      try unsafe copy.withUnsafeMutableBytes { memory in
        var buffer = unsafe TransferBuffer(kernel: memory)
        try packet?.copy(from: start, length, to: &buffer)
        #expect(throws: Errno.EINVAL) { try packet?.copy(from: count, 1, to: &buffer) }
      }
      #expect(copy == Array(content[start..<start + length]))
      packet = nil
      #expect(budget.usedBytes == 0 && budget.isWritable)
    }
  }
}
