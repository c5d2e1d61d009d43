// Flags and numbers of the file system calls (x86-64): open(2), fcntl(2), openat2(2), statx(2), poll(2) and relatives.

// open(2)
public let O_RDONLY: Int32 = 0o0
public let O_WRONLY: Int32 = 0o1
public let O_RDWR: Int32 = 0o2
public let O_ACCMODE: Int32 = 0o3
public let O_CREAT: Int32 = 0o100
public let O_EXCL: Int32 = 0o200
public let O_NOCTTY: Int32 = 0o400
public let O_TRUNC: Int32 = 0o1000
public let O_APPEND: Int32 = 0o2000
public let O_NONBLOCK: Int32 = 0o4000
public let O_DSYNC: Int32 = 0o10000
public let FASYNC: Int32 = 0o20000
public let O_DIRECT: Int32 = 0o40000
public let O_LARGEFILE: Int32 = 0o100000
public let O_DIRECTORY: Int32 = 0o200000
public let O_NOFOLLOW: Int32 = 0o400000
public let O_NOATIME: Int32 = 0o1000000
public let O_CLOEXEC: Int32 = 0o2000000
public let O_SYNC: Int32 = 0o4010000
public let O_PATH: Int32 = 0o10000000
public let O_TMPFILE: Int32 = 0o20200000

// The *at calls
public let AT_FDCWD: Int32 = -100
public let AT_SYMLINK_NOFOLLOW: Int32 = 0x100
public let AT_EACCESS: Int32 = 0x200
public let AT_REMOVEDIR: Int32 = 0x200
public let AT_SYMLINK_FOLLOW: Int32 = 0x400
public let AT_NO_AUTOMOUNT: Int32 = 0x800
public let AT_EMPTY_PATH: Int32 = 0x1000
public let AT_STATX_SYNC_TYPE: Int32 = 0x6000

// openat2(2)
public let RESOLVE_NO_XDEV: UInt64 = 0x01
public let RESOLVE_NO_MAGICLINKS: UInt64 = 0x02
public let RESOLVE_NO_SYMLINKS: UInt64 = 0x04
public let RESOLVE_BENEATH: UInt64 = 0x08
public let RESOLVE_IN_ROOT: UInt64 = 0x10
public let RESOLVE_CACHED: UInt64 = 0x20

// inode(7): the mode
public let S_IFMT: UInt32 = 0o170000
public let S_IFSOCK: UInt32 = 0o140000
public let S_IFLNK: UInt32 = 0o120000
public let S_IFREG: UInt32 = 0o100000
public let S_IFBLK: UInt32 = 0o060000
public let S_IFDIR: UInt32 = 0o040000
public let S_IFCHR: UInt32 = 0o020000
public let S_IFIFO: UInt32 = 0o010000
public let S_ISUID: UInt32 = 0o4000
public let S_ISGID: UInt32 = 0o2000
public let S_ISVTX: UInt32 = 0o1000
public let S_IWGRP: UInt32 = 0o020
public let S_IWOTH: UInt32 = 0o002
public let S_IXGRP: UInt32 = 0o010

// getdents64(2)
public let DT_UNKNOWN: UInt8 = 0
public let DT_FIFO: UInt8 = 1
public let DT_CHR: UInt8 = 2
public let DT_DIR: UInt8 = 4
public let DT_BLK: UInt8 = 6
public let DT_REG: UInt8 = 8
public let DT_LNK: UInt8 = 10
public let DT_SOCK: UInt8 = 12

// access(2)
public let F_OK: Int32 = 0
public let X_OK: Int32 = 1
public let W_OK: Int32 = 2
public let R_OK: Int32 = 4

// lseek(2)
public let SEEK_SET: Int32 = 0
public let SEEK_CUR: Int32 = 1
public let SEEK_END: Int32 = 2
public let SEEK_DATA: Int32 = 3
public let SEEK_HOLE: Int32 = 4

// fcntl(2)
public let F_DUPFD: Int32 = 0
public let F_GETFD: Int32 = 1
public let F_SETFD: Int32 = 2
public let F_GETFL: Int32 = 3
public let F_SETFL: Int32 = 4
public let F_GETLK: Int32 = 5
public let F_SETLK: Int32 = 6
public let F_SETLKW: Int32 = 7
public let F_SETOWN: Int32 = 8
public let F_GETOWN: Int32 = 9
public let F_SETSIG: Int32 = 10
public let F_GETSIG: Int32 = 11
public let F_SETOWN_EX: Int32 = 15
public let F_GETOWN_EX: Int32 = 16
public let F_OFD_GETLK: Int32 = 36
public let F_OFD_SETLK: Int32 = 37
public let F_OFD_SETLKW: Int32 = 38
public let F_SETLEASE: Int32 = 1024
public let F_GETLEASE: Int32 = 1025
public let F_NOTIFY: Int32 = 1026
public let F_DUPFD_CLOEXEC: Int32 = 1030
public let F_SETPIPE_SZ: Int32 = 1031
public let F_GETPIPE_SZ: Int32 = 1032
public let F_ADD_SEALS: Int32 = 1033
public let F_GET_SEALS: Int32 = 1034
public let FD_CLOEXEC: Int32 = 1
public let F_RDLCK: Int16 = 0
public let F_WRLCK: Int16 = 1
public let F_UNLCK: Int16 = 2
public let F_SEAL_SEAL: UInt32 = 0x1
public let F_SEAL_SHRINK: UInt32 = 0x2
public let F_SEAL_GROW: UInt32 = 0x4
public let F_SEAL_WRITE: UInt32 = 0x8
public let F_SEAL_FUTURE_WRITE: UInt32 = 0x10
public let F_SEAL_EXEC: UInt32 = 0x20

// flock(2)
public let LOCK_SH: Int32 = 1
public let LOCK_EX: Int32 = 2
public let LOCK_NB: Int32 = 4
public let LOCK_UN: Int32 = 8

// fallocate(2)
public let FALLOC_FL_KEEP_SIZE: Int32 = 0x01
public let FALLOC_FL_PUNCH_HOLE: Int32 = 0x02
public let FALLOC_FL_COLLAPSE_RANGE: Int32 = 0x08
public let FALLOC_FL_ZERO_RANGE: Int32 = 0x10
public let FALLOC_FL_INSERT_RANGE: Int32 = 0x20
public let FALLOC_FL_UNSHARE_RANGE: Int32 = 0x40

// renameat2(2), memfd_create(2), eventfd(2), timerfd(2), epoll(7), close_range(2), utimensat(2), xattr(7)
public let RENAME_NOREPLACE: UInt32 = 1
public let RENAME_EXCHANGE: UInt32 = 2
public let RENAME_WHITEOUT: UInt32 = 4
public let MFD_CLOEXEC: UInt32 = 1
public let MFD_ALLOW_SEALING: UInt32 = 2
public let MFD_HUGETLB: UInt32 = 4
public let MFD_NOEXEC_SEAL: UInt32 = 8
public let MFD_EXEC: UInt32 = 16
public let EFD_SEMAPHORE: Int32 = 1
public let TFD_TIMER_ABSTIME: Int32 = 1
public let TFD_TIMER_CANCEL_ON_SET: Int32 = 2
public let TFD_IOC_SET_TICKS: UInt32 = 0x4008_5400
public let EPOLL_CTL_ADD: Int32 = 1
public let EPOLL_CTL_DEL: Int32 = 2
public let EPOLL_CTL_MOD: Int32 = 3
public let EPOLLEXCLUSIVE: UInt32 = 1 << 28
public let EPOLLWAKEUP: UInt32 = 1 << 29
public let EPOLLONESHOT: UInt32 = 1 << 30
public let EPOLLET: UInt32 = 1 << 31
public let CLOSE_RANGE_UNSHARE: UInt32 = 2
public let CLOSE_RANGE_CLOEXEC: UInt32 = 4
public let UTIME_NOW: Int64 = 0x3fff_ffff
public let UTIME_OMIT: Int64 = 0x3fff_fffe
public let XATTR_CREATE: Int32 = 1
public let XATTR_REPLACE: Int32 = 2

// poll(2)
public let POLLIN: UInt32 = 0x001
public let POLLPRI: UInt32 = 0x002
public let POLLOUT: UInt32 = 0x004
public let POLLERR: UInt32 = 0x008
public let POLLHUP: UInt32 = 0x010
public let POLLNVAL: UInt32 = 0x020
public let POLLRDNORM: UInt32 = 0x040
public let POLLRDBAND: UInt32 = 0x080
public let POLLWRNORM: UInt32 = 0x100
public let POLLWRBAND: UInt32 = 0x200
public let POLLMSG: UInt32 = 0x400
public let POLLRDHUP: UInt32 = 0x2000

// statx(2)
public let STATX_BASIC_STATS: UInt32 = 0x7ff
public let STATX_BTIME: UInt32 = 0x800
public let STATX_MNT_ID: UInt32 = 0x1000
public let STATX_DIOALIGN: UInt32 = 0x2000
public let STATX__RESERVED: UInt32 = 0x8000_0000
public let STATX_ATTR_COMPRESSED: UInt64 = 0x4
public let STATX_ATTR_IMMUTABLE: UInt64 = 0x10
public let STATX_ATTR_APPEND: UInt64 = 0x20
public let STATX_ATTR_NODUMP: UInt64 = 0x40
public let STATX_ATTR_MOUNT_ROOT: UInt64 = 0x2000

// mount(2), umount2(2)
public let MS_RDONLY: UInt64 = 1
public let MS_NOSUID: UInt64 = 2
public let MS_NODEV: UInt64 = 4
public let MS_NOEXEC: UInt64 = 8
public let MS_SYNCHRONOUS: UInt64 = 16
public let MS_REMOUNT: UInt64 = 32
public let MS_MANDLOCK: UInt64 = 64
public let MS_DIRSYNC: UInt64 = 128
public let MS_NOSYMFOLLOW: UInt64 = 256
public let MS_NOATIME: UInt64 = 1024
public let MS_NODIRATIME: UInt64 = 2048
public let MS_BIND: UInt64 = 4096
public let MS_MOVE: UInt64 = 8192
public let MS_REC: UInt64 = 16384
public let MS_SILENT: UInt64 = 32768
public let MS_UNBINDABLE: UInt64 = 1 << 17
public let MS_PRIVATE: UInt64 = 1 << 18
public let MS_SLAVE: UInt64 = 1 << 19
public let MS_SHARED: UInt64 = 1 << 20
public let MS_RELATIME: UInt64 = 1 << 21
public let MS_STRICTATIME: UInt64 = 1 << 24
public let MS_LAZYTIME: UInt64 = 1 << 25
public let MNT_FORCE: Int32 = 1
public let MNT_DETACH: Int32 = 2
public let MNT_EXPIRE: Int32 = 4
public let UMOUNT_NOFOLLOW: Int32 = 8

// Limits
public let NAME_MAX = 255
public let PATH_MAX = 4096
public let PIPE_BUF = 4096
public let IOV_MAX = 1024
/// Linux transfers at most this many bytes in one read or write (MAX_RW_COUNT).
public let MAX_RW_COUNT: UInt64 = 0x7fff_f000

// ioctl(2) requests that every file understands
public let FIOCLEX: UInt32 = 0x5451
public let FIONCLEX: UInt32 = 0x5450
public let FIOASYNC: UInt32 = 0x5452
public let FIOQSIZE: UInt32 = 0x5460
public let FIGETBSZ: UInt32 = 2
// The flags of a file (ioctl_iflags(2)); declared with the type long, and an int.
public let FS_IOC_GETFLAGS: UInt32 = 0x8008_6601
public let FS_IOC_SETFLAGS: UInt32 = 0x4008_6602
public let FS_IMMUTABLE_FL: UInt32 = 0x10
public let FS_APPEND_FL: UInt32 = 0x20

/// File system magic numbers (statfs(2)).
public let TMPFS_MAGIC: Int64 = 0x0102_1994
public let HUGETLBFS_MAGIC: Int64 = 0x9584_58f6
public let PIPEFS_MAGIC: Int64 = 0x5049_5045
public let SOCKFS_MAGIC: Int64 = 0x534f_434b
public let ANON_INODE_FS_MAGIC: Int64 = 0x0904_1934

// ioctl(2) requests of block devices (include/uapi/linux/fs.h)
public let BLKROSET: UInt32 = 0x125d
public let BLKROGET: UInt32 = 0x125e
public let BLKRRPART: UInt32 = 0x125f
public let BLKGETSIZE: UInt32 = 0x1260
public let BLKFLSBUF: UInt32 = 0x1261
public let BLKRASET: UInt32 = 0x1262
public let BLKRAGET: UInt32 = 0x1263
public let BLKFRASET: UInt32 = 0x1264
public let BLKFRAGET: UInt32 = 0x1265
public let BLKSECTGET: UInt32 = 0x1267
public let BLKSSZGET: UInt32 = 0x1268
public let BLKDISCARD: UInt32 = 0x1277
public let BLKIOMIN: UInt32 = 0x1278
public let BLKIOOPT: UInt32 = 0x1279
public let BLKALIGNOFF: UInt32 = 0x127a
public let BLKPBSZGET: UInt32 = 0x127b
public let BLKDISCARDZEROES: UInt32 = 0x127c
public let BLKROTATIONAL: UInt32 = 0x127e
public let BLKZEROOUT: UInt32 = 0x127f
public let BLKBSZGET: UInt32 = 0x8008_1270
public let BLKBSZSET: UInt32 = 0x4008_1271
public let BLKGETSIZE64: UInt32 = 0x8008_1272

// preadv2(2), pwritev2(2)
public let RWF_HIPRI: Int32 = 0x1
public let RWF_DSYNC: Int32 = 0x2
public let RWF_SYNC: Int32 = 0x4
public let RWF_NOWAIT: Int32 = 0x8
public let RWF_APPEND: Int32 = 0x10
public let RWF_NOAPPEND: Int32 = 0x20
