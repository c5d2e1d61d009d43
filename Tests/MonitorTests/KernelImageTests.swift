// The image loader reads a file that anybody may have damaged: each fault is told in a sentence, none is run into.

import CMachine
import Glibc
import TestSupport
import Testing

@testable import Monitor

private typealias Field = TestImage.Field

/// What the loader says about `image`; nil when it takes it.
private func refusal(_ bytes: [UInt8]) throws -> String? {
  try TestImage.withFile(bytes) { path in
    do {
      try KernelImage(path: path).unmap()
      return nil
    } catch {
      return (error as? MonitorFailure)?.description.replacing("\(path) is not a usable kernel image: ", with: "")
    }
  }
}

@Suite struct KernelImageTests {
  @Test func `a sound image is mapped, relocated, and followed by room for the ROM`() throws {
    try TestImage.withFile(TestImage().bytes) { path in
      let image = try KernelImage(path: path)
      defer { image.unmap() }
      #expect(image.base == image.bias + 0x1000)
      #expect(image.start == image.base + 0x40)
      #expect(image.cpuEntry == image.base + 0x50)
      #expect(image.kernelTrap == image.base + 0x60)
      #expect(UInt(bitPattern: image.romArea.baseAddress) == image.end)
      func word(_ address: UInt64) -> UInt64 {
        UnsafePointer<UInt64>(bitPattern: image.bias + UInt(address))!.pointee
      }
      #expect(word(TestImage.word) == UInt64(image.bias) + TestImage.addend)
      // Behind the file's part of the segment there are zeros, not the rest of the file's page.
      #expect(word(UInt64(Field.symbols) + 24) == 0)
      #expect(word(0x3000) == 0)
      try image.sealROM()
    }
  }

  @Test func `a file that is no kernel is refused with the reason`() throws {
    func expect(_ sentence: String, _ damage: (inout TestImage) -> Void) throws {
      var image = TestImage()
      damage(&image)
      let said = try refusal(image.bytes)
      #expect(said?.contains(sentence) == true, "\(said ?? "accepted") instead of \(sentence)")
    }
    try expect("it is empty") { $0.bytes = [] }
    for length in [1, 63, 64, 100, 64 + 3 * 56 - 1] {
      try expect("it is truncated") { $0.bytes.removeSubrange(length...) }
    }
    let noELF = "not a position-independent x86-64 ELF file"
    try expect(noELF) { $0.bytes[0] = 0 }
    try expect(noELF) { $0.bytes[Field.fileClass] = 1 }
    try expect(noELF) { $0.set(Field.type, UInt16(2)) }
    try expect(noELF) { $0.set(Field.machine, UInt16(183)) }
    for count in [UInt16(0), 17, 0xffff] {
      try expect("bad program headers") { $0.set(Field.programHeaderCount, count) }
    }
    try expect("bad program headers") { $0.set(Field.programHeaderSize, UInt16(32)) }
    for place in [UInt64(0x2800), .max, UInt64(Int64.max)] {
      try expect("it is truncated") { $0.set(Field.programHeaders, place) }
    }
    try expect("no code at its beginning") { $0.set(Field.code + Field.flags, UInt32(4)) }
    try expect("it has no Apus image header") { $0.set(Field.header, UInt64(1)) }
    try expect("built for version 99") { $0.set(Field.header + 8, UInt64(99)) }
    for entry in 2...4 {
      for place: UInt64 in [0x100, .max, 1 << 62] {
        try expect("an entry point lies outside its code") { $0.set(Field.header + 8 * entry, place) }
      }
    }
  }

  @Test func `segments outside the file, out of order, or too large are refused`() throws {
    let refused = "a segment lies outside the file or overlaps another"
    let damages: [(Int, [UInt64])] = [
      (Field.data + Field.offset, [0x2800, 0x10_0000, .max - 0xfff]),
      (Field.data + Field.fileSize, [0x1201, 0x801, .max]),
      (Field.data + Field.memorySize, [0x1ff, 257 << 20, .max]),
      // Behind the code, but on its page; at the same place; not congruent with the file; at the end of the world.
      (Field.data + Field.address, [0x1100, 0x1000, 0x2001, .max - 0xfff]),
    ]
    for (place, values) in damages {
      for value in values {
        var image = TestImage()
        image.set(place, value)
        #expect(try refusal(image.bytes) == refused, "\(value) at \(place)")
      }
    }
  }

  @Test func `relocations that are not ours, or point out of writable memory, are refused`() throws {
    func said(_ damage: (inout TestImage) -> Void) throws -> String? {
      var image = TestImage()
      damage(&image)
      return try refusal(image.bytes)
    }
    #expect(try said { $0.set(Field.relocation + 8, UInt64(6)) } == "a relocation of kind 6 at \(TestImage.word)")
    for place: UInt64 in [0x1040, 0, 0x31f9, 0x4000, .max - 7, .max] {
      #expect(try said { $0.set(Field.relocation, place) } == "a relocation of kind 8 at \(place)")
    }
    #expect(try said { $0.set(Field.relocation + 16, UInt64(1) << 40) }?.hasPrefix("a relocation") == true)
    for place: UInt64 in [0, 0x31f0, .max] {
      #expect(try said { $0.set(Field.dynamicTable + 8, place) } == "its relocations lie outside of it")
    }
    #expect(try said { $0.set(Field.dynamicTable + 24, UInt64.max) } == "its relocations lie outside of it")
    for place: UInt64 in [0, 0x31f0, 0xffff_ffff_ffff_fff0] {
      #expect(try said { $0.set(Field.dynamic + Field.address, place) } == "its dynamic section lies outside of it")
    }
    #expect(
      try said { $0.set(Field.dynamic + Field.memorySize, UInt64.max) } == "its dynamic section lies outside of it")
  }

  @Test func `what is no file is refused`() throws {
    #expect(throws: MonitorFailure.self) { try KernelImage(path: "/nowhere/kernel.elf") }
    #expect(throws: MonitorFailure("/ is not a usable kernel image: not a file")) { try KernelImage(path: "/") }
    #expect(throws: MonitorFailure("/dev/zero is not a usable kernel image: not a file")) {
      try KernelImage(path: "/dev/zero")
    }
  }

  @Test func `ten thousand damaged images are taken or refused`() throws {
    var random = SeededGenerator("damaged images")
    let interesting: [UInt64] = [0, 1, 7, 0xfff, 0x1000, 0x2000, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 63, .max]
    // Headers, the Apus header, the dynamic section and the relocation.
    let places = Array(0..<232) + Array(0x1000..<0x1028) + Array(0x2000..<0x2058)
    var taken = 0
    for _ in 0..<SeededGenerator.steps(10_000) {
      var image = TestImage()
      for _ in 0...random.below(4) {
        let place = places[random.below(places.count)]
        if random.below(2) == 0 {
          image.bytes[place] = UInt8(random.below(256))
        } else {
          image.set(place & ~7, interesting[random.below(interesting.count)])
        }
      }
      if random.below(20) == 0 { image.bytes.removeSubrange(random.below(image.bytes.count)...) }
      if try refusal(image.bytes) == nil { taken += 1 }
    }
    // Harmless damage there is, too.
    #expect(taken > 0 && taken < 10_000)
  }
}
