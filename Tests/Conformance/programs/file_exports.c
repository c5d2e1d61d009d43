// What files that lie on the host have beyond those in memory: flags (ioctl_iflags(2), chattr(1)), holes where they were left.
// directory: bind root
#include "../conformance.h"
#include <linux/fs.h>
#include <sys/ioctl.h>

enum { PAGE = 4096 };

static int flags_of(const char *path) {
  int fd = open(path, O_RDONLY), flags = 0;
  if (fd < 0) return -1;
  int result = ioctl(fd, FS_IOC_GETFLAGS, &flags);
  close(fd);
  return result < 0 ? -1 : flags & (FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL);
}
static int set_flags(const char *path, int wanted) {
  int fd = open(path, O_RDONLY), flags = 0;
  if (fd < 0) return -1;
  int result = ioctl(fd, FS_IOC_GETFLAGS, &flags);
  flags = (flags & ~(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL)) | wanted;
  if (result == 0) result = ioctl(fd, FS_IOC_SETFLAGS, &flags);
  int error = errno;
  close(fd);
  errno = error;
  return result;
}
static uint64_t told(const char *path) {
  struct statx x;
  if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x) < 0) return -1;
  return x.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP);
}

int main(void) {
  umask(022);
  enter_work_directory();
  MUST(chmod(".", 0755));
  section("hints");
  make_file("f", "text");
  OK(mkdir("d", 0755));
  EQUAL(flags_of("f"), 0);
  EQUAL(told("f"), 0);
  OK(set_flags("f", FS_NODUMP_FL | FS_NOATIME_FL));
  EQUAL(flags_of("f"), FS_NODUMP_FL | FS_NOATIME_FL);
  EQUAL(told("f"), STATX_ATTR_NODUMP);
  OK(set_flags("d", FS_NODUMP_FL));
  EQUAL(flags_of("d"), FS_NODUMP_FL);
  OK(set_flags("f", 0));
  EQUAL(told("f"), 0);
  struct statx x;
  OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
  CHECK(x.stx_attributes_mask & STATX_ATTR_APPEND);
  int fd = MUST(open("f", O_PATH)), flags;
  FAILS(ioctl(fd, FS_IOC_GETFLAGS, &flags), EBADF);
  close(fd);
  fd = MUST(open("f", O_RDONLY));
  FAILS(ioctl(fd, FS_IOC_GETFLAGS, NULL), EFAULT);
  close(fd);
  OK(mkfifo("p", 0600));
  fd = MUST(open("p", O_RDWR));
  FAILS(ioctl(fd, FS_IOC_GETFLAGS, &flags), ENOTTY);
  close(fd);

  // Root may natively; a monitor that gave its capabilities up may not.
  if (geteuid() != 0) {
    FAILS(set_flags("f", FS_IMMUTABLE_FL), EPERM);
    FAILS(set_flags("f", FS_APPEND_FL), EPERM);
  }

  section("holes");
  fd = MUST(open("h", O_CREAT | O_RDWR, 0644));
  EQUAL(pwrite(fd, "begin", 5, 0), 5);
  EQUAL(pwrite(fd, "end", 3, 1 << 20), 3);
  EQUAL(lseek(fd, 0, SEEK_DATA), 0);
  EQUAL(lseek(fd, 0, SEEK_HOLE), PAGE);
  EQUAL(lseek(fd, PAGE, SEEK_DATA), 1 << 20);
  EQUAL(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 3);
  FAILS(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
  struct stat s;
  OK(fstat(fd, &s));
  CHECK(s.st_blocks < 64);
  close(fd);

  section("a name that is gone");
  fd = MUST(open("u", O_CREAT | O_RDWR, 0644));
  OK(unlink("u"));
  char path[64];
  sprintf(path, "/proc/self/fd/%d", fd);
  FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW), ENOENT);
  close(fd);
  return conformance_end();
}
