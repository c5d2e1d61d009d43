// What an ordinary user tries on files, settings and processes that are root's: reading, changing, renaming, linking, tracing, killing,
// limiting, mounting, and the calls that change the whole system. Each must be refused. Then privileges that must not stay: set-ID bits
// after a write, a truncation, an allocation and a change of owner; rights of a set-user-ID program without new privileges; rights on a
// descriptor beyond its mode. The control makes the same attempts as root, of which most succeed.
//
// run: --cpus 1 --user 0 -- @
// expect: ok the user is refused everything .*
// expect: ok no privilege stays .*
// expect: ok control: .*
// run: --cpus 4 --user 0 -- @
#include "attack.h"

#include <grp.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static int tried, succeeded;
static pid_t target;

#define TRY(call)                                            \
  do {                                                       \
    tried++;                                                 \
    if ((long)(call) >= 0) {                                 \
      succeeded++;                                           \
      if (geteuid() != 0) say("succeeds: %s", #call);        \
    }                                                        \
  } while (0)

static const char *of(const char *entry) {
  static char path[80];
  snprintf(path, sizeof path, "/proc/%d/%s", target, entry);
  return path;
}

static int write_to(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  int result = fd < 0 ? -1 : write(fd, text, strlen(text));
  if (fd >= 0) close(fd);
  return result;
}

static void files(void) {
  TRY(open("/tmp/scene/secret", O_RDONLY));
  TRY(open("/tmp/scene/closed/file", O_RDONLY));
  TRY(open("/tmp/scene/public", O_RDWR));
  TRY(truncate("/tmp/scene/public", 0));
  TRY(chmod("/tmp/scene/public", 0666));
  TRY(chown("/tmp/scene/public", geteuid() ?: 1, -1));
  TRY(utimensat(AT_FDCWD, "/tmp/scene/public", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
  TRY(setxattr("/tmp/scene/public", "user.x", "y", 1, 0));
  TRY(rename("/tmp/scene/sticky/file", "/tmp/scene/mine/taken"));
  TRY(unlink("/tmp/scene/sticky/second"));
  TRY(rename("/tmp/scene/mine/own", "/tmp/scene/sticky/third"));
  TRY(link("/tmp/scene/secret", "/tmp/scene/mine/secret"));
  TRY(link("/tmp/scene/set-id", "/tmp/scene/mine/set-id"));
  TRY(open("/tmp/scene/sticky/others", O_CREAT | O_WRONLY, 0600));
  TRY(open("/tmp/scene/sticky/others-link", O_RDONLY));
  TRY(mknod("/tmp/scene/mine/memory", S_IFCHR | 0666, 0x101));
  TRY(mknod("/tmp/scene/mine/disk", S_IFBLK | 0666, 0xfe00));
  TRY(mkdir("/new", 0700));
  TRY(rename("/etc/passwd", "/tmp/scene/mine/passwd"));
}

static void processes(void) {
  char buffer[64];
  struct iovec piece = {buffer, sizeof buffer};
  struct rlimit limit = {1, 1};
  struct sched_param parameter = {0};
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  TRY(kill(target, 0));
  TRY(tgkill(target, target, 0));
  TRY(sigqueue(target, 0, (union sigval){0}));
  TRY(prlimit(target, RLIMIT_CORE, &limit, NULL));
  TRY(prlimit(target, RLIMIT_CORE, NULL, &limit));
  TRY(setpriority(PRIO_PROCESS, target, 1));
  TRY(sched_setscheduler(target, SCHED_OTHER, &parameter));
  TRY(sched_setaffinity(target, sizeof set, &set));
  TRY(process_vm_readv(target, &piece, 1, &piece, 1, 0));
  TRY(syscall(SYS_move_pages, target, 0, NULL, NULL, NULL, 0));
  TRY(syscall(SYS_get_robust_list, target, buffer, buffer + 8));
  int pidfd = syscall(SYS_pidfd_open, target, 0);
  TRY(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
  TRY(syscall(SYS_pidfd_getfd, pidfd, 0, 0));
  close(pidfd);
  TRY(open(of("environ"), O_RDONLY));
  TRY(open(of("maps"), O_RDONLY));
  TRY(open(of("fd"), O_RDONLY | O_DIRECTORY));
  TRY(readlink(of("exe"), buffer, sizeof buffer));
  TRY(write_to(of("oom_score_adj"), "10"));
  TRY(write_to("/proc/self/oom_score_adj", "-10"));
}

static void identity(void) {
  unsigned header[2] = {0x20080522, 0}, data[6] = {~0u, ~0u, ~0u, ~0u, 0, 0};
  struct rlimit limit;
  MUST(getrlimit(RLIMIT_CORE, &limit));
  limit.rlim_max = limit.rlim_max == RLIM_INFINITY ? limit.rlim_max : limit.rlim_max + 1;
  TRY(setuid(0));
  TRY(setresgid(0, 0, 0));
  TRY(setgroups(1, (gid_t[]){0}));
  TRY(syscall(SYS_capset, header, data) < 0 ? -1 : geteuid() == 0 ? 0 : -1);
  TRY(setpriority(PRIO_PROCESS, 0, -5));
  TRY(chroot("/"));
}

static void system_wide(void) {
  char buffer[64];
  struct timespec past = {1, 0};
  TRY(mount("none", "/tmp/scene/mine", "tmpfs", 0, NULL));
  TRY(umount2("/tmp/scene/mine", MNT_DETACH));
  TRY(sethostname("taken", 5));
  if (geteuid() != 0) TRY(syscall(SYS_clock_settime, CLOCK_REALTIME, &past));
  if (geteuid() != 0) TRY(syscall(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, NULL));
  TRY(syscall(SYS_syslog, 2, buffer, sizeof buffer));
  TRY(open("/dev/kmsg", O_WRONLY));
  TRY(open("/proc/sysrq-trigger", O_WRONLY));
  TRY(open("/proc/sys/vm/overcommit_memory", O_WRONLY));
  TRY(open("/proc/sys/fs/protected_symlinks", O_RDONLY));
  TRY(open("/proc/sys/kernel/hostname", O_WRONLY));
}

static void attempts(void) {
  files(), processes(), identity(), system_wide();
}

static int mode(int fd) {
  struct stat status;
  MUST(fstat(fd, &status));
  return status.st_mode & 07777;
}

// Privileges that end with a change, as the user who owns the file.
static int leftovers(void) {
  int left = 0, fd = MUST(open("/tmp/scene/mine/program", O_CREAT | O_RDWR | O_CLOEXEC, 0755));
#define LEFT(what, condition)      \
  do {                             \
    if (condition) say("stays: %s", what), left++; \
  } while (0)
  MUST(fchmod(fd, 06755));
  LEFT("nothing to lose", mode(fd) != 06755);
  MUST(write(fd, "x", 1));
  LEFT("set-ID bits after a write", mode(fd) & 06000);
  MUST(fchmod(fd, 06755));
  MUST(ftruncate(fd, 0));
  LEFT("set-ID bits after a truncation", mode(fd) & 06000);
  MUST(fchmod(fd, 06755));
  MUST(fallocate(fd, 0, 0, 100));
  LEFT("set-ID bits after an allocation", mode(fd) & 06000);
  MUST(fchmod(fd, 06755));
  MUST(fchown(fd, -1, 1000));
  LEFT("set-ID bits after a change of owner", mode(fd) & 06000);
  close(fd);
  // A descriptor gives what its mode says, by whatever way.
  fd = MUST(open("/tmp/scene/public", O_RDONLY | O_CLOEXEC));
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  LEFT("writing by /proc/self/fd", open(path, O_RDWR) >= 0);
  char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  LEFT("writing by mprotect", map != MAP_FAILED && mprotect(map, 4096, PROT_READ | PROT_WRITE) == 0);
  LEFT("writing by a shared mapping", mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
  LEFT("truncating", ftruncate(fd, 0) == 0);
  LEFT("writing by F_SETFL", fcntl(fd, F_SETFL, O_RDWR) == 0 && write(fd, "x", 1) == 1);
  LEFT("a mode by a descriptor", fchmod(fd, 0777) == 0);
  close(fd);
  return left;
}

// The effective user of a set-user-ID program that is run with or without new privileges.
static int run_set_id(bool is_fixed) {
  pid_t child = fork();
  if (child == 0) {
    become_user(1000);
    if (is_fixed) MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    execl("/tmp/scene/set-id", "set-id", "who", NULL);
    _exit(97);
  }
  return outcome(child);
}

static int make(const char *path, mode_t mode, uid_t owner) {
  close(MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600)));
  MUST(chown(path, owner, owner));
  return MUST(chmod(path, mode));
}

static void set_scene(void) {
  umask(0);
  MUST(mkdir("/tmp/scene", 0755)), MUST(mkdir("/tmp/scene/closed", 0700)), MUST(mkdir("/tmp/scene/mine", 0755));
  MUST(chown("/tmp/scene/mine", 1000, 1000));
  MUST(mkdir("/tmp/scene/sticky", 0777)), MUST(chmod("/tmp/scene/sticky", 01777));
  make("/tmp/scene/secret", 0600, 0), make("/tmp/scene/closed/file", 0644, 0), make("/tmp/scene/public", 0644, 0);
  make("/tmp/scene/sticky/file", 0666, 0), make("/tmp/scene/sticky/second", 0666, 0), make("/tmp/scene/sticky/third", 0666, 0);
  make("/tmp/scene/mine/own", 0644, 1000), make("/tmp/scene/sticky/others", 0666, 2000);
  MUST(symlink("/tmp/scene/public", "/tmp/scene/sticky/others-link"));
  MUST(lchown("/tmp/scene/sticky/others-link", 2000, 2000));
  char self[200] = {0}, text[65536];
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  int from = MUST(open(self, O_RDONLY)), to = MUST(open("/tmp/scene/set-id", O_CREAT | O_WRONLY, 0755));
  for (ssize_t n; (n = read(from, text, sizeof text)) > 0;) MUST(write(to, text, n));
  MUST(fchmod(to, 04755));
  close(from), close(to);
}

static void wait_for_ever(void) {
  for (;;) pause();
}

int main(int argc, char **argv) {
  if (argc > 1) _exit(geteuid() == 0 ? 10 : 11);
  set_scene();
  target = in_child(wait_for_ever);
  int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int user = 1; user >= 0; user--) {
    pid_t child = fork();
    if (child == 0) {
      if (user) {
        MUST(setgroups(0, NULL));
        become_user(1000);
      }
      attempts();
      counts[2 * user] = tried, counts[2 * user + 1] = succeeded;
      if (user) counts[4] = leftovers();
      _exit(0);
    }
    check(outcome(child) == 0, "the attempts of %s end", user ? "the user" : "root");
  }
  check(counts[2] > 50 && counts[3] == 0, "the user is refused everything (%d of %d succeed)", counts[3], counts[2]);
  int fixed = run_set_id(true), plain = run_set_id(false);
  check(counts[4] == 0 && fixed == 11, "no privilege stays (%d; set-user-ID without new privileges: %d)", counts[4], fixed);
  check(counts[1] > 40 && plain == 10, "control: root succeeds (%d of %d), and a set-user-ID program is root's (%d)", counts[1],
        counts[0], plain);
  kill(target, SIGKILL), outcome(target);
  return attack_end();
}
