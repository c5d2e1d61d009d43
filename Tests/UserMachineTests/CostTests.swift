// What the machine's operations cost here and now: printed, with bounds that only a mistake exceeds.

import CMachine
import CUserMachine
import Testing
import UserMachineTestSupport

@testable import UserMachine

/// Microseconds of one `body`, the least of many batches: other work on the host only adds.
private func cost(batches: Int = 200, of count: Int = 50, _ body: () -> Void) -> Double {
  var least = UInt64.max
  for _ in 0..<batches {
    let start = now()
    for _ in 0..<count { body() }
    least = min(least, now() - start)
  }
  return Double(least) / Double(count) / 1000
}

extension UserMachineTests {
  @Suite struct Costs {
    @Test(arguments: [.sleeping, .automatic, alwaysPolling] as [UserMachine.HandOver])
    func `costs are printed`(handOver: UserMachine.HandOver) throws {
      try withMachine(handOver: handOver) {
        let space = Space()
        let guest = Guest(space, GUEST_SYSCALL_LOOP)
        let deadline = now() + 100 * oneSecond
        let call = cost { guest.run(deadline: deadline) }
        let area: UInt64 = 0x1000_0000
        guest.start(GUEST_TOUCH)
        guest.registers.rsi = area
        guest.registers.rcx = .max
        guest.run(deadline: deadline)
        let fault = cost(batches: 40) {
          um_space_map(space.handle, guest.event.address, 1 << 20 + (guest.event.address - area), page, 3)
          guest.run(deadline: deadline)
        }
        let unmap = cost(batches: 40) {
          um_space_unmap(space.handle, area, page)
          _ = um_space_commit(space.handle)
        }
        let life = cost(batches: 20, of: 10) {
          let short = Space()
          Guest(short, GUEST_SYSCALL_LOOP).run(deadline: deadline)
          short.destroy()
        }
        space.destroy()
        print(
          "\(handOver): system call \(call) us, fault with a page mapped \(fault) us, "
            + "unmap and commit \(unmap) us, space with a thread from creation to destruction \(life) us")
        #expect(call < 500 && fault < 1000 && unmap < 1000 && life < 20_000)
      }
    }
  }
}
