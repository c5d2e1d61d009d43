// membarrier(2): every CPU that runs user code executes a full barrier before the call returns. A CPU which is brought
// into the kernel does so; the count of entries tells when each has been.

import KernelCore
import LinuxABI
import Machine
import Scheduling
import Synchronization

/// Barriers on all CPUs.
public enum Barriers {
  /// Odd while a CPU runs user code; every entry into the kernel makes it even with a full barrier.
  static let epochs = PerCPU<Epoch> { _ in Epoch() }

  final class Epoch {
    let value = Atomic<UInt64>(0)
  }

  /// Just before this CPU runs user code.
  @inline(__always)
  static func enterUser() { epochs.current.value.wrappingAdd(1, ordering: .sequentiallyConsistent) }

  /// Just after.
  @inline(__always)
  static func leaveUser() { epochs.current.value.wrappingAdd(1, ordering: .sequentiallyConsistent) }

  /// Returns when every other CPU has been in the kernel since the call.
  @export(interface)
  public static func synchronize() {
    let own = CPU.currentIndex
    for cpu in 0..<CPU.count where cpu != own {
      let epoch = epochs[cpu]
      let seen = epoch.value.load(ordering: .sequentiallyConsistent)
      guard seen % 2 == 1 else { continue }
      machine_cpu_kick(UInt64(cpu))
      var spins: UInt64 = 0
      while epoch.value.load(ordering: .sequentiallyConsistent) == seen {
        spins &+= 1
        machine_pause(spins)
      }
    }
  }
}
