// The configuration strings are the kernel's only instructions: what the command line asked for, word by word.

import Testing

@testable import Monitor

@Suite struct BootRecordTests {
  private func strings(_ configuration: MachineConfiguration) -> [String] {
    BootRecord.configurationText(configuration).split(separator: 0, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func `each string is ended by a NUL`() {
    let text = BootRecord.configurationText(MachineConfiguration(kernelPath: "/kernel.elf", arguments: ["true"]))
    #expect(text.last == 0)
    #expect(!text.isEmpty)
  }

  @Test func `arguments keep their order, their spaces and their equals signs`() {
    let arguments = ["sh", "-c", "echo a=b  c", "", "ü\n"]
    let found = strings(MachineConfiguration(kernelPath: "/kernel.elf", arguments: arguments))
    #expect(found.filter { $0.hasPrefix("arg=") }.map { String($0.dropFirst(4)) } == arguments)
  }

  @Test func `environment, directory, identity and name are passed on`() {
    var configuration = MachineConfiguration(kernelPath: "/kernel.elf", arguments: ["true"])
    configuration.environment = ["PATH=/bin", "EMPTY="]
    configuration.workingDirectory = "/tmp"
    configuration.user = .init(user: 1000, group: 100)
    configuration.hostname = "box"
    let found = strings(configuration)
    for wanted in ["env=PATH=/bin", "env=EMPTY=", "cwd=/tmp", "user=1000:100", "hostname=box"] {
      #expect(found.contains(wanted), "\(wanted)")
    }
  }

  @Test func `the root is an overlay unless it may be written`() {
    var configuration = MachineConfiguration(kernelPath: "/kernel.elf", arguments: ["true"])
    #expect(strings(configuration).contains("root=overlay"))
    configuration.root = .init(directory: "/srv", isWritable: true)
    #expect(strings(configuration).contains("root=virtiofs"))
    // Where it lies on the host is none of the guest's business.
    #expect(!strings(configuration).contains { $0.contains("/srv") })
  }

  @Test func `binds are numbered as their devices are, and say whether they may be written`() {
    var configuration = MachineConfiguration(kernelPath: "/kernel.elf", arguments: ["true"])
    configuration.binds = [
      .init(source: "/a", destination: "/x", isReadOnly: true),
      .init(source: "/b", destination: "/y z", isReadOnly: false),
    ]
    #expect(strings(configuration).filter { $0.hasPrefix("bind=") } == ["bind=bind0:/x:ro", "bind=bind1:/y z:rw"])
  }

  @Test func `streams, trace and log level appear as asked`() {
    var configuration = MachineConfiguration(kernelPath: "/kernel.elf", arguments: ["true"])
    configuration.standardStreams = [.terminal, .stream, .closed]
    var found = strings(configuration)
    for wanted in ["stdio0=tty", "stdio1=stream", "stdio2=closed"] { #expect(found.contains(wanted), "\(wanted)") }
    #expect(!found.contains { $0.hasPrefix("trace=") || $0.hasPrefix("loglevel=") })
    configuration.trace = .init(systemCalls: true, file: "/tmp/trace")
    configuration.showsKernelLog = true
    found = strings(configuration)
    #expect(found.contains("trace=syscalls") && found.contains("loglevel=7"))
  }
}
