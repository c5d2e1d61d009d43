// The command's front door: finds the subcommand, and turns whatever it throws into an exit status.
//
// Exit statuses follow env(1) and the container tools: the command's own status passes through; 125 is a failure of Apus
// itself (wrong options included), 126 a command that cannot be executed, 127 one that does not exist. Nothing here or
// in `run` loads Foundation's tables or starts a thread: the time from exec to the first user instruction is a
// product figure (Documentation/performance.md).
import ArgumentParser
import Glibc
import Monitor

struct Apus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Runs Linux programs on a kernel of their own.",
    discussion: """
      Apus boots a Linux-compatible kernel in milliseconds, as an ordinary process, and runs an unmodified x86-64 \
      program on it. By default the program sees the system's directories and the working directory of the host \
      below a memory overlay: it can change everything, and nothing changes on the host.

        apus run -- busybox sh -c 'echo hello from $(uname -s)'
        apus run --root ./rootfs --writable --bind /src:/src:ro -- make -C /src
        apus info
      """,
    version: version,
    subcommands: [RunCommand.self, InfoCommand.self])

  static let version = "apus 0.1 (VMI 1), \(Monitor.commit.map { "commit \($0)" } ?? "not built from a repository")"
}

/// Exit statuses of Apus itself.
enum ExitStatus {
  /// Apus failed, or was asked for something that it cannot do.
  static let failure: Int32 = 125
}

@main
enum Main {
  static func main() {
    _ = HostFiles.closedAtStart
    // A file that is too large is an error of the write, as it is for the sandbox.
    signal(SIGXFSZ, SIG_IGN)
    // The Swift runtime reads them from a file of /proc.
    if CommandLine.arguments.isEmpty {
      Monitor.report(
        "apus: no arguments: the limit of open files (ulimit -n) is too low. Start apus with `ulimit -n 4096`\n")
      exit(ExitStatus.failure)
    }
    exit(status(of: Array(CommandLine.arguments.dropFirst())))
  }

  /// Runs the command line and returns the exit status.
  static func status(of arguments: [String]) -> Int32 {
    let (options, command) = RunCommand.split(arguments)
    do {
      var parsed = try Apus.parseAsRoot(options)
      if var run = parsed as? RunCommand {
        run.command = command
        try run.start()
      }
      try parsed.run()
      return 0
    } catch let failure as MonitorFailure {
      write("apus: \(failure)\n", to: STDERR_FILENO)
      return ExitStatus.failure
    } catch {
      let text = Apus.fullMessage(for: error)
      if Apus.exitCode(for: error).isSuccess {
        write(text + "\n", to: STDOUT_FILENO)
        return 0
      }
      write(text.hasPrefix("Error: ") ? "apus: \(text.dropFirst(7))\n" : "apus: \(text)\n", to: STDERR_FILENO)
      return ExitStatus.failure
    }
  }
}
