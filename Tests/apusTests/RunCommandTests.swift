// The command line as a whole: where the command starts, and what becomes of the options.
import Devices
import Monitor
import Testing

@testable import apus

@Suite struct RunCommandTests {
  private func configuration(_ options: [String], command: [String] = ["true"]) throws -> MachineConfiguration {
    var run = try RunCommand.parse(["--kernel", "/proc/self/exe"] + options)
    run.command = command
    return try run.machineConfiguration()
  }

  @Test(
    arguments: [
      (["run", "ls", "-l"], ["run"], ["ls", "-l"]),
      (["run", "--", "ls", "--help"], ["run"], ["ls", "--help"]),
      (["run", "--", "--", "x"], ["run"], ["--", "x"]),
      (["run", "--writable", "ls", "--writable"], ["run", "--writable"], ["ls", "--writable"]),
      (["run", "--memory", "1G", "ls"], ["run", "--memory", "1G"], ["ls"]),
      (["run", "--memory=1G", "ls"], ["run", "--memory=1G"], ["ls"]),
      (["run", "--env", "A=--", "--", "ls"], ["run", "--env", "A=--"], ["ls"]),
      (["run", "--memory"], ["run", "--memory"], []),
      (["run"], ["run"], []),
      (["info", "--json"], ["info", "--json"], []),
      (["--help"], ["--help"], []),
    ] as [([String], [String], [String])])
  func `the command starts at the first word that is no option`(words: [String], options: [String], command: [String]) {
    let split = RunCommand.split(words)
    #expect(split.options == options && split.command == command)
  }

  @Test func `the defaults are the host's root below an overlay and one gibibyte`() throws {
    let configuration = try configuration([])
    #expect(configuration.root.directory == "/" && !configuration.root.isWritable)
    #expect(!configuration.root.view.shows(["home", "somebody", ".ssh", "id_rsa"]))
    #expect(configuration.root.view.shows(["usr", "bin", "env"]))
    #expect(configuration.memoryBytes == 1 << 30)
    #expect((1...64).contains(configuration.cpus))
    #expect(configuration.hostname == "apus")
    #expect(configuration.workingDirectory.hasPrefix("/"))
    #expect(configuration.arguments == ["true"])
  }

  @Test func `options reach the machine`() throws {
    let configuration = try configuration([
      "--root", "/tmp/..", "--writable", "--bind", "/tmp:/mnt:ro", "--memory", "64M", "--cpus", "3", "--clear-env",
      "--env", "A=1", "--env", "B=2", "--env", "A=3", "--cwd", "/work", "--user", "7:8", "--hostname", "box",
      "--trace", "syscalls", "--trace-file", "t", "--timeout", "2",
    ])
    #expect(configuration.root == .init(directory: "/", isWritable: true))
    #expect(configuration.binds == [.init(source: "/tmp", destination: "/mnt", isReadOnly: true)])
    #expect(configuration.memoryBytes == 64 << 20)
    #expect(configuration.cpus == 3)
    #expect(configuration.environment == ["A=3", "B=2"])
    #expect(configuration.workingDirectory == "/work")
    #expect(configuration.user == .init(user: 7, group: 8))
    #expect(configuration.hostname == "box")
    #expect(configuration.trace == .init(systemCalls: true, file: "t"))
    #expect(configuration.timeoutSeconds == 2)
  }

  @Test(arguments: [
    (["--root", "/proc/version"], "--root: '/proc/version' is not a directory"),
    (["--root", "/none"], "--root: '/none': No such file or directory"),
    (["--bind", "/none:/x"], "--bind: '/none': No such file or directory"),
    (["--cpus", "0"], "--cpus: 0 is not between 1 and 64"),
    (["--cwd", "relative"], "--cwd: 'relative' is not an absolute path"),
    (["--hostname", ""], "--hostname: '' is not 1 to 64 letters, digits, '-', '.' or '_'"),
    (["--trace-file", "x"], "--trace-file without --trace: say what to trace, for example --trace syscalls"),
    (["--kernel", "/none"], "--kernel: '/none': No such file or directory"),
    (["--kernel", "/"], "--kernel: '/' is not a regular file"),
    (["--env-all", "--clear-env"], "--env-all and --clear-env exclude each other"),
    (
      ["--root", "/usr", "--host-view", "all"],
      "--host-view is about the host's root; with --root the sandbox sees all of that directory"
    ),
  ])
  func `what cannot work is refused before a machine starts`(options: [String], message: String) {
    #expect(throws: MonitorFailure(message)) { try configuration(options) }
  }

  @Test func `no command and an empty command are refused`() {
    #expect(throws: MonitorFailure.self) { try configuration([], command: []) }
    #expect(throws: MonitorFailure("the command is an empty string")) { try configuration([], command: [""]) }
  }
}

@Suite struct HostViewTests {
  private func path(_ text: String) -> [Substring] { text.split(separator: "/") }

  @Test func `the system's directories and the working directory are shown`() {
    let view = HostView.system.tree(directory: "/home/me/project")
    for shown in [
      "/usr/bin/env", "/bin/sh", "/etc/hosts", "/etc/ssl/certs/x", "/home/me/project/a/b", "/var/lib/dpkg/status",
    ] {
      #expect(view.shows(path(shown)), "\(shown)")
    }
    for hidden in [
      "/home/me/.ssh/id_rsa", "/home/other", "/root/.bashrc", "/tmp/x", "/var/lib/mysql/x", "/boot/vmlinuz", "/data/x",
    ] {
      #expect(!view.shows(path(hidden)), "\(hidden)")
    }
  }

  @Test func `a working directory in /etc keeps the rule for public files`() {
    var view = HostView.system.tree(directory: "/etc/ssl/private")
    #expect(view.entries["etc"]?.entries["ssl"]?.others == .publicFiles)
    view.show(path("/etc/shadow"))
    #expect(view.entries["etc"]?.entries["shadow"]?.others == .publicFiles)
  }

  @Test func `nothing and everything`() {
    #expect(HostView.all.tree(directory: nil) == .everything)
    #expect(!HostView.none.tree(directory: "/home/me").shows(path("/usr/bin/env")))
  }

  @Test(arguments: ["/", "/home", "/home/me", "/home/other", "/srv/users", "/srv/users/me", "/tmp", "/root"])
  func `directories with more than one piece of work are not shown`(directory: String) {
    #expect(HostView.reasonToHide(directory, homes: ["/root", "/srv/users/me"]) != nil)
  }

  @Test(arguments: ["/home/me/project", "/srv/users/me/x", "/tmp/x", "/root/x", "/data", "/usr/lib"])
  func `a working directory is shown`(directory: String) {
    #expect(HostView.reasonToHide(directory, homes: ["/root", "/srv/users/me"]) == nil)
  }
}

@Suite struct InfoCommandTests {
  @Test func `facts become a table or JSON`() {
    let facts: [InfoCommand.Fact] = [
      .init(key: "a", title: "first", value: .text("say \"x\"\n")),
      .init(key: "b", title: "second one", value: .number(5)),
      .init(key: "c", title: "third", value: .flag(true)), .init(key: "d", title: "fourth", value: .none),
    ]
    #expect(
      InfoCommand.json(facts)
        == "{\n  \"a\": \"say \\\"x\\\"\\u000a\",\n  \"b\": 5,\n  \"c\": true,\n  \"d\": null\n}\n")
    #expect(InfoCommand.table(facts).hasSuffix("second one  5\nthird       yes\nfourth      none\n"))
  }

  @Test func `the probe of this host has CPUs, memory and a kernel`() {
    let probe = HostProbe.measure()
    #expect(probe.usableCPUs >= 1 && probe.onlineCPUs >= 1 && probe.memoryBytes > 0)
    #expect(probe.kernel.hasPrefix("Linux "))
  }
}
