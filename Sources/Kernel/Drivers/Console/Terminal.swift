// A terminal: the line discipline, the bytes on their way to the device, and who owns it. What lies behind (the host's
// terminal, the master side of a pseudo-terminal) is a subclass, told when there is output to take (`outputReady`) or
// room for input again (`inputConsumed`).
//
// One spin lock covers the state. It is never held while a device is driven, a signal is sent or a queue is woken:
// methods change the state, remember what follows from the change, and do that after the lock is released.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// A terminal device as programs see it.
open class Terminal: ControllingTerminal {
  struct State {
    var discipline = LineDiscipline()
    /// Processed output that the device has not taken.
    let outgoing = RingBuffer(minimumCapacity: 16384)
    var window = WindowSize()
    var session: Int32 = 0
    var group: Int32 = 0
    /// The other side is gone and does not come back.
    var isHungUp = false
    var isExclusive = false
    /// Open files of the terminal side.
    var openFiles = 0
    /// The events that a master in packet mode has yet to read (TIOCPKT_*).
    var packetStatus: UInt8 = 0
    var isInPacketMode = false

    /// Moves echo on its way. What does not fit is lost, as on Linux: the output is stuck and echo is a courtesy.
    mutating func moveEcho() {
      for byte in discipline.echoed where !outgoing.write(byte) { break }
      discipline.echoed.removeAll(keepingCapacity: true)
    }

    /// Writes as many of the bytes from `start` on as fit, processed; returns how many.
    mutating func writeOutput(_ bytes: [UInt8], from start: Int, scratch: inout [UInt8]) -> Int {
      let settings = discipline.settings
      var place = start
      // A byte grows to at most eight: a tab.
      while place < bytes.count, outgoing.freeCount >= 8 {
        scratch.removeAll(keepingCapacity: true)
        discipline.output.process(bytes[place], settings, into: &scratch)
        for byte in scratch { _ = outgoing.write(byte) }
        place += 1
      }
      return place - start
    }
  }

  /// The number by which the terminal is known: 136:n for pseudo-terminals, 5:1 for the console.
  public final let device: DeviceNumber
  final let state = SpinLock(State(), rank: .terminal)
  /// Woken when there may be something to read.
  final let readers = WaitQueue()
  /// Woken when there may be room to write.
  final let writers = WaitQueue()

  @export(interface)
  public init(device: DeviceNumber) {
    self.device = device
    super.init()
  }

  // MARK: For the device behind

  /// There is output: called without locks, from any thread that may sleep.
  open func outputReady() {}

  /// Whether what was written waits for a device: it can be waited for, and thrown away. Otherwise it counts as arrived.
  open var hasPendingOutput: Bool { true }

  /// A reader made room for input.
  open func inputConsumed() {}

  /// The first file was opened, the last one closed.
  open func firstOpened() {}
  open func lastClosed() {}

  /// The device received `bytes`; returns how many were taken: the rest has to wait for `inputConsumed`.
  @export(interface)
  public final func receive(_ bytes: [UInt8]) -> Int {
    var signals: [Int32] = []
    var taken = 0
    var mustDrain = false
    var flushed = false
    var flowChanged = false
    let discardsOutput = hasPendingOutput
    let group = state.withLock { state in
      while taken < bytes.count, state.discipline.hasRoom {
        let action = state.discipline.receive(bytes[taken])
        taken += 1
        if action.contains(.flushOutput) {
          if discardsOutput { state.outgoing.removeAll() }
          flushed = true
          state.packetStatus |= PacketStatus.flushRead | PacketStatus.flushWrite
        }
        if action.contains(.flowChanged) {
          state.noteFlow()
          flowChanged = true
        }
        if action.contains(.signal) { signals.append(state.discipline.signal) }
      }
      state.moveEcho()
      mustDrain = !state.outgoing.isEmpty && !state.discipline.isStopped
      return state.group
    }
    if group > 0 {
      for signal in signals { JobControlPolicy.installed?.send(signal: signal, toGroup: group) }
    }
    readers.wakeAll()
    if flushed || flowChanged { writers.wakeAll() }
    if mustDrain { outputReady() }
    return taken
  }

  /// Takes up to `limit` bytes of output for the device; nothing while the output is stopped.
  @export(interface)
  public final func takeOutput(limit: Int) -> [UInt8] {
    let bytes = state.withLock { state in
      var bytes: [UInt8] = []
      guard !state.discipline.isStopped else { return bytes }
      while bytes.count < limit, let byte = state.outgoing.readByte() { bytes.append(byte) }
      return bytes
    }
    if !bytes.isEmpty { writers.wakeAll() }
    return bytes
  }

  /// The other side is gone: readers see the end of file, writers EIO, and the session is hung up.
  @export(interface)
  public final func hangUp() {
    let group = state.withLock { state in
      state.isHungUp = true
      state.outgoing.removeAll()
      state.discipline.flushInput()
      let group = state.group
      let session = state.session
      state.group = 0
      state.session = 0
      return (group, session)
    }
    if let policy = JobControlPolicy.installed, group.1 > 0 {
      policy.setControllingTerminal(nil, ofSession: group.1)
      // The leader of the session gets SIGHUP and decides what becomes of its jobs (tty_vhangup, POSIX 11.1.10).
      policy.send(signal: SIGHUP, toGroup: group.1)
      policy.send(signal: SIGCONT, toGroup: group.1)
      if group.0 > 0, group.0 != group.1 {
        policy.send(signal: SIGHUP, toGroup: group.0)
        policy.send(signal: SIGCONT, toGroup: group.0)
      }
    }
    readers.wakeAll()
    writers.wakeAll()
  }

  /// Changes the window's size; the foreground group gets SIGWINCH when it differs.
  @export(interface)
  public final func setWindow(_ window: WindowSize) {
    let group = state.withLock { state in
      guard state.window != window else { return Int32(0) }
      state.window = window
      return state.group
    }
    if group > 0 { JobControlPolicy.installed?.send(signal: SIGWINCH, toGroup: group) }
  }

  /// The window's size; zeros when nobody has said.
  public final var window: WindowSize {
    @export(interface) get { state.withLock { $0.window } }
  }

  // MARK: ControllingTerminal

  public final override var deviceNumber: UInt64 { @export(interface) get { device.encoded } }
  public final override var foregroundGroup: Int32 { @export(interface) get { state.withLock { $0.group } } }

  @export(interface)
  public final override func sessionEnded() {
    let group = state.withLock { state in
      let group = state.group
      state.session = 0
      state.group = 0
      return group
    }
    if group > 0 {
      JobControlPolicy.installed?.send(signal: SIGHUP, toGroup: group)
      JobControlPolicy.installed?.send(signal: SIGCONT, toGroup: group)
    }
  }
}

extension Terminal.State {
  /// Whether a writer may go on.
  var takesOutput: Bool { outgoing.freeCount >= 1024 && !discipline.isStopped }

  mutating func noteFlow() {
    packetStatus &= ~(PacketStatus.stop | PacketStatus.start)
    packetStatus |= discipline.isStopped ? PacketStatus.stop : PacketStatus.start
  }
}

/// The bits of the status byte in packet mode (ioctl_tty(2), TIOCPKT).
enum PacketStatus {
  static let flushRead: UInt8 = 1
  static let flushWrite: UInt8 = 2
  static let stop: UInt8 = 4
  static let start: UInt8 = 8
}
