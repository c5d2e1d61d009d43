// The room's door: finds the device, makes the console and the streams, announces the device files. Boot calls `start`
// once and then hands out the standard descriptors.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// The connection to the host's descriptors.
public enum HostConsole {
  /// What a standard descriptor of the first process is.
  public enum StandardDescriptor {
    /// Closed on the host: leave it closed.
    case closed
    /// The terminal: open /dev/console, so that the descriptor has a name (ttyname(3)).
    case terminal
    /// A stream of the host.
    case file(OpenFile)
  }

  // SAFETY: written by `start`, once, before there are other threads; constant afterwards.
  private nonisolated(unsafe) static var device: StreamDevice?
  private nonisolated(unsafe) static var console: ConsoleTerminal?

  /// Sets up the device, if the machine has it, and registers /dev/tty, /dev/console, /dev/ptmx and devpts.
  ///
  /// - Throws: ENOMEM, or what the machine answers.
  @export(interface)
  public static func start() throws(Errno) {
    if let device = try StreamDevice.find() {
      Self.device = device
      if device.presence(of: Int(StreamNumber.terminal)) == .terminal {
        let terminal = try ConsoleTerminal(device)
        console = terminal
        terminal.start()
      }
    }
    TerminalDevices.register(console: console)
  }

  /// The console's terminal, nil when the host has none for us.
  public static var terminal: Terminal? { console }

  /// What descriptor `number` (0, 1, 2) of the first process shall be.
  @export(interface)
  public static func standardDescriptor(_ number: Int) throws(Errno) -> StandardDescriptor {
    guard let device else { return .closed }
    switch device.presence(of: number) {
    case .absent: return .closed
    case .terminal: return .terminal
    case .stream:
      let inode = try HostStreamInode(try HostStream(UInt32(number), on: device))
      let path = Path(mount: AnonymousFiles.pipes, dentry: Dentry(root: inode, name: "host"))
      let access = inode.accessFlags & (O_ACCMODE | O_APPEND)
      return .file(HostStreamFile(inode, path: path, flags: OpenFlags(rawValue: access)))
    }
  }

  /// Waits until the host's terminal has taken all output, a second at most: the last thing before the machine ends.
  ///
  /// - Locks: sleeps.
  @export(interface)
  public static func finish() {
    guard let console else { return }
    console.outputReady()
    try? console.writers.wait(.uninterruptible, until: Instant.now().advanced(byNanoseconds: 1_000_000_000)) {
      console.isDrained
    }
  }

  /// Writes a line to the trace file; false when there is none.
  @export(interface)
  public static func trace(_ text: ByteString) -> Bool {
    guard let device, device.presence(of: Int(StreamNumber.trace)) == .stream else { return false }
    var rest = text.bytes[...]
    while !rest.isEmpty {
      guard let slot = try? device.slot(for: rest.count) else { return false }
      defer { device.giveBack(slot) }
      let piece = rest.prefix(slot.capacity)
      slot.fill(piece)
      guard let written = try? device.perform(.write, StreamNumber.trace, slot: slot, output: piece.count), written > 0
      else { return false }
      rest = rest.dropFirst(written)
    }
    return true
  }
}
