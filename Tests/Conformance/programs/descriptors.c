// Descriptor tables: duplication, flags, limits, exec, fork.
#include "../conformance.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <linux/close_range.h>

static int lowest(void) {
  int fd = open("/dev/null", O_RDONLY);
  close(fd);
  return fd;
}

int main(int argc, char **argv) {
  if (argc > 1) { // after exec: which of the descriptors named are open?
    for (int i = 1; i < argc; i++) line("%s %s", argv[i], fcntl(atoi(argv[i]), F_GETFD) < 0 ? "closed" : "open");
    return 0;
  }
  enter_work_directory();
  make_file("f", "abcdef");
  section("dup");
  int fd = MUST(open("f", O_RDONLY));
  int d = dup(fd);
  EQUAL(d, fd + 1);
  char c;
  EQUAL(read(fd, &c, 1), 1);
  EQUAL(read(d, &c, 1), 1);
  EQUAL(c, 'b');
  EQUAL(dup2(fd, 50), 50);
  EQUAL(dup2(50, 50), 50);
  FAILS(dup2(999, 51), EBADF);
  FAILS(dup2(999, 999), EBADF);
  FAILS(dup2(fd, -1), EBADF);
  FAILS(dup2(fd, 1 << 30), EBADF);
  EQUAL(dup3(fd, 51, O_CLOEXEC), 51);
  EQUAL(fcntl(51, F_GETFD), FD_CLOEXEC);
  FAILS(dup3(fd, fd, 0), EINVAL);
  FAILS(dup3(fd, 52, O_APPEND), EINVAL);
  EQUAL(fcntl(fd, F_DUPFD, 60), 60);
  EQUAL(fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
  EQUAL(fcntl(61, F_GETFD), FD_CLOEXEC);
  FAILS(fcntl(fd, F_DUPFD, -1), EINVAL);
  FAILS(fcntl(fd, F_DUPFD, 1 << 30), EINVAL);
  FAILS(dup(-1), EBADF);

  section("flags");
  OK(fcntl(60, F_SETFD, FD_CLOEXEC));
  EQUAL(fcntl(60, F_GETFD), FD_CLOEXEC);
  EQUAL(fcntl(fd, F_GETFD), 0);
  OK(fcntl(60, F_SETFL, O_NONBLOCK));
  EQUAL(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  OK(fcntl(fd, F_SETFL, 0));
  FAILS(fcntl(fd, 9999), EINVAL);
  FAILS(fcntl(999, F_GETFD), EBADF);
  int on = 1;
  OK(ioctl(fd, FIOCLEX));
  EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
  OK(ioctl(fd, FIONCLEX));
  OK(ioctl(fd, FIONBIO, &on));
  EQUAL(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  int available = -1;
  OK(ioctl(fd, FIONREAD, &available));
  EQUAL(available, 4);
  FAILS(ioctl(fd, 0x12345678, 0), ENOTTY);
  FAILS(ioctl(999, FIONREAD, &available), EBADF);

  section("close_range");
  close(50), close(51), close(60), close(61);
  for (int i = 100; i < 110; i++) MUST(dup2(fd, i));
  OK(close_range(103, 105, 0));
  FAILS(fcntl(104, F_GETFD), EBADF);
  EQUAL(fcntl(106, F_GETFD), 0);
  OK(close_range(106, 107, CLOSE_RANGE_CLOEXEC));
  EQUAL(fcntl(106, F_GETFD), FD_CLOEXEC);
  OK(close_range(100, ~0u, 0));
  FAILS(close_range(5, 4, 0), EINVAL);
  FAILS(close_range(100, 110, 64), EINVAL);
  EQUAL(lowest(), d + 1);

  section("fork and exec");
  EQUAL(lseek(fd, 0, SEEK_SET), 0);
  pid_t child = CHILD({
    read(fd, &c, 1);
    close(fd);
  });
  EQUAL(outcome(child), 0);
  EQUAL(lseek(fd, 0, SEEK_CUR), 1);
  dup2(fd, 70);
  dup3(fd, 71, O_CLOEXEC);
  open("f", O_RDONLY | O_CLOEXEC);
  child = CHILD({
    execl("/proc/self/exe", "descriptors", "0", "70", "71", NULL);
    _exit(1);
  });
  EQUAL(outcome(child), 0);

  section("limits");
  struct rlimit limit;
  OK(getrlimit(RLIMIT_NOFILE, &limit));
  child = CHILD({
    struct rlimit r = {.rlim_cur = 80, .rlim_max = limit.rlim_max};
    MUST(setrlimit(RLIMIT_NOFILE, &r));
    FAILS(dup2(fd, 80), EBADF);
    FAILS(fcntl(fd, F_DUPFD, 80), EINVAL);
    FAILS(fcntl(fd, F_DUPFD, 0x100000050), EINVAL);
    EQUAL(fcntl(fd, F_DUPFD, 0x10000004e), 78);
    close(78);
    EQUAL(dup2(fd, 79), 79);
    int count = 0;
    while (open("f", O_RDONLY) >= 0) count++;
    EQUAL(errno, EMFILE);
    CHECK(count > 50);
    int p[2];
    FAILS(pipe(p), EMFILE);
    close(79);
    FAILS(pipe(p), EMFILE);
    EQUAL(dup(fd), 79);
    r.rlim_cur = 0;
    MUST(setrlimit(RLIMIT_NOFILE, &r));
    FAILS(fcntl(fd, F_DUPFD, 0), EINVAL);
    FAILS(dup(fd), EMFILE);
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);

  section("/proc/self/fd");
  char path[64], link[PATH_MAX] = {0};
  sprintf(path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link) > 0);
  CHECK(strlen(link) > 2 && !strcmp(link + strlen(link) - 2, "/f"));
  int again = MUST(open(path, O_RDONLY));
  EQUAL(lseek(again, 0, SEEK_CUR), 0);
  int p[2];
  MUST(pipe2(p, O_CLOEXEC | O_NONBLOCK));
  sprintf(path, "/proc/self/fd/%d", p[0]);
  memset(link, 0, sizeof link);
  CHECK(readlink(path, link, sizeof link) > 0 && !strncmp(link, "pipe:[", 6));
  FAILS(pipe2(p, 0x10), EINVAL);
  FAILS(pipe((int *)8), EFAULT);
  return conformance_end();
}
