// The master side of a pseudo-terminal: what opening /dev/ptmx gives.

import DataStructures
import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// The open master of a pseudo-terminal, which lives as long as it.
final class PseudoTerminalMaster: OpenFile {
  let terminal: PseudoTerminal

  init(_ terminal: PseudoTerminal, path: Path, flags: OpenFlags) {
    self.terminal = terminal
    super.init(path: path, flags: flags, isSeekable: false)
  }

  /// - Throws: EIO when the terminal side has no open file any more: what pty(7) promises to terminal emulators.
  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard buffer.remaining > 0 else { return 0 }
    while true {
      let status: UInt8? = terminal.state.withLock { state in
        guard state.isInPacketMode else { return nil }
        defer { state.packetStatus = 0 }
        return state.packetStatus
      }
      if let status, status != 0 {
        try buffer.copyOut(ByteString([status]))
        return 1
      }
      // In packet mode a zero byte says that data follows.
      let prefix: [UInt8] = status == nil ? [] : [0]
      let bytes = terminal.takeOutput(limit: min(buffer.remaining - prefix.count, 16384))
      if !bytes.isEmpty {
        try buffer.copyOut(ByteString(prefix + bytes))
        return prefix.count + bytes.count
      }
      if !terminal.hasOutput, terminal.isAbandoned { throw .EIO }
      if buffer.remaining == prefix.count { return 0 }
      if isNonBlocking { throw .EAGAIN }
      try terminal.masterReaders.wait(.interruptible) { self.terminal.hasOutput || self.terminal.isAbandoned }
    }
  }

  override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    var total = 0
    while buffer.remaining > 0 {
      var chunk: [UInt8]
      do throws(Errno) {
        chunk = try buffer.takeBytes(limit: 1024)
      } catch {
        if total > 0 { return total }
        throw error
      }
      while true {
        let taken = terminal.receive(chunk)
        total += taken
        if taken == chunk.count { break }
        chunk.removeFirst(taken)
        do throws(Errno) {
          if isNonBlocking { throw .EAGAIN }
          try terminal.masterWriters.wait(.interruptible) { self.terminal.hasRoom }
        } catch {
          if total > 0 { return total }
          throw error
        }
      }
    }
    return total
  }

  override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    switch request {
    case TIOCGPTN: try UserMemory.write(UInt32(terminal.index), to: argument)
    case TIOCSPTLCK: terminal.isLocked = try UserMemory.read(argument, as: Int32.self) != 0
    case TIOCGPTLCK: try UserMemory.write(Int32(terminal.isLocked ? 1 : 0), to: argument)
    case TIOCPKT:
      let isOn = try UserMemory.read(argument, as: Int32.self) != 0
      terminal.state.withLock { state in
        state.isInPacketMode = isOn
        state.packetStatus = 0
      }
    case TIOCGPKT: try UserMemory.write(Int32(terminal.state.withLock { $0.isInPacketMode } ? 1 : 0), to: argument)
    case TIOCSIG:
      guard let signal = Int32(exactly: argument), signal == SIGINT || signal == SIGQUIT || signal == SIGTSTP else {
        throw .EINVAL
      }
      let group = terminal.foregroundGroup
      if group > 0 { JobControlPolicy.installed?.send(signal: signal, toGroup: group) }
    case FIONREAD:
      try UserMemory.write(Int32(clamping: terminal.state.withLock { $0.outgoing.count }), to: argument)
    default: return try terminal.control(request, argument, from: .master)
    }
    return 0
  }

  /// - Throws: EIO while the terminal side is locked.
  override func openPeer(_ flags: OpenFlags, by caller: Caller) throws(Errno) -> OpenFile {
    if terminal.isLocked { throw .EIO }
    return try TerminalFile.open(terminal, path: peerPath(by: caller), flags: flags, mayControl: true)
  }

  /// Where the terminal side is for the caller. It can be opened also where its name leads elsewhere or nowhere.
  private func peerPath(by caller: Caller) -> Path {
    var number = TextBuffer()
    number.append(decimal: terminal.index)
    let name = number.byteString
    if let path = try? PathWalk.resolve("/dev/pts/" + name, by: caller),
      (path.inode as? DevptsNode)?.terminal === terminal
    {
      return path
    }
    let node = DevptsNode(terminal, on: path.inode.superblock)
    return Path(mount: path.mount, dentry: Dentry(root: node, name: name))
  }

  override func poll() -> PollEvents {
    var events: PollEvents = []
    if terminal.hasOutput { events.insert(.readable) }
    if terminal.hasRoom { events.insert(.writable) }
    if terminal.isAbandoned { events.insert(.hangUp) }
    return events
  }

  override func pollQueues(_ add: (WaitQueue) -> Void) {
    add(terminal.masterReaders)
    add(terminal.masterWriters)
  }

  override var isPollable: Bool { true }
  override var extensionObject: AnyObject? { terminal }

  /// The terminal side is hung up and the pair's name is free again.
  override func close() {
    terminal.hangUp()
    PseudoTerminals.remove(terminal)
  }
}
