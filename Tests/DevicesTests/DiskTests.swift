// The disk against guests that lie: whatever the rings and requests say, nothing outside of guest memory and of the file is
// touched, and the file changes only by good requests.

import Foundation
import TestSupport
import Testing

@testable import Devices

/// A guest that has a ring of 64 descriptors at the start of its memory, and the rest for requests.
private final class DiskGuest {
  static let ringSize = 64
  static let memorySize = 1 << 20
  let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: DiskGuest.memorySize, alignment: 4096)
  let path = NSTemporaryDirectory() + "apus-hostile-\(UUID().uuidString)"
  let disk: Disk
  private var available: UInt16 = 0

  init(size: Int, isReadOnly: Bool = false) {
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    FileManager.default.createFile(atPath: path, contents: Data(repeating: 0x11, count: size))
    disk = Disk(try! HostDisk(path: path, isReadOnly: isReadOnly), identifier: "a name of a disk which is long")
    let memory = GuestMemory(base: bytes.baseAddress!, size: UInt64(Self.memorySize))
    disk.attach(memory: memory, interrupt: {})
    restart()
  }

  deinit {
    disk.shutDown()
    disk.setQueue(0, nil)
    disk.file.close()
    bytes.deallocate()
    try? FileManager.default.removeItem(atPath: path)
  }

  /// A new ring, after one that was given up.
  func restart() {
    bytes[0..<4096].copyBytes(from: repeatElement(0, count: 4096))
    available = 0
    let memory = GuestMemory(base: bytes.baseAddress!, size: UInt64(Self.memorySize))
    disk.setQueue(
      0, Virtqueue(memory: memory, size: UInt64(Self.ringSize), descriptors: 0, available: 1024, used: 2048)!)
  }

  func setDescriptor(_ index: Int, _ address: UInt64, _ length: UInt32, _ flags: UInt16, _ next: UInt16) {
    bytes.storeBytes(of: address, toByteOffset: index * 16, as: UInt64.self)
    bytes.storeBytes(of: length, toByteOffset: index * 16 + 8, as: UInt32.self)
    bytes.storeBytes(of: flags, toByteOffset: index * 16 + 12, as: UInt16.self)
    bytes.storeBytes(of: next, toByteOffset: index * 16 + 14, as: UInt16.self)
  }

  func offer(_ head: UInt16, count: UInt16 = 1) {
    for _ in 0..<count {
      bytes.storeBytes(of: head, toByteOffset: 1028 + 2 * Int(available % UInt16(Self.ringSize)), as: UInt16.self)
      available &+= 1
    }
    bytes.storeBytes(of: available, toByteOffset: 1026, as: UInt16.self)
    disk.kick(0)
  }

  /// A well-formed request: its status byte.
  func request(_ type: UInt32, _ sector: UInt64, body: [UInt8] = [], room: Int = 0) -> (status: UInt8, data: [UInt8]) {
    let head = 8192
    let data = 65536
    bytes.storeBytes(of: type, toByteOffset: head, as: UInt32.self)
    bytes.storeBytes(of: sector, toByteOffset: head + 8, as: UInt64.self)
    for (index, byte) in body.enumerated() { bytes[data + index] = byte }
    bytes[head + 32] = 0xff
    var next = 0
    func add(_ address: Int, _ length: Int, _ writable: Bool, last: Bool) {
      setDescriptor(
        next, UInt64(address), UInt32(length), (writable ? 2 : 0) | (last ? 0 : 1), UInt16(next + 1))
      next += 1
    }
    add(head, 16, false, last: false)
    if !body.isEmpty { add(data, body.count, false, last: false) }
    if room > 0 { add(data, room, true, last: false) }
    add(head + 32, 1, true, last: true)
    offer(0)
    disk.shutDown()
    return (bytes[head + 32], Array(bytes[data..<data + room]))
  }

  var content: [UInt8] { Array(FileManager.default.contents(atPath: path)!) }
}

@Suite(.serialized) struct DiskTests {
  @Test func `good requests do what they say, bad ones are refused`() {
    let guest = DiskGuest(size: 64 << 10)
    #expect(guest.request(1, 2, body: [UInt8](repeating: 5, count: 1024)).status == 0)
    #expect(guest.content[1024..<2048].allSatisfy { $0 == 5 } && guest.content[2048] == 0x11)
    let read = guest.request(0, 3, room: 1024)
    #expect(read.status == 0 && read.data == [UInt8](repeating: 5, count: 512) + [UInt8](repeating: 0x11, count: 512))
    #expect(guest.request(4, 0).status == 0)
    let name = guest.request(8, 0, room: 20)
    #expect(name.status == 0 && name.data == Array("a name of a disk which is long".utf8.prefix(20)))
    // Beyond the end, no whole sectors, no data, an unknown kind.
    #expect(guest.request(0, 127, room: 1024).status == 1)
    #expect(guest.request(0, .max, room: 512).status == 1)
    #expect(guest.request(1, .max / 512, body: [UInt8](repeating: 5, count: 512)).status == 1)
    #expect(guest.request(0, 0, room: 100).status == 1)
    #expect(guest.request(0, 0).status == 1)
    #expect(guest.request(1, 0).status == 1)
    #expect(guest.request(77, 0, room: 512).status == 2)
    #expect(guest.request(8, 0, room: 3).status == 1)
    func range(_ sector: UInt64, _ count: UInt32, _ flags: UInt32 = 0) -> [UInt8] {
      bytesOf(sector) + bytesOf(count) + bytesOf(flags)
    }
    #expect(guest.request(11, 0, body: range(8, 8) + range(120, 8)).status == 0)
    #expect(guest.content[4096..<8192].allSatisfy { $0 == 0 } && guest.content[8192] == 0x11)
    #expect(guest.request(11, 0, body: range(121, 8)).status == 1)
    #expect(guest.request(11, 0, body: range(.max, 8)).status == 1)
    #expect(guest.request(11, 0, body: range(0, 8, 1)).status == 2)
    #expect(guest.request(13, 0, body: range(16, 8, 1)).status == 0)
    #expect(guest.request(11, 0, body: Array(range(0, 8).dropLast())).status == 1)
    #expect(guest.content.count == 64 << 10)
  }

  @Test func `a read-only disk stays as it is`() {
    let guest = DiskGuest(size: 8192, isReadOnly: true)
    #expect(guest.request(1, 0, body: [UInt8](repeating: 5, count: 512)).status == 1)
    #expect(guest.request(11, 0, body: bytesOf(UInt64(0)) + bytesOf(UInt32(8)) + bytesOf(UInt32(0))).status == 1)
    #expect(guest.request(0, 0, room: 512).data == [UInt8](repeating: 0x11, count: 512))
    #expect(guest.request(4, 0).status == 0)
  }

  @Test func `a guest that offers more than fits its ring loses it`() {
    let guest = DiskGuest(size: 8192)
    // A flush, which is done by the disk's threads, again and again.
    guest.bytes.storeBytes(of: 4, toByteOffset: 8192, as: UInt32.self)
    guest.setDescriptor(0, 8192, 16, 1, 1)
    guest.setDescriptor(1, 8200, 1, 2, 0)
    for _ in 0..<40 { guest.offer(0, count: 60) }
    guest.disk.shutDown()
    guest.restart()
    #expect(guest.request(0, 0, room: 512).status == 0)
  }

  @Test func `rings and requests of garbage change nothing but guest memory`() {
    var random = SeededGenerator("hostile disk")
    let guest = DiskGuest(size: 64 << 10)
    let before = guest.content
    for _ in 0..<SeededGenerator.steps(3000) {
      for index in 0..<DiskGuest.ringSize {
        let address: UInt64 =
          switch Int.random(in: 0...9, using: &random) {
          case 0: random.next()
          case 1: UInt64(DiskGuest.memorySize) - UInt64.random(in: 0...600, using: &random)
          // Not the ring itself: what the disk writes there is the guest's own affair, and no test.
          default: UInt64.random(in: 1..<UInt64(DiskGuest.memorySize / 4096 - 17), using: &random) * 4096
          }
        guest.setDescriptor(
          index, address, [0, 1, 16, 17, 512, 513, 4096, 65536, .max].randomElement(using: &random)!,
          UInt16.random(in: 0...3, using: &random),
          UInt16.random(in: 0..<UInt16(DiskGuest.ringSize + 1), using: &random))
      }
      // Heads are of any kind but those that change the file.
      for place in stride(from: 4096, to: DiskGuest.memorySize - 16, by: 1 << 12) {
        guest.bytes.storeBytes(
          of: [0, 4, 8, 9, 99].randomElement(using: &random)!, toByteOffset: place, as: UInt32.self)
        guest.bytes.storeBytes(
          of: random.next() >> UInt64.random(in: 0...63, using: &random), toByteOffset: place + 8,
          as: UInt64.self)
      }
      guest.offer(
        UInt16.random(in: 0..<UInt16(DiskGuest.ringSize + 2), using: &random),
        count: UInt16.random(in: 1...3, using: &random))
      if Bool.random(using: &random) { guest.restart() }
    }
    guest.disk.shutDown()
    // Garbage that lies in the way of a head may be a write by chance; the length stays.
    #expect(guest.content.count == before.count)
    guest.restart()
    #expect(guest.request(0, 0, room: 512).status == 0)
  }
}
