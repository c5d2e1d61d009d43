// The FUSE protocol, version 7.31, as far as Apus speaks it (Linux: include/uapi/linux/fuse.h; fuse(4)). The kernel's
// VirtioFS and the monitor's file server share these structures: all fields are little endian and naturally aligned.
#ifndef LINUX_FUSE_H
#define LINUX_FUSE_H
#include <stdint.h>

#define LINUX_FUSE_VERSION 7
#define LINUX_FUSE_MINOR_VERSION 31
#define LINUX_FUSE_ROOT 1

enum linux_fuse_opcode {
  LINUX_FUSE_LOOKUP = 1, LINUX_FUSE_FORGET = 2, LINUX_FUSE_GETATTR = 3, LINUX_FUSE_SETATTR = 4,
  LINUX_FUSE_READLINK = 5, LINUX_FUSE_SYMLINK = 6, LINUX_FUSE_MKNOD = 8, LINUX_FUSE_MKDIR = 9,
  LINUX_FUSE_UNLINK = 10, LINUX_FUSE_RMDIR = 11, LINUX_FUSE_RENAME = 12, LINUX_FUSE_LINK = 13, LINUX_FUSE_OPEN = 14,
  LINUX_FUSE_READ = 15, LINUX_FUSE_WRITE = 16, LINUX_FUSE_STATFS = 17, LINUX_FUSE_RELEASE = 18, LINUX_FUSE_FSYNC = 20,
  LINUX_FUSE_SETXATTR = 21, LINUX_FUSE_GETXATTR = 22, LINUX_FUSE_LISTXATTR = 23, LINUX_FUSE_REMOVEXATTR = 24,
  LINUX_FUSE_FLUSH = 25, LINUX_FUSE_INIT = 26, LINUX_FUSE_OPENDIR = 27, LINUX_FUSE_READDIR = 28,
  LINUX_FUSE_RELEASEDIR = 29, LINUX_FUSE_FSYNCDIR = 30, LINUX_FUSE_ACCESS = 34, LINUX_FUSE_CREATE = 35,
  LINUX_FUSE_INTERRUPT = 36, LINUX_FUSE_DESTROY = 38, LINUX_FUSE_IOCTL = 39, LINUX_FUSE_BATCH_FORGET = 42,
  LINUX_FUSE_FALLOCATE = 43, LINUX_FUSE_READDIRPLUS = 44, LINUX_FUSE_RENAME2 = 45, LINUX_FUSE_LSEEK = 46,
  LINUX_FUSE_SYNCFS = 50, LINUX_FUSE_TMPFILE = 51,
};

struct linux_fuse_in_header {
  uint32_t length, opcode;
  uint64_t unique, node;
  uint32_t user, group, process, padding;
};
struct linux_fuse_out_header {
  uint32_t length;
  int32_t error;  // 0 or a negative error number
  uint64_t unique;
};

struct linux_fuse_attributes {
  uint64_t inode, size, blocks, access_time, modify_time, change_time;
  uint32_t access_nanoseconds, modify_nanoseconds, change_nanoseconds;
  uint32_t mode, link_count, user, group, special_device, block_size, flags;
};
// In `flags`, where FUSE has bits 0 and 1: what statx(2) tells in stx_attributes (compressed, immutable, append, nodump).
#define LINUX_FUSE_ATTR_STATX 0x74u
#define LINUX_FUSE_ATTR_APPEND 0x20u
struct linux_fuse_entry {
  uint64_t node, generation, entry_valid, attributes_valid;
  uint32_t entry_valid_nanoseconds, attributes_valid_nanoseconds;
  struct linux_fuse_attributes attributes;
};
struct linux_fuse_attributes_out {
  uint64_t valid;
  uint32_t valid_nanoseconds, padding;
  struct linux_fuse_attributes attributes;
};

struct linux_fuse_init_in {
  uint32_t major, minor, maximum_readahead, flags, flags2, unused[11];
};
struct linux_fuse_init_out {
  uint32_t major, minor, maximum_readahead, flags;
  uint16_t maximum_background, congestion_threshold;
  uint32_t maximum_write, time_granularity;
  uint16_t maximum_pages, map_alignment;
  uint32_t flags2, unused[7];
};
#define LINUX_FUSE_ASYNC_READ (1u << 0)
#define LINUX_FUSE_BIG_WRITES (1u << 5)
#define LINUX_FUSE_DONT_MASK (1u << 6)
#define LINUX_FUSE_DO_READDIRPLUS (1u << 13)
#define LINUX_FUSE_PARALLEL_DIROPS (1u << 18)
#define LINUX_FUSE_MAX_PAGES (1u << 22)

struct linux_fuse_forget_in { uint64_t lookups; };
struct linux_fuse_forget_one { uint64_t node, lookups; };
struct linux_fuse_batch_forget_in { uint32_t count, padding; };
struct linux_fuse_getattr_in { uint32_t flags, padding; uint64_t handle; };
struct linux_fuse_setattr_in {
  uint32_t valid, padding;
  uint64_t handle, size, lock_owner, access_time, modify_time, change_time;
  uint32_t access_nanoseconds, modify_nanoseconds, change_nanoseconds, mode, unused4, user, group, unused5;
};
#define LINUX_FATTR_MODE (1u << 0)
#define LINUX_FATTR_UID (1u << 1)
#define LINUX_FATTR_GID (1u << 2)
#define LINUX_FATTR_SIZE (1u << 3)
#define LINUX_FATTR_ATIME (1u << 4)
#define LINUX_FATTR_MTIME (1u << 5)
#define LINUX_FATTR_ATIME_NOW (1u << 7)
#define LINUX_FATTR_MTIME_NOW (1u << 8)

struct linux_fuse_mknod_in { uint32_t mode, special_device, umask, padding; };
struct linux_fuse_mkdir_in { uint32_t mode, umask; };
struct linux_fuse_rename_in { uint64_t directory; };
struct linux_fuse_rename2_in { uint64_t directory; uint32_t flags, padding; };
struct linux_fuse_link_in { uint64_t node; };
struct linux_fuse_open_in { uint32_t flags, open_flags; };
struct linux_fuse_create_in { uint32_t flags, mode, umask, open_flags; };
struct linux_fuse_open_out { uint64_t handle; uint32_t open_flags, padding; };
#define LINUX_FOPEN_KEEP_CACHE (1u << 1)
struct linux_fuse_release_in { uint64_t handle; uint32_t flags, release_flags; uint64_t lock_owner; };
struct linux_fuse_read_in {
  uint64_t handle, offset;
  uint32_t size, read_flags;
  uint64_t lock_owner;
  uint32_t flags, padding;
};
struct linux_fuse_write_in {
  uint64_t handle, offset;
  uint32_t size, write_flags;
  uint64_t lock_owner;
  uint32_t flags, padding;
};
struct linux_fuse_write_out { uint32_t size, padding; };
struct linux_fuse_statfs {
  uint64_t blocks, free_blocks, available_blocks, files, free_files;
  uint32_t block_size, name_limit, fragment_size, padding, spare[6];
};
struct linux_fuse_fsync_in { uint64_t handle; uint32_t flags, padding; };
struct linux_fuse_setxattr_in { uint32_t size, flags; };
struct linux_fuse_getxattr_in { uint32_t size, padding; };
struct linux_fuse_getxattr_out { uint32_t size, padding; };
struct linux_fuse_access_in { uint32_t mask, padding; };
struct linux_fuse_fallocate_in { uint64_t handle, offset, length; uint32_t mode, padding; };
// Followed by the input. Only FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, whose memory is an int.
struct linux_fuse_ioctl_in { uint64_t handle; uint32_t flags, command; uint64_t argument; uint32_t input_size, output_size; };
struct linux_fuse_ioctl_out { int32_t result; uint32_t flags, input_vectors, output_vectors; };
struct linux_fuse_lseek_in { uint64_t handle, offset; uint32_t whence, padding; };
struct linux_fuse_lseek_out { uint64_t offset; };
// Followed by the name, padded to a multiple of 8 bytes. READDIRPLUS puts a linux_fuse_entry in front.
struct linux_fuse_dirent { uint64_t inode, offset; uint32_t name_length, type; };
#endif
