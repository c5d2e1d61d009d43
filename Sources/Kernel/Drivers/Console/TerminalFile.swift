// An open terminal: the file behind a descriptor.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open file of a terminal (not of a pseudo-terminal's master).
public final class TerminalFile: OpenFile {
  let terminal: Terminal

  /// Opens the terminal. Session leaders without a terminal get it as theirs, unless O_NOCTTY says no.
  ///
  /// - Throws: EIO when it is hung up, EBUSY when another file has it to itself (TIOCEXCL).
  public static func open(_ terminal: Terminal, path: Path, flags: OpenFlags, mayControl: Bool) throws(Errno)
    -> TerminalFile
  {
    let isFirst = try terminal.state.withLock { state throws(Errno) in
      if state.isHungUp { throw .EIO }
      if state.isExclusive, state.openFiles > 0 { throw .EBUSY }
      state.openFiles += 1
      return state.openFiles == 1
    }
    if isFirst { terminal.firstOpened() }
    if mayControl, !flags.contains(.noControllingTerminal), flags.allowsReading { terminal.adoptOnOpen() }
    return TerminalFile(terminal, path: path, flags: flags)
  }

  private init(_ terminal: Terminal, path: Path, flags: OpenFlags) {
    self.terminal = terminal
    super.init(path: path, flags: flags, isSeekable: false)
  }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    let bytes = try terminal.read(limit: buffer.remaining, nonBlocking: isNonBlocking)
    try buffer.copyOut(ByteString(bytes))
    return bytes.count
  }

  public override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try terminal.write(&buffer, nonBlocking: isNonBlocking)
  }

  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    try terminal.control(request, argument, from: .terminal)
  }

  public override func openPeer(_ flags: OpenFlags, by caller: Caller) throws(Errno) -> OpenFile { throw .EIO }

  public override func poll() -> PollEvents { terminal.poll() }

  public override func pollQueues(_ add: (WaitQueue) -> Void) {
    add(terminal.readers)
    add(terminal.writers)
  }

  public override var isPollable: Bool { true }

  public override var extensionObject: AnyObject? { terminal }

  public override func close() {
    let isLast = terminal.state.withLock { state in
      state.openFiles -= 1
      if state.openFiles == 0 { state.isExclusive = false }
      return state.openFiles == 0
    }
    if isLast { terminal.lastClosed() }
  }
}
