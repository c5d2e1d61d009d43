// The ends of pipes as open files: pipe2(2) and FIFOs (fifo(7)).

import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// An end of a pipe, or both ends (a FIFO opened for reading and writing).
public final class PipeFile: OpenFile {
  private let ends: Pipe
  /// The access at open; F_SETFL does not change it.
  private let access: OpenFlags

  init(_ pipe: Pipe, path: Path, flags: OpenFlags) {
    ends = pipe
    access = flags
    super.init(path: path, flags: flags, isSeekable: false)
    pipe.openEnds(flags)
  }

  public override var pipe: Pipe? { ends }
  // Counted once: at the end that is read.
  public override var heldBytes: Int { access.allowsReading ? ends.heldBytes : 0 }

  public override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    return try ends.read(&buffer, isNonBlocking: isNonBlocking)
  }

  public override func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    guard offset == nil else { throw .ESPIPE }
    // As open or F_SETFL has it at the time of each write.
    return try ends.write(&buffer, isNonBlocking: isNonBlocking, mode: flags.contains(.direct) ? .packets : .stream)
  }

  public override func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 {
    guard request == FIONREAD else { throw .ENOTTY }
    try UserMemory.write(Int32(truncatingIfNeeded: ends.count), to: argument)
    return 0
  }

  public override func poll() -> PollEvents { ends.events(access) }

  public override func pollQueues(_ add: (WaitQueue) -> Void) {
    if access.allowsReading { add(ends.readable) }
    if access.allowsWriting { add(ends.writable) }
  }

  public override var isPollable: Bool { true }

  public override func close() { ends.closeEnds(access) }

  public override var displayName: ByteString? {
    guard inode is AnonymousInode else { return nil }
    var text = TextBuffer()
    text.append("pipe:[")
    text.append(decimal: inode.number)
    text.append("]")
    return text.byteString
  }
}

extension Pipe {
  /// pipe2(2): a new pipe's read end and write end.
  @export(interface)
  public static func open(_ flags: OpenFlags, owner: Owner = .root) -> (read: OpenFile, write: OpenFile) {
    let pipe = Pipe()
    let path = AnonymousFiles.makePath(
      kind: .fifo, name: "pipe", permissions: 0o600, owner: owner, on: AnonymousFiles.pipes)
    // Opening /proc/self/fd/N of a pipe finds it through the inode.
    path.inode.attachments.pipe.withLock { $0 = pipe }
    let common = flags.intersection([.nonBlocking, .direct])
    return (
      PipeFile(pipe, path: path, flags: common.union(.readOnly)),
      PipeFile(pipe, path: path, flags: common.union(.writeOnly))
    )
  }
}

/// FIFOs.
enum FIFO {
  /// Opens the FIFO at `path`: a reader waits for a writer and the other way round (fifo(7)).
  static func open(path: Path, flags: OpenFlags) throws(Errno) -> OpenFile {
    let slot = path.inode.attachments.pipe
    let isAnonymous = path.inode is AnonymousInode
    var seenReaders = 0
    var seenWriters = 0
    // The pipe lives while the FIFO is open: its data goes with the last end. Under the lock, so that two who
    // open at the same time meet in one pipe.
    let fresh = Pipe()
    // A pipe that nobody has any more ends outside of the lock: it frees what it holds.
    var former: Pipe?
    let opened: (pipe: Pipe, file: PipeFile)? = slot.withLock { slot in
      former = slot
      var pipe = fresh
      if let present = slot, isAnonymous || present.hasReaders || present.hasWriters { pipe = present }
      if flags.allowsWriting, !flags.allowsReading, flags.contains(.nonBlocking), !pipe.hasReaders, !isAnonymous {
        return nil
      }
      slot = pipe
      seenReaders = pipe.readerOpens.load(ordering: .sequentiallyConsistent)
      seenWriters = pipe.writerOpens.load(ordering: .sequentiallyConsistent)
      return (pipe, PipeFile(pipe, path: path, flags: flags))
    }
    withExtendedLifetime((fresh, former)) {}
    guard let (pipe, file) = opened else { throw .ENXIO }
    // Nobody is waited for at a pipe without a name (/proc/PID/fd/N of pipe(2), as Linux has it): its other end may have
    // been closed, with data left to read.
    if flags.contains(.nonBlocking) || isAnonymous { return file }
    do throws(Errno) {
      if flags.allowsReading, !flags.allowsWriting, !pipe.hasWriters {
        try pipe.readable.wait {
          pipe.hasWriters || pipe.writerOpens.load(ordering: .sequentiallyConsistent) != seenWriters
        }
      } else if flags.allowsWriting, !flags.allowsReading, !pipe.hasReaders {
        try pipe.writable.wait {
          pipe.hasReaders || pipe.readerOpens.load(ordering: .sequentiallyConsistent) != seenReaders
        }
      }
    } catch {
      // The file is thrown away unopened, so its ends are closed here.
      file.close()
      throw error
    }
    return file
  }
}
