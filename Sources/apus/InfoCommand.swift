// `apus info`: what the host offers, and which mechanisms Apus would use on it.
import ArgumentParser
import Glibc
import Monitor
import UserMachine

struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Prints what the host offers and which mechanisms are chosen.")

  @Flag(help: "Print one JSON object instead of a table.")
  var json = false

  func run() throws {
    let facts = Self.facts(of: .measure(), HostCapabilities()) + Self.facts(of: .probe())
    write(json ? Self.json(facts) : Self.table(facts), to: STDOUT_FILENO)
  }

  /// One line of the report.
  struct Fact: Equatable {
    enum Value: Equatable {
      case text(String)
      case number(UInt64)
      case flag(Bool)
      /// A limit that is not set, or a fact that the host does not tell.
      case none
    }
    /// The key in JSON.
    var key: String
    /// The title in the table.
    var title: String
    var value: Value
  }

  static func facts(of probe: HostProbe, _ capabilities: HostCapabilities) -> [Fact] {
    let obstacles = capabilities.obstacles
    return [
      Fact(key: "apus", title: "apus", value: .text(Apus.version)),
      Fact(key: "kernel_image", title: "kernel image", value: kernelImage()),
      Fact(key: "host_kernel", title: "host kernel", value: .text(probe.kernel)),
      Fact(key: "processor", title: "processor", value: .text(probe.processor)),
      Fact(key: "cpus_online", title: "CPUs online", value: .number(UInt64(probe.onlineCPUs))),
      Fact(key: "cpus_usable", title: "CPUs usable here", value: .number(UInt64(probe.usableCPUs))),
      Fact(key: "memory_bytes", title: "host memory (bytes)", value: .number(probe.memoryBytes)),
      Fact(key: "dev_kvm", title: "/dev/kvm", value: .flag(probe.hasKVM)),
      Fact(key: "fsgsbase", title: "FSGSBASE", value: .flag(capabilities.fsgsbase)),
      Fact(key: "seccomp", title: "seccomp filters", value: .flag(capabilities.seccomp)),
      Fact(key: "memfd", title: "sealed memfd", value: .flag(capabilities.memfd)),
      Fact(
        key: "extended_state_bytes", title: "extended state (bytes)", value: .number(capabilities.extendedStateSize)),
      Fact(key: "maximum_areas", title: "areas in an address space", value: .number(capabilities.maximumAreas)),
      Fact(key: "maximum_processes", title: "process limit", value: number(capabilities.maximumProcesses)),
      Fact(key: "maximum_files", title: "open file limit", value: number(capabilities.maximumFiles)),
      Fact(key: "control_group", title: "control group", value: .text(ControlGroup.availability)),
      Fact(key: "machine", title: "machine chosen", value: obstacles.isEmpty ? .text("user") : .none),
      Fact(
        key: "obstacles", title: "what is missing",
        value: obstacles.isEmpty ? .none : .text(obstacles.joined(separator: "; "))),
      Fact(key: "entry", title: "system-call entry", value: .text("seccomp trap (SIGSYS)")),
      Fact(key: "handoff", title: "hand-over", value: .text(handOver(capabilities))),
    ]
  }

  /// The layers of isolation that a run would have.
  static func facts(of isolation: Isolation) -> [Fact] {
    isolation.layers.map { layer in
      Fact(key: layer.key, title: layer.name, value: layer.reason.map { .text("no: \($0)") } ?? .flag(true))
    }
  }

  /// How a CPU and a user thread hand over to each other.
  private static func handOver(_ capabilities: HostCapabilities) -> String {
    capabilities.polls
      ? "futex, on one host CPU; polling on two for threads with many quick calls; without traps where code repeats calls"
      : "futex, on one host CPU; without traps where code repeats calls"
  }

  private static func kernelImage() -> Fact.Value {
    HostFiles.defaultKernels().first(where: HostFiles.isReadable).map { .text($0) } ?? .none
  }

  private static func number(_ value: UInt64?) -> Fact.Value { value.map { .number($0) } ?? .none }

  static func table(_ facts: [Fact]) -> String {
    let width = facts.map(\.title.count).max() ?? 0
    return facts.map { fact in
      fact.title + String(repeating: " ", count: width - fact.title.count + 2) + text(of: fact.value) + "\n"
    }.joined()
  }

  static func json(_ facts: [Fact]) -> String {
    let members = facts.map { fact in
      let value =
        switch fact.value {
        case .text(let text): quoted(text)
        case .number(let number): "\(number)"
        case .flag(let flag): flag ? "true" : "false"
        case .none: "null"
        }
      return "  \(quoted(fact.key)): \(value)"
    }
    return "{\n" + members.joined(separator: ",\n") + "\n}\n"
  }

  private static func text(of value: Fact.Value) -> String {
    switch value {
    case .text(let text): text
    case .number(let number): "\(number)"
    case .flag(let flag): flag ? "yes" : "no"
    case .none: "none"
    }
  }

  /// A JSON string (RFC 8259, section 7).
  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\u{0}"..<"\u{20}":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
