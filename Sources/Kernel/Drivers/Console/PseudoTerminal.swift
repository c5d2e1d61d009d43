// Pseudo-terminals (pty(7)): a terminal whose device is another process, which holds the master side. What the terminal
// side writes, processed, is what the master reads; what the master writes is the terminal's input.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling

/// A pseudo-terminal: the terminal side, and what the master waits for.
final class PseudoTerminal: Terminal {
  private struct MasterState {
    /// Until unlockpt(3), the terminal side cannot be opened.
    var isLocked = true
    var terminalWasOpened = false
    /// Owner and permissions of the node in /dev/pts.
    var attributes: Attributes
  }

  /// The name in /dev/pts.
  let index: Int
  private let master: SpinLock<MasterState>
  /// Woken when the master may have something to read.
  let masterReaders = WaitQueue()
  /// Woken when the master may write again.
  let masterWriters = WaitQueue()

  init(index: Int, attributes: Attributes) {
    self.index = index
    master = SpinLock(MasterState(attributes: attributes), rank: .device)
    super.init(device: DeviceNumber(major: PseudoTerminals.major, minor: UInt32(index)))
  }

  override func outputReady() { masterReaders.wakeAll() }
  /// What is written has arrived at the master's side, as on Linux: a master that does not read holds up nobody's
  /// tcsetattr(3), and neither tcflush(3) nor ^C takes back what it has not read yet (conformance program `terminals`).
  override var hasPendingOutput: Bool { false }
  override func inputConsumed() { masterWriters.wakeAll() }
  override func firstOpened() { master.withLock { $0.terminalWasOpened = true } }
  override func lastClosed() { masterReaders.wakeAll() }

  var isLocked: Bool {
    get { master.withLock { $0.isLocked } }
    set { master.withLock { $0.isLocked = newValue } }
  }

  var attributes: Attributes { master.withLock { $0.attributes } }
  func change(_ change: AttributeChange) { master.withLock { change.apply(to: &$0.attributes) } }

  /// Whether the terminal side has been open, and is no longer.
  var isAbandoned: Bool { master.withLock { $0.terminalWasOpened } && state.withLock { $0.openFiles == 0 } }

  /// Whether the master would get something to read.
  var hasOutput: Bool {
    state.withLock { state in
      (!state.outgoing.isEmpty && !state.discipline.isStopped) || (state.isInPacketMode && state.packetStatus != 0)
    }
  }

  var hasRoom: Bool { state.withLock { $0.discipline.hasRoom } }
}

/// The pseudo-terminals of the machine.
public enum PseudoTerminals {
  static let major: UInt32 = 136
  /// /proc/sys/kernel/pty/max.
  static let limit = 4096
  private static let table = SpinLock([PseudoTerminal?](), rank: .device)

  /// Makes a pseudo-terminal with the lowest free number.
  ///
  /// - Throws: ENOSPC when all are taken.
  static func make(owner: Owner, on superblock: DeviceNumber) throws(Errno) -> PseudoTerminal {
    try table.withLock { table throws(Errno) in
      let index = table.firstIndex { $0 == nil } ?? table.count
      guard index < limit else { throw .ENOSPC }
      var attributes = Attributes(
        number: UInt64(index) + 3, kind: .characterDevice, permissions: 0o620,
        owner: Owner(user: owner.user, group: ttyGroup), device: superblock)
      attributes.specialDevice = DeviceNumber(major: major, minor: UInt32(index))
      attributes.blockSize = 1024
      let now = FileTime.now()
      attributes.accessTime = now
      attributes.modifyTime = now
      attributes.changeTime = now
      let terminal = PseudoTerminal(index: index, attributes: attributes)
      if index == table.count { table.append(terminal) } else { table[index] = terminal }
      return terminal
    }
  }

  /// The group `tty` of every distribution, which write(1) runs with; what `gid=5` says to Linux's devpts.
  static let ttyGroup: UInt32 = 5

  static func find(_ index: Int) -> PseudoTerminal? {
    table.withLock { $0.indices.contains(index) ? $0[index] : nil }
  }

  static func remove(_ terminal: PseudoTerminal) {
    table.withLock { $0[terminal.index] = nil }
  }

  /// The numbers in use.
  public static func all() -> [Int] {
    table.withLock { table in table.indices.filter { table[$0] != nil } }
  }
}
