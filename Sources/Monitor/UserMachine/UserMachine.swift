// Starting and stopping the user machine, with errors that a person can read.
//
// The machine itself is C and assembly (CUserMachine): nothing of what happens while a guest runs is in this file.

import CUserMachine
import Glibc

/// The machine that runs user programs of the guest in processes of the host.
///
/// There is one in a process, so its operations are static.
public enum UserMachine {
  /// How the machine is laid out.
  public struct Options {
    /// Bytes of guest memory, a multiple of the page size. The host provides pages as they are touched.
    public var memorySize: UInt64
    /// Threads that serve as CPUs, 1 to 64.
    public var cpuCount: Int
    /// Address spaces that can exist at a time; 0 is the largest number.
    public var maximumSpaces = 0
    /// Empty user processes kept ready.
    public var poolSize = 4
    /// How a CPU and its user threads wait for each other.
    public var handOver = HandOver.automatic

    public init(memorySize: UInt64, cpuCount: Int) {
      self.memorySize = memorySize
      self.cpuCount = cpuCount
    }
  }

  /// The ways of handing a CPU to a user thread and back.
  public enum HandOver: Sendable {
    /// Asleep; and a thread that makes one quick call after another polls, where the host has two CPUs for each.
    case automatic
    /// Both sides share a host CPU and sleep while the other runs: right wherever no CPU is idle.
    case sleeping
    /// Both sides poll on host CPUs of their own, for so many ticks of the time-stamp counter, before they sleep.
    case polling(kernelTicks: UInt64, userTicks: UInt64)
  }

  /// Why the machine did not start.
  public struct Failure: Error, CustomStringConvertible {
    /// The host's error number.
    public let code: Int32
    /// What was being done.
    public let step: String

    public var description: String {
      let reason = unsafe String(cString: strerror(code))
      switch code {
      case EAGAIN: return "\(step): \(reason) (a limit of processes: see `ulimit -u`)"
      case EMFILE, ENFILE: return "\(step): \(reason) (see `ulimit -n`)"
      case EIO, ETIMEDOUT: return "\(step): the host's process died or does not answer"
      default: return "\(step): \(reason)"
      }
    }
  }

  /// Starts the machine; `cpuMain` is called with the index of each CPU that `um_cpu_start` starts, on its own thread.
  public static func start(_ options: Options, cpuMain: (@convention(c) (UInt64) -> Void)?) throws(Failure) {
    try start(options, testSwitches: 0, cpuMain: cpuMain)
  }

  static func start(
    _ options: Options, testSwitches: UInt32, mappingLimit: UInt64 = 0, cpuMain: (@convention(c) (UInt64) -> Void)?
  ) throws(Failure) {
    var config = um_config()
    config.mapping_limit = mappingLimit
    guard let cpus = UInt32(exactly: options.cpuCount), let spaces = UInt32(exactly: options.maximumSpaces),
      let pool = UInt32(exactly: options.poolSize)
    else { throw Failure(code: EINVAL, step: "reading the options") }
    config.memory_size = options.memorySize
    config.cpu_count = cpus
    config.maximum_spaces = spaces
    config.pool_size = pool
    config.test_switches = testSwitches
    config.cpu_main = cpuMain
    switch options.handOver {
    case .automatic: config.hand_over = UM_HAND_OVER_AUTOMATIC.rawValue
    case .sleeping: config.hand_over = UM_HAND_OVER_SLEEPING.rawValue
    case .polling(let kernel, let user):
      config.hand_over = UM_HAND_OVER_POLLING.rawValue
      config.kernel_spin = kernel
      config.user_spin = user
    }
    var failure = unsafe um_failure()
    // SAFETY: both structures live until the call returns; the machine copies the first.
    let error = unsafe um_initialize(&config, &failure)
    // SAFETY: `step` is a string constant of the machine.
    if error != 0 { throw Failure(code: Int32(-error), step: unsafe String(cString: failure.step)) }
  }

  /// Ends all user processes and gives the memory back. No CPU may be running.
  public static func stop() { um_shutdown() }

  /// Guest-physical address 0 in this process.
  public static var memory: UnsafeMutablePointer<UInt8> { unsafe um_memory_base() }

  /// What has been done so far.
  public static var statistics: um_statistics {
    var result = um_statistics()
    // SAFETY: the pointer is valid during the call.
    unsafe um_statistics(&result)
    return result
  }
}
