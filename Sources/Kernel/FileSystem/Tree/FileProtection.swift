// Protection of what every user can reach by name: links and files that one user leaves in a directory such as /tmp to trap
// another (proc(5), /proc/sys/fs/protected_*). The defaults are those of Linux distributions.

import Identity
import KernelCore
import LinuxABI
import Synchronization

/// The rules of fs.protected_symlinks, fs.protected_hardlinks, fs.protected_fifos and fs.protected_regular. They bind root
/// too: a trap in /tmp is meant for root.
public enum FileProtection {
  /// 0: off; 1: on.
  public static let symbolicLinks = Atomic<Int>(1)
  public static let hardLinks = Atomic<Int>(1)
  /// 0: off; 1: in world-writable sticky directories; 2: also in those that the group may write.
  public static let fifos = Atomic<Int>(1)
  public static let regularFiles = Atomic<Int>(1)

  /// Whether the caller may follow `link`, the last component of a path.
  ///
  /// - Throws: EACCES in a world-writable sticky directory, unless the caller or the directory's owner owns the
  ///   link.
  static func checkFollow(_ link: Inode, in directory: Inode, by caller: Caller) throws(Errno) {
    guard symbolicLinks.load(ordering: .relaxed) != 0 else { return }
    let control = try directory.accessControl()
    guard control.permissions & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH else { return }
    let owner = try link.accessControl().owner.user
    guard owner == caller.credentials.fileSystemUser || owner == control.owner.user else { throw .EACCES }
  }

  /// Whether the caller may give another name to the file: one that it could have made itself, or its own.
  ///
  /// - Throws: EPERM.
  static func checkLink(_ inode: Inode, by caller: Caller) throws(Errno) {
    guard hardLinks.load(ordering: .relaxed) != 0 else { return }
    let control = try inode.accessControl()
    if caller.owns(control) { return }
    let isSetID =
      control.permissions & S_ISUID != 0 || control.permissions & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP
    guard
      inode.kind == .regular, !isSetID, (try? caller.check([.read, .write], control, kind: .regular)) != nil
    else { throw .EPERM }
  }

  /// Whether open(2) with O_CREAT may use the file that is there already.
  ///
  /// - Throws: EACCES in a sticky directory, unless the caller or the directory's owner owns the file.
  static func checkReuse(_ inode: Inode, in directory: Inode, by caller: Caller) throws(Errno) {
    let level: Int
    switch inode.kind {
    case .regular: level = regularFiles.load(ordering: .relaxed)
    case .fifo: level = fifos.load(ordering: .relaxed)
    default: return
    }
    guard level != 0 else { return }
    let control = try directory.accessControl()
    guard control.permissions & S_ISVTX != 0 else { return }
    guard control.permissions & S_IWOTH != 0 || level >= 2 && control.permissions & S_IWGRP != 0 else { return }
    let owner = try inode.accessControl().owner.user
    guard owner == caller.credentials.fileSystemUser || owner == control.owner.user else { throw .EACCES }
  }
}
