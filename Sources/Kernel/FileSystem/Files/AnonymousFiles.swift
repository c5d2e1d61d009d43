// Files without a name in the tree: pipes, eventfds, epoll instances. Each has an inode of its own on an internal mount,
// so that fstat(2), locks and /proc work on them as on any file.

import KernelCore
import LinuxABI
import Synchronization

/// The inode of an anonymous file.
public final class AnonymousInode: Inode {
  private let fixed: Attributes
  private let changed: SpinLock<Attributes>

  init(on superblock: Superblock, number: UInt64, kind: FileKind, permissions: UInt32, owner: Owner) {
    var attributes = Attributes(
      number: number, kind: kind, permissions: permissions, owner: owner, device: superblock.device)
    let now = FileTime.now()
    attributes.accessTime = now
    attributes.modifyTime = now
    attributes.changeTime = now
    fixed = attributes
    changed = SpinLock(attributes, rank: .inode)
    super.init(superblock: superblock, number: number, kind: kind)
  }

  public override func attributes() throws(Errno) -> Attributes { changed.withLock { $0 } }
  public override func accessControl() throws(Errno) -> AccessControl { changed.withLock { $0.accessControl } }
  public override func setAttributes(_ change: AttributeChange) throws(Errno) {
    guard change.size == nil else { throw .EINVAL }
    changed.withLock { change.apply(to: &$0) }
  }
  public override func sync() throws(Errno) { throw .EINVAL }
}

/// The file system that anonymous inodes belong to; mounted nowhere.
final class AnonymousSuperblock: Superblock {
  private let magic: Int64

  init(typeName: ByteString, magic: Int64) {
    self.magic = magic
    super.init(typeName: typeName, source: "none")
  }

  override func statistics() throws(Errno) -> FileSystemStatistics { FileSystemStatistics(magic: magic) }
}

/// Where anonymous files live.
public enum AnonymousFiles {
  private static let nextNumber = Atomic<UInt64>(1)

  public static let general = makeMount(typeName: "anon_inodefs", magic: ANON_INODE_FS_MAGIC)
  public static let pipes = makeMount(typeName: "pipefs", magic: PIPEFS_MAGIC)
  public static let sockets = makeMount(typeName: "sockfs", magic: SOCKFS_MAGIC)

  private static func makeMount(typeName: ByteString, magic: Int64) -> Mount {
    let superblock = AnonymousSuperblock(typeName: typeName, magic: magic)
    superblock.setRoot(
      AnonymousInode(on: superblock, number: 0, kind: .directory, permissions: 0o700, owner: .root))
    return Mount(superblock: superblock, flags: [.noSetID, .noDevices, .noExecute])
  }

  /// A place for a new anonymous file. `kind` is what fstat(2) shows; eventfds and their like have none, which is nearest
  /// to `.regular`.
  @export(interface)
  public static func makePath(
    kind: FileKind, name: ByteString, permissions: UInt32 = 0o600, owner: Owner = .root, on mount: Mount? = nil
  ) -> Path {
    let mount = mount ?? general
    let inode = AnonymousInode(
      on: mount.superblock, number: nextNumber.add(1, ordering: .relaxed).newValue, kind: kind,
      permissions: permissions, owner: owner)
    return Path(mount: mount, dentry: Dentry(root: inode, name: name))
  }
}
