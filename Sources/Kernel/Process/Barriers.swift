// membarrier(2): every CPU that runs user code executes a full barrier before the call returns. A CPU which is brought
// into the kernel does so; what RCU knows about the CPUs tells when each has been.

import KernelCore
import Machine

/// Barriers on all CPUs.
public enum Barriers {
  /// Returns when every other CPU that runs user code has been in the kernel since the call.
  @export(interface)
  public static func synchronize() {
    let own = CPU.currentIndex
    for cpu in 0..<CPU.count where cpu != own {
      guard let run = RCU.userRun(cpu: cpu) else { continue }
      machine_cpu_kick(UInt64(cpu))
      var spin = SpinWait()
      while RCU.userRun(cpu: cpu) == run { spin.pause() }
    }
  }
}
