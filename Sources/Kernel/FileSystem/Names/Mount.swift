// Mounts: a file system, or a part of one, put in the place of a directory.

import KernelCore
import LinuxABI
import Synchronization

/// What a mount forbids or changes (mount(2)).
public struct MountFlags: OptionSet, Sendable {
  public var rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static var readOnly: MountFlags { MountFlags(rawValue: MS_RDONLY) }
  public static var noSetID: MountFlags { MountFlags(rawValue: MS_NOSUID) }
  public static var noDevices: MountFlags { MountFlags(rawValue: MS_NODEV) }
  public static var noExecute: MountFlags { MountFlags(rawValue: MS_NOEXEC) }
  public static var noAccessTime: MountFlags { MountFlags(rawValue: MS_NOATIME) }
  public static var noDirectoryAccessTime: MountFlags { MountFlags(rawValue: MS_NODIRATIME) }
  public static var relativeAccessTime: MountFlags { MountFlags(rawValue: MS_RELATIME) }
  public static var noSymbolicLinks: MountFlags { MountFlags(rawValue: MS_NOSYMFOLLOW) }
  /// Those that belong to a mount rather than to its file system.
  static var perMount: MountFlags {
    [
      .readOnly, .noSetID, .noDevices, .noExecute, .noAccessTime, .noDirectoryAccessTime, .relativeAccessTime,
      .noSymbolicLinks,
    ]
  }
}

/// A mount. `parent`, `mountPoint` and `children` are guarded by `MountNamespace.lock`.
public final class Mount {
  public let superblock: Superblock
  /// The dentry that is seen at the mount point: the file system's root, or the source of a bind mount.
  public let root: Dentry
  /// Whether the mount shows a part of its file system only (a bind mount of a directory).
  let showsPart: Bool
  /// What /proc/PID/mountinfo and statx(2) call the mount id.
  public let identifier: UInt64
  private let flagBits: Atomic<UInt64>
  public internal(set) var parent: Mount?
  public internal(set) var mountPoint: Dentry?
  var children: [Mount] = []
  /// Open files, working directories and roots in this mount: what makes umount(2) fail with EBUSY.
  let users = Atomic<Int>(0)
  private let isDetached = Atomic<Bool>(false)
  private let isGone = Atomic<Bool>(false)
  private static let nextIdentifier = Atomic<UInt64>(1)

  @export(interface)
  public init(superblock: Superblock, root: Dentry? = nil, flags: MountFlags) {
    self.superblock = superblock
    self.root = root ?? superblock.root
    showsPart = self.root !== superblock.root
    flagBits = Atomic(flags.intersection(.perMount).rawValue)
    identifier = Self.nextIdentifier.add(1, ordering: .relaxed).oldValue
    superblock.mountCount.add(1, ordering: .relaxed)
  }

  public var flags: MountFlags {
    @inline(__always) get { MountFlags(rawValue: flagBits.load(ordering: .relaxed)) }
  }

  func setFlags(_ flags: MountFlags) {
    flagBits.store(flags.intersection(.perMount).rawValue, ordering: .relaxed)
  }

  /// Whether nothing can be written through this mount.
  public var isReadOnly: Bool { flags.contains(.readOnly) || superblock.isReadOnly }

  /// Something uses the mount: it is busy until `leave`.
  @export(interface)
  public func enter() { users.add(1, ordering: .relaxed) }

  @export(interface)
  public func leave() {
    if users.subtract(1, ordering: .acquiringAndReleasing).newValue == 0, isDetached.load(ordering: .acquiring) {
      finish()
    }
  }

  /// The mount has left its namespace; its file system goes when the mount is no longer in use.
  func didDetach() {
    isDetached.store(true, ordering: .sequentiallyConsistent)
    if users.load(ordering: .sequentiallyConsistent) == 0 { finish() }
  }

  private func finish() {
    if !isGone.exchange(true, ordering: .acquiringAndReleasing) { superblock.didUnmount() }
  }
}
