// The file system "virtiofs": a directory of the host, by the name (tag) that the monitor gave it (virtio 1.2, section
// 5.11).

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Virtio

/// The type "virtiofs".
public enum VirtioFS {
  /// Announces the type to mount(2): the source is the tag; "ro" makes it read-only; "cache=always" believes names and
  /// attributes without limit, "cache=auto" for as long as the server says.
  @export(interface)
  public static func register() {
    FileSystemTypes.register("virtiofs") { (source, options, flags) throws(Errno) -> Superblock in
      var isReadOnly = flags.contains(.readOnly)
      var caching = VirtioFSCaching.asServerSays
      for option in options.split(separator: 0x2c) where !option.isEmpty {
        switch option {
        case "ro": isReadOnly = true
        case "rw": isReadOnly = false
        case "cache=always": caching = .always
        case "cache=auto": caching = .asServerSays
        default: throw .EINVAL
        }
      }
      return try VirtioFSSuperblock(tag: source, isReadOnly: isReadOnly, caching: caching)
    }
  }
}

/// For how long names and attributes are believed.
public enum VirtioFSCaching: Sendable {
  /// The time that comes with each answer.
  case asServerSays
  /// For good: nobody else changes the directory, or nobody minds not seeing that.
  case always
}

/// A mounted directory of the host.
public final class VirtioFSSuperblock: Superblock {
  let session: FUSESession
  let inodes = InodeTable()

  /// Opens a session with the server of `tag`.
  /// - Throws: ENODEV when there is no such device; the server's errors.
  @export(interface)
  public init(tag: ByteString, isReadOnly: Bool, caching: VirtioFSCaching = .asServerSays) throws(Errno) {
    let device = VirtioDevice.all(kind: VirtioDevice.Kind.fileSystem).first { device in
      device.configuration.count >= 36 && ByteString(device.configuration[..<36].prefix { $0 != 0 }) == tag
    }
    guard let device else { throw .ENODEV }
    session = try FUSESession(device, caching: caching)
    super.init(typeName: "virtiofs", source: tag, isReadOnly: isReadOnly, needsRevalidation: true)
    let node = UInt64(LINUX_FUSE_ROOT)
    let found = try session.call(LINUX_FUSE_GETATTR, node, room: MemoryLayout<linux_fuse_attributes_out>.size) {
      (message) throws(Errno) in
      message.append(linux_fuse_getattr_in())
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_attributes_out.self)
    }
    let root = try VirtioFSInode.make(
      on: self, node: node, found.attributes, valid: session.validity(found.valid, found.valid_nanoseconds))
    inodes.keep(root)
    setRoot(root)
  }

  public override func statistics() throws(Errno) -> FileSystemStatistics {
    let found = try session.call(
      LINUX_FUSE_STATFS, UInt64(LINUX_FUSE_ROOT), room: MemoryLayout<linux_fuse_statfs>.size
    ) { (_) throws(Errno) in
    } reply: { (message) throws(Errno) in
      try message.value(linux_fuse_statfs.self)
    }
    // FUSE_SUPER_MAGIC
    var statistics = FileSystemStatistics(magic: 0x6573_5546)
    statistics.blockSize = UInt64(found.fragment_size == 0 ? 4096 : found.fragment_size)
    statistics.blocks = found.blocks
    statistics.freeBlocks = found.free_blocks
    statistics.availableBlocks = found.available_blocks
    statistics.files = found.files
    statistics.freeFiles = found.free_files
    statistics.nameLimit = UInt64(found.name_limit)
    return statistics
  }

  public override var isOnHost: Bool { true }

  public override var shownOptions: ByteString {
    session.caching == .always ? ",cache=always" : ByteString()
  }

  public override var shownStatistics: ByteString { session.countLines }

  public override func sync() throws(Errno) {
    guard !isReadOnly else { return }
    for inode in inodes.all() where inode.kind == .regular { try inode.writeBack() }
    try session.call(LINUX_FUSE_SYNCFS, UInt64(LINUX_FUSE_ROOT), room: 0) { (message) throws(Errno) in
      message.append(UInt64(0))
    } reply: { (_) throws(Errno) in
      ()
    }
  }

  public override func shutdown() {
    if !isReadOnly { try? sync() }
    inodes.removeAll()
    session.close()
  }

  /// The inode of an entry that the server told of; the look-up counts.
  func inode(for entry: linux_fuse_entry) throws(Errno) -> VirtioFSInode {
    guard entry.node != 0 else { throw .ENOENT }
    let valid = session.validity(entry.attributes_valid, entry.attributes_valid_nanoseconds)
    let entryValid = session.validity(entry.entry_valid, entry.entry_valid_nanoseconds)
    if let inode = inodes.find(entry.node) {
      inode.didLookUp(entry.attributes, valid: valid, entryValid: entryValid)
      return inode
    }
    let inode = try VirtioFSInode.make(on: self, node: entry.node, entry.attributes, valid: valid)
    // Another thread may have been quicker; its object is the one that stays.
    let kept = inodes.keep(inode)
    kept.didLookUp(entry.attributes, valid: valid, entryValid: entryValid)
    return kept
  }
}

/// Until when something that the server said may be believed.
struct Validity {
  let until: Instant

  static var forever: Validity { Validity(until: .never) }
  private init(until: Instant) { self.until = until }

  init(_ seconds: UInt64, _ nanoseconds: UInt32) {
    let (interval, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    until =
      overflow ? .never : Instant.now().advanced(byNanoseconds: interval).advanced(byNanoseconds: UInt64(nanoseconds))
  }
}
