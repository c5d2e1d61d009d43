// pidfd_open(2): a descriptor that stands for a process, and becomes readable when the process has ended.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling

/// A pidfd.
public final class ProcessFile: OpenFile {
  public let process: Process

  @export(interface)
  public init(_ process: Process, flags: OpenFlags) {
    self.process = process
    super.init(
      path: AnonymousFiles.makePath(kind: .regular, name: "[pidfd]"), flags: flags.union(.readWrite), isSeekable: false)
  }

  public override func poll() -> PollEvents { process.hasEnded ? .readable : [] }
  public override func pollQueues(_ add: (WaitQueue) -> Void) { add(process.exitEvents) }
  public override var isPollable: Bool { true }
  public override var displayName: ByteString? { "anon_inode:[pidfd]" }

  public override func appendInformation(to text: inout TextBuffer) {
    text.append("Pid:\t")
    text.append(signed: process.hasEnded ? -1 : Int64(process.pid))
    text.append("\n")
  }
}

extension Process {
  /// Whether the process is a zombie or gone.
  public var hasEnded: Bool { @export(interface) get { ProcessTable.state.withLock { _ in isZombie } } }
}
