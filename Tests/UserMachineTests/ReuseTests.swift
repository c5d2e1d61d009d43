// A user process that serves one address space after another: what the next program may not see, and a program that
// tries to stay.

import CMachine
import CUserMachine
import Glibc
import Testing
import UserMachineTestSupport

@testable import UserMachine

private let reports = UM_USER_LIMIT + 0x100_0000
private let reportSize: UInt64 = 0x4000

/// Lets the threads of destroyed spaces come to rest.
private func rest() { um_idle(now() + 5_000_000) }

extension UserMachineTests {
  @Suite struct Reuse {
    @Test func `processes are used again`() throws {
      try withMachine {
        let before = UserMachine.statistics
        for _ in 0..<50 {
          let space = Space()
          #expect(Guest(space, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
          space.destroy()
          rest()
        }
        let after = UserMachine.statistics
        // On a busy host some do not come to rest in time.
        #expect(after.processes_reused - before.processes_reused >= 20)
        #expect(after.processes_made - before.processes_made <= 35)
      }
    }

    /// A program that leaves traces wherever it can. Returns its space, which is gone, and the process it was in.
    private func leaveTraces() -> (space: Space, process: Int32) {
      let space = Space()
      let process = um_space_process(space.handle)
      let thread = Guest(space, GUEST_STORE)
      thread.registers.rdi = 0x55
      // Of its own report; those of threads that do not exist are not there.
      for (offset, event) in [
        (8192, MACHINE_EVENT_SYSCALL), (3 * reportSize + 100, MACHINE_EVENT_FAULT),
        (1023 * reportSize + 5000, MACHINE_EVENT_FAULT),
      ] {
        thread.start(GUEST_STORE)
        thread.registers.rsi = reports + offset
        #expect(thread.run() == event, "the report at \(offset)")
      }
      thread.start(GUEST_SELECTORS)
      thread.registers.rdi = 0x2b
      thread.registers.fs_base = 0x1234_5000
      #expect(thread.run() == MACHINE_EVENT_SYSCALL)
      thread.start(GUEST_EXTENDED)
      thread.registers.rdi = 0x77
      #expect(thread.run() == MACHINE_EVENT_SYSCALL)
      space.destroy()
      rest()
      return (space, process)
    }

    @Test func `the next program finds nothing of the last one`() throws {
      try withMachine {
        var old = leaveTraces(), handle = um_space_create(0), attempts = 1
        while um_space_process(handle) != old.process, attempts < 20 {  // a busy host did not let it come to rest
          um_space_destroy(handle)
          old = leaveTraces()
          handle = um_space_create(0)
          attempts += 1
        }
        try #require(um_space_process(handle) == old.process)
        #expect(handle != old.space.handle && um_space_process(old.space.handle) == 0)
        #expect(um_space_commit(old.space.handle) == Int64(-EBADF))
        um_space_map(handle, codeAddress, 0, page, 5)
        let user = um_user_create(handle)
        var registers = machine_registers(), event = machine_event()
        func run(_ entry: guest_entry) -> machine_event_kind {
          registers.rip = codeAddress + guest_offset(entry)
          um_user_run(user, &registers, &event, now() + 10 * oneSecond)
          return machine_event_kind(event.kind)
        }
        #expect(run(GUEST_SELECTORS_SHOW) == MACHINE_EVENT_SYSCALL)
        #expect(registers.rdi == 0 && registers.rsi == 0)
        #expect(registers.fs_base == 0)
        registers.rsi = reports + 8192
        #expect(run(GUEST_LOAD) == MACHINE_EVENT_SYSCALL)
        #expect(registers.rdi == 0)
        for offset in [3 * reportSize + 100, 1023 * reportSize + 5000] {
          registers.rsi = reports + offset
          #expect(run(GUEST_LOAD) == MACHINE_EVENT_FAULT, "the report at \(offset)")
        }
        registers.rsi = dataAddress
        #expect(run(GUEST_LOAD) == MACHINE_EVENT_FAULT)
        um_space_map(handle, dataAddress, page, page, 3)
        registers.rsp = dataAddress + 512
        #expect(run(GUEST_EXTENDED_SHOW) == MACHINE_EVENT_SYSCALL)
        #expect(registers.rdi == 0 && registers.rsi == 0 && registers.rdx != 0x77)
        um_space_destroy(handle)
      }
    }

    @Test func `a process with more threads than one is not used again`() throws {
      try withMachine {
        let space = Space()
        let process = um_space_process(space.handle)
        let first = Guest(space, GUEST_SYSCALL_LOOP), second = Guest(space, GUEST_SYSCALL_LOOP)
        #expect(first.run() == MACHINE_EVENT_SYSCALL && second.run() == MACHINE_EVENT_SYSCALL)
        space.destroy()
        rest()
        let next = Space()
        #expect(um_space_process(next.handle) != process)
        next.destroy()
      }
    }

    /// Pretends an event, so that the kernel believes the thread to be stopped, and goes on in the stub with registers
    /// of its choice. Returns the process.
    private func squat(polling ticks: UInt64) -> Int32 {
      let space = Space()
      let process = um_space_process(space.handle)
      let guest = Guest(space, GUEST_SYSCALL_LOOP)
      #expect(guest.run() == MACHINE_EVENT_SYSCALL)
      guest.start(GUEST_SQUAT)
      guest.registers.rdi = 2  // the number of its second resumption
      guest.registers.rsi = reports
      guest.registers.rbx = reports
      guest.registers.r9 = 2
      guest.registers.r12 = 0x1000
      guest.registers.r14 = ticks
      guest.registers.r15 = UM_USER_LIMIT + stub_wake()
      #expect(guest.run() == MACHINE_EVENT_SYSCALL)  // the old frame: believed
      space.destroy()
      return process
    }

    /// Runs a program of each user in turn, in processes that are used again.
    private func alternate(_ users: [UInt64]) -> um_statistics {
      let before = UserMachine.statistics
      for user in users {
        let handle = um_space_create(user)
        um_space_map(handle, codeAddress, 0, page, 5)
        let thread = um_user_create(handle)
        var registers = machine_registers(), event = machine_event()
        registers.rip = codeAddress + guest_offset(GUEST_SYSCALL_LOOP)
        um_user_run(thread, &registers, &event, now() + 10 * oneSecond)
        #expect(machine_event_kind(event.kind) == MACHINE_EVENT_SYSCALL)
        um_space_destroy(handle)
        rest()
        rest()
      }
      var after = UserMachine.statistics
      after.processes_reused -= before.processes_reused
      after.barriers -= before.barriers
      return after
    }

    @Test func `a process changes its user behind a barrier, or not at all`() throws {
      try withMachine {
        let same = alternate([UInt64](repeating: 7, count: 20))
        #expect(same.barriers == 0 && same.processes_reused > 0)
      }
      try withMachine(switches: UM_TEST_NO_BARRIER) {
        let same = alternate([UInt64](repeating: 7, count: 20))
        #expect(same.barriers == 0 && same.processes_reused > 0)  // the switch alone does not hinder reuse
        let all = alternate((100..<120).map { UInt64($0) })
        #expect(all.barriers == 0 && all.processes_reused == 0)
      }
      var probe = um_probe()
      um_probe(&probe)
      guard probe.barrier != 0 else { return }
      try withMachine {
        let all = alternate((100..<120).map { UInt64($0) })
        #expect(all.barriers > 0 && all.barriers == all.processes_reused)
      }
    }

    /// Polling for ever; or asleep at the right place, but with its signals not blocked.
    @Test(arguments: [1 << 60, 0] as [UInt64])
    func `a thread that stays behind in the stub does not meet the next program`(polling: UInt64) throws {
      try withMachine {
        let process = squat(polling: polling)
        rest()
        let reused = UserMachine.statistics.processes_reused
        for _ in 0..<3 {
          let space = Space()
          #expect(um_space_process(space.handle) != process)
          #expect(Guest(space, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
          space.destroy()
          if UserMachine.statistics.processes_reused > reused { break }
        }
        var waited = 0
        while kill(process, 0) == 0, waited < 5000 {
          rest()
          waited += 1
        }
        #expect(kill(process, 0) != 0)  // and it does not stay for ever
      }
      try withMachine(switches: UM_TEST_NO_PROOF) {
        let process = squat(polling: polling)
        usleep(5_000)
        let space = Space()
        #expect(um_space_process(space.handle) == process)
        let guest = Guest(space, GUEST_SYSCALL_LOOP)
        let kind = guest.run()
        // The next program's thread acts in the stub, with the last one's registers.
        if polling > 0 { #expect(kind == MACHINE_EVENT_FAULT && guest.registers.rip >= UM_USER_LIMIT) }
        space.destroy()
      }
    }
  }
}
