// The command that the machine was booted for: its identity, directory, descriptors and program, as the boot parameters say.

import Console
import FileSystem
import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Process
import Scheduling
import SystemCalls

enum Command {
  /// Exit statuses of a command that cannot be started (POSIX, "Exit Status for Commands").
  private static let cannotExecute: UInt64 = 126
  private static let notFound: UInt64 = 127

  /// Starts the first process.
  static func start(in namespace: MountNamespace) throws(StartUpFailure) {
    let arguments = BootParameters.values("arg")
    guard let name = arguments.first, !name.isEmpty else { throw StartUpFailure(sentence: "no command was given") }
    let credentials = identity()
    let root = namespace.rootPath
    let start = Caller(credentials: credentials, umask: 0o022, root: root, workingDirectory: root)
    let directory = try workingDirectory(start)
    let context = FileSystemContext(root: root, workingDirectory: directory, namespace: namespace)
    let caller = Caller(credentials: credentials, umask: 0o022, root: root, workingDirectory: directory)
    let environment = BootParameters.values("env")
    let path = try find(name, environment, by: caller)
    do throws(Errno) {
      let process = try Process.startFirst(
        ProgramArguments(arguments: arguments, environment: environment), path: path, fileSystemContext: context,
        credentials: credentials, limits: ResourceLimits(threads: maximumThreads)
      ) { task throws(Errno) in
        try connectStandardDescriptors(of: task)
        task.isTraced = SystemCallTrace.sink != nil
      }
      try process.leader?.start()
    } catch {
      if error == .ENOENT {
        // `find` saw the file: what is missing is what it needs to run.
        throw StartUpFailure(sentence: "\(name.string): its interpreter does not exist", status: notFound)
      }
      throw failure(name, error)
    }
  }

  /// The default limit of processes for each user, and of signals that wait in a process: half of what the machine may have
  /// and the memory could hold, as on Linux.
  private static var maximumThreads: UInt64 {
    UInt64(max(min(ProcessTable.taskLimit / 2, Int(clamping: MemoryStatistics.snapshot().total) / 8), 1))
  }

  /// `user=UID:GID`.
  private static func identity() -> Credentials {
    let parts = (BootParameters.value("user") ?? "0:0").split(separator: 0x3a).map { $0.decimal() ?? 0 }
    let user = UInt32(truncatingIfNeeded: parts[0])
    return Credentials(user: user, group: parts.count > 1 ? UInt32(truncatingIfNeeded: parts[1]) : user)
  }

  private static func workingDirectory(_ caller: Caller) throws(StartUpFailure) -> Path {
    let path = BootParameters.value("cwd") ?? "/"
    do throws(Errno) {
      let place = try PathWalk.resolve(path, [.directory], by: caller)
      try caller.check(.search, try place.inode.accessControl(), kind: .directory)
      return place
    } catch {
      throw StartUpFailure(sentence: "cannot change to directory '\(path.string)': \(error.words)")
    }
  }

  /// The path of the command: as it is when it has a slash, else the first executable of that name in PATH (execvp(3)).
  private static func find(
    _ name: ByteString, _ environment: [ByteString], by caller: Caller
  ) throws(StartUpFailure) -> ByteString {
    if name.bytes.contains(0x2f) {
      do throws(Errno) {
        _ = try PathWalk.resolve(name, by: caller)
      } catch let error {
        throw failure(name, error)
      }
      return name
    }
    let variable = environment.first { $0.hasPrefix("PATH=") }
    let search = variable.map { ByteString($0.bytes.dropFirst(5)) } ?? "/usr/local/bin:/usr/bin:/bin"
    var error = Errno.ENOENT
    for directory in search.split(separator: 0x3a) {
      let path = directory.isEmpty ? name : directory + "/" + name
      do throws(Errno) {
        let place = try PathWalk.resolve(path, by: caller)
        guard place.inode.kind == .regular else { throw .EACCES }
        try caller.check(.execute, try place.inode.accessControl(), kind: .regular)
        return path
      } catch let failure {
        if failure == .EACCES { error = .EACCES }
      }
    }
    throw failure(name, error)
  }

  private static func failure(_ name: ByteString, _ error: Errno) -> StartUpFailure {
    switch error {
    case .ENOENT, .ENOTDIR:
      StartUpFailure(sentence: "\(name.string): command not found (\(error.words))", status: notFound)
    case .ENOMEM: StartUpFailure(sentence: "\(name.string): not enough memory; give the sandbox more with --memory")
    default: StartUpFailure(sentence: "\(name.string): cannot execute: \(error.words)", status: cannotExecute)
    }
  }

  /// Descriptors 0, 1 and 2: the host's streams, or the terminal, which becomes the session's controlling terminal.
  private static func connectStandardDescriptors(of task: Task) throws(Errno) {
    for number in 0..<3 {
      let file: OpenFile
      switch try HostConsole.standardDescriptor(number) {
      case .closed: continue
      case .file(let stream): file = stream
      case .terminal:
        file = try FileTree.open("/dev/console", .readWrite, by: task.caller.with(Credentials(user: 0, group: 0)))
      }
      _ = try task.descriptors.insert(file, from: Int32(number))
    }
    let process = task.process
    HostConsole.terminal?.attach(session: process.sessionIdentifier, group: process.groupIdentifier)
  }
}
