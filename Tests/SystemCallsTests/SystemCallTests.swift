import CLinuxABI
import KernelCore
import LinuxABI
import Machine
import Process
import Testing

@testable import SystemCalls

@Suite struct SystemCallTests {
  @Test func `no number is claimed twice, and names are Linux's`() {
    var seen: [Int: StaticString] = [:]
    let names = Dictionary(uniqueKeysWithValues: SystemCallNames.all.map { ($0.0, "\($0.1)") })
    for call in SystemCallTable.families().joined() {
      #expect(seen.updateValue(call.name, forKey: call.number) == nil, "\(call.number) is claimed twice")
      #expect(names[call.number] == "\(call.name)", "\(call.number) is not \(call.name)")
    }
  }

  @Test func `parameter formats use known types and at most six arguments`() {
    let known = Set(ByteString("dDiuxopsFPMSGCKTVWbB").bytes)
    for call in SystemCallTable.families().joined() {
      let words = ByteString(call.parameters).split(separator: 0x20).filter { !$0.isEmpty }
      let types = ArgumentFormatter.types(of: ByteString(call.parameters))
      #expect(types.count == words.count && types.count <= 6, "\(call.name)")
      #expect(types.allSatisfy { known.contains($0) }, "\(call.name)")
    }
  }

  @Test func `numbers out of range have no call`() {
    #expect(SystemCallTable.call(39) != nil)
    #expect(SystemCallTable.call(511) == nil && SystemCallTable.call(512) == nil && SystemCallTable.call(.max) == nil)
  }

  private func trace(_ parameters: StaticString, _ values: [UInt64], _ result: Int64 = 0) -> String {
    var registers = machine_registers()
    let padded = values + [UInt64](repeating: 0, count: 6 - values.count)
    (registers.rdi, registers.rsi, registers.rdx) = (padded[0], padded[1], padded[2])
    (registers.r10, registers.r8, registers.r9) = (padded[3], padded[4], padded[5])
    var line = TextBuffer()
    var formatter = ArgumentFormatter(parameters, SystemCallTrace.Arguments(registers))
    formatter.appendInputs(to: &line)
    formatter.appendOutputs(to: &line, result)
    line.append(" = ")
    SystemCallTrace.appendResult(result, to: &line)
    return line.byteString.string
  }

  @Test func `traces look like strace's`() {
    #expect(trace("fd:d count:u", [3, 10], 10) == "3, 10 = 10")
    #expect(
      trace("directory:D flags:F mode:o", [UInt64(bitPattern: -100), 0o2000101, 0o644])
        == "AT_FDCWD, O_WRONLY|O_CREAT|O_CLOEXEC, 0644 = 0")
    #expect(
      trace("protection:P flags:M", [3, 0x22], 0x7f00_0000_0000)
        == "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS = 0x7f0000000000")
    #expect(trace("protection:P", [0]) == "PROT_NONE = 0")
    #expect(trace("signal:S", [11], -3) == "SIGSEGV = -1 ESRCH")
    #expect(trace("signal:S clock:K", [34, 1], -512) == "SIGRT_2, CLOCK_MONOTONIC = ? ERESTARTSYS")
    #expect(trace("flags:C", [CLONE_VM | CLONE_VFORK | 17]) == "CLONE_VM|CLONE_VFORK|SIGCHLD = 0")
    #expect(trace("a:p b:x", [0, 255]) == "NULL, 0xff = 0")
  }

  @Test func `quoted bytes are escaped as C does, and cut`() {
    var line = TextBuffer()
    ArgumentFormatter.appendQuoted([0x61, 0x0a, 0x22, 0x5c, 0x01, 0xff], limit: 32, isCut: false, to: &line)
    ArgumentFormatter.appendQuoted([0x61, 0x62], limit: 1, isCut: false, to: &line)
    #expect(line.byteString.string == "\"a\\n\\\"\\\\\\001\\377\"\"a\"...")
  }

  @Test func `times out of range are refused, and enormous ones last for ever`() throws {
    #expect(try Timespec.duration(timespec: linux_time_pair(seconds: 1, fraction: 5)) == Nanoseconds(1_000_000_005))
    #expect(try Timespec.duration(timeval: linux_time_pair(seconds: 1, fraction: 5)) == Nanoseconds(1_000_005_000))
    #expect(try Timespec.duration(timeval: linux_time_pair(seconds: .max, fraction: 0)) == .longest)
    for bad in [(-1, 0), (0, -1), (0, 1_000_000_000)] as [(Int64, Int64)] {
      #expect(throws: Errno.EINVAL) {
        try Timespec.duration(timespec: linux_time_pair(seconds: bad.0, fraction: bad.1))
      }
    }
  }

  @Test func `the coverage page lists every call of Linux`() {
    let page = CoverageReport.markdown()
    #expect(page.contains("| 39 | `getpid` | full |  |"))
    #expect(page.contains("| 202 | `futex` | partial | no priority-inheritance futexes |"))
    #expect(page.contains("| 101 | `ptrace` | absent |  |"))
  }
}
