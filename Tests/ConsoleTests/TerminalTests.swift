import FileSystem
import KernelCore
import LinuxABI
import Testing

@testable import Console

/// Terminals with a fake process room. The tests of this suite share the installed policy: one at a time.
@Suite(.serialized) struct TerminalTests {
  /// A process room of one task.
  final class Policy: JobControl {
    var task = JobControlCaller(
      group: 10, session: 10, isSessionLeader: true, isOrphanedGroup: false, controllingTerminal: nil,
      refusedSignals: 0)
    var sent: [(signal: Int32, group: Int32)] = []
    var groups: [Int32: Int32] = [10: 10, 11: 10, 20: 20]

    func caller() -> JobControlCaller? { task }
    func send(signal: Int32, toGroup group: Int32) { sent.append((signal, group)) }
    func session(ofGroup group: Int32) -> Int32? { groups[group] }
    func setControllingTerminal(_ terminal: ControllingTerminal?, ofSession session: Int32) {
      if session == task.session { task.controllingTerminal = terminal }
    }
  }

  private func make() throws -> (PseudoTerminal, Policy) {
    let policy = Policy()
    JobControlPolicy.installed = policy
    return (try PseudoTerminals.make(owner: .root, on: .none), policy)
  }

  private func write(_ terminal: Terminal, _ text: String) throws(Errno) -> Int {
    try KernelBuffer.withBytes(of: Array(text.utf8)) { buffer throws(Errno) in
      try terminal.write(&buffer, nonBlocking: true)
    }
  }

  @Test func `what the master writes is read as lines, and echoed to the master`() throws {
    let (terminal, _) = try make()
    defer { PseudoTerminals.remove(terminal) }
    #expect(terminal.receive(Array("ls\r".utf8)) == 3)
    #expect(try terminal.read(limit: 100, nonBlocking: true) == Array("ls\n".utf8))
    #expect(terminal.takeOutput(limit: 100) == Array("ls\r\n".utf8))
    #expect(throws: Errno.EAGAIN) { try terminal.read(limit: 100, nonBlocking: true) }
    #expect(try write(terminal, "a\nb") == 3)
    #expect(terminal.takeOutput(limit: 100) == Array("a\r\nb".utf8))
  }

  @Test func `output beyond the buffer is refused until the master reads`() throws {
    let (terminal, _) = try make()
    defer { PseudoTerminals.remove(terminal) }
    let text = String(repeating: "x", count: 100_000)
    let first = try write(terminal, text)
    #expect(first > 10_000 && first < 20_000)
    #expect(throws: Errno.EAGAIN) { try write(terminal, text) }
    #expect(!terminal.poll().contains(.writable))
    #expect(terminal.takeOutput(limit: 1 << 20).count == first)
    #expect(terminal.poll().contains(.writable))
  }

  @Test func `the interrupt character reaches the foreground group only`() throws {
    let (terminal, policy) = try make()
    defer { PseudoTerminals.remove(terminal) }
    try terminal.acquireAsControlling()
    #expect(policy.task.controllingTerminal === terminal)
    try terminal.setForegroundGroup(11)
    policy.sent = []
    _ = terminal.receive([3])
    #expect(policy.sent.map(\.signal) == [SIGINT] && policy.sent.map(\.group) == [11])
  }

  @Test func `a background reader is stopped, or gets EIO when that cannot be`() throws {
    let (terminal, policy) = try make()
    defer { PseudoTerminals.remove(terminal) }
    try terminal.acquireAsControlling()
    try terminal.setForegroundGroup(11)
    _ = terminal.receive(Array("x\r".utf8))
    policy.sent = []
    #expect(throws: Errno.ERESTARTSYS) { try terminal.read(limit: 1, nonBlocking: true) }
    #expect(policy.sent.map(\.signal) == [SIGTTIN] && policy.sent.map(\.group) == [10])
    policy.task.refusedSignals = 1 << UInt64(SIGTTIN - 1)
    #expect(throws: Errno.EIO) { try terminal.read(limit: 1, nonBlocking: true) }
    policy.task.refusedSignals = 0
    policy.task.isOrphanedGroup = true
    #expect(throws: Errno.EIO) { try terminal.read(limit: 1, nonBlocking: true) }
  }

  @Test func `a group of another session cannot come to the foreground`() throws {
    let (terminal, policy) = try make()
    defer { PseudoTerminals.remove(terminal) }
    #expect(throws: Errno.ENOTTY) { try terminal.setForegroundGroup(10) }
    try terminal.acquireAsControlling()
    #expect(throws: Errno.EPERM) { try terminal.setForegroundGroup(20) }
    #expect(throws: Errno.ESRCH) { try terminal.setForegroundGroup(99) }
    #expect(throws: Errno.EINVAL) { try terminal.setForegroundGroup(-1) }
    policy.task.session = 20
    policy.task.controllingTerminal = nil
    #expect(throws: Errno.EPERM) { try terminal.acquireAsControlling() }
  }

  @Test func `closing the master hangs the session up`() throws {
    let (terminal, policy) = try make()
    try terminal.acquireAsControlling()
    policy.sent = []
    terminal.hangUp()
    PseudoTerminals.remove(terminal)
    #expect(policy.sent.map(\.signal) == [SIGHUP, SIGCONT])
    #expect(policy.task.controllingTerminal == nil)
    #expect(try terminal.read(limit: 10, nonBlocking: true) == [])
    #expect(throws: Errno.EIO) { try write(terminal, "x") }
    #expect(terminal.poll().contains(.hangUp))
    #expect(PseudoTerminals.find(terminal.index) == nil)
  }

  @Test func `a new window size is announced once`() throws {
    let (terminal, policy) = try make()
    defer { PseudoTerminals.remove(terminal) }
    try terminal.acquireAsControlling()
    policy.sent = []
    terminal.setWindow(WindowSize(rows: 24, columns: 80))
    terminal.setWindow(WindowSize(rows: 24, columns: 80))
    #expect(policy.sent.map(\.signal) == [SIGWINCH])
    #expect(terminal.window == WindowSize(rows: 24, columns: 80))
  }

  @Test func `with VMIN 0 a read returns at once`() throws {
    let (terminal, _) = try make()
    defer { PseudoTerminals.remove(terminal) }
    terminal.state.withLock { state in
      var settings = state.discipline.settings
      settings.local.remove(.ICANON)
      settings[.VMIN] = 0
      _ = state.discipline.set(settings)
    }
    #expect(try terminal.read(limit: 10, nonBlocking: false) == [])
    _ = terminal.receive([0x61, 0x62])
    #expect(try terminal.read(limit: 10, nonBlocking: false) == [0x61, 0x62])
  }
}
