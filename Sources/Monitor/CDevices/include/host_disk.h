// The host's operations on the file or block device behind a disk. Results are those of the system calls, or a negative
// error number.

#ifndef HOST_DISK_H
#define HOST_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

// Opens a regular file or block device and takes its advisory lock: shared if it is only read, exclusive otherwise.
// -EBUSY: another process has locked it; -EMEDIUMTYPE: it is neither of the two. With `size` above 0 an absent file is
// made, sparse, and *is_new set.
int host_disk_open(const char *path, int writes, uint64_t size, int *is_new);
// Its size in bytes.
int64_t host_disk_size(int descriptor);
// One call of preadv2(2) or pwritev2(2), maybe short. With `at_once` -EAGAIN instead of waiting for the host's disk.
ssize_t host_disk_read(int descriptor, const struct iovec *vectors, int count, int64_t offset, int at_once);
ssize_t host_disk_write(int descriptor, const struct iovec *vectors, int count, int64_t offset, int at_once);
// The range reads as zeros afterwards, and the host may take its space back.
int host_disk_discard(int descriptor, int64_t offset, int64_t length);
int host_disk_flush(int descriptor);

#endif
