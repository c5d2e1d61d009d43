// `apus run`: the options, checked one by one, become a `MachineConfiguration`.
//
// Everything that can be judged without a machine is judged here, with a sentence that says what was given and what is
// allowed. The words after the options belong to the command: they are cut off before the parser sees them, so
// that `apus run ls --help` asks ls for its help.
import ArgumentParser
import Glibc
import Monitor

extension MachineConfiguration.MachineKind: ExpressibleByArgument {}

/// What `--trace` may name.
enum TraceSubject: String, ExpressibleByArgument, CaseIterable {
  case syscalls
}

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Boots a kernel and runs a command on it.",
    usage: "apus run [options] [--] COMMAND [ARG …]",
    discussion: """
      Standard input, output and error pass through. The exit status is the command's own, or 128+n when signal n ended \
      it; 124 after --timeout; 125 when Apus itself failed, 126 when the command cannot be executed, 127 when it \
      does not exist.
      """)

  @Option(help: ArgumentHelp("Host directory that becomes the root of the sandbox.", valueName: "dir"))
  var root = "/"

  @Flag(help: "Write to the root directory itself, instead of to a memory overlay that ends with the run.")
  var writable = false

  @Option(
    help: ArgumentHelp(
      "Make the host directory SRC visible at DST (may be given several times).", valueName: "src:dst[:ro]"),
    transform: BindArgument.init)
  var bind: [BindArgument] = []

  @Option(
    help: ArgumentHelp(
      "Memory of the sandbox, \(MemorySize.allowed), committed only as touched. Suffixes K, M, G, T are powers of 1024.",
      valueName: "size"), transform: MemorySize.init)
  var memory = MemorySize(bytes: 1 << 30)

  @Option(
    help: ArgumentHelp(
      "Make a file or block device of the host /dev/vda and so on (may be given several times).",
      valueName: "file[:ro]"), transform: DiskArgument.init)
  var disk: [DiskArgument] = []

  @Option(
    help: ArgumentHelp(
      "Swap memory to a file or block device of the host: one with a swap signature, or an empty one. With a size it is "
        + "made if it is absent (may be given several times).", valueName: "file[:size]"),
    transform: SwapArgument.init)
  var swap: [SwapArgument] = []

  @Option(help: ArgumentHelp("Virtual CPUs, 1 to \(RunCommand.maximumCPUs) (default: the host's).", valueName: "n"))
  var cpus: Int?

  @Option(
    help: ArgumentHelp("Set an environment variable (may be given several times).", valueName: "key=value"),
    transform: EnvironmentArgument.init)
  var env: [EnvironmentArgument] = []

  @Flag(help: "Start with an empty environment instead of a copy of this one.")
  var clearEnv = false

  @Option(
    help: ArgumentHelp(
      "Working directory in the sandbox (default: the current directory if the root is /, else /).", valueName: "dir"))
  var cwd: String?

  @Option(
    help: ArgumentHelp("Numeric identity of the command (default: the caller's).", valueName: "uid[:gid]"),
    transform: UserArgument.init)
  var user: UserArgument?

  @Option(help: ArgumentHelp("Host name in the sandbox.", valueName: "name"))
  var hostname = "apus"

  @Option(help: ArgumentHelp("The machine that carries the kernel: user or auto.", valueName: "machine"))
  var machine: MachineConfiguration.MachineKind = .auto

  @Option(help: ArgumentHelp("Report events as they happen: syscalls.", valueName: "what"))
  var trace: [TraceSubject] = []

  @Option(help: ArgumentHelp("Where trace lines go (default: standard error).", valueName: "file"))
  var traceFile: String?

  @Option(
    help: ArgumentHelp(
      "The kernel image (default: kernel.elf beside this program, or ../lib/apus/kernel.elf from there).",
      valueName: "file"))
  var kernel: String?

  @Option(
    help: ArgumentHelp(
      "Options for the kernel, such as 'slob' or 'numa=fake=2' (may be given several times).", valueName: "options"))
  var append: [String] = []

  @Option(
    help: ArgumentHelp("End the run after so many seconds, with exit status 124.", valueName: "seconds"),
    transform: TimeoutArgument.init)
  var timeout: TimeoutArgument?

  @Flag(help: "Show the kernel's log on standard error.")
  var log = false

  @Flag(help: "Print boot time and memory used on standard error at the end.")
  var statistics = false

  @Argument(help: ArgumentHelp("The command and its arguments.", valueName: "command"))
  var command: [String] = []

  static let maximumCPUs = 64

  /// Boots the machine; this process ends with the exit status of the command.
  func start() throws -> Never {
    try Monitor.run(configuration: machineConfiguration())
  }

  /// Cuts `run`'s command off the arguments: everything after `--`, or from the first word that is neither an option
  /// nor an option's value. Other subcommands are left as they are.
  static func split(_ arguments: [String]) -> (options: [String], command: [String]) {
    guard arguments.first == "run" else { return (arguments, []) }
    var index = 1
    while index < arguments.count {
      let word = arguments[index]
      if word == "--" { return (Array(arguments[..<index]), Array(arguments[(index + 1)...])) }
      if !word.hasPrefix("-") || word == "-" { break }
      index += flags.contains(word) || word.contains("=") ? 1 : 2
    }
    index = min(index, arguments.count)
    return (Array(arguments[..<index]), Array(arguments[index...]))
  }

  /// The options that take no value. An unknown option's "value" is cut off with it and the parser reports the option.
  private static let flags: Set<String> = [
    "--writable", "--clear-env", "--log", "--statistics", "--help", "-h", "--version",
  ]

  // MARK: From options to configuration

  func machineConfiguration() throws -> MachineConfiguration {
    guard let name = command.first else {
      throw MonitorFailure("no command given: apus run [options] [--] COMMAND [ARG …]")
    }
    guard !name.isEmpty else { throw MonitorFailure("the command is an empty string") }
    var configuration = MachineConfiguration(kernelPath: "", arguments: command)
    configuration.machine = machine
    configuration.memoryBytes = memory.bytes
    configuration.cpus = try cpuCount()
    configuration.root = .init(directory: try HostFiles.directory(root, option: "--root"), isWritable: writable)
    configuration.binds = try bind.map { bind in
      MachineConfiguration.Bind(
        source: try HostFiles.directory(bind.source, option: "--bind"), destination: bind.destination,
        isReadOnly: bind.isReadOnly)
    }
    guard disk.count + swap.count <= MachineConfiguration.mostDisks else {
      throw MonitorFailure("more than \(MachineConfiguration.mostDisks) disks, those of --swap among them")
    }
    configuration.disks = disk.map { .init(path: $0.path, isReadOnly: $0.isReadOnly) }
    configuration.swaps = swap.map { .init(path: $0.path, size: $0.size) }
    configuration.environment = environment()
    configuration.workingDirectory = try workingDirectory(root: configuration.root.directory)
    configuration.user = user?.user ?? .init(user: geteuid(), group: getegid())
    configuration.hostname = try checkedHostname()
    if traceFile != nil && trace.isEmpty {
      throw MonitorFailure("--trace-file without --trace: say what to trace, for example --trace syscalls")
    }
    configuration.trace = .init(systemCalls: trace.contains(.syscalls), file: traceFile)
    configuration.timeoutSeconds = timeout?.seconds
    configuration.standardStreams = (0..<3).map(HostFiles.kindOfStandardStream)
    configuration.showsKernelLog = log
    configuration.kernelOptions = try append.map { options in
      guard options.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
        throw MonitorFailure("--append: kernel options are words of printable characters, separated by spaces")
      }
      return options
    }
    configuration.showsStatistics = statistics
    configuration.kernelPath = try kernelPath()
    return configuration
  }

  private func kernelPath() throws -> String {
    if let kernel { return try HostFiles.readableFile(kernel, option: "--kernel") }
    let candidates = HostFiles.defaultKernels()
    guard let found = candidates.first(where: HostFiles.isReadable) else {
      throw MonitorFailure(
        "no kernel image: looked for \(candidates.joined(separator: " and ")); build one with `make build` or name one with --kernel"
      )
    }
    return found
  }

  private func cpuCount() throws -> Int {
    guard let cpus else { return min(HostProbe.usableCPUs(), Self.maximumCPUs) }
    guard (1...Self.maximumCPUs).contains(cpus) else {
      throw MonitorFailure("--cpus: \(cpus) is not between 1 and \(Self.maximumCPUs)")
    }
    return cpus
  }

  /// The caller's environment (unless `--clear-env`), with the variables of `--env` replaced in place or appended.
  private func environment() -> [String] {
    var result = clearEnv ? [] : HostFiles.environment()
    for variable in env {
      let prefix = variable.name + "="
      if let index = result.firstIndex(where: { $0.hasPrefix(prefix) }) {
        result[index] = prefix + variable.value
      } else {
        result.append(prefix + variable.value)
      }
    }
    return result
  }

  private func workingDirectory(root: String) throws -> String {
    if let cwd {
      guard cwd.hasPrefix("/") else { throw MonitorFailure("--cwd: '\(cwd)' is not an absolute path") }
      return cwd
    }
    return root == "/" ? HostFiles.currentDirectory() : "/"
  }

  /// Linux's limit is 64 bytes (sethostname(2)); the characters are those of a host name, so that it can go into a
  /// configuration string and a prompt as it is.
  private func checkedHostname() throws -> String {
    let allowed = hostname.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"): true
      default: false
      }
    }
    guard allowed, (1...64).contains(hostname.utf8.count) else {
      throw MonitorFailure("--hostname: '\(hostname)' is not 1 to 64 letters, digits, '-', '.' or '_'")
    }
    return hostname
  }
}
