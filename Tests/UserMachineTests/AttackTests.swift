// Guest code that tries to leave its process. Every attack is made twice: with the rules, where it must fail, and with
// the rule in question switched off, where it must succeed: so that a test cannot pass because the attack is wrong.

import CMachine
import CUserMachine
import Glibc
import Testing
import UserMachineTestSupport

@testable import UserMachine

private let stolen: UInt64 = 0x6000_0000

/// A host system call that a guest would like to make, and what it returns where nothing stops it.
private struct HostCall {
  var name: String
  var number: UInt64
  var arguments: [UInt64]
  var succeeded: (Int64) -> Bool

  func load(into guest: Guest) {
    guest.registers.rax = number
    let a = arguments + [UInt64](repeating: 0, count: 6 - arguments.count)
    guest.registers.rdi = a[0]
    guest.registers.rsi = a[1]
    guest.registers.rdx = a[2]
    guest.registers.r10 = a[3]
    guest.registers.r8 = a[4]
    guest.registers.r9 = a[5]
  }
}

/// `victim` is another user process.
private func hostCalls(victim: Int32) -> [HostCall] {
  let parent = UInt64(getpid())
  return [
    // Guest memory at a place of the guest's choice: other guests' and the kernel's pages.
    HostCall(name: "mmap of guest memory", number: 9, arguments: [stolen, page, 3, 0x11, 0, 0]) { $0 == Int64(stolen) },
    HostCall(name: "kill of the kernel process", number: 62, arguments: [parent, 0]) { $0 == 0 },
    HostCall(name: "PTRACE_SEIZE of another user process", number: 101, arguments: [0x4206, UInt64(victim)]) {
      $0 == 0
    },
    HostCall(name: "kill of another user process", number: 62, arguments: [UInt64(victim), 0]) { $0 == 0 },
    HostCall(name: "a forged acknowledgement", number: 1, arguments: [2, UM_USER_LIMIT + 0x10000, 8]) { $0 == 8 },
    HostCall(name: "socket", number: 41, arguments: [1, 1, 0]) { $0 >= 0 },
    HostCall(name: "prctl", number: 157, arguments: [4, 0]) { $0 == 0 },
    HostCall(name: "futex", number: 202, arguments: [dataAddress, 1, 1]) { $0 == 0 },
  ]
}

extension UserMachineTests {
  @Suite struct Attacks {
    @Test func `system calls of guest code reach the kernel and not the host`() throws {
      try withMachine {
        let space = Space(), victim = Space()
        for call in hostCalls(victim: um_space_process(victim.handle)) {
          let guest = Guest(space, GUEST_CALL)
          call.load(into: guest)
          #expect(guest.run() == MACHINE_EVENT_SYSCALL, "\(call.name)")
          #expect(guest.registers.rax == call.number, "\(call.name)")
          um_user_destroy(guest.handle)
        }
        space.destroy()
        victim.destroy()
      }
      // The control. Each call has a machine of its own: what a forged acknowledgement leaves behind is the next answer.
      for index in hostCalls(victim: 0).indices {
        try withMachine(switches: UM_TEST_NO_FILTERS) {
          let space = Space(), victim = Space()
          let call = hostCalls(victim: um_space_process(victim.handle))[index]
          let guest = Guest(space, GUEST_CALL)
          call.load(into: guest)
          #expect(guest.run() == MACHINE_EVENT_TRAP, "\(call.name)")  // the ud2 behind it
          #expect(call.succeeded(Int64(bitPattern: guest.registers.rdi)), "\(call.name): \(guest.registers.rdi)")
          space.destroy()
          victim.destroy()
        }
      }
    }

    @Test func `int 0x80, x32 numbers and the vsyscall page are foreign entries`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_INT80)
        guest.registers.rax = 20
        #expect(guest.run() == MACHINE_EVENT_FOREIGN)
        #expect(guest.event.vector == UM_FOREIGN_INT80.rawValue)
        guest.start(GUEST_CALL)
        guest.registers.rax = 0x4000_0000 | 39
        #expect(guest.run() == MACHINE_EVENT_FOREIGN)
        #expect(guest.event.vector == UM_FOREIGN_X32.rawValue)
        guest.start(GUEST_VSYSCALL)
        guest.registers.rdi = 0
        guest.registers.rsi = 0
        let kind = guest.run()
        #expect(
          kind == MACHINE_EVENT_FOREIGN && guest.event.vector == UM_FOREIGN_VSYSCALL.rawValue
            || kind == MACHINE_EVENT_FAULT)  // a host without the page
        space.destroy()
      }
      try withMachine(switches: UM_TEST_NO_FILTERS) {
        let space = Space()
        let guest = Guest(space, GUEST_INT80)
        guest.registers.rax = 20  // getpid
        #expect(guest.run() == MACHINE_EVENT_TRAP)
        #expect(guest.registers.rdi == UInt64(um_space_process(space.handle)))
        guest.start(GUEST_CALL)
        guest.registers.rax = 0x4000_0000 | 39
        #expect(guest.run() == MACHINE_EVENT_TRAP)
        #expect(
          Int32(truncatingIfNeeded: guest.registers.rdi) == -ENOSYS
            || guest.registers.rdi == UInt64(um_space_process(space.handle)))
        space.destroy()
      }
    }

    @Test func `no system-call instruction of the stub does a guest's bidding`() throws {
      let sites = stubCallSites()
      #expect(sites.count >= 8)
      try withMachine {
        let victim = Space()
        for call in hostCalls(victim: um_space_process(victim.handle)) where call.name != "futex" {
          for site in sites {
            let space = Space()
            let guest = Guest(space, GUEST_JUMP)
            call.load(into: guest)
            guest.registers.rbx = UM_USER_LIMIT + site
            #expect(guest.run() == MACHINE_EVENT_SYSCALL, "\(call.name) at \(site)")
            #expect(guest.registers.rip == UM_USER_LIMIT + site + 2)
            guest.start(GUEST_LOAD)
            guest.registers.rsi = stolen
            #expect(guest.run() == MACHINE_EVENT_FAULT)
            space.destroy()
          }
        }
        victim.destroy()
      }
      // Without the filters the first of them maps guest memory for the guest.
      try withMachine(switches: UM_TEST_NO_FILTERS) {
        var mapped = 0
        for site in sites {
          let space = Space()
          let guest = Guest(space, GUEST_JUMP)
          hostCalls(victim: 0)[0].load(into: guest)
          guest.registers.rbx = UM_USER_LIMIT + site
          guest.registers.r12 = dataAddress
          guest.run(deadline: now() + 20_000_000)
          if guest.event.kind != MACHINE_EVENT_DEAD.rawValue {
            let other = Guest(space, GUEST_LOAD)
            other.registers.rsi = stolen
            // Unfiltered, its calls fail at the host and its loop of loads goes on.
            if other.run(deadline: now() + 20_000_000) == MACHINE_EVENT_INTERRUPT { mapped += 1 }
          }
          space.destroy()
          if mapped > 0 { break }
        }
        #expect(mapped > 0)
      }
    }

    @Test func `the kernel's parameters and commands cannot be written`() throws {
      let ring = UM_USER_LIMIT + 0x30000, parameters = UM_USER_LIMIT + 0x40000
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_STORE)
        for address in [ring, ring + 0x1000, parameters + 16, UM_USER_LIMIT, UM_USER_LIMIT + 0x10000] {
          guest.start(GUEST_STORE)
          guest.registers.rsi = address
          #expect(guest.run() == MACHINE_EVENT_FAULT)
          #expect(guest.event.address == address)
        }
        space.destroy()
      }
      try withMachine(switches: UM_TEST_WRITABLE_PARAMETERS) {
        let space = Space()
        let guest = Guest(space, GUEST_STORE)
        for address in [ring + 0x1ff8, parameters + 40] {
          guest.start(GUEST_STORE)
          guest.registers.rsi = address
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        }
        space.destroy()
      }
    }

    @Test func `a thread that masks the preemption signal is ended, and only its process`() throws {
      func attack(_ body: (Space, Guest) throws -> Void) rethrows {
        let space = Space()
        let guest = Guest(space, GUEST_RETURN)
        // A frame for rt_sigreturn in the guest's own memory: all signals blocked, then a loop.
        let frame = space.memory
        memset(frame, 0, 304)
        frame.storeBytes(of: dataAddress + page - 64, toByteOffset: 160, as: UInt64.self)  // rsp
        frame.storeBytes(of: codeAddress + guest_offset(GUEST_SPIN), toByteOffset: 168, as: UInt64.self)  // rip
        frame.storeBytes(of: 0x33, toByteOffset: 184, as: UInt16.self)  // cs
        frame.storeBytes(of: 0x2b, toByteOffset: 190, as: UInt16.self)  // ss
        frame.storeBytes(of: UInt64.max, toByteOffset: 296, as: UInt64.self)  // the mask
        guest.registers.rsp = dataAddress
        guest.registers.rbx = UM_USER_LIMIT + stubReturnSite() - 2
        try body(space, guest)
        space.destroy()
      }
      try withMachine {
        let bystander = Space()
        attack { space, guest in
          let start = now()
          // Time enough to get as far as the mask on a busy host.
          #expect(guest.run(deadline: start + 50_000_000) == MACHINE_EVENT_DEAD)
          #expect(now() - start > 50_000_000)
          #expect(UserMachine.statistics.condemned.0 == 1)  // UM_REASON_UNRESPONSIVE
        }
        #expect(Guest(bystander, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
        bystander.destroy()
      }
      try withMachine(switches: UM_TEST_NO_EXECUTION_LIMIT) {
        attack { space, guest in
          #expect(guest.run(deadline: now() + 50_000_000) == MACHINE_EVENT_DEAD)
          #expect(kill(um_space_process(space.handle), 0) == 0)  // it has won: it still runs
        }
      }
    }

    @Test func `a thread that scribbles over the shared pages harms its own process at most`() throws {
      try withMachine(cpus: 2) {
        let bystander = Space(data: 2 * page)
        let fine = Guest(bystander, GUEST_SYSCALL_LOOP)
        for seed in 0..<6 as Range<UInt64> {
          let space = Space()
          let victim = Guest(space, GUEST_SYSCALL_LOOP), attacker = Guest(space, GUEST_SCRIBBLE)
          attacker.registers.rdi = seed &* 0x9e37_79b9_7f4a_7c15
          attacker.registers.rsi = UM_USER_LIMIT + 0x100_0000  // the victim's report: header, then the whole page
          attacker.registers.rcx = seed % 2 == 0 ? 8 : 2048
          let other = OtherCPU(1) {
            for _ in 0..<20 where attacker.run(deadline: now() + 5_000_000) != MACHINE_EVENT_INTERRUPT { break }
          }
          for _ in 0..<50 where victim.run(deadline: now() + 5_000_000) == MACHINE_EVENT_DEAD { break }
          other.join()
          #expect(fine.run() == MACHINE_EVENT_SYSCALL)
          space.destroy()
        }
        #expect(fine.registers.rdi == 5)
        bystander.destroy()
      }
    }

    @Test func `a forged event ends in that process and does not hang the kernel`() throws {
      try withMachine(cpus: 2) {
        let space = Space()
        let victim = Guest(space, GUEST_SPIN), forger = Guest(space, GUEST_FORGE)
        forger.registers.rsi = UM_USER_LIMIT + 0x100_0000  // the victim's event word
        for number in 1...20 as ClosedRange<UInt64> {
          forger.start(GUEST_FORGE)
          forger.registers.rdi = number
          let other = OtherCPU(1) { forger.run(deadline: now() + 10_000_000) }
          victim.run(deadline: now() + 5_000_000)
          other.join()
        }
        space.destroy()
        let fresh = Space()
        #expect(Guest(fresh, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
        fresh.destroy()
      }
    }
  }
}

/// Offsets of the stub's system-call instructions.
private func stubCallSites() -> [UInt64] {
  let code = UnsafeBufferPointer(start: stub_code(), count: Int(stub_code_length()))
  return (0..<code.count - 1).filter { code[$0] == 0x0f && code[$0 + 1] == 0x05 }.map(UInt64.init)
}

private func stubReturnSite() -> UInt64 { stub_return_site() }
