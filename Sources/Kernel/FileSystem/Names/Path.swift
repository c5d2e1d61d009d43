// A place in the file tree: which mount, and which entry in it.

import KernelCore
import LinuxABI

/// A mount and a dentry of its file system.
public struct Path: Equatable {
  public let mount: Mount
  public let dentry: Dentry

  @inline(__always)
  public init(mount: Mount, dentry: Dentry) {
    self.mount = mount
    self.dentry = dentry
  }

  @inline(__always)
  public static func == (left: Path, right: Path) -> Bool {
    left.dentry === right.dentry && left.mount === right.mount
  }

  /// The inode; paths that a walk returned always have one.
  public var inode: Inode {
    @export(interface) get {
      guard let inode = dentry.inode else { panic("a path leads to an absent entry") }
      return inode
    }
  }

  /// Whether this is the root of its mount.
  public var isMountRoot: Bool { dentry === mount.root }
}
