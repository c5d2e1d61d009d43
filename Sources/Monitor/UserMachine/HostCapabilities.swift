// What the host offers to the user machine, for `apus info` and for messages.

import CUserMachine

/// What the host offers to the user machine.
public struct HostCapabilities: Sendable {
  public let fsgsbase, seccomp, memfd: Bool
  /// CPUs that this process may use.
  public let hostCPUs: Int
  /// Whether user threads may poll on a host CPU of their own: on the running machine, or on one with one CPU.
  public let polls: Bool
  /// Bytes of a thread's extended state, and the features in it (XCR0).
  public let extendedStateSize, extendedStateFeatures: UInt64
  /// Bytes of the host's largest signal frame.
  public let signalFrameSize: UInt64
  /// Mappings that one user process may have.
  public let maximumAreas: UInt64
  /// Limits of this process; nil when there is none.
  public let maximumProcesses, maximumFiles: UInt64?

  /// Asks the host.
  public init() {
    var probe = CUserMachine.um_probe()
    // SAFETY: the pointer is valid during the call.
    unsafe um_probe(&probe)
    fsgsbase = probe.fsgsbase != 0
    seccomp = probe.seccomp != 0
    memfd = probe.memfd != 0
    hostCPUs = Int(probe.host_cpus)
    polls = probe.hand_over != UM_HAND_OVER_SLEEPING.rawValue
    extendedStateSize = probe.xstate_size
    extendedStateFeatures = probe.xstate_features
    signalFrameSize = probe.signal_frame
    maximumAreas = probe.maximum_areas
    maximumProcesses = probe.maximum_processes == .max ? nil : probe.maximum_processes
    maximumFiles = probe.maximum_files == .max ? nil : probe.maximum_files
  }

  /// What is missing for the user machine to work at all; empty when it works.
  public var obstacles: [String] {
    var result: [String] = []
    if !fsgsbase {
      result.append("the processor or the host's kernel does not let programs write the FS base (FSGSBASE)")
    }
    if !seccomp { result.append("the host's kernel has no seccomp filters") }
    if !memfd { result.append("memfd_create does not work") }
    if signalFrameSize > 16_128 { result.append("the host's signal frame of \(signalFrameSize) bytes is too large") }
    return result
  }

  /// One line for each fact, name and value.
  public var lines: [(name: String, value: String)] {
    func limit(_ value: UInt64?) -> String { value.map { "\($0)" } ?? "none" }
    return [
      ("host CPUs", "\(hostCPUs)"),
      ("hand-over", polls ? "asleep, polling for threads with many calls" : "asleep"),
      ("FSGSBASE", fsgsbase ? "yes" : "no"),
      ("seccomp filters", seccomp ? "yes" : "no"),
      ("memfd", memfd ? "yes" : "no"),
      ("extended state", "\(extendedStateSize) bytes, features 0x\(String(extendedStateFeatures, radix: 16))"),
      ("signal frame", "\(signalFrameSize) bytes"),
      ("mappings per user process", "\(maximumAreas)"),
      ("process limit", limit(maximumProcesses)),
      ("file limit", limit(maximumFiles)),
    ]
  }
}
