import CLinuxABI
import Foundation
import TestSupport
import Testing

@testable import Devices

@Suite(.serialized) struct FuzzTests {
  @Test func `malformed requests are answered with errors and reach nothing outside`() throws {
    var random = SeededGenerator("file server")
    let place = Playground()
    place.makeDirectory("a/b")
    place.write("a/f", "text")
    symlink("../secret", place.root + "/link")
    let guest = Guest(place, descriptorLimit: 8)
    _ = guest.lookup("a")
    let names = ["a", "b", "f", "link", "..", ".", "", "a/f", "new", "x\u{7f}", String(repeating: "y", count: 300)]
    for _ in 0..<SeededGenerator.steps(20_000) {
      let opcode =
        UInt32.random(in: 0...8, using: &random) == 0
        ? UInt32.random(in: 0...70, using: &random)
        : [
          1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 28, 35, 39, 42, 43, 44, 45,
          46, 51,
        ]
        .randomElement(using: &random)!
      // DESTROY and INIT would forget every node: seldom.
      var body: [UInt8] = []
      for _ in 0..<Int.random(in: 0...12, using: &random) {
        let word = Bool.random(using: &random) ? UInt64.random(in: 0...16, using: &random) : random.next()
        body += bytesOf(Bool.random(using: &random) ? word : word & 0xffff_ffff)
      }
      for _ in 0..<Int.random(in: 0...2, using: &random) {
        body += Array(names.randomElement(using: &random)!.utf8) + [0]
      }
      var message = Guest.message(
        opcode, UInt64.random(in: 0...12, using: &random), body,
        length: Int.random(in: 0...5, using: &random) == 0 ? UInt32(truncatingIfNeeded: random.next()) : nil)
      if Int.random(in: 0...9, using: &random) == 0 {
        message.removeLast(Int.random(in: 0...message.count, using: &random))
      }
      _ = guest.send(
        message, room: [0, 1, 15, 16, 17, 100, 4096, 9000].randomElement(using: &random)!,
        pieces: Int.random(in: 1...4, using: &random))
    }
    #expect(try String(contentsOfFile: place.base + "/secret", encoding: .utf8) == "secret")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.base).sorted() == ["root", "secret"])
    // It still serves.
    place.write("after", "all")
    #expect(guest.read(guest.lookup("after").node).text == "all")
  }

  @Test func `rings full of garbage give chains in guest memory or a broken queue`() {
    var random = SeededGenerator("rings")
    let size = 1 << 16
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
    defer { bytes.deallocate() }
    let memory = GuestMemory(base: bytes.baseAddress!, size: UInt64(size))
    var chains = 0
    for _ in 0..<2000 {
      for place in stride(from: 0, to: 4096, by: 8) {
        bytes.storeBytes(of: random.next(), toByteOffset: place, as: UInt64.self)
      }
      // Half of the time descriptors look almost right.
      if Bool.random(using: &random) {
        for index in 0..<16 {
          bytes.storeBytes(of: UInt64.random(in: 0..<70000, using: &random), toByteOffset: index * 16, as: UInt64.self)
          bytes.storeBytes(
            of: UInt32.random(in: 0..<3000, using: &random), toByteOffset: index * 16 + 8, as: UInt32.self)
          bytes.storeBytes(of: UInt16.random(in: 0..<4, using: &random), toByteOffset: index * 16 + 12, as: UInt16.self)
          bytes.storeBytes(
            of: UInt16.random(in: 0..<17, using: &random), toByteOffset: index * 16 + 14, as: UInt16.self)
          bytes.storeBytes(
            of: UInt16.random(in: 0..<17, using: &random), toByteOffset: 1024 + 4 + index * 2, as: UInt16.self)
        }
      }
      let queue = Virtqueue(memory: memory, size: 16, descriptors: 0, available: 1024, used: 2048)!
      for _ in 0..<50 {
        guard let chain = queue.next() else { break }
        chains += 1
        for buffer in chain.readable + chain.writable where buffer.count > 0 {
          let start = buffer.baseAddress! - bytes.baseAddress!
          #expect(start >= 0 && start + buffer.count <= size)
        }
        queue.complete(chain, written: 1 << 40)
      }
    }
    #expect(chains > 1000)
    #expect(Virtqueue(memory: memory, size: 16, descriptors: UInt64(size) - 16, available: 0, used: 0) == nil)
    #expect(Virtqueue(memory: memory, size: 3, descriptors: 0, available: 0, used: 0) == nil)
    #expect(Virtqueue(memory: memory, size: 16, descriptors: .max - 15, available: 0, used: 0) == nil)
  }
}
