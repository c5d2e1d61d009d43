// See host_disk.h.

#define _GNU_SOURCE
#include "host_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host_call.h"

static int give_up(int descriptor, int error) {
  close(descriptor);
  return -error;
}

int host_disk_open(const char *path, int writes, uint64_t size, int *is_new) {
  // Non-blocking: a FIFO is refused below, not waited for.
  int flags = (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  *is_new = 0;
  int descriptor = open(path, flags);
  if (descriptor < 0 && errno == ENOENT && size > 0) {
    descriptor = open(path, flags | O_CREAT | O_EXCL, 0600);
    *is_new = descriptor >= 0;
  }
  if (descriptor < 0) return -errno;
  struct stat status;
  if (fstat(descriptor, &status) < 0) return give_up(descriptor, errno);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return give_up(descriptor, EMEDIUMTYPE);
  if (flock(descriptor, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
    return give_up(descriptor, errno == EWOULDBLOCK ? EBUSY : errno);
  if (*is_new && ftruncate(descriptor, (off_t)size) < 0) {
    int error = errno;
    unlink(path);
    return give_up(descriptor, error);
  }
  return descriptor;
}

int64_t host_disk_size(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) < 0) return -errno;
  if (S_ISREG(status.st_mode)) return status.st_size;
  uint64_t size;
  if (ioctl(descriptor, BLKGETSIZE64, &size) < 0) return -errno;
  return (int64_t)size;
}

ssize_t host_disk_read(int descriptor, const struct iovec *vectors, int count, int64_t offset, int at_once) {
  return HOST_CALL6(SYS_preadv2, descriptor, vectors, count, offset, 0, at_once ? RWF_NOWAIT : 0);
}
ssize_t host_disk_write(int descriptor, const struct iovec *vectors, int count, int64_t offset, int at_once) {
  return HOST_CALL6(SYS_pwritev2, descriptor, vectors, count, offset, 0, at_once ? RWF_NOWAIT : 0);
}
int host_disk_discard(int descriptor, int64_t offset, int64_t length) {
  return (int)HOST_CALL4(SYS_fallocate, descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}
int host_disk_flush(int descriptor) { return (int)HOST_CALL1(SYS_fdatasync, descriptor); }
