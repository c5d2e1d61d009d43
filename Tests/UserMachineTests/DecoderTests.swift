// Where instructions begin, and which system calls of a page of code may be replaced.

import CUserMachine
import Glibc
import TestSupport
import Testing

@testable import UserMachine

private let codePage = 4096

/// A page of code which ends where memory ends: a read beyond it is a fault.
private final class GuardedPage {
  private let range: UnsafeMutableRawPointer

  init() {
    range = mmap(nil, 2 * codePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    precondition(mprotect(range + codePage, codePage, PROT_NONE) == 0)
  }
  deinit { munmap(range, 2 * codePage) }

  var bytes: UnsafeMutablePointer<UInt8> { range.assumingMemoryBound(to: UInt8.self) }

  func fill(_ code: [UInt8]) {
    for index in 0..<codePage { bytes[index] = index < code.count ? code[index] : 0xf8 }
  }

  /// The page after a replacement of the call at `site`; nil when it was refused.
  func replacing(_ site: Int) -> [UInt8]? {
    var copy = Array(UnsafeBufferPointer(start: bytes, count: codePage))
    return um_patch_page(bytes, &copy, UInt32(site)) ? copy : nil
  }
}

/// Instructions of one byte, each of which may be executed.
private func plain(_ count: Int) -> [UInt8] { [UInt8](repeating: 0xf8, count: count) }

private func length(_ code: [UInt8]) -> UInt32 {
  um_instruction_length(code + [UInt8](repeating: 0, count: 16), UInt32(code.count + 16))
}

extension UserMachineTests {
  @Suite struct Decoder {
    @Test(
      arguments: [
        ([0x90], 1), ([0xc3], 1), ([0x0f, 0x05], 2), ([0xb8, 39, 0, 0, 0], 5),
        ([0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], 10),
        ([0x66, 0xb8, 1, 2], 4), ([0x48, 0x8d, 0x0d, 1, 2, 3, 4], 7), ([0x8b, 0x04, 0x25, 1, 2, 3, 4], 7),
        ([0x8b, 0x44, 0x24, 8], 4), ([0xf6, 0x05, 1, 2, 3, 4, 9], 7), ([0xf6, 0xd0], 2), ([0xf7, 0xc0, 1, 2, 3, 4], 6),
        ([0x67, 0x8b, 0x04, 0x24], 4), ([0xc5, 0xf8, 0x77], 3), ([0xc4, 0xe2, 0x7d, 0x18, 0x00], 5),
        ([0x62, 0xf1, 0x7c, 0x48, 0x10, 0x00], 6), ([0x66, 0x0f, 0x3a, 0x0f, 0xc1, 8], 6), ([0xc8, 1, 2, 3], 0),
        ([0x66, 0xe9, 1, 2, 3, 4], 0), ([0x8f, 0x40, 8], 3), ([0x8f, 0xe9, 0x78], 0), ([0x06], 0),
      ] as [([UInt8], UInt32)])
    func `instructions are as long as the processor takes them`(_ code: [UInt8], _ expected: UInt32) {
      #expect(length(code) == expected)
    }

    /// All instructions of the C library's code, when there is a disassembler to compare with.
    @Test func `the lengths are those of a disassembler`() throws {
      let library = "/usr/lib/x86_64-linux-gnu/libc.so.6"
      let command = "objdump -d -j .text --insn-width=16 \(library) 2>/dev/null | cut -f2"
      guard access(library, R_OK) == 0, access("/usr/bin/objdump", X_OK) == 0, let pipe = popen(command, "r") else {
        return
      }
      defer { pclose(pipe) }
      var line = [CChar](repeating: 0, count: 256)
      var compared = 0, unknown = 0
      while fgets(&line, 256, pipe) != nil {
        let text = String(cString: line)
        let words = text.split { $0 == " " || $0 == "\n" }
        let code = words.compactMap { UInt8($0, radix: 16) }
        guard code.count == words.count, 1...15 ~= code.count else { continue }
        let found = length(code)
        compared += 1
        if found == 0 { unknown += 1 } else { #expect(found == code.count, "\(code)") }
      }
      #expect(compared > 100_000 && unknown * 1000 < compared)
    }

    @Test func `a call inside another instruction is never replaced`() {
      let page = GuardedPage()
      // mov $0x00050f11,%eax; ret, in the middle of ordinary code with room for trampolines.
      var code = plain(64)
      let site = code.count + 2
      code += [0xb8, 0x11, 0x0f, 0x05, 0x00, 0xc3] + [UInt8](repeating: 0x90, count: 10)
      for _ in 0..<8 { code += [0xc3] + [UInt8](repeating: 0x90, count: 15) }
      page.fill(code)
      #expect(page.replacing(site) == nil)
      // The control: the same bytes as an instruction of their own.
      code[64..<70] = [0xb8, 39, 0, 0, 0, 0x0f]
      code[70] = 0x05
      page.fill(code)
      #expect(page.replacing(69) != nil)
    }

    @Test func `the number is taken from an instruction of its own only`() {
      let page = GuardedPage()
      // mov $3,%r8d; syscall: the bytes behind the prefix are those of mov $3,%eax.
      var code = plain(64) + [0x41, 0xb8, 3, 0, 0, 0, 0x0f, 0x05, 0xc3]
      while code.count % 16 != 0 { code.append(0x90) }
      for _ in 0..<8 { code += [0xc3] + [UInt8](repeating: 0x90, count: 15) }
      page.fill(code)
      let copy = page.replacing(70)
      #expect(copy == nil || copy?[64..<70] == code[64..<70])
    }

    @Test func `no-operations that are executed are no room`() {
      let page = GuardedPage()
      // A call that ends at 71, and what follows it.
      let call = plain(64) + [0xb8, 39, 0, 0, 0, 0x0f, 0x05]
      func hasRoom(_ tail: [UInt8]) -> Bool {
        page.fill(call + tail)
        return page.replacing(69) != nil
      }
      let fill = [UInt8](repeating: 0x90, count: 16)
      #expect(hasRoom(plain(9) + [0xc3] + fill.dropLast()), "the control: between a return and a multiple of 16")
      #expect(!hasRoom(plain(9) + [0xf8] + fill.dropLast()), "not behind a return")
      #expect(!hasRoom(plain(9) + [0xc3] + fill.dropLast(3)), "not up to a multiple of 16")
      #expect(!hasRoom(plain(8) + [0xc3] + fill), "the head of a function")
      #expect(!hasRoom([0xeb, 12] + plain(7) + [0xc3] + fill.dropLast()), "a jump leads there")
    }

    @Test func `random bytes are never read beyond their page, and calls never replaced by halves`() {
      var random = SeededGenerator("decoder")
      let page = GuardedPage()
      for _ in 0..<SeededGenerator.steps(20) {
        for index in 0..<codePage { page.bytes[index] = UInt8.random(in: 0...255, using: &random) }
        for _ in 0..<32 {
          let site = Int.random(in: 0..<codePage - 1, using: &random)
          (page.bytes[site], page.bytes[site + 1]) = (0x0f, 0x05)
        }
        for at in codePage - 32..<codePage { _ = um_instruction_length(page.bytes + at, UInt32(codePage - at)) }
        for site in 0..<codePage - 1 where page.bytes[site] == 0x0f && page.bytes[site + 1] == 0x05 {
          guard let copy = page.replacing(site) else { continue }
          #expect(copy[site] == 0xeb || copy[site - 5] == 0xe9)
        }
      }
    }
  }
}
