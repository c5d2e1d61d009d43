// Device files, /proc basics, and terminals' absence.
#include "../conformance.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static char *slurp(const char *path) {
  static char b[65536];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return NULL;
  ssize_t n, total = 0;
  while ((n = read(fd, b + total, sizeof b - 1 - total)) > 0) total += n;
  close(fd);
  b[total] = 0;
  return n < 0 ? NULL : b;
}

static long number_after(const char *path, const char *name) {
  char *text = slurp(path), *at = text ? strstr(text, name) : NULL;
  return at ? strtol(at + strlen(name), NULL, 0) : -1;
}

// What is in /sys the kernel decides. Containers often have it mounted read-only.
static bool refused(int result, int error) { return result == -1 && (errno == error || errno == EROFS); }

static void entries_of_sys(void) {
  section("entries of /sys");
  int error = geteuid() ? EACCES : EPERM;
  const char *file = "/sys/devices/system/cpu/online";
  CHECK(refused(mkdir("/sys/new", 0700), error));
  CHECK(refused(mkdir("/sys/devices/system/cpu/new", 0700), error));
  CHECK(refused(symlink("/", "/sys/new"), error));
  CHECK(refused(mknod("/sys/new", S_IFIFO | 0600, 0), error));
  CHECK(refused(mknod("/sys/new", S_IFREG | 0600, 0), EACCES));
  CHECK(refused(open("/sys/new", O_RDWR | O_CREAT, 0600), EACCES));
  CHECK(refused(rmdir("/sys/devices"), error));
  CHECK(refused(unlink(file), error));
  CHECK(refused(rename(file, "/sys/devices/system/cpu/new"), error));
  FAILS(mkdir("/sys/devices", 0700), EEXIST);
  FAILS(mkdir("/sys/new/inner", 0700), ENOENT);
  CHECK(refused(rmdir("/sys/new"), ENOENT));
  FAILS(rename(file, "/tmp/new"), EXDEV);
}

static void devices(void) {
  section("devices");
  struct { const char *name; int major, minor; } known[] = {
      {"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
  struct stat s;
  for (int i = 0; i < 6; i++) {
    bool right = stat(known[i].name, &s) == 0 && S_ISCHR(s.st_mode) && major(s.st_rdev) == known[i].major && minor(s.st_rdev) == known[i].minor;
    check_true(right, known[i].name, __LINE__);
  }
  char b[100];
  int fd = MUST(open("/dev/null", O_RDWR));
  EQUAL(read(fd, b, 10), 0);
  EQUAL(write(fd, b, 100), 100);
  EQUAL(lseek(fd, 100, SEEK_SET), 0);
  FAILS(isatty(fd) ? 0 : -1, ENOTTY);
  close(fd);
  fd = MUST(open("/dev/zero", O_RDWR));
  memset(b, 1, 100);
  EQUAL(read(fd, b, 100), 100);
  EQUAL(b[0] | b[99], 0);
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(p != MAP_FAILED && p[5000] == 0);
  p[0] = 1;
  munmap(p, 8192);
  close(fd);
  fd = MUST(open("/dev/full", O_RDWR));
  FAILS(write(fd, b, 1), ENOSPC);
  EQUAL(read(fd, b, 10), 10);
  close(fd);
  fd = MUST(open("/dev/urandom", O_RDONLY));
  EQUAL(read(fd, b, 100), 100);
  int zeros = 0;
  for (int i = 0; i < 100; i++) zeros += !b[i];
  CHECK(zeros < 20);
  close(fd);
  struct termios t;
  int pipes[2];
  MUST(pipe(pipes));
  FAILS(tcgetattr(pipes[0], &t), ENOTTY);
  CHECK(access("/dev/fd/0", F_OK) == 0 || errno == ENOENT);
  CHECK(readlink("/dev/stdin", b, 100) == 15 && !memcmp(b, "/proc/self/fd/0", 15));
}

int main(int argc, char **argv) {
  devices();
  entries_of_sys();
  section("/proc/self");
  char b[PATH_MAX] = {0}, expected[64];
  sprintf(expected, "%d", getpid());
  CHECK(readlink("/proc/self", b, sizeof b) > 0 && !strcmp(b, expected));
  memset(b, 0, sizeof b);
  CHECK(readlink("/proc/self/cwd", b, sizeof b) > 0 && b[0] == '/');
  CHECK(readlink("/proc/self/root", b, sizeof b) == 1);
  memset(b, 0, sizeof b);
  CHECK(readlink("/proc/self/exe", b, sizeof b) > 0 && strstr(b, "devices"));
  EQUAL(number_after("/proc/self/status", "Pid:"), getpid());
  EQUAL(number_after("/proc/self/status", "PPid:"), getppid());
  EQUAL(number_after("/proc/self/status", "Threads:"), 1);
  EQUAL(number_after("/proc/self/status", "Uid:"), getuid());
  CHECK(number_after("/proc/self/status", "VmRSS:") > 0);
  CHECK(strstr(slurp("/proc/self/status"), "State:\tR (running)") != NULL);
  prctl(PR_SET_NAME, "renamed");
  CHECK(!strcmp(slurp("/proc/self/comm"), "renamed\n"));
  int id;
  char name[64], state;
  CHECK(sscanf(slurp("/proc/self/stat"), "%d (%[^)]) %c", &id, name, &state) == 3);
  CHECK(id == getpid() && !strcmp(name, "renamed") && state == 'R');
  int fields = 1;
  for (char *c = strrchr(slurp("/proc/self/stat"), ')'); *c; c++) fields += *c == ' ';
  CHECK(fields >= 51);
  long size, resident;
  CHECK(sscanf(slurp("/proc/self/statm"), "%ld %ld", &size, &resident) == 2 && size >= resident && resident > 0);
  CHECK(strlen(slurp("/proc/self/cmdline")) > 0 && strstr(slurp("/proc/self/cmdline"), "devices"));
  char *maps = slurp("/proc/self/maps");
  CHECK(maps && strstr(maps, "r-xp") && strstr(maps, "[stack]") && strstr(maps, "[heap]") && strstr(maps, "devices"));
  CHECK(slurp("/proc/self/environ") != NULL);
  CHECK(slurp("/proc/self/limits") && strstr(slurp("/proc/self/limits"), "Max open files"));
  CHECK(slurp("/proc/self/mounts") && strstr(slurp("/proc/self/mounts"), " /proc proc "));
  CHECK(slurp("/proc/self/mountinfo") != NULL);
  CHECK(slurp("/proc/self/task") == NULL && errno == EISDIR);
  FAILS(open("/proc/self/none", O_RDONLY), ENOENT);
  FAILS(open("/proc/536870911/stat", O_RDONLY), ENOENT);
  FAILS(open("/proc/new", O_RDWR | O_CREAT, 0600), ENOENT);
  FAILS(mkdir("/proc/newdir", 0700), ENOENT);
  FAILS(symlink("/", "/proc/new"), ENOENT);
  FAILS(mknod("/proc/self/new", S_IFIFO | 0600, 0), ENOENT);
  FAILS(unlink("/proc/new"), ENOENT);
  FAILS(rename("/proc/new", "/proc/old"), ENOENT);
  pid_t child = CHILD(for (;;) pause());
  sprintf(expected, "/proc/%d/status", child);
  EQUAL(number_after(expected, "PPid:"), getpid());
  sprintf(expected, "/proc/%d", child);
  DIR *d = opendir("/proc");
  int found = 0, self = 0;
  for (struct dirent *e; (e = readdir(d));) found += atoi(e->d_name) == child, self += !strcmp(e->d_name, "self");
  closedir(d);
  CHECK(found == 1 && self == 1);
  kill(child, SIGKILL);
  siginfo_t info;
  waitid(P_PID, child, &info, WEXITED | WNOWAIT);
  sprintf(expected, "/proc/%d/status", child);
  CHECK(strstr(slurp(expected), "State:\tZ (zombie)") != NULL);
  outcome(child);
  FAILS(open(expected, O_RDONLY), ENOENT);

  section("/proc");
  CHECK(number_after("/proc/meminfo", "MemTotal:") > 8192);
  CHECK(number_after("/proc/meminfo", "MemFree:") > 0);
  CHECK(number_after("/proc/meminfo", "MemAvailable:") > 0);
  double up;
  CHECK(sscanf(slurp("/proc/uptime"), "%lf", &up) == 1 && up >= 0);
  CHECK(strstr(slurp("/proc/cpuinfo"), "processor\t: 0") != NULL);
  CHECK(!strncmp(slurp("/proc/stat"), "cpu ", 4));
  double load;
  CHECK(sscanf(slurp("/proc/loadavg"), "%lf", &load) == 1);
  CHECK(!strncmp(slurp("/proc/version"), "Linux version ", 14));
  CHECK(strstr(slurp("/proc/filesystems"), "nodev\tproc") != NULL);
  CHECK(strstr(slurp("/proc/filesystems"), "nodev\ttmpfs") != NULL);
  CHECK(atoi(slurp("/proc/sys/kernel/pid_max")) > 300);
  CHECK(strlen(slurp("/proc/sys/kernel/hostname")) > 1);
  return conformance_end();
}
