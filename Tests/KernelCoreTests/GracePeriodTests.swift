import Foundation
import Synchronization
import TestSupport
import Testing

@testable import KernelCore

/// A call that counts in the word behind it.
private struct CountedCall {
  var call = DeferredCall()
  var made = 0
}

private func count(_ address: UnsafeMutableRawPointer) {
  unsafe address.assumingMemoryBound(to: CountedCall.self).pointee.made += 1
}

@Suite struct GracePeriodTests {
  /// Runs `body` with the address of a call, and tells how often it was made in the end.
  private func withCall(_ body: (UnsafeMutablePointer<DeferredCall>, () -> Int) -> Void) {
    let memory = UnsafeMutablePointer<CountedCall>.allocate(capacity: 1)
    unsafe memory.initialize(to: CountedCall())
    unsafe body(
      UnsafeMutableRawPointer(memory).assumingMemoryBound(to: DeferredCall.self), { unsafe memory.pointee.made })
    unsafe memory.deallocate()
  }

  @Test func `a call waits for the CPUs that were inside, and for no others`() {
    let periods = GracePeriods(cpuCount: 4)
    for cpu in 0..<3 { periods.enter(cpu) }
    withCall { call, made in
      unsafe periods.deferCall(0, call, { unsafe count($0) })
      #expect(periods.hasPending(0) && made() == 0)
      periods.poll(0)
      // CPU 3, which was outside, comes too late to matter.
      periods.enter(3)
      periods.poll(0)
      #expect(made() == 0)
      periods.pass(1)
      periods.poll(0)
      #expect(made() == 0)
      periods.leaveForUser(2)
      periods.enterFromUser(2)
      periods.poll(0)
      #expect(made() == 1 && !periods.hasPending(0))
    }
  }

  @Test func `idle CPUs and those that run user code hold nothing up`() {
    let periods = GracePeriods(cpuCount: 64)
    periods.enter(5)
    for cpu in 6..<64 {
      periods.enter(cpu)
      cpu % 2 == 0 ? periods.leave(cpu) : periods.leaveForUser(cpu)
    }
    withCall { call, made in
      unsafe periods.deferCall(5, call, { unsafe count($0) })
      periods.poll(5)
      #expect(made() == 1)
    }
    #expect(periods.userRun(6) == nil && periods.userRun(7) != nil && periods.userRun(5) == nil)
  }

  @Test func `what is deferred during a grace period waits for the next one`() {
    let periods = GracePeriods(cpuCount: 2)
    periods.enter(0)
    periods.enter(1)
    withCall { first, firstMade in
      withCall { second, secondMade in
        unsafe periods.deferCall(0, first, { unsafe count($0) })
        periods.poll(0)
        unsafe periods.deferCall(0, second, { unsafe count($0) })
        periods.pass(1)
        periods.poll(0)
        #expect(firstMade() == 1 && secondMade() == 0)
        periods.poll(0)
        #expect(secondMade() == 0)
        periods.leave(1)
        periods.poll(0)
        #expect(secondMade() == 1 && !periods.hasPending(0))
      }
    }
  }

  @Test func `nested entries end with the last one`() {
    let periods = GracePeriods(cpuCount: 2)
    periods.enter(1)
    periods.enter(1)
    withCall { call, made in
      unsafe periods.deferCall(0, call, { unsafe count($0) })
      periods.poll(0)
      periods.leaveNested(1)
      periods.poll(0)
      #expect(made() == 0 && periods.depth(1) == 1)
      periods.leaveNested(1)
      periods.poll(0)
      #expect(made() == 1)
    }
  }

  /// Threads replace an object and read it; a reader never sees one that was given back.
  @Test func `nothing is freed under a reader`() {
    let threads = 4
    let rounds = SeededGenerator.steps(40_000)
    let periods = GracePeriods(cpuCount: threads)
    struct Box {
      var call = DeferredCall()
      var alive: UInt64 = 0x600d
    }
    func make() -> UInt {
      let box = UnsafeMutablePointer<Box>.allocate(capacity: 1)
      unsafe box.initialize(to: Box())
      return UInt(bitPattern: box)
    }
    let current = Atomic<UInt>(make())
    let wrong = Atomic<Int>(0)
    let running = Atomic<Int>(threads)
    DispatchQueue.concurrentPerform(iterations: threads) { cpu in
      periods.enter(cpu)
      for round in 0..<rounds {
        if cpu == 0 || round % 64 == cpu {
          let old = current.exchange(make(), ordering: .acquiringAndReleasing)
          unsafe periods.deferCall(cpu, UnsafeMutablePointer<DeferredCall>(bitPattern: old)!) { address in
            let box = unsafe address.assumingMemoryBound(to: Box.self)
            unsafe box.pointee.alive = 0xdead
            unsafe box.deallocate()
          }
        } else {
          let box = unsafe UnsafePointer<Box>(bitPattern: current.load(ordering: .acquiring))!
          for _ in 0..<10 where unsafe box.pointee.alive != 0x600d { wrong.add(1, ordering: .relaxed) }
        }
        switch round % 3 {
        case 0: periods.poll(cpu)
        case 1: periods.pass(cpu)
        default:
          periods.leaveForUser(cpu)
          periods.enterFromUser(cpu)
        }
      }
      // All calls are made in the end, whatever the others do.
      while periods.hasPending(cpu) { periods.poll(cpu) }
      periods.leave(cpu)
      running.subtract(1, ordering: .relaxed)
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    unsafe UnsafeMutablePointer<Box>(bitPattern: current.load(ordering: .relaxed))!.deallocate()
  }

  @Test func `a closure is called when its readers have left`() {
    let called = Atomic<Int>(0)
    RCU.read {
      RCU.read { RCU.defer { called.add(1, ordering: .relaxed) } }
      #expect(called.load(ordering: .relaxed) == 0)
    }
    #expect(called.load(ordering: .relaxed) == 1)
    RCU.defer { called.add(1, ordering: .relaxed) }
    #expect(called.load(ordering: .relaxed) == 2)
  }
}
