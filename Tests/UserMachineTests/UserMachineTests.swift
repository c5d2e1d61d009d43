// What a user thread and its space do when nobody attacks.

import CMachine
import CUserMachine
import Glibc
import Testing
import UserMachineTestSupport

@testable import UserMachine

/// One machine at a time: it is the process's.
@Suite(.serialized) struct UserMachineTests {}

extension UserMachineTests {
  @Suite struct Threads {
    @Test func `a system call arrives with number, arguments and the registers that SYSCALL leaves`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_SYSCALL_LOOP)
        guest.registers.rbx = 0x1234_5678_9abc_def0
        for round in 0..<10 as Range<UInt64> {
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
          #expect(guest.registers.rax == 1000 && guest.registers.orig_rax == 1000)
          #expect(guest.registers.rdi == round)
          #expect(guest.registers.rcx == guest.registers.rip)
          #expect(guest.registers.r11 == guest.registers.eflags)
          #expect(guest.registers.rbx == 0x1234_5678_9abc_def0)
          guest.registers.rax = 0
        }
        space.destroy()
      }
    }

    @Test func `a polling machine gives the same answers`() throws {
      try withMachine(handOver: alwaysPolling) {
        let space = Space()
        let guest = Guest(space, GUEST_SYSCALL_LOOP)
        for round in 0..<1000 as Range<UInt64> {
          #expect(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == round)
        }
        usleep(20_000)  // the thread has gone to sleep
        #expect(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == 1000)
        space.destroy()
      }
    }

    @Test(.enabled(if: HostCapabilities().polls))
    func `a thread that makes many calls polls, and one that computes does not`() throws {
      // A busy host may not let 256 calls in a row be quick: they count as such.
      try withMachine(switches: UM_TEST_ALL_QUICK, handOver: .automatic) {
        let space = Space()
        let guest = Guest(space, GUEST_SYSCALL_LOOP)
        var calls: UInt64 = 0
        while UserMachine.statistics.polling_begun == 0, calls < 1000 {
          try #require(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == calls)
          calls += 1
        }
        #expect(UserMachine.statistics.polling_begun == 1)
        #expect(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == calls)
        #expect(UserMachine.statistics.polled_runs == 1)
        guest.start(GUEST_SPIN)
        for _ in 0..<20 { #expect(guest.run(deadline: now() + 1_000_000) == MACHINE_EVENT_INTERRUPT) }
        #expect(UserMachine.statistics.polling_ended == 1)
        guest.start(GUEST_SYSCALL_LOOP)
        #expect(guest.runAfterPreemption() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == 0)
        space.destroy()
      }
    }

    @Test func `the FS and GS bases are the thread's`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_BASES)
        guest.registers.rdi = 0x1111_2222_3000
        guest.registers.rsi = 0x2222_3333_4000
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        #expect(guest.registers.fs_base == 0x1111_2222_3000)
        #expect(guest.registers.gs_base == 0x2222_3333_4000)
        guest.registers.fs_base = 0x3000
        guest.registers.gs_base = 0x4000
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        #expect(guest.registers.rdi == 0x3000 && guest.registers.rsi == 0x4000)
        space.destroy()
      }
    }

    @Test func `processor exceptions arrive as traps with their vectors`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_DIVIDE)
        for (entry, vector) in [
          (GUEST_DIVIDE, 0), (GUEST_BREAKPOINT, 3), (GUEST_UNDEFINED, 6), (GUEST_PROTECTION, 13),
        ] as [(guest_entry, UInt32)] {
          guest.start(entry)
          #expect(guest.run() == MACHINE_EVENT_TRAP)
          #expect(guest.event.vector == vector)
        }
        guest.start(GUEST_SPIN)
        guest.registers.eflags = 0x100  // TF
        #expect(guest.run() == MACHINE_EVENT_TRAP)
        #expect(guest.event.vector == 1)
        guest.registers.eflags = 0
        guest.registers.rip = 0x8000_0000_0000_0000  // not canonical
        #expect(guest.run() == MACHINE_EVENT_TRAP)
        #expect(guest.event.vector == 13)
        space.destroy()
      }
    }

    @Test func `the extended state stays with the thread, can be read, checked and copied`() throws {
      try withMachine {
        let space = Space()
        let parent = Guest(space, GUEST_EXTENDED)
        parent.registers.rdi = 0xfeed
        #expect(parent.run() == MACHINE_EVENT_SYSCALL)
        let size = um_xstate_size()
        var state = [UInt8](repeating: 0, count: Int(size))
        #expect(um_user_xstate_read(parent.handle, &state, size) == 0)
        #expect(state[160 + 48] == 0xed && state[160 + 49] == 0xfe)  // xmm3

        let child = Guest(space, GUEST_EXTENDED_SHOW)
        #expect(um_user_xstate_copy(parent.handle, child.handle) == 0)
        #expect(child.run() == MACHINE_EVENT_SYSCALL)
        #expect(child.registers.rdi == 0xfeed && child.registers.rsi == 0xfeed && child.registers.rdx == 0xfeed)

        let fresh = Guest(space, GUEST_EXTENDED_SHOW)
        #expect(fresh.run() == MACHINE_EVENT_SYSCALL)
        #expect(fresh.registers.rdi == 0 && fresh.registers.rsi == 0)

        state[160 + 48] = 0x77
        #expect(um_user_xstate_write(parent.handle, state, size) == 0)
        #expect(parent.run() == MACHINE_EVENT_SYSCALL)
        #expect(parent.registers.rdi == 0xfe77 && parent.registers.rdx == 0xfeed)

        #expect(um_user_xstate_write(parent.handle, state, size - 1) == Int64(-EINVAL))
        for (place, value) in [(520, 0x80), (512 + 7, 0x80), (26, 0xff), (512 + 16, 1)] as [(Int, UInt8)] {
          var wrong = state
          wrong[place] = value
          #expect(um_user_xstate_write(parent.handle, wrong, size) == Int64(-EINVAL), "byte \(place)")
        }
        space.destroy()
      }
    }

    @Test func `a deadline interrupts a thread that does not call`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_SPIN)
        for _ in 0..<5 {
          let before = guest.registers.rdi, start = now()
          // The last run may have been preempted twice, by its timer and by the watch: the second signal ends this one early.
          var runs = 0
          repeat {
            #expect(guest.run(deadline: start + 2_000_000) == MACHINE_EVENT_INTERRUPT)
            runs += 1
          } while now() - start < 2_000_000 && runs < 4
          #expect(now() - start >= 2_000_000 && now() - start < 10 * oneSecond)
          #expect(guest.registers.rdi >= before)  // a busy host may not let it run within every deadline
        }
        #expect(guest.registers.rdi > 0)
        space.destroy()
      }
    }

    @Test func `guest code reads the host's clock without a call`() throws {
      try withMachine {
        let routine = um_vdso_clock_gettime()
        try #require(routine > UM_USER_LIMIT)
        let space = Space()
        let guest = Guest(space, GUEST_FUNCTION)
        func call(_ clock: UInt64) -> (seconds: Int, nanoseconds: Int) {
          guest.start(GUEST_FUNCTION)
          guest.registers.rbx = routine
          guest.registers.rdi = clock
          guest.registers.rsi = dataAddress
          #expect(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rax == 1011 && guest.registers.rdi == 0)
          return (space.memory.load(as: Int.self), space.memory.load(fromByteOffset: 8, as: Int.self))
        }
        let before = now(), time = call(1), after = now()
        let read = UInt64(time.seconds) * oneSecond + UInt64(time.nanoseconds)
        #expect(before <= read && read <= after)
        // A clock that the routine does not know itself is a system call of the guest.
        guest.start(GUEST_FUNCTION)
        guest.registers.rbx = routine
        guest.registers.rdi = 2
        #expect(
          guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rax == 228 && guest.registers.rip > UM_USER_LIMIT)
        // What it is made of cannot be changed.
        let start = UM_USER_LIMIT + 0x300_0000
        for address in [start, routine] {
          guest.start(GUEST_STORE)
          guest.registers.rsi = address
          #expect(guest.run() == MACHINE_EVENT_FAULT && guest.event.address == address)
        }
        space.destroy()
      }
    }

    @Test func `a kick from another thread interrupts a thread and an idle CPU`() throws {
      try withMachine(cpus: 2) {
        let space = Space()
        let guest = Guest(space, GUEST_SPIN)
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let taken = ends[0]
        let other = OtherCPU(1) {
          usleep(20_000)
          um_cpu_kick(0)
          var byte: UInt8 = 0
          _ = read(taken, &byte, 1)  // the first interrupt was seen
          usleep(30_000)
          um_raise_interrupt(0, 5)
        }
        let start = now()
        #expect(guest.run(deadline: noDeadline) == MACHINE_EVENT_INTERRUPT)
        #expect(um_interrupts_pending() == 1)
        _ = write(ends[1], [1] as [UInt8], 1)
        um_idle(start + 5 * oneSecond)
        #expect(um_interrupts_pending() == 1 << 5)
        #expect(now() - start < 4 * oneSecond)
        other.join()
        for end in ends { close(end) }
        um_cpu_kick(0)
        #expect(guest.run(deadline: noDeadline) == MACHINE_EVENT_INTERRUPT)
        #expect(um_interrupts_pending() == 1)
        #expect(um_interrupts_pending() == 0)
        space.destroy()
      }
    }

    @Test func `two CPUs run two threads of one space`() throws {
      try withMachine(cpus: 2) {
        let space = Space()
        let first = Guest(space, GUEST_SYSCALL_LOOP), second = Guest(space, GUEST_SYSCALL_LOOP)
        #expect(first.handle != second.handle)
        let other = OtherCPU(1) { for _ in 0..<2000 { if second.run() != MACHINE_EVENT_SYSCALL { break } } }
        for _ in 0..<2000 { if first.run() != MACHINE_EVENT_SYSCALL { break } }
        other.join()
        #expect(first.registers.rdi == 1999 && second.registers.rdi == 1999)
        // And each on the other's CPU.
        let again = OtherCPU(1) { first.run() }
        second.run()
        again.join()
        #expect(first.registers.rdi == 2000 && second.registers.rdi == 2000)
        space.destroy()
      }
    }

    @Test func `a thread's slot is used again, with fresh registers and state`() throws {
      try withMachine {
        let space = Space()
        var handles = Set<Int64>()
        for _ in 0..<100 {
          let guest = Guest(space, GUEST_EXTENDED_SHOW)
          #expect(guest.run() == MACHINE_EVENT_SYSCALL && guest.registers.rdi == 0)
          guest.start(GUEST_EXTENDED)
          guest.registers.rdi = 99
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
          handles.insert(guest.handle)
          um_user_destroy(guest.handle)
        }
        #expect(handles.count == 1)
        let many = (0..<50).map { _ in Guest(space, GUEST_SYSCALL_LOOP) }
        for guest in many { #expect(guest.run() == MACHINE_EVENT_SYSCALL) }
        #expect(Set(many.map(\.handle)).count == 50)
        space.destroy()
      }
    }
  }
}
