// The kernel's VirtioFS against a server that answers nonsense: real answers of the monitor's file server, changed at random.

import DeviceTestSupport
import FileSystem
import Foundation
import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import Devices
@testable import VirtioFS

/// A file server whose answers cannot be trusted.
private final class HostileServer: VirtioDevice, @unchecked Sendable {
  private let server: FileServer
  private var queues: [Virtqueue?]
  private var random: SeededGenerator
  /// Out of how many answers one is changed; 0: none.
  var rarity = 0
  private(set) var changed = 0

  init(_ server: FileServer, _ random: SeededGenerator) {
    self.server = server
    self.random = random
    queues = Array(repeating: nil, count: server.queueCount)
  }

  var kind: UInt32 { server.kind }
  var queueCount: Int { server.queueCount }
  var configuration: [UInt8] { server.configuration }
  func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) {}
  func setQueue(_ index: Int, _ queue: Virtqueue?) { queues[index] = queue }

  func kick(_ index: Int) {
    guard let queue = queues[index] else { return }
    while let chain = queue.next() {
      let written = server.answer(chain)
      let isHostile = rarity > 0 && Int.random(in: 0..<rarity, using: &random) == 0
      queue.complete(chain, written: isHostile ? change(chain, written) : written)
    }
  }

  private func odd() -> UInt64 {
    switch Int.random(in: 0...4, using: &random) {
    case 0: UInt64.random(in: 0...8, using: &random)
    case 1: UInt64.max - UInt64.random(in: 0...8, using: &random)
    case 2: 1 << UInt64.random(in: 0...63, using: &random)
    case 3: UInt64(Int64.max) - UInt64.random(in: 0...4096, using: &random)
    default: random.next()
    }
  }

  /// Changes an answer; how many bytes the device claims to have written.
  private func change(_ chain: DescriptorChain, _ written: Int) -> Int {
    changed += 1
    let room = chain.writableCount
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      switch Int.random(in: 0...6, using: &random) {
      case 0: chain.write(bytesOf(UInt32(truncatingIfNeeded: odd())))  // the length
      case 1: chain.write(bytesOf(UInt32(truncatingIfNeeded: odd())), at: 4)  // the error
      case 2, 3:
        // A word of the answer.
        let place = 16 + 8 * Int.random(in: 0...max(0, min(written, 160) / 8), using: &random)
        chain.write(bytesOf(odd()), at: place)
      case 4:
        let place = 16 + Int.random(in: 0...max(0, min(written, 4096)), using: &random)
        chain.write([UInt8.random(in: 0...255, using: &random)], at: place)
      case 5:
        for place in stride(from: 16, to: min(room, 400), by: 8) { chain.write(bytesOf(odd()), at: place) }
      default: return [0, 1, 15, 16, 17, room, room + 1, 1 << 31, 1 << 40].randomElement(using: &random)!
      }
    }
    return written
  }
}

@Suite(.serialized) struct HostileServerTests {
  /// Calls of every kind; the errors are not looked at.
  private static func use(_ root: Inode, _ random: inout SeededGenerator) {
    let names = ["file", "directory", "link", "big", "absent", "directory/inner"]
    var places: [Inode] = [root]
    for name in names { if let found = try? root.walk(name) { places.append(found) } }
    for _ in 0..<SeededGenerator.steps(400) {
      let place = places.randomElement(using: &random)!
      let name = ByteString(names.randomElement(using: &random)!)
      switch Int.random(in: 0...17, using: &random) {
      case 0: _ = try? place.attributes()
      case 1: _ = try? place.lookup(name)
      case 2: _ = try? place.names()
      case 3:
        let offset = UInt64.random(in: 0...250_000, using: &random)
        _ = try? KernelBuffer.collect(70_000) { buffer throws(Errno) in try place.read(at: offset, &buffer) }
      case 4: _ = try? place.readLink()
      case 5: _ = try? place.put("text", at: UInt64.random(in: 0...20000, using: &random))
      case 6: _ = try? place.extendedAttributeNames()
      case 7: _ = try? place.extendedAttribute("user.name")
      case 8: try? place.setExtendedAttribute("user.name", "value", .createOrReplace)
      case 9: _ = try? place.create(name, permissions: 0o644, owner: .root)
      case 10: try? place.unlink(name, places.randomElement(using: &random)!)
      case 11: _ = try? place.revalidate(name, nil)
      case 12:
        var change = AttributeChange()
        change.size = UInt64.random(in: 0...300_000, using: &random)
        try? place.setAttributes(change)
      case 13: try? place.rename(name, into: root, as: "other", [])
      case 14:
        var change = AttributeChange()
        change.permissions = 0o600
        try? place.setAttributes(change)
      case 15: _ = try? place.accessControl()
      case 16: try? place.removeExtendedAttribute("user.name")
      default: try? place.sync()
      }
    }
  }

  private static func host() -> HostDirectory {
    let host = HostDirectory()
    host.write("file", "content")
    host.write("big", [UInt8](repeating: 7, count: 200_000))
    host.makeDirectory("directory")
    for index in 0..<60 { host.write("directory/f\(index)", "") }
    host.write("directory/inner", "inner")
    symlink("file", host.file("link"))
    return host
  }

  @Test func `nonsense from the server gives errors, and the kernel goes on`() throws {
    var random = SeededGenerator("hostile server")
    var changed = 0
    var mounts = 0
    // The machine has room for 64 devices, and the other tests of this room take some.
    for round in 0..<14 {
      let host = Self.host()
      var options = FileServer.Options(isReadOnly: false)
      options.requestQueues = 2
      var failure: Int32 = 0
      let tag = "hostile\(round)"
      let server = try #require(FileServer(tag: tag, directory: host.path, options: options, failure: &failure))
      let hostile = HostileServer(server, SeededGenerator(seed: random.next()))
      // Half of them lie from the first answer on.
      if round % 2 == 1 { hostile.rarity = Int.random(in: 1...8, using: &random) }
      DeviceBus.add(hostile)
      guard let superblock = try? VirtioFSSuperblock(tag: ByteString(tag), isReadOnly: false) else {
        changed += hostile.changed
        continue
      }
      mounts += 1
      hostile.rarity = Int.random(in: 1...12, using: &random)
      Self.use(superblock.rootInode, &random)
      changed += hostile.changed
    }
    #expect(changed > 50 && mounts >= 7)
    // The control: through the same device, without lies, everything works.
    let host = Self.host()
    var failure: Int32 = 0
    let server = try #require(
      FileServer(tag: "honest", directory: host.path, options: FileServer.Options(isReadOnly: false), failure: &failure)
    )
    DeviceBus.add(HostileServer(server, random))
    let root = try VirtioFSSuperblock(tag: "honest", isReadOnly: false).rootInode
    #expect(try root.walk("directory/inner").text() == "inner")
    #expect(try root.names() == ["big", "directory", "file", "link"])
  }
}
