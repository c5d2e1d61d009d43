// ioctl(2) of a terminal (ioctl_tty(2)). Both sides of a pseudo-terminal come here: on the master's, the settings, the
// window and the groups are those of the terminal side.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

extension Terminal {
  /// From which side a request comes.
  enum Side { case terminal, master }

  /// When a change of settings takes effect (tcsetattr(3)).
  private enum Moment { case now, afterOutput, afterOutputDiscardingInput }

  final func control(_ request: UInt32, _ argument: UInt64, from side: Side) throws(Errno) -> Int64 {
    // As hung_up_tty_ioctl of Linux.
    if state.withLock({ $0.isHungUp }) { throw request == TIOCSPGRP ? .ENOTTY : .EIO }
    switch request {
    case TCGETS: try UserBytes.write(settings.encoded(withSpeeds: false), to: argument)
    case TCGETS2: try UserBytes.write(settings.encoded(withSpeeds: true), to: argument)
    case TCGETA: try UserBytes.write(settings.encodedOld(), to: argument)
    case TCSETS: try set(try UserBytes.read(from: argument, count: 36), .now, side)
    case TCSETSW: try set(try UserBytes.read(from: argument, count: 36), .afterOutput, side)
    case TCSETSF: try set(try UserBytes.read(from: argument, count: 36), .afterOutputDiscardingInput, side)
    case TCSETS2: try set(try UserBytes.read(from: argument, count: 44), .now, side)
    case TCSETSW2: try set(try UserBytes.read(from: argument, count: 44), .afterOutput, side)
    case TCSETSF2: try set(try UserBytes.read(from: argument, count: 44), .afterOutputDiscardingInput, side)
    case TCSETA: try set(try UserBytes.read(from: argument, count: 18), .now, side)
    case TCSETAW: try set(try UserBytes.read(from: argument, count: 18), .afterOutput, side)
    case TCSETAF: try set(try UserBytes.read(from: argument, count: 18), .afterOutputDiscardingInput, side)
    case TIOCGWINSZ: try UserMemory.write(window, to: argument)
    case TIOCSWINSZ: setWindow(try UserMemory.read(argument, as: WindowSize.self))
    case TCFLSH: try flush(argument, side)
    case TCXONC: try changeFlow(argument, side)
    case TCSBRK, TCSBRKP:
      // No line that could send a break; waiting for the output is what tcdrain(3) wants.
      if side == .terminal { try checkChange() }
      try drain()
    case FIONREAD where side == .terminal:
      let count = state.withLock { state in
        state.discipline.settings.isCanonical ? state.discipline.ready.byteCount : state.discipline.ready.count
      }
      try UserMemory.write(Int32(clamping: count), to: argument)
    case TIOCOUTQ:
      // What the master writes arrives at once.
      let count = side == .terminal ? state.withLock { $0.outgoing.count } : 0
      try UserMemory.write(Int32(clamping: count), to: argument)
    case TIOCGPGRP:
      if side == .terminal { try requireControlling() }
      try UserMemory.write(foregroundGroup, to: argument)
    case TIOCSPGRP: try setForegroundGroup(try UserMemory.read(argument, as: Int32.self))
    case TIOCGSID:
      if side == .terminal { try requireControlling() }
      let session = state.withLock { $0.session }
      guard session > 0 else { throw .ENOTTY }
      try UserMemory.write(session, to: argument)
    case TIOCSCTTY: try acquireAsControlling()
    case TIOCNOTTY where side == .terminal: try giveUp()
    case TIOCEXCL: state.withLock { $0.isExclusive = true }
    case TIOCNXCL: state.withLock { $0.isExclusive = false }
    case TIOCGEXCL: try UserMemory.write(Int32(state.withLock { $0.isExclusive } ? 1 : 0), to: argument)
    case TIOCGETD: try UserMemory.write(Int32(0), to: argument)
    case TIOCSETD:
      // Only the terminal discipline, N_TTY.
      guard try UserMemory.read(argument, as: Int32.self) == 0 else { throw .EINVAL }
    case TIOCGDEV: try UserMemory.write(UInt32(truncatingIfNeeded: device.encoded), to: argument)
    // Faking input is refused, as Linux does with dev.tty.legacy_tiocsti = 0.
    case TIOCSTI: throw .EIO
    default: throw .ENOTTY
    }
    return 0
  }

  private var settings: TerminalSettings { state.withLock { $0.discipline.settings } }

  private func set(_ bytes: [UInt8], _ moment: Moment, _ side: Side) throws(Errno) {
    if side == .terminal { try checkChange() }
    if moment != .now { try drain() }
    let mustDrain = state.withLock { state in
      let old = state.discipline.settings
      if moment == .afterOutputDiscardingInput { state.discipline.flushInput() }
      let new = bytes.count == 18 ? old.decodingOld(bytes) : old.decoding(bytes)
      if state.discipline.set(new).contains(.flowChanged) { state.noteFlow() }
      return !state.outgoing.isEmpty && !state.discipline.isStopped
    }
    // Readers wait by other rules now, and what was stopped may go on.
    readers.wakeAll()
    writers.wakeAll()
    if mustDrain { outputReady() }
    inputConsumed()
  }

  /// tcflush(3): 0 input, 1 output, 2 both.
  private func flush(_ which: UInt64, _ side: Side) throws(Errno) {
    guard which <= 2 else { throw .EINVAL }
    if side == .terminal { try checkChange() }
    let (input, output) = (which != 1, which != 0)
    let discardsOutput = hasPendingOutput
    state.withLock { state in
      if side == .master {
        // The terminal's output is the master's input. What the master wrote has arrived.
        if input { state.outgoing.removeAll() }
        return
      }
      if input {
        state.discipline.flushInput()
        state.packetStatus |= PacketStatus.flushRead
      }
      if output {
        if discardsOutput { state.outgoing.removeAll() }
        state.packetStatus |= PacketStatus.flushWrite
      }
    }
    inputConsumed()
    outputReady()
    writers.wakeAll()
  }

  /// tcflow(3): 0 stops the output, 1 lets it go on; 2 and 3 would ask the other side to stop and go on with the VSTOP
  /// and VSTART characters.
  private func changeFlow(_ what: UInt64, _ side: Side) throws(Errno) {
    guard what <= 3 else { throw .EINVAL }
    if side == .terminal { try checkChange() }
    state.withLock { state in
      switch what {
      case 0, 1:
        if state.discipline.setStopped(what == 0).contains(.flowChanged) { state.noteFlow() }
      default:
        let byte = state.discipline.settings[what == 2 ? .VSTOP : .VSTART]
        if byte != 0 { _ = state.outgoing.write(byte) }
      }
    }
    outputReady()
    writers.wakeAll()
  }
}
