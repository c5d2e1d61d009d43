// What the command line asks of a machine: a plain value, checked by the command and carried to `Monitor.run`.
//
// The command (Sources/apus) fills it in and has rejected everything that can be judged without starting a machine;
// the monitor turns it into guest memory, vCPUs, devices and the kernel's `key=value` configuration strings.

import Devices

/// Everything that a run of Apus needs to know.
public struct MachineConfiguration: Sendable, Equatable {
  /// Which machine carries the kernel.
  public enum MachineKind: String, Sendable, CaseIterable {
    /// The best machine that the host offers; today that is the user machine.
    case auto
    /// User programs in other processes of the host, no privileges.
    case user
  }

  /// What the root of the sandbox is made of.
  public struct Root: Sendable, Equatable {
    /// The host directory that is served to the sandbox; absolute.
    public var directory: String
    /// Whether writes reach the host directory. When not, they stay in a memory overlay that ends with the run.
    public var isWritable: Bool
    /// What the sandbox sees of the directory.
    public var view: FileView

    public init(directory: String = "/", isWritable: Bool = false, view: FileView = .everything) {
      self.directory = directory
      self.isWritable = isWritable
      self.view = view
    }
  }

  /// A host directory made visible at a path of the sandbox.
  public struct Bind: Sendable, Equatable {
    /// Absolute path on the host.
    public var source: String
    /// Absolute path in the sandbox.
    public var destination: String
    public var isReadOnly: Bool

    public init(source: String, destination: String, isReadOnly: Bool) {
      self.source = source
      self.destination = destination
      self.isReadOnly = isReadOnly
    }
  }

  /// A file or block device of the host that the sandbox has as a disk.
  public struct Disk: Sendable, Equatable {
    public var path: String
    public var isReadOnly: Bool

    public init(path: String, isReadOnly: Bool) {
      self.path = path
      self.isReadOnly = isReadOnly
    }
  }

  /// A file or block device of the host to which memory of the sandbox can go.
  public struct Swap: Sendable, Equatable {
    public var path: String
    /// In bytes; nil: the file must exist. Otherwise it must have this size or is made.
    public var size: UInt64?

    public init(path: String, size: UInt64?) {
      self.path = path
      self.size = size
    }
  }

  /// The identity that the command starts with.
  public struct User: Sendable, Equatable {
    public var user: UInt32
    public var group: UInt32

    public init(user: UInt32, group: UInt32) {
      self.user = user
      self.group = group
    }
  }

  /// Which events are reported as they happen.
  public struct TraceOptions: Sendable, Equatable {
    /// One strace-like line for each system call.
    public var systemCalls = false
    /// Where the lines go; nil is the monitor's standard error.
    public var file: String?

    public init(systemCalls: Bool = false, file: String? = nil) {
      self.systemCalls = systemCalls
      self.file = file
    }
  }

  /// What a standard descriptor of the command is connected to.
  public enum StandardStream: String, Sendable {
    /// The host's terminal, through the terminal driver of Apus.
    case terminal = "tty"
    /// A pipe, file, or socket of the host: bytes as they are.
    case stream = "stream"
    /// The descriptor is closed on the host and so it is in the sandbox.
    case closed = "closed"
  }

  /// Whether set-ID bits and device nodes reach writable host directories.
  public var takesPrivilegedFiles = false
  /// Whether a monitor that root starts stays root.
  public var keepsIdentity = false
  /// `kernel.elf`; absolute.
  public var kernelPath: String
  public var machine: MachineKind = .auto
  /// Bytes of guest memory, a multiple of the page size. Committed only as touched.
  public var memoryBytes: UInt64 = 1 << 30
  /// What the overlay's files may take of it; nil: half.
  public var overlayBytes: UInt64?
  /// How many threads the sandbox can have, those of all its processes together. Each costs memory of the host's kernel.
  public var pidsLimit = 4096
  public static let pidsLimits = 1...16384
  /// Number of vCPUs, 1…64.
  public var cpus: Int = 1
  public var root = Root()
  public var binds: [Bind] = []
  /// /dev/vda and so on, in this order.
  public var disks: [Disk] = []
  /// The disks behind those, in use from the start.
  public var swaps: [Swap] = []
  /// The most disks, those for swap among them.
  public static let mostDisks = 8
  /// The command and its arguments; never empty. A name without a slash is looked up in `PATH` of `environment`.
  public var arguments: [String]
  /// `KEY=value` strings.
  public var environment: [String] = []
  /// Absolute path in the sandbox.
  public var workingDirectory = "/"
  public var user = User(user: 0, group: 0)
  public var hostname = "apus"
  public var trace = TraceOptions()
  /// After so many seconds the machine is ended and the exit status is 124, as timeout(1) does; nil is never.
  public var timeoutSeconds: Double?
  /// Standard input, output, and error.
  public var standardStreams: [StandardStream] = [.stream, .stream, .stream]
  /// Whether the kernel's log goes to standard error while the machine runs (otherwise only panics and oopses do).
  public var showsKernelLog = false
  /// Options of the kernel itself, words separated by spaces; `Documentation/kernel-options.md` lists them.
  public var kernelOptions: [String] = []
  /// Whether the monitor prints boot time and memory use on standard error at the end.
  public var showsStatistics = false

  public init(kernelPath: String, arguments: [String]) {
    self.kernelPath = kernelPath
    self.arguments = arguments
  }
}

/// A failure of Apus itself, as opposed to one of the command: exit status 125 and this sentence.
public struct MonitorFailure: Error, Equatable, CustomStringConvertible, Sendable {
  public let description: String

  public init(_ description: String) { self.description = description }
}
