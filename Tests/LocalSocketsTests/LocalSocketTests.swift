import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import TestSupport
import Testing
import VirtualMemory

@testable import LocalSockets
@testable import Sockets

/// The process in whose name the tests act: descriptors of messages are from its table.
enum TestUser {
  static let descriptors = DescriptorTable(limit: 1 << 16)
  private static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(64 << 20))
    let root = AnonymousFiles.makePath(kind: .directory, name: "/")
    let caller = Caller(credentials: .root, umask: 0, root: root, workingDirectory: root)
    SocketUser.ofRunningThread = {
      SocketUser(
        pid: 2, process: nil, caller: caller, descriptors: descriptors, descriptorLimit: 1 << 16,
        findProcess: { _ in nil })
    }
    return true
  }()

  static func prepare() { precondition(isPrepared) }
}

/// One end of a pair with a reference as of a descriptor.
private func makePair(_ type: Int32) throws -> (SocketFile, SocketFile) {
  TestUser.prepare()
  let left = LocalSocket(type: type, protocol: 0)
  let right = LocalSocket(type: type, protocol: 0)
  try LocalSocket.join(left, right)
  let files = (SocketFile(left, flags: .nonBlocking), SocketFile(right, flags: .nonBlocking))
  files.0.acquire()
  files.1.acquire()
  return files
}

extension SocketFile {
  fileprivate var local: LocalSocket { socket as! LocalSocket }
  fileprivate var isDead: Bool { local.state.withLock { $0.isDead } }

  /// Sends a byte with files.
  fileprivate func send(_ files: [OpenFile]) throws(Errno) {
    var data: [UInt8] = []
    var numbers: [Int32] = []
    for file in files {
      let number = try TestUser.descriptors.insert(file)
      numbers.append(number)
      data += ControlMessage.word(UInt32(bitPattern: number))
    }
    defer { for number in numbers { try? TestUser.descriptors.close(number) } }
    _ = try KernelBuffer.withBytes(of: [1]) { buffer throws(Errno) in
      var message = OutgoingMessage(
        buffer, flags: .dontWait, control: [ControlMessage(level: SOL_SOCKET, type: SCM_RIGHTS, data: data)])
      return try socket.send(&message)
    }
  }
}

@Suite(.serialized) struct LocalSocketTests {
  @Test func `a pair carries streams and keeps the messages of datagrams apart`() throws {
    let (left, right) = try makePair(SOCK_STREAM)
    _ = try left.writeBytes([1, 2, 3], at: nil)
    #expect(try right.readBytes(at: nil, count: 2) == [1, 2])
    #expect(try right.readBytes(at: nil, count: 2) == [3])
    #expect(throws: Errno.EAGAIN) { try right.readBytes(at: nil, count: 2) }
    let (sender, receiver) = try makePair(SOCK_DGRAM)
    _ = try sender.writeBytes([1, 2, 3], at: nil)
    _ = try sender.writeBytes([4], at: nil)
    #expect(try receiver.readBytes(at: nil, count: 2) == [1, 2])
    #expect(try receiver.readBytes(at: nil, count: 2) == [4])
    left.release()
    #expect(try right.readBytes(at: nil, count: 2).isEmpty)
    #expect(throws: Errno.EPIPE) { try right.writeBytes([1], at: nil) }
    for file in [right, sender, receiver] { file.release() }
  }

  @Test func `what a sender has under way is bounded, and given back when it is read or thrown away`() throws {
    let (left, right) = try makePair(SOCK_STREAM)
    let before = KernelAccount.root.bytes
    var count = 0
    while (try? left.writeBytes([7], at: nil)) != nil { count += 1 }
    #expect(count == 278)
    #expect(KernelAccount.root.bytes - before >= 278 * 768)
    #expect(try right.readBytes(at: nil, count: 1000).count == count)
    #expect(left.socket.budget.usedBytes == 0 && KernelAccount.root.bytes == before)
    _ = try left.writeBytes([UInt8](repeating: 1, count: 100_000), at: nil)
    right.release()
    #expect(left.socket.budget.usedBytes == 0)
    left.release()
  }

  @Test func `bytes of any writes come out of any reads in order`() throws {
    let (left, right) = try makePair(SOCK_STREAM)
    var random = SeededGenerator("bytes of streams")
    var written: UInt64 = 0
    var read: UInt64 = 0
    for _ in 0..<3000 {
      let size = Int.random(in: 1...(Bool.random(using: &random) ? 60000 : 50), using: &random)
      if Bool.random(using: &random) {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: (written + UInt64($0)) &* 13) }
        written += UInt64((try? left.writeBytes(bytes, at: nil)) ?? 0)
      } else if let bytes = try? right.readBytes(at: nil, count: size) {
        let isRight = bytes.enumerated().allSatisfy { $1 == UInt8(truncatingIfNeeded: (read + UInt64($0)) &* 13) }
        #expect(isRight)
        read += UInt64(bytes.count)
      }
      #expect(right.local.state.withLock { $0.queuedBytes } == Int(written - read))
    }
    left.release()
    right.release()
  }

  @Test func `the collector closes what nobody can reach, and nothing else`() throws {
    var random = SeededGenerator("descriptors in flight")
    for _ in 0..<300 {
      var files: [SocketFile] = []
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        let (left, right) = try makePair(Bool.random(using: &random) ? SOCK_DGRAM : SOCK_STREAM)
        files += [left, right]
      }
      var held = Set(files.indices)
      /// What each socket has in its queue.
      var queues = [[Int]](repeating: [], count: files.count)
      for _ in 0..<40 {
        guard let sender = held.randomElement(using: &random) else { break }
        if Int.random(in: 0..<5, using: &random) == 0 {
          held.remove(sender)
          files[sender].release()
          continue
        }
        let passed = (0..<Int.random(in: 1...2, using: &random)).compactMap { _ in held.randomElement(using: &random) }
        do {
          try files[sender].send(passed.map { files[$0] })
          queues[sender ^ 1] += passed
        } catch {
          // A datagram socket whose peer is gone loses what that has sent.
          if error == Errno.ECONNREFUSED { queues[sender] = [] }
        }
      }
      for _ in 0..<2 {
        DescriptorsInFlight.collectIfNeeded()
        var alive = held
        var work = Array(held)
        while let next = work.popLast() {
          for target in queues[next] where alive.insert(target).inserted { work.append(target) }
        }
        for index in files.indices { #expect(files[index].isDead == !alive.contains(index)) }
        for index in held { files[index].release() }
        held = []
      }
    }
    #expect(KernelAccount.root.descriptorsInFlight == 0)
  }

  @Test func `a long chain of sockets in messages ends without a deep stack`() throws {
    let (first, other) = try makePair(SOCK_DGRAM)
    other.release()
    var last = first
    for _ in 0..<5000 {
      let (left, right) = try makePair(SOCK_DGRAM)
      try left.send([last])
      last.release()
      left.release()
      last = right
    }
    #expect(!first.isDead)
    last.release()
    #expect(first.isDead && KernelAccount.root.descriptorsInFlight == 0)
  }
}
