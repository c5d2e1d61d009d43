// Mappings, and the life of user processes.

import CMachine
import CUserMachine
import Glibc
import Synchronization
import Testing
import UserMachineTestSupport

@testable import UserMachine

private final class Flag: Sendable {
  let value = Atomic<Bool>(false)
}

extension UserMachineTests {
  @Suite struct Spaces {
    @Test func `a fault names address and access, and a mapping made for it is there when the thread goes on`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_TOUCH)
        guest.registers.rsi = 0x1000_0000
        guest.registers.rcx = 300
        var faults: UInt64 = 0
        while guest.run() == MACHINE_EVENT_FAULT {
          #expect(guest.event.address == 0x1000_0000 + faults * page)
          #expect(guest.event.access == MACHINE_ACCESS_WRITE.rawValue)
          um_space_map(space.handle, guest.event.address, 1 << 20 + faults * page, page, 3)
          faults += 1
        }
        #expect(faults == 300)
        #expect(guest.event.kind == MACHINE_EVENT_SYSCALL.rawValue)
        #expect(UserMachine.memory[1 << 20 + 299 * Int(page)] == 1)
        guest.registers.rip = 0x77_0000
        #expect(guest.run() == MACHINE_EVENT_FAULT)
        #expect(guest.event.access == MACHINE_ACCESS_EXECUTE.rawValue && guest.event.address == 0x77_0000)
        space.destroy()
      }
    }

    /// A thread on one CPU is resumed while the mapper still works for a thread on another, whose resumption has published the
    /// commands of both. The mapper has a lot to do before it comes to the second mapping of `target`.
    @Test func `a thread is resumed behind commands that another CPU has published`() throws {
      try withMachine(cpus: 2) {
        let target: UInt64 = 0x1000_0000, frames: UInt64 = 1 << 20, large: UInt64 = 32 << 20
        UserMachine.memory[Int(frames)] = 1
        UserMachine.memory[Int(frames + page)] = 2
        let space = Space()
        let first = Guest(space, GUEST_SYSCALL_LOOP), second = Guest(space, GUEST_LOAD)
        for round in 0..<8 as Range<UInt64> {
          um_space_map(space.handle, target, frames, page, 1)
          second.start(GUEST_LOAD)
          second.registers.rsi = target
          #expect(second.run() == MACHINE_EVENT_SYSCALL)
          #expect(second.registers.rdi == 1)
          // Populated, page by page: holes of the memory file, which the last round's release has made.
          um_space_map(space.handle, 0x4000_0000, large, large, 3 | UInt64(MACHINE_MAP_FILL))
          um_space_map(space.handle, target, frames + page, page, 1)
          let before = UserMachine.statistics.commands
          let other = OtherCPU(1) { #expect(first.run() == MACHINE_EVENT_SYSCALL) }
          while UserMachine.statistics.commands == before { sched_yield() }
          second.start(GUEST_LOAD)
          #expect(second.run() == MACHINE_EVENT_SYSCALL)
          #expect(second.registers.rdi == 2, "round \(round)")
          other.join()
          #expect(um_memory_release(large, large) == 1)
        }
        space.destroy()
      }
    }

    @Test func `threads are made while another CPU changes mappings of their space`() throws {
      try withMachine(cpus: 2) {
        let space = Space()
        let isDone = Flag()
        let other = OtherCPU(1) {
          while !isDone.value.load(ordering: .acquiring) {
            for i in 0..<20 as Range<UInt64> {
              um_space_map(space.handle, 0x4000_0000 + 2 * i * page, 1 << 20, page, 3)
            }
            um_space_unmap(space.handle, 0x4000_0000, 40 * page)
            if um_space_commit(space.handle) != 0 { Issue.record("a commit fails") }
          }
        }
        let process = um_space_process(space.handle)
        let users = (0..<60).map { _ in um_user_create(space.handle) }
        for user in users {
          #expect(user > 0)
          #expect(access("/proc/\(process)/task/\(um_user_thread(user))", F_OK) == 0)
        }
        isDone.value.store(true, ordering: .releasing)
        other.join()
        for user in users { um_user_destroy(user) }
        space.destroy()
      }
    }

    @Test func `unmap and protect are in force after the commit, also over holes`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_STORE)
        let area: UInt64 = 0x2000_0000
        um_space_map(space.handle, area, 1 << 20, 4 * page, 3)
        um_space_map(space.handle, area + 8 * page, 2 << 20, 4 * page, 3)
        guest.registers.rsi = area
        guest.registers.rdi = 7
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        #expect(UserMachine.memory[1 << 20] == 7)
        um_space_protect(space.handle, area, 12 * page, 1)
        #expect(um_space_commit(space.handle) == 0)
        for address in [area, area + 3 * page, area + 8 * page, area + 11 * page] {
          guest.start(GUEST_STORE)
          guest.registers.rsi = address
          #expect(guest.run() == MACHINE_EVENT_FAULT && guest.event.address == address)
        }
        um_space_map(space.handle, area, 1 << 20, 4 * page, 3)
        guest.registers.rsi = area
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        um_space_unmap(space.handle, area, 2 * page)
        um_space_unmap(space.handle, area + 2 * page, 2 * page)
        #expect(um_space_commit(space.handle) == 0)
        guest.start(GUEST_LOAD)
        #expect(guest.run() == MACHINE_EVENT_FAULT && guest.event.address == area)
        space.destroy()
      }
    }

    @Test func `commands beyond the ring's room do not wait, and nothing stale stays mapped`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_TOUCH)
        func store(_ value: UInt64, at address: UInt64) -> UInt32 {
          guest.start(GUEST_STORE)
          guest.registers.rdi = value
          guest.registers.rsi = address
          return guest.run().rawValue
        }
        let (old, new, area) = (UInt64(1 << 20), UInt64(4 << 20), UInt64(0x5000_0000))
        um_space_map(space.handle, area, old, 8 * page, 3)
        #expect(um_space_commit(space.handle) == 0)
        #expect(store(1, at: area) == MACHINE_EVENT_SYSCALL.rawValue)
        // Every other page, so that nothing can be merged, then other pages in the place of the first, and less than they allow.
        let before = UserMachine.statistics
        for i in 0..<1000 as Range<UInt64> {
          um_space_map(space.handle, 0x4000_0000 + 2 * i * page, new + i * page, page, 3)
        }
        um_space_map(space.handle, area, new, page, 3)
        um_space_protect(space.handle, area + 2 * page, page, 1)
        um_space_unmap(space.handle, area + 4 * page, page)
        let after = UserMachine.statistics
        // Had anyone waited for room, nothing would be lost. (Acknowledgements tell nothing: the maker asks for some beside the test.)
        #expect(after.commands_lost - before.commands_lost > 700)
        #expect(um_space_commit(space.handle) == 0)
        for offset in [0, 2, 4] as [UInt64] {
          #expect(store(2, at: area + offset * page) == MACHINE_EVENT_FAULT.rawValue)
          #expect(UserMachine.memory[Int(old + offset * page)] == (offset == 0 ? 1 : 0))
        }
        // What came in time is there; what was lost comes back by a fault, without a commit.
        #expect(store(3, at: 0x4000_0000) == MACHINE_EVENT_SYSCALL.rawValue)
        #expect(UserMachine.memory[Int(new)] == 3)
        let last = 0x4000_0000 + 2 * 999 * page
        #expect(store(4, at: last) == MACHINE_EVENT_FAULT.rawValue)
        um_space_map(space.handle, last, new + 999 * page, page, 3)
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        #expect(UserMachine.memory[Int(new + 999 * page)] == 4)
        space.destroy()
      }
    }

    @Test func `with commits between them any number of commands arrives`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_TOUCH)
        let before = UserMachine.statistics.commands_lost
        for i in 0..<1000 as Range<UInt64> {
          um_space_map(space.handle, 0x3000_0000 + 2 * i * page, 1 << 20 + i * page, page, 3)
          if i % 100 == 99 { #expect(um_space_commit(space.handle) == 0) }
        }
        for i in 0..<1000 as Range<UInt64> {
          guest.start(GUEST_STORE)
          guest.registers.rdi = i & 0xff
          guest.registers.rsi = 0x3000_0000 + 2 * i * page
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        }
        #expect(UserMachine.memory[1 << 20 + 999 * Int(page)] == 999 & 0xff)
        #expect(UserMachine.statistics.commands_lost == before)
        space.destroy()
      }
    }

    @Test func `beyond the host's limit of areas mappings are dropped and come back by faults`() throws {
      try withMachine {
        let space = Space()
        let guest = Guest(space, GUEST_LOAD)
        let count = HostCapabilities().maximumAreas + 1000
        try #require(count < 200_000)
        // Neighbours in address that are not in memory: an area for each.
        for i in 0..<count {
          um_space_map(space.handle, 0x1_0000_0000 + i * page, (1 << 20) + (i & 1) * 2 * page, page, 1)
          if i % 100 == 99 { #expect(um_space_commit(space.handle) == 0) }
        }
        um_space_unmap(space.handle, 0x1_0000_0000 + 77 * page, page)
        #expect(um_space_commit(space.handle) == 0)
        um_space_map(space.handle, codeAddress, 0, page, 5)
        guest.registers.rsi = 0x1_0000_0000 + (count - 1) * page
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        guest.start(GUEST_LOAD)
        guest.registers.rsi = 0x1_0000_0000
        #expect(guest.run() == MACHINE_EVENT_FAULT)
        space.destroy()
      }
    }

    @Test func `ranges that the kernel must not ask for are refused by the commit`() throws {
      try withMachine {
        let space = Space()
        for (address, physical, length) in [
          (UM_USER_LIMIT, 0, page), (UM_USER_LIMIT - page, 0, 2 * page), (0x1000, 64 << 20, page), (0x1000, 0, 0),
          (0x1001, 0, page), (0x1000, 1, page), (.max - 4095, 0, page), (0x1000, .max - 4095, page),
        ] as [(UInt64, UInt64, UInt64)] {
          um_space_map(space.handle, address, physical, length, 3)
          #expect(um_space_commit(space.handle) == Int64(-EINVAL))
        }
        um_space_unmap(space.handle, 0x1000, UM_USER_LIMIT)
        #expect(um_space_commit(space.handle) == Int64(-EINVAL))
        #expect(um_space_commit(space.handle) == 0)
        #expect(um_space_commit(0) == Int64(-EBADF) && um_space_commit(-1) == Int64(-EBADF))
        #expect(um_user_create(999) == Int64(-EBADF))
        #expect(Guest(space, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
        space.destroy()
      }
    }

    @Test func `two hundred spaces in a row leave no process behind`() throws {
      let before = childProcesses()
      try withMachine {
        for _ in 0..<200 {
          let space = Space()
          let guest = Guest(space, GUEST_SYSCALL_LOOP)
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
          space.destroy()
        }
        var waited = 0
        while childProcesses() > before + 10, waited < 3000 {
          usleep(10_000)
          waited += 1
        }
        #expect(childProcesses() <= before + 10)  // the zygote and the pool
      }
      #expect(childProcesses() == before)
    }

    @Test func `many spaces exist at a time, and too many are refused`() throws {
      try withMachine(spaces: 60) {
        var spaces: [Space] = []
        for _ in 0..<50 { spaces.append(Space()) }
        let guests = spaces.map { Guest($0, GUEST_SYSCALL_LOOP) }
        for guest in guests { #expect(guest.run() == MACHINE_EVENT_SYSCALL) }
        var more: [Int64] = []
        while more.count < 60 {
          let handle = um_space_create(0)
          if handle < 0 {
            #expect(handle == Int64(-EAGAIN))
            break
          }
          more.append(handle)
        }
        #expect(more.count < 60)
        for handle in more { um_space_destroy(handle) }
        for space in spaces { space.destroy() }
      }
    }

    /// The mappings of the dearest process are dropped for another's sake: its mapper has tens of milliseconds of work that no run asked
    /// for, and that is not the program's fault.
    @Test func `a process that loses all its mappings is not ended for the time that takes`() throws {
      let memory: UInt64 = 64 << 20, region: UInt64 = 2 << 20
      try withMachine(mappingLimit: 6 << 20) {
        let dear = Space(), other = Space()
        let guest = Guest(dear, GUEST_SYSCALL_LOOP), cause = Guest(other, GUEST_SYSCALL_LOOP)
        for i in 1...36 {
          um_space_map(dear.handle, UInt64(i) << 32, 0, memory, 3 | UInt64(MACHINE_MAP_FILL))
          #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        }
        let process = um_space_process(dear.handle)
        let before = UserMachine.statistics.spaces_dropped
        var regions: UInt64 = 0
        while UserMachine.statistics.spaces_dropped == before, regions < 2000 {
          regions += 1
          um_space_map(other.handle, 1 << 40 + regions * region, page, page, 1)
          #expect(cause.run() == MACHINE_EVENT_SYSCALL)
        }
        #expect(UserMachine.statistics.spaces_dropped == before + 1)
        um_idle(now() + 300_000_000)
        #expect(kill(process, 0) == 0)
        um_space_map(dear.handle, codeAddress, 0, page, 5)
        #expect(guest.run() == MACHINE_EVENT_SYSCALL)
        #expect(UserMachine.statistics.condemned.2 == 0)  // UM_REASON_UNGRANTED
        dear.destroy()
        other.destroy()
      }
    }

    @Test func `a killed user process is an event, not a hang`() throws {
      try withMachine(cpus: 2) {
        let space = Space(), bystander = Space()
        let guest = Guest(space, GUEST_SPIN), fine = Guest(bystander, GUEST_SYSCALL_LOOP)
        #expect(guest.run(deadline: now() + 1_000_000) == MACHINE_EVENT_INTERRUPT)
        let process = um_space_process(space.handle)
        let killer = OtherCPU(1) {
          usleep(20_000)
          kill(process, SIGKILL)
        }
        #expect(guest.runAfterPreemption(deadline: noDeadline) == MACHINE_EVENT_DEAD)
        killer.join()
        #expect(guest.run(deadline: noDeadline) == MACHINE_EVENT_DEAD)
        um_space_unmap(space.handle, codeAddress, page)
        #expect(um_space_commit(space.handle) == 0)
        #expect(um_user_create(space.handle) < 0)
        #expect(fine.run() == MACHINE_EVENT_SYSCALL)
        space.destroy()
        bystander.destroy()
      }
    }

    @Test func `released memory reads as zero`() throws {
      try withMachine {
        let place = UserMachine.memory + (4 << 20)
        for i in 0..<256 { place[i * Int(page)] = 1 }
        #expect(um_memory_release(4 << 20, 256 * page) == 1)
        #expect((0..<256).allSatisfy { place[$0 * Int(page)] == 0 })
        #expect(um_memory_release(1, page) == Int64(-EINVAL))
        #expect(um_memory_release(64 << 20, page) == Int64(-EINVAL))
        #expect(um_memory_release(0, .max - 4095) == Int64(-EINVAL))
      }
    }

    @Test func `enlarged memory keeps its contents and is released like other memory`() throws {
      try withMachine {
        let large: UInt64 = 2 << 20
        let place = UserMachine.memory + Int(4 * large)
        for i in 0..<512 where i % 7 == 0 { place[i * Int(page)] = UInt8(i & 127) }
        // A host without large pages answers 0.
        let made = um_memory_enlarge(4 * large, 2 * large)
        #expect(made >= 0 && made <= 2)
        #expect((0..<512).allSatisfy { place[$0 * Int(page)] == ($0 % 7 == 0 ? UInt8($0 & 127) : 0) })
        #expect(um_memory_enlarge(4 * large, 2 * large) == made)
        #expect(um_memory_release(4 * large, large) == 1)
        #expect((0..<512).allSatisfy { place[$0 * Int(page)] == 0 })
        #expect(um_memory_enlarge(page, large) == Int64(-EINVAL))
        #expect(um_memory_enlarge(large, page) == Int64(-EINVAL))
        #expect(um_memory_enlarge(64 << 20, large) == Int64(-EINVAL))
        #expect(um_memory_enlarge(0, UInt64.max & ~(large - 1)) == Int64(-EINVAL))
      }
    }

    @Test func `a kernel stack is guest memory with a guard below`() throws {
      try withMachine {
        let stack = um_thread_stack(32768, 0)
        try #require(stack != 0)
        let memory = UnsafeMutablePointer<UInt8>(bitPattern: UInt(stack))!
        memory[0] = 1
        memory[32767] = 2
        #expect(UserMachine.memory[32768] == 1 && UserMachine.memory[65535] == 2)
        var pipes: [Int32] = [0, 0]
        #expect(pipe(&pipes) == 0)
        // The host answers EFAULT for memory that cannot be read.
        #expect(write(pipes[1], memory - 1, 1) == -1 && errno == EFAULT)
        #expect(write(pipes[1], memory, 1) == 1)
        close(pipes[0])
        close(pipes[1])
        #expect(um_thread_stack(0, stack) == 32768)
        #expect(um_thread_stack(32768, 0) == stack)
        #expect(um_thread_stack(0, stack) == 32768)
        #expect(um_thread_stack(4096, 0) == 0 && um_thread_stack(64 << 20, 0) == 0)
      }
    }

    @Test func `a wrong configuration is refused with its step`() {
      #expect(throws: UserMachine.Failure.self) {
        try UserMachine.start(.init(memorySize: 12345, cpuCount: 1), cpuMain: nil)
      }
      #expect(throws: UserMachine.Failure.self) {
        try UserMachine.start(.init(memorySize: 1 << 20, cpuCount: 65), cpuMain: nil)
      }
      #expect(HostCapabilities().obstacles.isEmpty)
    }
  }
}
