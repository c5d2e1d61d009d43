// An open file description: what a descriptor refers to. Kinds of files subclass it and answer what they can; the
// defaults are the errors that Linux gives for what a file cannot do.

import DataStructures
import KernelCore
import LinuxABI
import Scheduling
import Synchronization
import VirtualMemory

/// An open file.
///
/// Descriptors and uses (`FileUse`) count their references in `acquire()` and `release()`; the last release calls `close()`
/// once. A closed file stays closed: no reference can be acquired any more.
open class OpenFile {
  public final let path: Path
  public final let inode: Inode
  private final let flagBits: Atomic<Int32>
  /// 0 before the first reference; negative once the file is closed.
  private final let references = Atomic<Int>(0)
  private static var closed: Int { .min / 2 }
  /// The file position, for files that have one.
  public final let position: FilePosition?
  /// SIGIO's receiver (fcntl F_SETOWN): a process id, or minus a group's. Recorded, and told by F_GETOWN.
  public final let signalOwner = Atomic<Int32>(0)
  /// Whether the file is a writer of its inode (`Inode.writers`). Set before the first reference.
  private final var countsAsWriter: Bool
  /// The epoll items that watch the file; guarded by EventPoll.
  final var watchers: IntrusiveList<FileWatchers>?
  /// Who made the file pays for it.
  final let account = Thread.current.account
  /// What an open file costs the kernel, with what hangs on it in the usual case.
  public static var kernelBytes: Int { 1024 }

  /// - Parameter isSeekable: whether the file has a position; pipes, sockets and terminals have none (ESPIPE).
  @export(interface)
  public init(path: Path, flags: OpenFlags, isSeekable: Bool) {
    self.path = path
    inode = path.inode
    // What F_GETFL shows: the flags that only open(2) itself looks at are gone.
    let transient = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC
    flagBits = Atomic(flags.rawValue & ~transient)
    position = isSeekable ? FilePosition() : nil
    countsAsWriter = flags.allowsWriting && path.inode.kind == .regular
    account.charge(OpenFile.kernelBytes)
  }

  deinit {
    LockOrder.mayWait()
    account.release(OpenFile.kernelBytes)
  }

  public final var flags: OpenFlags {
    @inline(__always) get { OpenFlags(rawValue: flagBits.load(ordering: .relaxed)) }
  }

  /// fcntl(F_SETFL): changes the flags in `mask`.
  @export(interface)
  public final func setFlags(_ new: OpenFlags, mask: OpenFlags) {
    while true {
      let old = flagBits.load(ordering: .relaxed)
      let value = old & ~mask.rawValue | new.rawValue & mask.rawValue
      if flagBits.compareExchange(expected: old, desired: value, ordering: .relaxed).exchanged { return }
    }
  }

  public final var isNonBlocking: Bool { flags.contains(.nonBlocking) }

  /// Lets the file be written to and executed at once, for a new file: a program may run what it has written to a memfd
  /// without closing it (memfd_create(2)).
  @export(interface)
  public final func permitExecution() { countsAsWriter = false }

  // MARK: References

  /// Adds a reference, for callers that know the file to be open: they made it, have a reference, or hold the lock of a
  /// descriptor table that has one.
  @inline(__always)
  public final func acquire() {
    guard tryAcquire() else { panic("a closed file is opened again") }
  }

  /// Adds a reference unless the file is closed.
  ///
  /// - Returns: false for a closed file.
  @inline(__always)
  public final func tryAcquire() -> Bool {
    var count = references.load(ordering: .relaxed)
    while count >= 0 {
      let (exchanged, found) = references.weakCompareExchange(
        expected: count, desired: count + 1, ordering: .relaxed)
      if exchanged {
        if count == 0 { opened() }
        return true
      }
      count = found
    }
    return false
  }

  /// Descriptors, uses and messages that refer to the file now, for the collector of cycles of descriptors in flight: uses
  /// by threads that do not share their descriptor table are not counted, but the descriptor is.
  public final var referenceCount: Int { references.load(ordering: .sequentiallyConsistent) }

  /// The first reference: the file uses its mount and its inode from now on.
  private final func opened() {
    path.mount.enter()
    if countsAsWriter { inode.writers.add(1, ordering: .relaxed) }
  }

  /// A reference ends; the last one closes the file. Must be called without spin locks.
  @export(interface)
  public final func release() {
    // One step from the last reference to closed: nobody finds a count of 0 between.
    var count = references.load(ordering: .relaxed)
    while true {
      let (exchanged, found) = references.weakCompareExchange(
        expected: count, desired: count == 1 ? Self.closed : count - 1, ordering: .acquiringAndReleasing)
      if exchanged { break }
      count = found
    }
    guard count == 1 else { return }
    inode.releaseLocks(ofFile: self)
    if countsAsWriter { inode.writers.subtract(1, ordering: .relaxed) }
    EventPoll.forget(self)
    close()
    if !flags.contains(.path) {
      inode.notify(flags.allowsWriting ? .closeWrite : .closeNoWrite, path.dentry)
    }
    path.mount.leave()
  }

  /// Called once, after the last reference has gone.
  open func close() {}

  /// Called at each close(2) of a descriptor, before the reference ends (FUSE's FLUSH).
  open func flush() throws(Errno) {}

  // MARK: Transfer

  /// Reads into `buffer`, at `offset` or, when that is nil, at the position, which moves on.
  /// - Returns: bytes read; 0 is the end of the file.
  open func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { throw .EINVAL }

  /// Writes from `buffer`, at `offset` or, when that is nil, at the position, which moves on.
  open func write(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { throw .EINVAL }

  /// `read` with options. Only some files can tell whether they would wait.
  open func read(
    _ buffer: inout TransferBuffer, at offset: UInt64?, _ options: TransferOptions
  ) throws(Errno) -> Int {
    if options.contains(.noWait) { throw .EOPNOTSUPP }
    return try read(&buffer, at: offset)
  }

  /// `write` with options, and with a limit of the size (RLIMIT_FSIZE), which files without pages do not know.
  open func write(
    _ buffer: inout TransferBuffer, at offset: UInt64?, _ options: TransferOptions, below limit: UInt64
  ) throws(Errno) -> Int {
    if options.contains(.noWait) { throw .EOPNOTSUPP }
    return try write(&buffer, at: offset)
  }

  /// Whether offsets are addresses, of 64 bits without a sign.
  open var offsetsAreAddresses: Bool { false }

  /// lseek(2).
  open func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 { throw .ESPIPE }

  /// Reports directory entries from the position on; `emit` returns false when there is no room for an entry.
  open func readDirectory(_ emit: (DirectoryEntry) -> Bool) throws(Errno) { throw .ENOTDIR }

  /// fsync(2), fdatasync(2).
  /// - Throws: EINVAL for files that have nothing to synchronise.
  open func sync() throws(Errno) { throw .EINVAL }

  /// An error of write-back that this open file has not learnt of yet.
  open func takeWriteError() -> Errno? { nil }

  /// ioctl(2). FIONBIO, FIOCLEX and their like are handled above.
  open func ioctl(_ request: UInt32, _ argument: UInt64) throws(Errno) -> Int64 { throw .ENOTTY }

  /// Opens the other side of a pseudo-terminal's master (TIOCGPTPEER).
  open func openPeer(_ flags: OpenFlags, by caller: Caller) throws(Errno) -> OpenFile { throw .ENOTTY }

  /// The memory that mmap(2) maps. Access modes have been checked against the mapping's protection.
  open func mapping(offset: UInt64, length: UInt64) throws(Errno) -> MemoryObject { throw .ENODEV }

  // MARK: Readiness

  /// What would not block now. Regular files are always ready.
  open func poll() -> PollEvents { [.readable, .writable] }

  /// Hands every wait queue that is woken when `poll()` may have changed to `add`.
  open func pollQueues(_ add: (WaitQueue) -> Void) {}

  /// Whether a write that fails with EPIPE raises SIGPIPE.
  open var raisesBrokenPipe: Bool { true }

  /// Whether epoll(7) accepts the file: files that are always ready cannot be watched (EPERM).
  open var isPollable: Bool { false }

  // MARK: What kind of file this is (instead of downcasts)

  /// The pipe end, for splice(2), tee(2) and F_SETPIPE_SZ.
  open var pipe: Pipe? { nil }
  /// The epoll instance.
  open var eventPoll: EventPoll? { nil }
  /// The inotify instance.
  open var inotify: InotifyFile? { nil }
  /// The timer of a timerfd.
  open var timer: TimerFile? { nil }
  /// An object that a room above hangs on a file class of its own and finds again (terminals, pid and signal
  /// descriptors); compare classes with `as?`.
  open var extensionObject: AnyObject? { nil }

  /// Bytes of kernel memory that the file keeps besides its own objects: content of pipes and sockets. For the
  /// out-of-memory policy, and without waiting.
  open var heldBytes: Int { 0 }

  /// What /proc/PID/fd shows for files without a name in the tree ("pipe:[12]"); nil: the path.
  open var displayName: ByteString? { nil }
  /// The lines that /proc/PID/fdinfo/FD has besides pos, flags and mnt_id.
  open func appendInformation(to text: inout TextBuffer) {}
}
