// Who may look into a process (ptrace(2), "Ptrace access mode checking"): /proc/PID and the calls that name another process,
// as root's process is seen by an ordinary user, as a process of the same user is, and across execve(2).
#include "../conformance.h"
#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

enum { USER = 4321, OTHER = 4322 };
static char secret[64] = "what others must not see";
static char self_path[PATH_MAX];

static void become(uid_t user) {
  MUST(setgroups(0, NULL));
  MUST(setresgid(user, user, user));
  MUST(setresuid(user, user, user));
}

// A process that waits, with the ids and the dumpable attribute given; -1 leaves them. It has run a program of its own since,
// unless `dumpable` is given.
static pid_t victim(int user, int dumpable) {
  int ready[2];
  MUST(pipe2(ready, O_CLOEXEC));
  pid_t child = CHILD({
    if (user >= 0) become(user);
    char number[16];
    sprintf(number, "%d", MUST(dup(ready[1])));
    if (dumpable < 0) {
      execl(self_path, "access", "wait", number, NULL);
      _exit(97);
    }
    MUST(prctl(PR_SET_DUMPABLE, dumpable));
    MUST(write(ready[1], "x", 1));
    for (;;) pause();
  });
  close(ready[1]);
  char byte;
  MUST(read(ready[0], &byte, 1));
  close(ready[0]);
  return child;
}

static void end(pid_t child) {
  kill(child, SIGKILL);
  outcome(child);
}

// What the caller gets: 0, or an error.
static int opening(pid_t pid, const char *name, int flags) {
  char path[64];
  sprintf(path, "/proc/%d/%s", pid, name);
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

// As `opening`, and reads: some files judge the reader.
static int reading(pid_t pid, const char *name) {
  char path[64], text[4096];
  sprintf(path, "/proc/%d/%s", pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  ssize_t n = read(fd, text, sizeof text);
  int result = n < 0 ? errno : 0;
  close(fd);
  return result;
}

static int link_of(pid_t pid, const char *name) {
  char path[64], text[PATH_MAX];
  sprintf(path, "/proc/%d/%s", pid, name);
  return readlink(path, text, sizeof text) < 0 ? errno : 0;
}

static int owner_of(pid_t pid, const char *name) {
  char path[64];
  struct stat status;
  sprintf(path, "/proc/%d/%s", pid, name);
  return lstat(path, &status) < 0 ? -errno : (int)status.st_uid;
}

static int mode_of(pid_t pid, const char *name) {
  char path[64];
  struct stat status;
  sprintf(path, "/proc/%d/%s", pid, name);
  return lstat(path, &status) < 0 ? -errno : (int)(status.st_mode & 07777);
}

// Whether stat(5) shows where the program lies: fields 26 to 28 and 45 to 51.
static bool shows_addresses(pid_t pid) {
  char path[64], text[1000] = {0};
  sprintf(path, "/proc/%d/stat", pid);
  int fd = MUST(open(path, O_RDONLY));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  int field = 2;
  unsigned long sum = 0;
  for (char *word = strtok(strrchr(text, ')') + 1, " "); word; word = strtok(NULL, " ")) {
    field++;
    if (field == 28 || (field >= 45 && field <= 51)) sum |= strtoul(word, NULL, 10);
  }
  return sum != 0;
}

// A call that names a process: 0, or its error.
#define ERROR(call) ({ errno = 0; (call) < 0 ? errno : 0; })

static void files(pid_t pid, int expected, int expected_by_mode) {
  EQUAL(opening(pid, "maps", O_RDONLY), expected);
  EQUAL(opening(pid, "smaps", O_RDONLY), expected);
  EQUAL(opening(pid, "environ", O_RDONLY), expected_by_mode);
  EQUAL(opening(pid, "auxv", O_RDONLY), expected_by_mode);
  EQUAL(opening(pid, "pagemap", O_RDONLY), expected_by_mode);
  EQUAL(opening(pid, "fd", O_RDONLY | O_DIRECTORY), expected_by_mode);
  EQUAL(opening(pid, "fd/1", O_PATH), expected_by_mode);
  EQUAL(opening(pid, "fdinfo/1", O_RDONLY), expected);
  EQUAL(link_of(pid, "exe"), expected);
  EQUAL(link_of(pid, "cwd"), expected);
  EQUAL(link_of(pid, "root"), expected);
  EQUAL(opening(pid, "cwd", O_RDONLY | O_DIRECTORY), expected);
  EQUAL(opening(pid, "root/etc", O_RDONLY | O_DIRECTORY), expected);
  EQUAL(opening(pid, "exe", O_RDONLY), expected);
  EQUAL(reading(pid, "io"), expected_by_mode);
  EQUAL(reading(pid, "personality"), expected_by_mode);
  EQUAL(reading(pid, "syscall"), expected_by_mode);
  EQUAL(reading(pid, "mountstats"), expected_by_mode);
  EQUAL(shows_addresses(pid), expected == 0);
  // What everybody may see.
  EQUAL(reading(pid, "status"), 0);
  EQUAL(reading(pid, "statm"), 0);
  EQUAL(reading(pid, "cmdline"), 0);
  EQUAL(reading(pid, "comm"), 0);
  EQUAL(reading(pid, "wchan"), 0);
  EQUAL(reading(pid, "limits"), 0);
  EQUAL(reading(pid, "mountinfo"), 0);
  EQUAL(reading(pid, "cgroup"), 0);
  EQUAL(reading(pid, "oom_score"), 0);
}

static void calls(pid_t pid, int expected) {
  char buffer[64] = {0};
  struct iovec here = {buffer, sizeof buffer}, there = {secret, sizeof secret};
  // The other program lies elsewhere: EFAULT says that the call was allowed.
  int error = ERROR(process_vm_readv(pid, &here, 1, &there, 1, 0));
  EQUAL(error == EFAULT ? 0 : error, expected);
  error = ERROR(process_vm_writev(pid, &here, 1, &there, 1, 0));
  EQUAL(error == EFAULT ? 0 : error, expected);
  void *head;
  size_t size;
  EQUAL(ERROR(syscall(SYS_get_robust_list, pid, &head, &size)), expected);
  int pidfd = MUST(syscall(SYS_pidfd_open, pid, 0));
  int fd = syscall(SYS_pidfd_getfd, pidfd, 1, 0);
  EQUAL(fd < 0 ? errno : 0, expected);
  if (fd >= 0) close(fd);
  close(pidfd);
}

// What the ids decide, whatever the dumpable attribute says.
static void control(pid_t pid, int expected) {
  struct rlimit limit;
  EQUAL(ERROR(prlimit(pid, RLIMIT_NOFILE, NULL, &limit)), expected);
  EQUAL(ERROR(kill(pid, 0)), expected);
  EQUAL(ERROR(setpriority(PRIO_PROCESS, pid, 3)), expected);
  struct sched_param parameter = {0};
  EQUAL(ERROR(sched_setscheduler(pid, SCHED_OTHER, &parameter)), expected);
  cpu_set_t set;
  EQUAL(ERROR(sched_getaffinity(pid, sizeof set, &set)), 0);
  EQUAL(ERROR(sched_setaffinity(pid, sizeof set, &set)), expected);
}

// The secret of a process that shows itself is read: the test would notice a leak.
static void reads_secret(pid_t pid) {
  char buffer[64] = {0};
  struct iovec here = {buffer, sizeof buffer}, there = {secret, sizeof secret};
  EQUAL(process_vm_readv(pid, &here, 1, &there, 1, 0), sizeof secret);
  EQUAL(strcmp(buffer, "what others must not see"), 0);
}

static int at(const char *format, pid_t pid, int flags) {
  char path[64];
  snprintf(path, sizeof path, format, pid);
  int fd = open(path, flags | O_CLOEXEC);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) close(fd);
  return error;
}

static int status_of(pid_t pid) {
  char path[64];
  struct stat status;
  snprintf(path, sizeof path, "proc/%d", pid);
  return stat(path, &status) < 0 ? errno : 0;
}

static bool is_listed(pid_t pid) {
  DIR *directory = opendir("proc");
  bool found = false;
  for (struct dirent *entry; directory && (entry = readdir(directory));) found |= atoi(entry->d_name) == pid;
  if (directory) closedir(directory);
  return found;
}

// What a mount of procfs shows of another's process and of one's own.
static void hidden_process(const char *options, pid_t other, pid_t own) {
  line("ok %s: the directory %s, its files %s, listed %d", options, strerrorname_np(status_of(other)) ?: "exists",
       strerrorname_np(at("proc/%d/status", other, O_RDONLY)) ?: "open", is_listed(other));
  EQUAL(at("proc/%d/status", own, O_RDONLY), 0);
  EQUAL(is_listed(own), true);
}

int main(int argc, char **argv) {
  if (argc > 2) {
    MUST(write(atoi(argv[2]), "x", 1));
    for (;;) pause();
  }
  if (geteuid() != 0) {
    line("ok only root can become others");
    return conformance_end();
  }
  enter_work_directory();
  MUST(chmod(".", 0755));
  // A program that everybody may read and execute, and one with the set-user-ID bit.
  MUST(readlink("/proc/self/exe", self_path, sizeof self_path - 1));
  char text[65536];
  ssize_t n;
  int from = MUST(open(self_path, O_RDONLY | O_CLOEXEC)), program = MUST(open("program", O_CREAT | O_RDWR | O_CLOEXEC, 0755));
  while ((n = read(from, text, sizeof text)) > 0) MUST(write(program, text, n));
  close(from);
  close(program);
  MUST(getcwd(self_path, sizeof self_path - 16) ? 0 : -1);
  strcat(self_path, "/program");

  section("a process of root");
  pid_t pid = victim(-1, -1);
  EQUAL(owner_of(pid, ""), 0);
  EQUAL(outcome(CHILD({
    become(USER);
    files(pid, EACCES, EACCES);
    calls(pid, EPERM);
    control(pid, EPERM);
    EQUAL(opening(pid, "comm", O_WRONLY), EACCES);
    EQUAL(opening(pid, "oom_score_adj", O_WRONLY), EACCES);
    EQUAL(opening(pid, "task", O_RDONLY | O_DIRECTORY), 0);
    char thread[32];
    sprintf(thread, "task/%d/maps", pid);
    EQUAL(opening(pid, thread, O_RDONLY), EACCES);
    sprintf(thread, "task/%d/cwd", pid);
    EQUAL(link_of(pid, thread), EACCES);
    sprintf(thread, "task/%d/environ", pid);
    EQUAL(opening(pid, thread, O_RDONLY), EACCES);
    EQUAL(opening(1, "environ", O_RDONLY), EACCES);
    EQUAL(opening(1, "maps", O_RDONLY), EACCES);
    EQUAL(link_of(1, "cwd"), EACCES);
    _exit(checks_failed);
  })), 0);
  end(pid);

  section("a process of the same user");
  pid = victim(USER, -1);
  EQUAL(owner_of(pid, ""), USER);
  EQUAL(owner_of(pid, "maps"), USER);
  EQUAL(owner_of(pid, "environ"), USER);
  EQUAL(owner_of(pid, "cwd"), USER);
  EQUAL(mode_of(pid, ""), 0555);
  EQUAL(mode_of(pid, "maps"), 0444);
  EQUAL(mode_of(pid, "environ"), 0400);
  EQUAL(mode_of(pid, "auxv"), 0400);
  EQUAL(mode_of(pid, "io"), 0400);
  EQUAL(mode_of(pid, "syscall"), 0400);
  EQUAL(mode_of(pid, "personality"), 0400);
  EQUAL(mode_of(pid, "mountstats"), 0400);
  EQUAL(mode_of(pid, "pagemap"), 0400);
  EQUAL(mode_of(pid, "fd"), 0500);
  EQUAL(mode_of(pid, "fdinfo"), 0555);
  EQUAL(mode_of(pid, "task"), 0555);
  EQUAL(mode_of(pid, "comm"), 0644);
  EQUAL(outcome(CHILD({
    become(USER);
    files(pid, 0, 0);
    calls(pid, 0);
    control(pid, 0);
    _exit(checks_failed);
  })), 0);
  EQUAL(outcome(CHILD({
    become(OTHER);
    files(pid, EACCES, EACCES);
    calls(pid, EPERM);
    control(pid, EPERM);
    _exit(checks_failed);
  })), 0);
  // The same user with another group, or with other file-system ids.
  EQUAL(outcome(CHILD({
    MUST(setgroups(0, NULL));
    MUST(setresgid(OTHER, OTHER, OTHER));
    MUST(setresuid(USER, USER, USER));
    EQUAL(opening(pid, "maps", O_RDONLY), EACCES);
    calls(pid, EPERM);
    _exit(checks_failed);
  })), 0);
  end(pid);

  section("a process of the same user that is not dumpable");
  pid = victim(USER, 0);
  EQUAL(owner_of(pid, ""), USER);
  EQUAL(owner_of(pid, "task"), USER);
  EQUAL(owner_of(pid, "maps"), 0);
  EQUAL(owner_of(pid, "environ"), 0);
  EQUAL(owner_of(pid, "fd"), 0);
  EQUAL(outcome(CHILD({
    become(USER);
    files(pid, EACCES, EACCES);
    calls(pid, EPERM);
    control(pid, 0);
    _exit(checks_failed);
  })), 0);
  end(pid);
  pid = victim(USER, 1);
  EQUAL(outcome(CHILD({
    become(USER);
    reads_secret(pid);
    _exit(checks_failed);
  })), 0);
  end(pid);

  section("a process looks at itself");
  EQUAL(outcome(CHILD({
    become(USER);
    MUST(prctl(PR_SET_DUMPABLE, 0));
    EQUAL(opening(getpid(), "maps", O_RDONLY), 0);
    EQUAL(opening(getpid(), "fd", O_RDONLY | O_DIRECTORY), 0);
    EQUAL(opening(getpid(), "environ", O_RDONLY), EACCES);
    EQUAL(link_of(getpid(), "cwd"), 0);
    EQUAL(link_of(getpid(), "fd/1"), 0);
    _exit(checks_failed);
  })), 0);

  section("ids that change hide the process");
  EQUAL(outcome(CHILD({
    EQUAL(prctl(PR_GET_DUMPABLE), 1);
    MUST(setresgid(USER, USER, USER));
    EQUAL(prctl(PR_GET_DUMPABLE), 0);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    MUST(setresuid(-1, USER, -1));
    EQUAL(prctl(PR_GET_DUMPABLE), 0);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    MUST(setresuid(-1, 0, -1));
    EQUAL(prctl(PR_GET_DUMPABLE), 0);
    _exit(checks_failed);
  })), 0);

  section("writing takes the set-ID bits, writing nothing does not");
  int bits = MUST(open("bits", O_CREAT | O_RDWR, 0600));
  MUST(fchmod(bits, 06777));
  close(bits);
  EQUAL(outcome(CHILD({
    become(USER);
    struct stat s;
    int file = MUST(open("bits", O_WRONLY));
    EQUAL(pwrite(file, "", 0, 0), 0);
    OK(fstat(file, &s));
    EQUAL(s.st_mode & 07777, 06777);
    EQUAL(pwrite(file, "x", 1, 0), 1);
    OK(fstat(file, &s));
    EQUAL(s.st_mode & 07777, 0777);
    _exit(checks_failed);
  })), 0);

  section("a set-user-ID program");
  MUST(chmod("program", 04755));
  // Files that were opened before the program gained rights show nothing of it.
  int go[2], ready[2];
  MUST(pipe2(go, O_CLOEXEC));
  MUST(pipe2(ready, O_CLOEXEC));
  pid = CHILD({
    become(USER);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    char number[16];
    sprintf(number, "%d", MUST(dup(ready[1])));
    MUST(read(go[0], text, 1));
    execl(self_path, "access", "wait", number, NULL);
    _exit(97);
  });
  UNTIL(owner_of(pid, "maps") == USER);
  EQUAL(outcome(CHILD({
    become(USER);
    char path[64];
    sprintf(path, "/proc/%d/maps", pid);
    int maps = MUST(open(path, O_RDONLY));
    sprintf(path, "/proc/%d/environ", pid);
    int environment = MUST(open(path, O_RDONLY));
    sprintf(path, "/proc/%d/fd", pid);
    int descriptors = MUST(open(path, O_RDONLY | O_DIRECTORY));
    sprintf(path, "/proc/%d", pid);
    int directory = MUST(open(path, O_RDONLY | O_DIRECTORY));
    // The control: as long as the program is an ordinary one, the same files show it.
    CHECK(pread(maps, text, 4096, 0) > 0);
    CHECK(pread(environment, text, 4096, 0) >= 0);
    CHECK(readlinkat(directory, "cwd", text, 4096) > 0);
    CHECK(readlinkat(descriptors, "1", text, 4096) > 0);
    MUST(write(go[1], "x", 1));
    MUST(read(ready[0], text, 1));
    EQUAL(pread(maps, text, 4096, 0), 0);
    EQUAL(pread(environment, text, 4096, 0), 0);
    FAILS(readlinkat(directory, "cwd", text, 4096), EACCES);
    FAILS(readlinkat(directory, "exe", text, 4096), EACCES);
    FAILS(openat(directory, "maps", O_RDONLY), EACCES);
    CHECK(readlinkat(descriptors, "1", text, 4096) < 0 && errno == EACCES);
    files(pid, EACCES, EACCES);
    calls(pid, EPERM);
    // The real user may still send signals.
    EQUAL(ERROR(kill(pid, 0)), 0);
    _exit(checks_failed);
  })), 0);
  EQUAL(owner_of(pid, ""), 0);
  end(pid);
  close(go[0]), close(go[1]), close(ready[0]), close(ready[1]);
  // Without new privileges it is the caller's program.
  EQUAL(outcome(CHILD({
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    pid_t plain = victim(USER, -1);
    EQUAL(owner_of(plain, "maps"), USER);
    EQUAL(outcome(CHILD({
      become(USER);
      EQUAL(opening(plain, "maps", O_RDONLY), 0);
      _exit(checks_failed);
    })), 0);
    end(plain);
    _exit(checks_failed);
  })), 0);

  section("a program that the user may execute and not read");
  MUST(chmod("program", 0711));
  pid = victim(USER, -1);
  EQUAL(owner_of(pid, "maps"), 0);
  EQUAL(outcome(CHILD({
    become(USER);
    EQUAL(opening(pid, "maps", O_RDONLY), EACCES);
    calls(pid, EPERM);
    _exit(checks_failed);
  })), 0);
  end(pid);

  section("access(2) asks with the real ids");
  MUST(chmod("program", 0755));
  pid = victim(-1, -1);
  EQUAL(outcome(CHILD({
    MUST(setresuid(USER, 0, 0));
    EQUAL(opening(pid, "environ", O_RDONLY), 0);
    char path[64];
    sprintf(path, "/proc/%d/environ", pid);
    FAILS(access(path, R_OK), EACCES);
    sprintf(path, "/proc/%d/cwd/program", pid);
    FAILS(access(path, R_OK), EACCES);
    _exit(checks_failed);
  })), 0);
  end(pid);

  section("hidepid");
  pid = victim(-1, -1);
  EQUAL(outcome(CHILD({
    if (access("/proc/apus", F_OK) < 0) {
      MUST(unshare(CLONE_NEWNS));
      MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    }
    MUST(mkdir("proc", 0755));
    const char *options[] = {"hidepid=0", "hidepid=1", "hidepid=invisible", "hidepid=4", "hidepid=2,gid=4322", "hidepid=4,gid=4322"};
    for (int i = 0; i < 6; i++) {
      MUST(mount("proc", "proc", "proc", 0, options[i]));
      EQUAL(outcome(CHILD({
        become(i < 4 ? USER : OTHER);
        hidden_process(options[i], pid, getpid());
        _exit(checks_failed);
      })), 0);
      MUST(umount("proc"));
    }
    FAILS(mount("proc", "proc", "proc", 0, "hidepid=3"), EINVAL);
    _exit(checks_failed);
  })), 0);
  end(pid);
  return conformance_end();
}
