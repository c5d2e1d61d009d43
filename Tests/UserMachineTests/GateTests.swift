// System calls that come through the gate: from code whose SYSCALL instructions have been replaced by jumps.

import CMachine
import CUserMachine
import Glibc
import TestSupport
import Testing
import UserMachineTestSupport

@testable import UserMachine

private let textBase: UInt64 = 0x60_0000
/// Where the program begins: behind code that leaves no doubt about where instructions begin.
private let lead: UInt64 = 16
private let textAddress = textBase + lead
/// The owner of the copies.
private let owner: UInt64 = 1
private let textPage: UInt64 = 2 * page
private let longFill: [UInt8] = [0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]

/// For ever: number 39 with its number in the code, and behind it a count in r12; the number in r15, and a count in r13.
private let program: [UInt8] =
  [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x49, 0xff, 0xc4]
  + [0x4c, 0x89, 0xf8, 0x0f, 0x05, 0x49, 0xff, 0xc5, 0xeb, 0xec]
  + longFill + [0x90]
  + [0xc3] + longFill + [0x0f, 0x1f, 0x40, 0]
  + [0xc3] + longFill + [0x0f, 0x1f, 0x40, 0]
private let behindFirst = textAddress + 7
private let behindSecond = textAddress + 15

private func rights() -> UInt64 { UInt64(5 | MACHINE_MAP_TEXT) }

/// A space with the program, as a page of a file.
private func textSpace() -> Space {
  let space = Space()
  for index in 0..<Int(lead) { UserMachine.memory[Int(textPage) + index] = 0xf8 }
  for (index, byte) in program.enumerated() { UserMachine.memory[Int(textPage + lead) + index] = byte }
  um_space_map(space.handle, textBase, textPage, page, rights())
  return space
}

private func textGuest(_ space: Space) -> Guest {
  let guest = Guest(space, GUEST_SPIN)
  guest.registers.rip = textAddress
  guest.registers.r15 = 1
  return guest
}

/// Runs until both sites are replaced.
private func warmUp(_ space: Space, _ guest: Guest) {
  for _ in 0..<40 {
    guard guest.run() == MACHINE_EVENT_SYSCALL else { return }
    if guest.event.vector == 1 {
      um_text_replace(space.handle, textBase, textPage, owner)
    }
  }
}

extension UserMachineTests {
  @Suite struct Gate {
    @Test func `replaced code calls without a trap, and nothing else changes`() throws {
      try withMachine {
        let space = textSpace()
        let guest = textGuest(space)
        guest.registers.rbx = 0x1111
        guest.registers.rdx = 0x2222
        guest.registers.rsi = 0x3333
        guest.registers.rdi = 0x4444
        guest.registers.rbp = 0x5555
        guest.registers.r8 = 0x6666
        guest.registers.r9 = 0x7777
        guest.registers.r10 = 0x8888
        guest.registers.r14 = 0x9999
        guest.registers.fs_base = 0x123000
        warmUp(space, guest)
        #expect(UserMachine.statistics.sites_replaced == 2)
        let before = UserMachine.statistics.gate_calls
        var last = guest.registers
        for round in 0..<100 {
          guest.registers.rax = UInt64(round)
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
          let now = guest.registers
          #expect(now.rip == (last.rip == behindFirst ? behindSecond : behindFirst))
          #expect(now.rcx == now.rip && now.r11 == now.eflags)
          #expect(now.orig_rax == (now.rip == behindFirst ? 39 : 1) && now.rax == now.orig_rax)
          #expect(now.r12 &+ now.r13 == last.r12 &+ last.r13 &+ 1)
          #expect(now.rbx == 0x1111 && now.rdx == 0x2222 && now.rsi == 0x3333 && now.rdi == 0x4444)
          #expect(now.rbp == 0x5555 && now.r8 == 0x6666 && now.r9 == 0x7777 && now.r10 == 0x8888)
          #expect(now.r14 == 0x9999 && now.r15 == 1 && now.rsp == last.rsp)
          #expect(now.fs_base == 0x123000 && now.gs_base == 0)
          last = now
        }
        #expect(UserMachine.statistics.gate_calls == before + 100)
        // The page itself is as it was.
        for (index, byte) in program.enumerated() { #expect(UserMachine.memory[Int(textPage + lead) + index] == byte) }
        // Calls that need a signal frame trap in the gate; a program that uses GS traps as well.
        guest.registers.r15 = 60
        repeat { guest.run() } while guest.registers.rip != behindSecond
        #expect(guest.registers.orig_rax == 60)
        guest.registers.gs_base = dataAddress
        guest.registers.r15 = 1
        let traps = UserMachine.statistics.gate_calls
        for _ in 0..<4 { #expect(guest.run() == MACHINE_EVENT_SYSCALL) }
        #expect(guest.registers.gs_base == dataAddress && UserMachine.statistics.gate_calls == traps)
        // Another space finds the copy when it maps the page, once it has asked for one.
        let other = Space()
        um_space_map(other.handle, textBase + 16 * page, textPage, page, rights())
        let stranger = textGuest(other)
        stranger.registers.rip = textAddress + 16 * page
        while stranger.run() == MACHINE_EVENT_SYSCALL, stranger.event.vector == 0 {}
        um_text_replace(other.handle, textBase + 16 * page, textPage, owner)
        um_user_destroy(stranger.handle)
        um_space_map(other.handle, textBase + 16 * page, textPage, page, rights())
        let second = textGuest(other)
        second.registers.rip = textAddress + 16 * page
        #expect(second.run() == MACHINE_EVENT_SYSCALL)
        #expect(second.registers.rip == textAddress + 16 * page + 7)
        #expect(UserMachine.statistics.gate_calls == traps + 1)
        // A page whose contents are others is shown as it is.
        UserMachine.memory[Int(textPage + lead) + 1] = 40
        um_space_map(other.handle, textBase + 16 * page, textPage, page, rights())
        second.registers.rip = textAddress + 16 * page
        #expect(second.run() == MACHINE_EVENT_SYSCALL)
        #expect(second.registers.orig_rax == 40 && UserMachine.statistics.gate_calls == traps + 1)
        space.destroy()
        other.destroy()
      }
    }

    @Test func `the extended state survives when the kernel changes registers`() throws {
      try withMachine {
        let space = textSpace()
        let guest = textGuest(space)
        warmUp(space, guest)
        var image = [UInt8](repeating: 0, count: Int(um_xstate_size()))
        #expect(um_user_xstate_read(guest.handle, &image, um_xstate_size()) == 0)
        for index in 160..<416 { image[index] = UInt8(truncatingIfNeeded: index) }
        image[512] |= 3
        #expect(um_user_xstate_write(guest.handle, image, um_xstate_size()) == 0)
        for round in 0..<50 {
          let before = UserMachine.statistics.gate_calls
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
          #expect(UserMachine.statistics.gate_calls == before + 1)
          var now = [UInt8](repeating: 0, count: Int(um_xstate_size()))
          #expect(um_user_xstate_read(guest.handle, &now, um_xstate_size()) == 0)
          #expect(now[160..<416] == image[160..<416])
          if round % 2 == 0 { guest.registers.rbx &+= 1 }
        }
        space.destroy()
      }
    }

    @Test(arguments: [UserMachine.HandOver.sleeping, .automatic])
    func `preemption anywhere in the gate loses and repeats nothing`(_ handOver: UserMachine.HandOver) throws {
      try withMachine(handOver: handOver) {
        var random = SeededGenerator("gate")
        let space = textSpace()
        let guest = textGuest(space)
        warmUp(space, guest)
        var last = guest.registers
        var interrupts = 0
        for _ in 0..<SeededGenerator.steps(20_000) {
          // A deadline in the past interrupts at once; a kick by another thread comes at any moment.
          let kind = guest.run(deadline: now() + UInt64.random(in: 0..<12_000, using: &random))
          let seen = guest.registers
          if kind == MACHINE_EVENT_INTERRUPT {
            interrupts += 1
          } else {
            #expect(kind == MACHINE_EVENT_SYSCALL)
            #expect(seen.r12 &+ seen.r13 == last.r12 &+ last.r13 &+ 1)
            #expect(seen.rip == behindFirst || seen.rip == behindSecond)
            #expect(seen.rip != last.rip)
            last = seen
            guest.registers.rax = 0
          }
          #expect(seen.gs_base == 0 && seen.r15 == 1)
        }
        #expect(interrupts > 0)
        space.destroy()
      }
    }

    @Test func `what guest code does to the gate harms itself only`() throws {
      try withMachine {
        let victim = textSpace()
        let bystander = textGuest(victim)
        warmUp(victim, bystander)
        // GS at other threads' reports, at the machine's constants and code, at nothing.
        let places: [UInt64] = [
          UM_USER_LIMIT, UM_USER_LIMIT + 0x10000, UM_USER_LIMIT + 0x100_0000 + 0x4000, UM_USER_LIMIT + 0x100_0001,
          UM_USER_LIMIT + 0x1ff_fff0, 0x10000, 0x7fff_ffff_f000,
        ]
        for place in places {
          let space = Space()
          um_space_map(space.handle, textBase, textPage, page, rights())
          let guest = textGuest(space)
          guest.registers.gs_base = place
          let kind = guest.run(deadline: now() + oneSecond / 20)
          #expect(kind != MACHINE_EVENT_FOREIGN, "GS \(place)")
          space.destroy()
          #expect(bystander.run() == MACHINE_EVENT_SYSCALL)
        }
        // The table and the copies cannot be written, and the table not be mapped over.
        for place in [0x10000, textAddress] {
          let space = Space()
          um_space_map(space.handle, textBase, textPage, page, rights())
          um_space_map(space.handle, 0x10000, textPage, page, 3)
          #expect(um_space_commit(space.handle) != 0)
          um_space_protect(space.handle, textBase, page, 7)
          #expect(um_space_commit(space.handle) == 0)
          let guest = Guest(space, GUEST_STORE)
          guest.registers.rsi = place
          guest.registers.rdi = 0xcc
          #expect(guest.run() == MACHINE_EVENT_FAULT && guest.event.address == place)
          space.destroy()
        }
        // Jumps to every eighth byte of the gate with registers of the guest's choice.
        var at: UInt64 = gate_start()
        while at < gate_end() {
          let space = Space()
          let guest = Guest(space, GUEST_JUMP)
          guest.registers.rbx = UM_USER_LIMIT + at
          guest.registers.rax = 9
          guest.registers.rdi = 0x6000_0000
          guest.registers.rsi = page
          guest.registers.rdx = 3
          guest.registers.r10 = 0x11
          guest.run(deadline: now() + oneSecond / 20)
          guest.start(GUEST_LOAD)
          guest.registers = machine_registers()
          guest.registers.rsp = dataAddress + page - 64
          guest.start(GUEST_LOAD)
          guest.registers.rsi = 0x6000_0000
          let kind = guest.run(deadline: now() + oneSecond / 20)
          #expect(
            kind == MACHINE_EVENT_FAULT || kind == MACHINE_EVENT_DEAD || kind == MACHINE_EVENT_INTERRUPT, "at \(at)")
          space.destroy()
          at += 8
        }
        #expect(bystander.run() == MACHINE_EVENT_SYSCALL)
        victim.destroy()
      }
    }

    @Test func `trampolines stand where nothing is executed`() throws {
      var random = SeededGenerator("gate")
      for _ in 0..<SeededGenerator.steps(300) {
        var original: [UInt8] = []
        var gaps: [Range<Int>] = []
        var sites: [(at: Int, number: UInt32?)] = []
        while original.count < 4000 {
          switch Int.random(in: 0..<6, using: &random) {
          case 0:
            let number = UInt32.random(in: 0..<600, using: &random)
            original += [0xb8, UInt8(number & 255), UInt8(number >> 8), 0, 0, 0x0f, 0x05]
            sites.append((original.count - 2, number))
          case 1:
            original += [0x31, 0xc0, 0x0f, 0x05]
            sites.append((original.count - 2, nil))
          case 2:  // a loop's head, with what fills the way to it being executed
            original += [0x48, 0x89, 0xc3]
            while original.count % 16 != 0 { original.append(0x90) }
          case 3, 4:
            original += Bool.random(using: &random) ? [0xc3] : [0xe9, 1, 2, 3, 4]
            let start = original.count
            while original.count % 16 != 0 { original.append(0x90) }
            if original.count > start { gaps.append(start..<original.count) }
          default: original += [0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01]
          }
        }
        while original.count < 4096 { original.append(0xf8) }
        var patched = original
        for site in sites { _ = um_patch_page(original, &patched, UInt32(site.at)) }
        var allowed = Set<Int>(gaps.joined())
        for site in sites {
          if patched[site.at] == 0xeb {
            allowed.formUnion([site.at, site.at + 1])
            #expect(follow(patched, site.at) == Landing(back: site.at + 2, entry: 511))
          } else if site.number != nil, patched[site.at - 5] == 0xe9 {
            allowed.formUnion(site.at - 5..<site.at)
            #expect(follow(patched, site.at - 5) == Landing(back: site.at + 2, entry: Int(site.number!)))
          }
        }
        let strays = (0..<4096).filter { patched[$0] != original[$0] && !allowed.contains($0) }
        #expect(strays.isEmpty)
      }
    }
  }
}

private struct Landing: Equatable { var back, entry: Int }

/// Where a jump at `from` leads: through jumps to a trampoline, which may be in two halves.
private func follow(_ code: [UInt8], _ from: Int) -> Landing? {
  func word(_ at: Int) -> Int { (0..<4).reduce(0) { $0 | Int(code[at + $1]) << (8 * $1) } }
  func signedWord(_ at: Int) -> Int { Int(Int32(truncatingIfNeeded: word(at))) }
  func behindJumps(_ start: Int) -> Int {
    var at = start
    while true {
      if code[at] == 0xe9 {
        at += 5 + signedWord(at + 1)
      } else if code[at] == 0xeb {
        at += 2 + Int(Int8(bitPattern: code[at + 1]))
      } else {
        return at
      }
    }
  }
  let note = behindJumps(from)
  guard Array(code[note..<note + 3]) == [0x48, 0x8d, 0x0d] else { return nil }
  let exit = behindJumps(note + 7)
  guard Array(code[exit..<exit + 3]) == [0xff, 0x24, 0x25] else { return nil }
  return Landing(back: note + 7 + signedWord(note + 3), entry: (word(exit + 3) - 0x10000) / 8)
}
