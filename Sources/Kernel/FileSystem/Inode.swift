// A file as its file system knows it. File systems subclass Inode and answer what they can; the defaults are the errors
// that Linux gives for what a file system lacks. Permission checks, limits, name checks, the dentry cache and locking of
// directories are the VFS's business and done before these methods are called.

import Identity
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization
import VirtualMemory

/// A file, directory or other object of a file system.
///
/// Directory operations are called with the directory's lock held (both directories' for `rename`), so they need no
/// locking against each other; `attributes`, `readDirectory`, `read` and `write` may run at any time.
open class Inode {
  public final let superblock: Superblock
  public final let number: UInt64
  public final let kind: FileKind
  private final let lazyLock = LazyReference<SleepLock>()
  private final let lazyAttachments = LazyReference<InodeAttachments>()
  /// How many open files may write, or minus the number of those that deny writing (a program being executed).
  public final let writers = Atomic<Int>(0)
  /// Whether the file may carry security.capability (`FileTree.capabilities(of:)`).
  final let capabilityPresence = Atomic<UInt8>(CapabilityPresence.unknown)

  @export(interface)
  public init(superblock: Superblock, number: UInt64, kind: FileKind) {
    self.superblock = superblock
    self.number = number
    self.kind = kind
  }

  // What ends with the last use of a file (its pages, the file below it) takes locks.
  deinit { LockOrder.mayWait() }

  /// Serialises changes and look-ups of a directory's entries, and writes, truncations and seals of a regular file.
  final var lock: SleepLock { lazyLock.get { SleepLock(kind == .directory ? .directory : .file) } }
  /// Record locks, flock locks, watches, the pipe of a FIFO.
  final var attachments: InodeAttachments { lazyAttachments.get { InodeAttachments() } }
  final var attachmentsIfPresent: InodeAttachments? { lazyAttachments.ifPresent }

  /// Runs `body` with the inode's lock held: for file systems that move content behind the VFS's back (copy-up).
  ///
  /// - Locks: sleeps; directories before files, parents before children.
  @inline(__always)
  public final func withLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    let lock = lock
    lock.acquire()
    defer { lock.release() }
    return try body()
  }

  // MARK: Attributes

  /// stat(2).
  open func attributes() throws(Errno) -> Attributes { throw .EIO }

  /// The permission bits and owner; override where that is cheaper than `attributes`.
  open func accessControl() throws(Errno) -> AccessControl { try attributes().accessControl }

  /// The size in bytes; override where that is cheaper than `attributes`.
  open func size() throws(Errno) -> UInt64 { try attributes().size }

  /// chmod, chown, truncate, utimensat. Everything in `change` is made or nothing.
  open func setAttributes(_ change: AttributeChange) throws(Errno) { throw .EPERM }

  /// The flags of the file (FS_IOC_GETFLAGS, ioctl_iflags(2)).
  open func flags() throws(Errno) -> UInt32 { throw .ENOTTY }

  /// FS_IOC_SETFLAGS; the caller's right has been checked.
  open func setFlags(_ flags: UInt32) throws(Errno) { throw .ENOTTY }

  /// Whether reading changes the access time: false spares reads the clock.
  open var keepsAccessTime: Bool { false }

  /// Notes an access; the file system applies the rule of relatime (mount(8)).
  open func touchAccessTime(_ time: FileTime) {}

  // MARK: Directory entries

  /// Whether lseek(2) of the directory knows SEEK_END, as the end of a directory of 0 bytes: for directories made of nothing.
  open var directoryHasEnd: Bool { false }

  /// Finds an entry. Never called for "." and "..".
  /// - Throws: ENOENT.
  open func lookup(_ name: ByteString) throws(Errno) -> Inode { throw .ENOTDIR }

  /// Creates a regular file.
  open func create(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode { throw .EPERM }

  /// Creates a directory.
  open func makeDirectory(_ name: ByteString, permissions: UInt32, owner: Owner) throws(Errno) -> Inode {
    throw .EPERM
  }

  /// Creates a FIFO, socket or device file.
  open func makeNode(
    _ name: ByteString, kind: FileKind, permissions: UInt32, device: DeviceNumber, owner: Owner
  ) throws(Errno) -> Inode { throw .EPERM }

  /// Creates a symbolic link.
  open func makeSymbolicLink(_ name: ByteString, target: ByteString, owner: Owner) throws(Errno) -> Inode {
    throw .EPERM
  }

  /// Creates a regular file without a name (O_TMPFILE); `link` may give it one.
  open func makeTemporary(permissions: UInt32, owner: Owner) throws(Errno) -> Inode { throw .EOPNOTSUPP }

  /// Adds `name` for `inode`, which is of the same file system and no directory.
  open func link(_ inode: Inode, as name: ByteString) throws(Errno) { throw .EPERM }

  /// Removes a name of `inode`, which is no directory.
  open func unlink(_ name: ByteString, _ inode: Inode) throws(Errno) { throw .EPERM }

  /// Removes the directory `inode`.
  /// - Throws: ENOTEMPTY.
  open func removeDirectory(_ name: ByteString, _ inode: Inode) throws(Errno) { throw .EPERM }

  /// Moves an entry of this directory. The VFS has checked that a replaced target fits (directory or not) and that no
  /// directory moves below itself; a file system checks that a replaced directory is empty (ENOTEMPTY).
  open func rename(_ name: ByteString, into directory: Inode, as newName: ByteString, _ flags: RenameFlags)
    throws(Errno)
  { throw .EPERM }

  /// An entry of this inode is about to be renamed or exchanged; an error stops that. Both directories are locked.
  open func willMove() throws(Errno) {}

  /// The entry of this inode is now `name` in `directory`.
  open func didMove(into directory: Inode, as name: ByteString) {}

  /// The entry `name` of this inode in `directory` has been replaced by a rename.
  open func wasReplaced(as name: ByteString, in directory: Inode) {}

  /// Reports the entries other than "." and ".." from `cookie` on (0: the first; else the cookie of the last entry that
  /// was taken) until `emit` returns false, which means that this entry was not taken.
  open func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) { throw .ENOTDIR }

  /// Whether the dentry cache may keep names of this inode; false for files that come and go by themselves (/proc/PID).
  open var isCacheable: Bool { true }
  /// Whether the dentry cache may remember that a name is absent in this directory.
  open var cachesAbsence: Bool { true }
  /// How many other inodes refer to this one as their directory. While there are any, the dentry cache does not forget its
  /// name: a look-up would make a second inode of the same directory.
  open var dependents: Int { 0 }
  /// Whether programs can make entries in this directory; if not, every caller gets ENOENT, root included, as in /proc on Linux.
  open var acceptsEntries: Bool { true }

  /// For file systems with `needsRevalidation`: whether the cached entry of this directory still holds (`child` nil: the
  /// name is still absent). False makes the VFS look it up again.
  open func revalidate(_ name: ByteString, _ child: Inode?) throws(Errno) -> Bool { true }

  // MARK: Symbolic links

  /// The target of a symbolic link.
  open func readLink() throws(Errno) -> ByteString { throw .EINVAL }

  /// Where a walk goes on at this link: text for ordinary ones, a place for the magic links of /proc.
  open func followLink(by caller: Caller) throws(Errno) -> LinkTarget { .text(try readLink()) }

  // MARK: Content

  /// The pages of a regular file, for mmap and the default `read` and `write`.
  open var memoryObject: MemoryObject? { nil }

  /// Reads from a regular file; the default reads `memoryObject`.
  open func read(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    guard let memoryObject else { throw .EINVAL }
    return try memoryObject.read(at: offset, &buffer)
  }

  /// Writes to a regular file, extending it as needed, and sets its times; called with the file's lock held.
  open func write(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    guard let memoryObject else { throw .EINVAL }
    return try memoryObject.write(at: offset, &buffer)
  }

  /// Whether the file may be opened with O_DIRECT, or switched to it later (fcntl).
  public final var acceptsDirect: Bool { kind == .blockDevice || (kind == .regular && memoryObject != nil) }

  /// `read` with O_DIRECT: past the cache, where the file system can; as Linux's tmpfs, others accept the flag and use theirs.
  open func readDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try read(at: offset, &buffer)
  }

  /// `write` with O_DIRECT.
  open func writeDirectly(at offset: UInt64, _ buffer: inout TransferBuffer) throws(Errno) -> Int {
    try write(at: offset, &buffer)
  }

  /// What the places and lengths of direct transfers must be multiples of, in bytes (statx(2), STATX_DIOALIGN); nil when the
  /// file goes through the cache.
  open var directAlignment: UInt32? { nil }

  /// fallocate(2); the file's lock is held.
  open func allocate(_ mode: AllocationMode, offset: UInt64, length: UInt64) throws(Errno) { throw .EOPNOTSUPP }

  /// The next offset at or after `offset` that holds data (or a hole). By default a file whose pages are the only copy has holes where
  /// it has no page, and any other file is all data with a hole at its end.
  /// - Throws: ENXIO beyond the end.
  open func seek(_ target: SparseSeek, from offset: UInt64) throws(Errno) -> UInt64 {
    let size = try size()
    guard offset < size else { throw .ENXIO }
    guard let object = memoryObject, !object.hasStore, !object.isHuge else { return target == .data ? offset : size }
    let pageSize = UInt64(PhysicalMemory.pageSize)
    switch target {
    case .data:
      let end = (size + pageSize - 1) / pageSize
      guard let page = object.nextPage(from: offset / pageSize), page < end else { throw .ENXIO }
      return max(offset, page * pageSize)
    case .hole: return min(size, max(offset, object.nextHole(from: offset / pageSize) * pageSize))
    }
  }

  /// Brings content and attributes to where they are kept (fsync(2)).
  open func sync() throws(Errno) { try memoryObject?.writeBack() }

  /// Opens the file. The default covers regular files over `memoryObject`, directories, FIFOs and registered devices.
  open func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    switch kind {
    case .regular: return RegularFile(path: path, flags: flags)
    case .directory: return DirectoryFile(path: path, flags: flags)
    case .characterDevice, .blockDevice:
      return try DeviceFiles.open(kind, try attributes().specialDevice, path: path, flags: flags, by: caller)
    case .fifo: return try FIFO.open(path: path, flags: flags)
    case .socket: throw .ENXIO
    case .symbolicLink: throw .ELOOP
    }
  }

  // MARK: Extended attributes (xattr(7)); the VFS has checked the name's space and the permissions

  /// - Throws: ENODATA when there is none of that name.
  open func extendedAttribute(_ name: ByteString) throws(Errno) -> ByteString { throw .EOPNOTSUPP }

  /// - Throws: EEXIST or ENODATA as `mode` says.
  open func setExtendedAttribute(_ name: ByteString, _ value: ByteString, _ mode: ExtendedAttributeMode) throws(Errno) {
    throw .EOPNOTSUPP
  }

  open func removeExtendedAttribute(_ name: ByteString) throws(Errno) { throw .EOPNOTSUPP }

  open func extendedAttributeNames() throws(Errno) -> [ByteString] { throw .EOPNOTSUPP }

  /// The seals of a memfd (fcntl(2), F_GET_SEALS); nil when the file cannot be sealed.
  open var seals: FileSeals? { nil }

  /// Makes a new temporary file sealable (memfd_create(2)), with these seals to begin with.
  open func enableSeals(_ initial: UInt32) throws(Errno) { throw .EINVAL }
}

/// What renameat2(2) was asked for.
public struct RenameFlags: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  /// Fail with EEXIST when the target exists (checked by the VFS as well).
  public static var noReplace: RenameFlags { RenameFlags(rawValue: RENAME_NOREPLACE) }
  /// Swap both entries.
  public static var exchange: RenameFlags { RenameFlags(rawValue: RENAME_EXCHANGE) }
  /// Leave a whiteout (character device 0:0) behind.
  public static var whiteout: RenameFlags { RenameFlags(rawValue: RENAME_WHITEOUT) }
}

/// Where a symbolic link leads.
public enum LinkTarget {
  case text(ByteString)
  /// A magic link of /proc: straight to an object, whatever its name.
  case path(Path)
}

/// What fallocate(2) shall do to the range.
public enum AllocationMode: Sendable { case allocate, allocateKeepingSize, punchHole, zero, zeroKeepingSize }

/// What lseek(2) looks for with SEEK_DATA and SEEK_HOLE.
public enum SparseSeek: Sendable { case data, hole }

/// setxattr(2): whether the attribute may, must or must not exist.
public enum ExtendedAttributeMode: Sendable { case createOrReplace, create, replace }
