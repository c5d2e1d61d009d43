// Flag arguments: the real bits of each set, combined at random, seldom with others.
#ifndef FLAGS_H
#define FLAGS_H

enum {
  OPEN_FLAGS = FLAGS, AT_FLAGS, PROTECTION, MAP_FLAGS, REMAP_FLAGS, SYNC_FLAGS, ADVICE, WHENCE, PIPE_FLAGS, EPOLL_FLAGS, EPOLL_OPERATION,
  EVENT_FLAGS, TIMER_FLAGS, INOTIFY_FLAGS, INOTIFY_MASK, MEMFD_FLAGS, FALLOCATE_MODE, SPLICE_FLAGS, FCNTL_COMMAND, LOCK_OPERATION,
  FUTEX_OPERATION, PRCTL_OPTION, ARCH_OPTION, WAIT_OPTIONS, WAIT_KIND, ITIMER_KIND, SIGMASK_HOW, RESOURCE, RUSAGE, SOCKET_TYPE, SOCKET_DOMAIN,
  MESSAGE_FLAGS, SHUTDOWN_HOW, MOUNT_FLAGS, UMOUNT_FLAGS, XATTR_FLAGS, RENAME_FLAGS, READ_FLAGS, MEMBARRIER_COMMAND, PERSONALITY, PRIORITY_KIND,
  POLICY, RANDOM_FLAGS, CLOSE_RANGE_FLAGS, STATX_MASK, STATX_FLAGS, ACCESS_MODE, NODE_MODE, MEMORY_POLICY, POLICY_FLAGS, LOG_ACTION, FADVICE,
  SYNC_RANGE_FLAGS, UNSHARE_FLAGS, MLOCK_FLAGS, SOCKET_LEVEL, SOCKET_OPTION, SWAP_FLAGS, FLAG_SETS
};

// `many`: bits of which several are combined; otherwise one value is taken.
static const struct { uint8_t many; uint64_t values[24]; } flag_sets[FLAG_SETS - FLAGS] = {
#define SET(name) [name - FLAGS]
  SET(OPEN_FLAGS) = {1, {0, 1, 2, 0100, 0200, 0400, 01000, 02000, 04000, 010000, 020000, 040000, 0100000, 0200000, 0400000, 01000000, 02000000, 04010000, 020200000, 010000000, 2, 0102}},
  SET(AT_FLAGS) = {1, {0, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000}},
  SET(PROTECTION) = {1, {0, 1, 2, 3, 3, 4, 8, 0x01000000, 0x02000000, 0x10}},
  SET(MAP_FLAGS) = {1, {1, 2, 3, 0x20, 0x22, 0x22, 0x21, 0x10, 0x100, 0x800, 0x2000, 0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x22, 0x2, 0x1}},
  SET(REMAP_FLAGS) = {1, {0, 1, 1, 3, 4, 7}},
  SET(SYNC_FLAGS) = {1, {0, 1, 2, 4}},
  SET(ADVICE) = {0, {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 100}},
  SET(WHENCE) = {0, {0, 1, 2, 3, 4, 5}},
  SET(PIPE_FLAGS) = {1, {0, 04000, 04000, 02000000, 040000}},
  SET(EPOLL_FLAGS) = {1, {0, 02000000}},
  SET(EPOLL_OPERATION) = {0, {1, 1, 2, 3, 0, 4}},
  SET(EVENT_FLAGS) = {1, {0, 1, 04000, 04000, 02000000}},
  SET(TIMER_FLAGS) = {1, {0, 1, 2}},
  SET(INOTIFY_FLAGS) = {1, {0, 04000, 04000, 02000000}},
  SET(INOTIFY_MASK) = {1, {0xfff, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800, 0x01000000, 0x02000000, 0x04000000, 0x10000000, 0x20000000, 0x40000000, 0x80000000}},
  SET(MEMFD_FLAGS) = {1, {0, 1, 2, 4, 8, 16}},
  SET(FALLOCATE_MODE) = {1, {0, 1, 2, 3, 8, 16, 32, 64}},
  SET(SPLICE_FLAGS) = {1, {0, 1, 2, 2, 4, 8}},
  SET(FCNTL_COMMAND) = {0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 36, 37, 38, 1024, 1025, 1026, 1030, 1031, 1032, 1033}},
  SET(LOCK_OPERATION) = {0, {5, 6, 8, 1, 2, 4, 32, 0}},
  SET(FUTEX_OPERATION) = {1, {0, 1, 1, 128, 129, 3, 4, 5, 9, 10, 256, 131, 133, 6, 7, 8, 11, 12, 13}},
  SET(PRCTL_OPTION) = {0, {1, 2, 3, 4, 7, 8, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 36, 38, 39, 47}},
  SET(ARCH_OPTION) = {0, {0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012, 0x1021, 0}},
  SET(WAIT_OPTIONS) = {1, {1, 1, 1, 2, 4, 8, 0x01000000, 0x20000000, 0x40000000, 0x80000000}},
  SET(WAIT_KIND) = {0, {0, 1, 2, 3, 4}},
  SET(ITIMER_KIND) = {0, {1, 2, 0, 3, 1}},
  SET(SIGMASK_HOW) = {0, {0, 1, 2, 1, 1, 3}},
  SET(RESOURCE) = {0, {1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16, 7, 9, 0}},
  SET(RUSAGE) = {0, {0, ~0ull, 1, ~1ull, 2}},
  SET(SOCKET_TYPE) = {1, {1, 2, 5, 3, 04000, 02000000, 2049, 2050}},
  SET(SOCKET_DOMAIN) = {0, {1, 1, 1, 1, 2, 10, 16, 17, 40}},
  SET(MESSAGE_FLAGS) = {1, {0, 0x40, 0x40, 1, 2, 0x20, 0x80, 0x100, 0x4000, 0x10000, 0x40000000}},
  SET(SHUTDOWN_HOW) = {0, {0, 1, 2, 3}},
  SET(MOUNT_FLAGS) = {1, {0, 1, 2, 4, 8, 16, 32, 64, 128, 1024, 4096, 4096, 16384, 0x20, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 8192}},
  SET(UMOUNT_FLAGS) = {1, {0, 1, 2, 2, 4, 8}},
  SET(XATTR_FLAGS) = {0, {0, 1, 2, 3}},
  SET(RENAME_FLAGS) = {1, {0, 0, 1, 2, 4}},
  SET(READ_FLAGS) = {1, {0, 0, 1, 2, 4, 8, 16}},
  SET(MEMBARRIER_COMMAND) = {0, {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 3}},
  SET(PERSONALITY) = {0, {0xffffffff, 0, 0x40000, 0x200000, 0x400000, 0x0800000, 0x4000000}},
  SET(PRIORITY_KIND) = {0, {0, 1, 2, 3}},
  SET(POLICY) = {0, {0, 1, 2, 3, 5, 6, 7, 0x40000000}},
  SET(RANDOM_FLAGS) = {1, {0, 1, 2, 4}},
  SET(CLOSE_RANGE_FLAGS) = {1, {0, 2, 4}},
  SET(STATX_MASK) = {1, {0x7ff, 0xfff, 1, 0x80000000, 0x1000}},
  SET(STATX_FLAGS) = {1, {0, 0x100, 0x800, 0x1000, 0x2000, 0x4000}},
  SET(ACCESS_MODE) = {1, {0, 1, 2, 4, 8}},
  SET(NODE_MODE) = {0, {0100644, 010644, 0140755, 020600, 060600, 0, 0170000, 040755}},
  SET(MEMORY_POLICY) = {1, {0, 1, 2, 3, 4, 5, 0x8000, 0x4000, 0x2000}},
  SET(POLICY_FLAGS) = {1, {0, 1, 2, 4, 8}},
  SET(LOG_ACTION) = {0, {2, 3, 4, 9, 10, 0, 1, 6, 7, 8}},
  SET(FADVICE) = {0, {0, 1, 2, 3, 4, 5, 6}},
  SET(SYNC_RANGE_FLAGS) = {1, {0, 1, 2, 4, 7}},
  SET(UNSHARE_FLAGS) = {1, {0x200, 0x400, 0x200, 0x40000, 0x100, 0x800, 0x10000, 0x20000, 0x10000000}},
  SET(MLOCK_FLAGS) = {0, {0, 1, 2}},
  SET(SOCKET_LEVEL) = {0, {1, 1, 0, 6}},
  SET(SOCKET_OPTION) = {0, {3, 4, 38, 39, 2, 7, 8, 16, 17, 20, 30, 9, 12, 13, 18, 21, 29, 33, 35, 36, 42, 59, 76, 77}},
  SET(SWAP_FLAGS) = {1, {0, 0x8000, 0x10000, 5}},
#undef SET
};

static uint64_t some_flags(generator *g, int set) {
  // The values of a set end with the last that is not 0.
  const uint64_t *values = flag_sets[set - FLAGS].values;
  unsigned count = 24;
  while (count > 1 && values[count - 1] == 0) count--;
  uint64_t value = values[below(g, count)];
  if (flag_sets[set - FLAGS].many)
    while (one_in(g, 2)) value |= values[below(g, count)];
  if (one_in(g, 50)) value |= 1ull << below(g, 64);
  return value;
}

#endif
