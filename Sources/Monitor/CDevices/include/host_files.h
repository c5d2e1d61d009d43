// The host's file operations that the file server needs, each one system call of that name (host_call.h). All results are
// those of the system calls, or a negative error number; -EPERM too when the monitor's confinement does not allow the call.

#ifndef HOST_FILES_H
#define HOST_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "linux_fuse.h"

struct host_status {
  uint64_t device;
  struct linux_fuse_attributes attributes;
};

// A name within a directory: opened without following links, crossing magic links, or leaving the directory.
int host_open_beneath(int directory, const char *name, int flags, unsigned mode);
// Whether the host has openat2(2).
int host_can_confine(void);
// Reopens the file behind `descriptor` (O_PATH) through `descriptors`, an open /proc/self/fd.
int host_reopen(int descriptors, int descriptor, int flags);
// Opens a directory to be served (O_PATH). Where the host permits, the descriptor is a tree of mounts of its own: ".." does not
// lead out of it, and it is read-only if the export is.
int host_open_export(const char *path, int is_read_only);
// /proc/self/fd, or -ENOSYS when there is no proc file system.
int host_open_descriptors(void);

// `name` "" is the descriptor itself. Never follows links, never triggers automounts.
int host_status(int directory, const char *name, struct host_status *status);
// Whether the descriptor lies on a file system that shows the host's kernel instead of files: proc, sysfs, and the like.
int host_is_pseudo(int descriptor);
int host_statfs(int descriptor, struct linux_fuse_statfs *out);

ssize_t host_read_link(int descriptor, char *buffer, size_t size);
ssize_t host_directory_entries(int descriptor, void *buffer, size_t size);
int64_t host_seek(int descriptor, int64_t offset, int whence);
ssize_t host_read(int descriptor, const struct iovec *vectors, int count, int64_t offset);
ssize_t host_write(int descriptor, const struct iovec *vectors, int count, int64_t offset);

int host_make_directory(int directory, const char *name, unsigned mode);
// `device` in the encoding of 32-bit device numbers, which mknodat(2) takes.
int host_make_node(int directory, const char *name, unsigned mode, uint32_t device);
int host_make_link(const char *target, int directory, const char *name);
int host_link(int descriptors, int descriptor, int directory, const char *name);
int host_unlink(int directory, const char *name, int is_directory);
int host_rename(int from, const char *name, int to, const char *new_name, unsigned flags);

int host_set_owner(int descriptor, uint32_t user, uint32_t group);
int host_set_mode(int descriptors, int descriptor, unsigned mode);
// Seconds and nanoseconds of access and modification; nanoseconds may be UTIME_NOW or UTIME_OMIT.
int host_set_times(int descriptors, int descriptor, const int64_t times[4]);
int host_truncate(int descriptor, int64_t size);
int host_allocate(int descriptor, int mode, int64_t offset, int64_t length);
int host_sync(int descriptor, int data_only);
int host_sync_all(int descriptor);

// The file's flags, FS_*_FL (ioctl_iflags(2)), of a file that is open for reading or writing.
int host_get_flags(int descriptor, uint32_t *flags);
int host_set_flags(int descriptor, uint32_t flags);

// Of a file that is open, not only named (O_PATH).
ssize_t host_get_attribute(int descriptor, const char *name, void *value, size_t size);
int host_set_attribute(int descriptor, const char *name, const void *value, size_t size, int flags);
ssize_t host_list_attributes(int descriptor, char *list, size_t size);
int host_remove_attribute(int descriptor, const char *name);

// Raises the limit of open files as far as permitted; the limit.
uint64_t host_raise_file_limit(void);

#endif
