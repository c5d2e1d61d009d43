// The kernel process itself: its exceptions and its confinement.

import CMachine
import CUserMachine
import Glibc
import Testing
import UserMachineTestSupport

@testable import UserMachine

extension UserMachineTests {
  @Suite struct KernelProcess {
    @Test func `exceptions of the kernel image arrive in its trap routine, on the interrupted stack`() throws {
      try withMachine {
        var vector: UInt64 = 0, fault: UInt64 = 0
        var distance: Int64 = 0
        #expect(trap_test(0, 0, &vector, &fault, &distance) == 0x5eed)
        #expect(vector == 6)
        #expect(distance > 0 && distance < 1024)
        _ = trap_test(1, 0x1234, &vector, &fault, &distance)
        #expect(vector == 14 && fault == 0x1234)
        #expect(distance > 0 && distance < 1024)
        // And the machine still works.
        let space = Space()
        #expect(Guest(space, GUEST_SYSCALL_LOOP).run() == MACHINE_EVENT_SYSCALL)
        space.destroy()
      }
    }

    @Test func `a confined kernel process runs guests, and nothing else`() async {
      await #expect(processExitsWith: .exitCode(42)) {
        try withMachine(cpus: 2) {
          guard um_confine(nil, 0) == 0 else { exit(1) }
          for _ in 0..<20 {  // more than the pool holds: the maker works confined
            let space = Space()
            let first = Guest(space, GUEST_SYSCALL_LOOP), second = Guest(space, GUEST_SPIN)
            guard first.run() == MACHINE_EVENT_SYSCALL else { exit(2) }
            let other = OtherCPU(1) { second.run(deadline: now() + 1_000_000) }
            first.run()
            other.join()
            space.destroy()
          }
          guard um_memory_release(1 << 20, page) == 1 else { exit(3) }
          _exit(42)
        }
      }
      await #expect(processExitsWith: .exitCode(125)) {
        try withMachine {
          guard um_confine(nil, 0) == 0 else { exit(1) }
          _ = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
          exit(2)
        }
      }
      await #expect(processExitsWith: .exitCode(0)) {  // the same without the rule
        try withMachine {
          let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
          exit(file >= 0 ? 0 : 1)
        }
      }
    }
  }
}
