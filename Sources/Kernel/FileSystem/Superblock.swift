// A mounted instance of a file system: its root, its device number, its limits. File systems subclass it.

import KernelCore
import LinuxABI
import Scheduling
import Synchronization

/// A file system that can be mounted.
///
/// A superblock and its root refer to each other until the last mount goes away and `shutdown()` cuts the tie.
open class Superblock {
  /// The type's name as /proc/mounts shows it.
  public final let typeName: ByteString
  /// What was mounted: a device, a tag, "none".
  public final let source: ByteString
  /// The anonymous device number that stat(2) reports (major 0), unless the file system chose one.
  public final let device: DeviceNumber
  /// Whether nothing can be written, on whatever mount.
  public final let isReadOnly: Bool
  /// Whether entries can change without the kernel's doing: `Inode.revalidate` is asked on each hit of the dentry cache.
  public final let needsRevalidation: Bool
  /// Held while directories move, so that the tree does not change under the check for loops.
  final let renameLock = SleepLock(.rename)
  final let mountCount = Atomic<Int>(0)
  private final var rootDentry: Dentry?
  private static let nextMinor = Atomic<UInt32>(1)

  @export(interface)
  public init(
    typeName: ByteString, source: ByteString, isReadOnly: Bool = false, needsRevalidation: Bool = false,
    device: DeviceNumber? = nil
  ) {
    self.typeName = typeName
    self.source = source
    self.isReadOnly = isReadOnly
    self.needsRevalidation = needsRevalidation
    self.device =
      device ?? DeviceNumber(major: 0, minor: Self.nextMinor.add(1, ordering: .relaxed).oldValue)
  }

  /// Sets the root directory; called once by the file system before the superblock is mounted.
  @export(interface)
  public final func setRoot(_ inode: Inode) {
    rootDentry = Dentry(root: inode)
  }

  /// The root's dentry.
  public final var root: Dentry {
    @export(interface) get {
      guard let rootDentry else { panic("a file system is used after its last unmount") }
      return rootDentry
    }
  }

  /// The type's mount options besides the generic ones, as /proc/mounts shows them (",size=1024k").
  open var shownOptions: ByteString { ByteString() }

  /// Whether what is made on it is made on the host.
  open var isOnHost: Bool { false }

  /// What the file system has counted, as lines for /proc/PID/mountstats, each ended by a newline.
  open var shownStatistics: ByteString { ByteString() }

  /// statfs(2).
  open func statistics() throws(Errno) -> FileSystemStatistics { throw .ENOSYS }

  /// Writes everything that is dirty to where it is kept (syncfs(2)).
  open func sync() throws(Errno) {}

  /// New options (mount(2) with MS_REMOUNT).
  open func remount(options: ByteString) throws(Errno) {}

  /// The last mount has gone away: give up resources. The root is dropped after this.
  open func shutdown() {}

  /// Gives up a file system that is not going to be mounted.
  @export(interface)
  public final func discard() {
    mountCount.add(1, ordering: .relaxed)
    didUnmount()
  }

  final func didUnmount() {
    guard mountCount.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
    DentryCache.evictAll(of: self)
    shutdown()
    rootDentry = nil
  }
}
