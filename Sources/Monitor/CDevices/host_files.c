// See host_files.h. Every call goes through host_call: the C library's wrappers choose calls of their own.

#define _GNU_SOURCE
#include "host_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host_call.h"

int host_open_beneath(int directory, const char *name, int flags, unsigned mode) {
  struct open_how how = {
      // openat2(2) refuses flags that mean nothing, O_NOCTTY with O_PATH among them.
      .flags = (uint64_t)(unsigned)(flags | O_NOFOLLOW | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
      .mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS};
  // EAGAIN: something was renamed or mounted meanwhile, and the kernel cannot be sure that ".." stayed inside. EXDEV: what was
  // found has left the directory before the call ended; a name without ".." leads nowhere else.
  int64_t result = -EAGAIN;
  for (int tries = 0; tries < 1000 && (result == -EAGAIN || result == -EXDEV); tries++)
    result = HOST_CALL4(SYS_openat2, directory, name, &how, sizeof how);
  return (int)result;
}

int host_can_confine(void) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
  int64_t result = HOST_CALL4(SYS_openat2, AT_FDCWD, ".", &how, sizeof how);
  if (result >= 0) close((int)result);
  return result != -ENOSYS;
}

// "N", the name of a descriptor in /proc/self/fd.
struct descriptor_name { char text[16]; };
static struct descriptor_name name_of(int descriptor) {
  struct descriptor_name name;
  snprintf(name.text, sizeof name.text, "%d", descriptor);
  return name;
}

int host_reopen(int descriptors, int descriptor, int flags) {
  struct descriptor_name name = name_of(descriptor);
  return (int)HOST_CALL4(SYS_openat, descriptors, name.text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
}

static int open_directory(const char *path) {
  return (int)HOST_CALL4(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

// struct mount_attr of mount_setattr(2), which older C libraries lack, and its attributes: read-only, no set-ID, no devices.
struct mount_attributes { uint64_t set, clear, propagation, namespace; };
enum { ATTRIBUTE_READ_ONLY = 1, ATTRIBUTE_NO_SET_ID = 2, ATTRIBUTE_NO_DEVICES = 4 };

int host_open_export(const char *path, int is_read_only) {
  int tree = (int)HOST_CALL3(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (tree < 0) return open_directory(path);
  struct mount_attributes attributes = {.set = ATTRIBUTE_NO_SET_ID | ATTRIBUTE_NO_DEVICES | (is_read_only ? ATTRIBUTE_READ_ONLY : 0)};
  // One layer less where the host is older than 5.12: the server itself refuses changes.
  HOST_CALL5(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes);
  return tree;
}

int host_open_descriptors(void) {
  int descriptor = open_directory("/proc/self/fd");
  if (descriptor < 0) return descriptor;
  struct statfs status;
  if (HOST_CALL2(SYS_fstatfs, descriptor, &status) == 0 && status.f_type == PROC_SUPER_MAGIC) return descriptor;
  close(descriptor);
  return -ENOSYS;
}

int host_status(int directory, const char *name, struct host_status *out) {
  struct statx x;
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_AS_STAT | (*name ? 0 : AT_EMPTY_PATH);
  int64_t result = HOST_CALL5(SYS_statx, directory, name, flags, STATX_BASIC_STATS, &x);
  if (result < 0) return (int)result;
  *out = (struct host_status){
      .device = makedev(x.stx_dev_major, x.stx_dev_minor),
      .attributes = {
          .inode = x.stx_ino, .size = x.stx_size, .blocks = x.stx_blocks,
          .access_time = (uint64_t)x.stx_atime.tv_sec, .modify_time = (uint64_t)x.stx_mtime.tv_sec,
          .change_time = (uint64_t)x.stx_ctime.tv_sec, .access_nanoseconds = x.stx_atime.tv_nsec,
          .modify_nanoseconds = x.stx_mtime.tv_nsec, .change_nanoseconds = x.stx_ctime.tv_nsec, .mode = x.stx_mode,
          .link_count = x.stx_nlink, .user = x.stx_uid, .group = x.stx_gid,
          // The encoding of 32-bit device numbers (Linux: new_encode_dev).
          .special_device = (x.stx_rdev_minor & 0xff) | x.stx_rdev_major << 8 | (x.stx_rdev_minor & ~0xffu) << 12,
          .block_size = x.stx_blksize, .flags = (uint32_t)x.stx_attributes & LINUX_FUSE_ATTR_STATX}};
  return 0;
}

int host_is_pseudo(int descriptor) {
  struct statfs status;
  if (HOST_CALL2(SYS_fstatfs, descriptor, &status) < 0) return 1;
  switch ((unsigned long)status.f_type) {
  case PROC_SUPER_MAGIC: case SYSFS_MAGIC: case CGROUP_SUPER_MAGIC: case CGROUP2_SUPER_MAGIC: case DEBUGFS_MAGIC:
  case TRACEFS_MAGIC: case SECURITYFS_MAGIC: case SELINUX_MAGIC: case SMACK_MAGIC: case PSTOREFS_MAGIC:
  case EFIVARFS_MAGIC: case DEVPTS_SUPER_MAGIC: case BPF_FS_MAGIC: case NSFS_MAGIC: case BINFMTFS_MAGIC:
  case BINDERFS_SUPER_MAGIC: case USBDEVICE_SUPER_MAGIC: case AUTOFS_SUPER_MAGIC:
  case 0x62656570 /* configfs */: case 0x65735543 /* fusectl */: case 0x19800202 /* mqueue */:
    return 1;
  default: return 0;
  }
}

int host_statfs(int descriptor, struct linux_fuse_statfs *out) {
  struct statfs s;
  int64_t result = HOST_CALL2(SYS_fstatfs, descriptor, &s);
  if (result < 0) return (int)result;
  *out = (struct linux_fuse_statfs){
      .blocks = s.f_blocks, .free_blocks = s.f_bfree, .available_blocks = s.f_bavail, .files = s.f_files,
      .free_files = s.f_ffree, .block_size = (uint32_t)s.f_bsize, .name_limit = (uint32_t)s.f_namelen,
      .fragment_size = (uint32_t)(s.f_frsize ? s.f_frsize : s.f_bsize)};
  return 0;
}

ssize_t host_read_link(int descriptor, char *buffer, size_t size) {
  return HOST_CALL4(SYS_readlinkat, descriptor, "", buffer, size);
}
ssize_t host_directory_entries(int descriptor, void *buffer, size_t size) {
  return HOST_CALL3(SYS_getdents64, descriptor, buffer, size);
}
int64_t host_seek(int descriptor, int64_t offset, int whence) { return HOST_CALL3(SYS_lseek, descriptor, offset, whence); }
// The offset's upper half is an argument of its own, which does not count on machines of 64 bits.
ssize_t host_read(int descriptor, const struct iovec *vectors, int count, int64_t offset) {
  return HOST_CALL5(SYS_preadv, descriptor, vectors, count, offset, 0);
}
ssize_t host_write(int descriptor, const struct iovec *vectors, int count, int64_t offset) {
  return HOST_CALL5(SYS_pwritev, descriptor, vectors, count, offset, 0);
}

int host_make_directory(int directory, const char *name, unsigned mode) {
  return (int)HOST_CALL3(SYS_mkdirat, directory, name, mode);
}
int host_make_node(int directory, const char *name, unsigned mode, uint32_t device) {
  return (int)HOST_CALL4(SYS_mknodat, directory, name, mode, device);
}
int host_make_link(const char *target, int directory, const char *name) {
  return (int)HOST_CALL3(SYS_symlinkat, target, directory, name);
}
int host_link(int descriptors, int descriptor, int directory, const char *name) {
  struct descriptor_name source = name_of(descriptor);
  return (int)HOST_CALL5(SYS_linkat, descriptors, source.text, directory, name, AT_SYMLINK_FOLLOW);
}
int host_unlink(int directory, const char *name, int is_directory) {
  return (int)HOST_CALL3(SYS_unlinkat, directory, name, is_directory ? AT_REMOVEDIR : 0);
}
int host_rename(int from, const char *name, int to, const char *new_name, unsigned flags) {
  return (int)HOST_CALL5(SYS_renameat2, from, name, to, new_name, flags);
}

int host_set_owner(int descriptor, uint32_t user, uint32_t group) {
  return (int)HOST_CALL5(SYS_fchownat, descriptor, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}
int host_set_mode(int descriptors, int descriptor, unsigned mode) {
  struct descriptor_name name = name_of(descriptor);
  return (int)HOST_CALL3(SYS_fchmodat, descriptors, name.text, mode);
}
int host_set_times(int descriptors, int descriptor, const int64_t t[4]) {
  struct timespec times[2] = {{t[0], t[1]}, {t[2], t[3]}};
  struct descriptor_name name = name_of(descriptor);
  return (int)HOST_CALL4(SYS_utimensat, descriptors, name.text, times, 0);
}
int host_truncate(int descriptor, int64_t size) { return (int)HOST_CALL2(SYS_ftruncate, descriptor, size); }
int host_allocate(int descriptor, int mode, int64_t offset, int64_t length) {
  return (int)HOST_CALL4(SYS_fallocate, descriptor, mode, offset, length);
}
int host_sync(int descriptor, int data_only) {
  return (int)HOST_CALL1(data_only ? SYS_fdatasync : SYS_fsync, descriptor);
}
int host_sync_all(int descriptor) { return (int)HOST_CALL1(SYS_syncfs, descriptor); }

// The requests are declared with the type long; what they move is an int (Linux: fs/ioctl.c).
int host_get_flags(int descriptor, uint32_t *flags) {
  return (int)HOST_CALL3(SYS_ioctl, descriptor, FS_IOC_GETFLAGS, flags);
}
int host_set_flags(int descriptor, uint32_t flags) {
  return (int)HOST_CALL3(SYS_ioctl, descriptor, FS_IOC_SETFLAGS, &flags);
}

ssize_t host_get_attribute(int descriptor, const char *name, void *value, size_t size) {
  return HOST_CALL4(SYS_fgetxattr, descriptor, name, value, size);
}
int host_set_attribute(int descriptor, const char *name, const void *value, size_t size, int flags) {
  return (int)HOST_CALL5(SYS_fsetxattr, descriptor, name, value, size, flags);
}
ssize_t host_list_attributes(int descriptor, char *list, size_t size) {
  return HOST_CALL3(SYS_flistxattr, descriptor, list, size);
}
int host_remove_attribute(int descriptor, const char *name) {
  return (int)HOST_CALL2(SYS_fremovexattr, descriptor, name);
}

uint64_t host_raise_file_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 256;
  struct rlimit raised = {limit.rlim_max, limit.rlim_max};
  if (limit.rlim_cur < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return limit.rlim_cur;
}
