// The command line as a whole: where the command starts, and what becomes of the options.
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
    #expect(configuration.root == .init(directory: "/", isWritable: false))
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
  ])
  func `what cannot work is refused before a machine starts`(options: [String], message: String) {
    #expect(throws: MonitorFailure(message)) { try configuration(options) }
  }

  @Test func `no command and an empty command are refused`() {
    #expect(throws: MonitorFailure.self) { try configuration([], command: []) }
    #expect(throws: MonitorFailure("the command is an empty string")) { try configuration([], command: [""]) }
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
