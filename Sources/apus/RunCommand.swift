// `apus run`: the options, checked one by one, become a `MachineConfiguration`.
//
// Everything that can be judged without a machine is judged here, with a sentence that says what was given and what is
// allowed. The words after the options belong to the command: they are cut off before the parser sees them, so
// that `apus run ls --help` asks ls for its help.
import ArgumentParser
import Devices
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

  @Option(
    help: ArgumentHelp(
      "Host directory that becomes the root of the sandbox, with everything beneath it (default: the host's root, as "
        + "--host-view shows it).", valueName: "dir"))
  var root: String?

  @Option(
    help: ArgumentHelp(
      "What the sandbox sees of the host's root. system: the system's directories (/usr, /bin, /sbin, /lib*, /opt and /etc, of "
        + "the last two what every user may read), the working directory and the command's own file; /tmp, /home, /root and "
        + "others are empty. A working directory that is /, a home directory or shared like /tmp is empty, too. all: every "
        + "file that you may read, secrets included. none: the command's own file. APUS_HOST_VIEW in the environment changes "
        + "the default, system.", valueName: "system|all|none"))
  var hostView: HostView?

  @Flag(
    help: ArgumentHelp(
      "Write to the root directory itself, instead of to a memory overlay that ends with the run. Needs --root or "
        + "--host-view all."))
  var writable = false

  @Flag(
    help: ArgumentHelp(
      "Let set-ID bits, device nodes and security attributes reach writable host directories. Without it the sandbox keeps "
        + "set-ID bits for itself and the others fail with EPERM: a set-user-ID file that a sandbox of root's makes is a way to "
        + "become root on the host."))
  var privilegedFiles = false

  @Flag(
    help: ArgumentHelp(
      "Stay root on the host when root starts apus. Without it the monitor takes a user number that no account has and keeps the "
        + "right to read. Needed for exports on file systems that look at the user, such as NFS with root squashing or FUSE."
    ))
  var keepIdentity = false

  @Option(
    help: ArgumentHelp(
      "Make the host directory SRC visible at DST (may be given several times).", valueName: "src:dst[:ro]"),
    transform: BindArgument.init)
  var bind: [BindArgument] = []

  @Option(
    help: ArgumentHelp(
      "Memory of the sandbox, \(MemorySize.allowed), committed only as touched. Suffixes K, M, G, T are powers of 1024. It "
        + "holds all that programs make the kernel allocate; Documentation/limits.md says what the host pays beside it. "
        + "(default: \(RunCommand.defaultMemory))",
      valueName: "size"), transform: MemorySize.init)
  var memory = defaultMemory
  static let defaultMemory = MemorySize(bytes: 1 << 30)

  @Option(
    help: ArgumentHelp(
      "How much of the memory files in the overlay may take (ENOSPC beyond it; df shows it), 1M to 1T. Files in memory, those of "
        + "all tmpfs among them, together take five eighths of the memory and swap at most. (default: half of --memory)",
      valueName: "size"), transform: OverlaySize.init)
  var overlaySize: OverlaySize?

  @Option(
    help: ArgumentHelp(
      "Processes and threads of the sandbox, \(MachineConfiguration.pidsLimits.lowerBound) to "
        + "\(MachineConfiguration.pidsLimits.upperBound); beyond it fork and clone fail with EAGAIN. "
        + "Beside --memory each process costs the host some 150 KiB, each further thread 40 KiB.", valueName: "n"))
  var pidsLimit = 4096

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
    help: ArgumentHelp(
      "Set an environment variable, or pass one on by its name (may be given several times).", valueName: "key[=value]"),
    transform: EnvironmentArgument.init)
  var env: [EnvironmentArgument] = []

  @Flag(
    help: ArgumentHelp(
      "Pass the whole environment on, secrets included, instead of \(RunCommand.passedVariables.joined(separator: ", ")) and LC_*."
    ))
  var envAll = false

  @Flag(help: "Start with an empty environment.")
  var clearEnv = false

  @Option(
    help: ArgumentHelp(
      "Working directory in the sandbox (default: the current directory without --root, else /). Without --root it is the "
        + "directory that --host-view shows.", valueName: "dir"))
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
  /// The bytes of Linux's command line (COMMAND_LINE_SIZE), the spaces behind the options among them.
  static let mostKernelOptions = 2048

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
    "--writable", "--privileged-files", "--keep-identity", "--env-all", "--clear-env", "--log", "--statistics",
    "--help", "-h", "--version",
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
    guard MachineConfiguration.pidsLimits.contains(pidsLimit) else {
      throw MonitorFailure(
        "--pids-limit: \(pidsLimit) is not between \(MachineConfiguration.pidsLimits.lowerBound) and "
          + "\(MachineConfiguration.pidsLimits.upperBound)")
    }
    configuration.pidsLimit = pidsLimit
    guard overlaySize == nil || !writable else {
      throw MonitorFailure("--overlay-size: with --writable there is no overlay")
    }
    configuration.overlayBytes = overlaySize?.bytes
    configuration.cpus = try cpuCount()
    configuration.environment = try environment()
    configuration.workingDirectory = try workingDirectory()
    configuration.root = try rootDirectory(configuration)
    configuration.takesPrivilegedFiles = privilegedFiles
    configuration.keepsIdentity = keepIdentity
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
    guard append.reduce(0, { $0 + $1.utf8.count + 1 }) <= Self.mostKernelOptions else {
      throw MonitorFailure("--append: kernel options of more than \(Self.mostKernelOptions) characters altogether")
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

  /// What is passed on of the environment by default: how to find and show things, and nothing that could be secret.
  static let passedVariables = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ",
  ]

  /// The caller's environment as far as it is passed on, with the variables of `--env` replaced in place or appended.
  private func environment() throws -> [String] {
    guard !(envAll && clearEnv) else { throw MonitorFailure("--env-all and --clear-env exclude each other") }
    let outside = HostFiles.environment()
    var result = outside.filter { entry in
      let name = entry.prefix { $0 != "=" }
      return envAll || !clearEnv && (name.hasPrefix("LC_") || Self.passedVariables.contains(String(name)))
    }
    for variable in env {
      let prefix = variable.name + "="
      guard let entry = variable.value.map({ prefix + $0 }) ?? outside.first(where: { $0.hasPrefix(prefix) }) else {
        continue
      }
      if let index = result.firstIndex(where: { $0.hasPrefix(prefix) }) {
        result[index] = entry
      } else {
        result.append(entry)
      }
    }
    return result
  }

  private func workingDirectory() throws -> String {
    if let cwd {
      guard cwd.hasPrefix("/") else { throw MonitorFailure("--cwd: '\(cwd)' is not an absolute path") }
      return cwd
    }
    return root == nil ? HostFiles.currentDirectory() : "/"
  }

  private func rootDirectory(_ configuration: MachineConfiguration) throws -> MachineConfiguration.Root {
    if let root {
      guard hostView == nil else {
        throw MonitorFailure("--host-view is about the host's root; with --root the sandbox sees all of that directory")
      }
      return .init(directory: try HostFiles.directory(root, option: "--root"), isWritable: writable)
    }
    let view = try hostView ?? defaultHostView()
    guard !writable || view == .all else {
      throw MonitorFailure(
        "--writable: name the directory with --root, or say --host-view all to write to the host's own root")
    }
    guard view != .all else { return .init(directory: "/", isWritable: writable) }
    // The directory's own place: symbolic links lead elsewhere in the sandbox as they do here.
    let named = configuration.workingDirectory
    let directory = HostFiles.existingDirectory(named)
    let reason = directory.flatMap { HostView.reasonToHide($0, homes: HostFiles.homeDirectories()) }
    if let reason, view == .system, named != "/", log || HostFiles.isTerminal(STDERR_FILENO) {
      Monitor.report(
        "apus: \(named) is empty in the sandbox, because it is \(reason); --host-view all shows every file of the host, "
          + "--bind \(named):\(named) this directory\n")
    }
    var tree = view.tree(directory: reason == nil ? directory : nil)
    let programs = HostFiles.places(ofCommand: command[0], environment: configuration.environment, in: named) {
      tree.shows($0.split(separator: "/"))
    }
    for program in programs { tree.show(program.split(separator: "/")) }
    // The directory to start in is there in any case.
    if let directory { tree.show(directory.split(separator: "/"), as: FileView(.nothing)) }
    if directory != nil, directory != named { tree.show(named.split(separator: "/"), as: FileView(.nothing)) }
    return .init(directory: "/", view: tree)
  }

  private func defaultHostView() throws -> HostView {
    guard let text = HostFiles.variable("APUS_HOST_VIEW") else { return .system }
    guard let view = HostView(rawValue: text) else {
      throw MonitorFailure("APUS_HOST_VIEW in the environment: '\(text)' is not system, all or none")
    }
    return view
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
