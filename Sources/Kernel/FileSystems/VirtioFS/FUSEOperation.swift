// The operations of the FUSE protocol by name, for the statistics of a mount.

import CLinuxABI

enum FUSEOperation {
  /// One more than the largest operation's number.
  static var limit: Int { 64 }

  /// The name of an operation that this kernel sends.
  static func name(_ opcode: Int) -> StaticString? {
    switch linux_fuse_opcode(rawValue: UInt32(opcode)) {
    case LINUX_FUSE_LOOKUP: "LOOKUP"
    case LINUX_FUSE_GETATTR: "GETATTR"
    case LINUX_FUSE_SETATTR: "SETATTR"
    case LINUX_FUSE_READLINK: "READLINK"
    case LINUX_FUSE_SYMLINK: "SYMLINK"
    case LINUX_FUSE_MKNOD: "MKNOD"
    case LINUX_FUSE_MKDIR: "MKDIR"
    case LINUX_FUSE_UNLINK: "UNLINK"
    case LINUX_FUSE_RMDIR: "RMDIR"
    case LINUX_FUSE_LINK: "LINK"
    case LINUX_FUSE_OPEN: "OPEN"
    case LINUX_FUSE_READ: "READ"
    case LINUX_FUSE_WRITE: "WRITE"
    case LINUX_FUSE_STATFS: "STATFS"
    case LINUX_FUSE_RELEASE: "RELEASE"
    case LINUX_FUSE_FSYNC: "FSYNC"
    case LINUX_FUSE_SETXATTR: "SETXATTR"
    case LINUX_FUSE_GETXATTR: "GETXATTR"
    case LINUX_FUSE_LISTXATTR: "LISTXATTR"
    case LINUX_FUSE_REMOVEXATTR: "REMOVEXATTR"
    case LINUX_FUSE_INIT: "INIT"
    case LINUX_FUSE_READDIR: "READDIR"
    case LINUX_FUSE_FSYNCDIR: "FSYNCDIR"
    case LINUX_FUSE_CREATE: "CREATE"
    case LINUX_FUSE_DESTROY: "DESTROY"
    case LINUX_FUSE_BATCH_FORGET: "BATCH_FORGET"
    case LINUX_FUSE_FALLOCATE: "FALLOCATE"
    case LINUX_FUSE_READDIRPLUS: "READDIRPLUS"
    case LINUX_FUSE_RENAME2: "RENAME2"
    case LINUX_FUSE_LSEEK: "LSEEK"
    case LINUX_FUSE_IOCTL: "IOCTL"
    case LINUX_FUSE_SYNCFS: "SYNCFS"
    case LINUX_FUSE_TMPFILE: "TMPFILE"
    default: nil
    }
  }
}
