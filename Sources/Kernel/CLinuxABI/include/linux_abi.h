#ifndef LINUX_ABI_H
#define LINUX_ABI_H
#include <stdint.h>
/* --- files: stat(2), statx(2), statfs(2), getdents64(2), fcntl(2), poll(2), epoll(7), openat2(2) --- */
struct linux_stat {
  uint64_t st_dev, st_ino, st_nlink;
  uint32_t st_mode, st_uid, st_gid, padding0;
  uint64_t st_rdev;
  int64_t st_size, st_blksize, st_blocks;
  int64_t st_atime_seconds, st_atime_nanoseconds;
  int64_t st_mtime_seconds, st_mtime_nanoseconds;
  int64_t st_ctime_seconds, st_ctime_nanoseconds;
  int64_t reserved[3];
};
struct linux_statx_timestamp {
  int64_t tv_sec;
  uint32_t tv_nsec;
  int32_t padding;
};
struct linux_statx {
  uint32_t stx_mask, stx_blksize;
  uint64_t stx_attributes;
  uint32_t stx_nlink, stx_uid, stx_gid;
  uint16_t stx_mode, padding0;
  uint64_t stx_ino, stx_size, stx_blocks, stx_attributes_mask;
  struct linux_statx_timestamp stx_atime, stx_btime, stx_ctime, stx_mtime;
  uint32_t stx_rdev_major, stx_rdev_minor, stx_dev_major, stx_dev_minor;
  uint64_t stx_mnt_id;
  uint32_t stx_dio_mem_align, stx_dio_offset_align;
  uint64_t reserved[12];
};
struct linux_statfs {
  int64_t f_type, f_bsize;
  uint64_t f_blocks, f_bfree, f_bavail, f_files, f_ffree;
  int32_t f_fsid[2];
  int64_t f_namelen, f_frsize, f_flags, f_spare[4];
};
struct linux_flock {
  int16_t l_type, l_whence;
  int32_t padding0;
  int64_t l_start, l_len;
  int32_t l_pid, padding1;
};
struct linux_pollfd {
  int32_t fd;
  uint16_t events, revents;
};
struct linux_epoll_event {
  uint32_t events;
  uint32_t data_low, data_high; /* packed on x86-64: 12 bytes */
};
struct linux_open_how {
  uint64_t flags, mode, resolve;
};
#endif
