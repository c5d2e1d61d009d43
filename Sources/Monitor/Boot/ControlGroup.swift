// What a run may cost the host, as limits of a control group of its own. The monitor and the kernel keep to these limits by
// themselves; the group enforces them from outside where the host permits one (control_group.c).

import CMonitor
import Glibc

public enum ControlGroup {
  /// What one thread of the sandbox costs the host's kernel at most, with the process that it may be the first of.
  static let bytesPerThread: UInt64 = 192 << 10
  /// The monitor's own memory, and the files of the host that it reads for the sandbox.
  static let monitorBytes: UInt64 = 160 << 20

  /// Has the run put into a group, without waiting for it. Before anything else is started.
  static func join(_ configuration: MachineConfiguration) {
    let memory = configuration.memoryBytes
    let threads = UInt64(configuration.pidsLimit)
    // A host thread for each thread, one more for each process, and those of the monitor and its pool.
    let bytes = memory + memory / 8 + monitorBytes + threads * bytesPerThread
    let error = monitor_control_group(bytes, 2 * threads + 512, configuration.showsKernelLog ? 1 : 0)
    if error != 0, configuration.showsKernelLog {
      Diagnostics.write("apus: no control group: \(Monitor.text(of: -error))\n")
    }
  }

  /// Whether the host permits a group, for people.
  public static var availability: String {
    var version: Int32 = 0
    // SAFETY: the number lives until the call returns.
    let error = unsafe monitor_control_group_probe(&version)
    return error == 0 ? "version \(version)" : "none (\(Monitor.text(of: -error)))"
  }
}
