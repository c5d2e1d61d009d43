// What the devices need of the host once the kernel runs, beyond what the machine itself needs (um_confine): the whole of
// what a kernel that fell to its guest could ask of the host. Everything that only the start needs (opening the exported
// directories, raising limits, forking the first user process) has happened before.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>

#include "monitor.h"
#include "user_machine.h"

#define ANY(call) {.number = SYS_##call, .argument = -1}
#define ONLY(call, place, what) {.number = SYS_##call, .argument = (place), .value = (uint32_t)(what)}

// The requests by which newer C libraries set a terminal (Linux, asm-generic/ioctls.h), whose headers clash with theirs.
#define IOCTL_TCGETS2 0x802c542a
#define IOCTL_TCSETSW2 0x402c542c

static const struct um_permission reading[] = {
    // The console: pipes and files (lseek is the machine's, too), waiting for them, sockets.
    ANY(poll), ANY(fstat), ANY(newfstatat), ANY(recvfrom), ANY(sendto),
    ONLY(fcntl, 1, F_GETFL),
    // The console's terminal: its size, its modes, whether we are in its foreground. Not TIOCSTI, which types.
    ONLY(ioctl, 1, TIOCGWINSZ), ONLY(ioctl, 1, TIOCGPGRP), ONLY(ioctl, 1, TCGETS), ONLY(ioctl, 1, TCSETSW),
    ONLY(ioctl, 1, IOCTL_TCGETS2), ONLY(ioctl, 1, IOCTL_TCSETSW2), ANY(getpgrp),
    // The console gives a standard stream up: its number becomes /dev/null's.
    ANY(openat), ANY(dup2),
    // The file server, reading: names beneath the exported directory, and descriptors reopened (openat, above).
    ANY(openat2), ANY(statx), ANY(fstatfs), ANY(readlinkat), ANY(getdents64), ANY(preadv), ANY(fgetxattr), ANY(flistxattr),
    ONLY(ioctl, 1, FS_IOC_GETFLAGS),
    // Waiting for the disk changes nothing; fsync is allowed on what others wrote.
    ANY(fsync), ANY(fdatasync),
};

// The file server, writing; absent unless something is exported writable.
static const struct um_permission writing[] = {
    ANY(pwritev), ANY(ftruncate), ANY(syncfs),
    ANY(mkdirat), ANY(mknodat), ANY(symlinkat), ANY(linkat), ANY(unlinkat), ANY(renameat2),
    ANY(fchownat), ANY(fchmodat), ANY(utimensat), ANY(fsetxattr), ANY(fremovexattr), ONLY(ioctl, 1, FS_IOC_SETFLAGS),
};

int64_t monitor_confine(int writes, const struct monitor_disk *disks, size_t disk_count) {
  enum {
    READING = sizeof reading / sizeof reading[0],
    WRITING = sizeof writing / sizeof writing[0],
    DISKS = 2 * MONITOR_MOST_DISKS,
  };
  if (disk_count > MONITOR_MOST_DISKS) return -E2BIG;
  struct um_permission all[READING + WRITING + DISKS];
  size_t count = 0;
  for (size_t i = 0; i < READING; i++) all[count++] = reading[i];
  for (size_t i = 0; writes && i < WRITING; i++) all[count++] = writing[i];
  // A disk's descriptor is open from the start; flushes (fdatasync) and discards (fallocate) are allowed already.
  for (size_t i = 0; i < disk_count; i++) {
    all[count++] = (struct um_permission)ONLY(preadv2, 0, disks[i].descriptor);
    if (disks[i].writes) all[count++] = (struct um_permission)ONLY(pwritev2, 0, disks[i].descriptor);
  }
  return um_confine(all, count);
}
