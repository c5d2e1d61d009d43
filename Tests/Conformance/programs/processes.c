// fork, vfork, clone, wait, exit, process groups and sessions, orphans, exec.
#include "../conformance.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/times.h>

static int *shared;
static volatile int signals_seen;
static siginfo_t last_info;
static void on_child(int number, siginfo_t *info, void *context) { signals_seen++, last_info = *info; }

static void waiting(void) {
  section("exit statuses");
  EQUAL(outcome(CHILD(_exit(0))), 0);
  EQUAL(outcome(CHILD(_exit(7))), 7);
  EQUAL(outcome(CHILD(_exit(256 + 3))), 3);
  EQUAL(outcome(CHILD(syscall(SYS_exit, 9))), 9);
  EQUAL(outcome(CHILD(raise(SIGKILL))), SIGNALLED(SIGKILL));
  EQUAL(outcome(CHILD(abort())), SIGNALLED(SIGABRT));
  EQUAL(outcome(CHILD(*(volatile int *)0 = 1)), SIGNALLED(SIGSEGV));
  EQUAL(outcome(CHILD(__asm__ volatile("ud2"))), SIGNALLED(SIGILL));
  EQUAL(outcome(CHILD(__asm__ volatile("int3"))), SIGNALLED(SIGTRAP));
  EQUAL(outcome(CHILD(__asm__ volatile("hlt"))), SIGNALLED(SIGSEGV));
  EQUAL(outcome(CHILD(volatile int zero = 0, seven = 7; _exit(seven / zero))), SIGNALLED(SIGFPE));

  section("waitpid");
  int status;
  FAILS(waitpid(-1, &status, 0), ECHILD);
  FAILS(waitpid(getpid(), &status, 0), ECHILD);
  int hold[2];
  char byte;
  MUST(pipe(hold));
  pid_t a = CHILD(close(hold[1]); read(hold[0], &byte, 1); _exit(1)), b = CHILD(_exit(2));
  EQUAL(waitpid(a, &status, WNOHANG), 0);
  CHECK(waitpid(b, &status, 0) == b && WEXITSTATUS(status) == 2);
  close(hold[0]), close(hold[1]);
  FAILS(waitpid(b, &status, 0), ECHILD);
  CHECK(waitpid(-1, &status, 0) == a && WEXITSTATUS(status) == 1);
  FAILS(waitpid(-1, &status, 0x1000), EINVAL);
  a = CHILD(setpgid(0, 0); sleep_ms(20); _exit(3));
  setpgid(a, a);
  FAILS(waitpid(0, &status, WNOHANG), ECHILD);
  CHECK(waitpid(-a, &status, 0) == a && WEXITSTATUS(status) == 3);
  a = CHILD(_exit(4));
  struct rusage usage;
  CHECK(wait4(a, &status, 0, &usage) == a && WEXITSTATUS(status) == 4);
  CHECK(usage.ru_maxrss > 0);
  FAILS(wait4(a, (int *)8, 0, NULL), ECHILD);

  section("waitid");
  siginfo_t info;
  a = CHILD(_exit(5));
  OK(waitid(P_PID, a, &info, WEXITED | WNOWAIT));
  CHECK(info.si_pid == a && info.si_code == CLD_EXITED && info.si_status == 5 && info.si_signo == SIGCHLD);
  OK(waitid(P_PID, a, &info, WEXITED));
  FAILS(waitid(P_PID, a, &info, WEXITED), ECHILD);
  // In a group of its own with its parent outside: SIGTSTP does not stop members of an orphaned group.
  a = CHILD(setpgid(0, 0); for (;;) pause());
  setpgid(a, a);
  info.si_pid = 77;
  OK(waitid(P_PID, a, &info, WEXITED | WNOHANG));
  EQUAL(info.si_pid, 0);
  FAILS(waitid(P_PID, a, &info, 0), EINVAL);
  kill(a, SIGSTOP);
  OK(waitid(P_PID, a, &info, WSTOPPED));
  CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
  EQUAL(waitpid(a, &status, WUNTRACED | WNOHANG), 0);
  kill(a, SIGCONT);
  OK(waitid(P_ALL, 0, &info, WCONTINUED));
  CHECK(info.si_code == CLD_CONTINUED && info.si_status == SIGCONT);
  kill(a, SIGTSTP);
  CHECK(waitpid(a, &status, WUNTRACED) == a && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
  kill(a, SIGTERM);
  EQUAL(waitpid(a, &status, WNOHANG), 0);
  kill(a, SIGCONT);
  CHECK(waitpid(a, &status, 0) == a && WTERMSIG(status) == SIGTERM);
  int fd = syscall(SYS_pidfd_open, a = CHILD(sleep_ms(20); _exit(6)), 0);
  CHECK(fd >= 0);
  OK(waitid(P_PIDFD, fd, &info, WEXITED));
  CHECK(info.si_pid == a && info.si_status == 6);
  FAILS(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), ESRCH);
  close(fd);
  FAILS(syscall(SYS_pidfd_open, -1, 0), EINVAL);
  FAILS(syscall(SYS_pidfd_open, 0x3fffffff, 0), ESRCH);

  section("SIGCHLD");
  struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGCHLD, &action, NULL);
  EQUAL(outcome(a = CHILD(_exit(8))), 8);
  EQUAL(signals_seen, 1);
  CHECK(last_info.si_pid == a && last_info.si_code == CLD_EXITED && last_info.si_status == 8);
  outcome(a = CHILD(raise(SIGTERM)));
  CHECK(last_info.si_code == CLD_KILLED && last_info.si_status == SIGTERM);
  action.sa_flags |= SA_NOCLDSTOP;
  sigaction(SIGCHLD, &action, NULL);
  signals_seen = 0;
  a = CHILD(raise(SIGSTOP); _exit(0));
  waitpid(a, &status, WUNTRACED);
  EQUAL(signals_seen, 0);
  kill(a, SIGCONT);
  outcome(a);
  EQUAL(signals_seen, 1);
  signal(SIGCHLD, SIG_IGN);
  a = CHILD(_exit(0));
  FAILS(waitpid(a, &status, 0), ECHILD);
  signal(SIGCHLD, SIG_DFL);
}

static int clone_body(void *argument) {
  shared[1] = *(int *)argument;
  return 12;
}

static long raw_clone(unsigned long flags, void *parent, void *child) {
  long a = syscall(SYS_clone, flags | SIGCHLD, 0, parent, child, 0);
  if (a == 0) _exit(4);
  return a;
}

static void cloning(void) {
  section("vfork and clone");
  volatile int local = 1;
  pid_t a = vfork();
  if (a == 0) {
    local = 2;
    _exit(3);
  }
  EQUAL(local, 2);
  EQUAL(outcome(a), 3);
  char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int value = 5;
  pid_t parent_tid = 0;
  a = clone(clone_body, stack + 65536, SIGCHLD | CLONE_PARENT_SETTID, &value, &parent_tid);
  EQUAL(outcome(a), 12);
  CHECK(shared[1] == 5 && parent_tid == a);
  // CLONE_VM without a thread: the child's writes are ours.
  value = 6;
  static int plain;
  int body(void *x) { plain = 33; return 0; }
  a = clone(body, stack + 65536, SIGCHLD | CLONE_VM, NULL);
  EQUAL(outcome(a), 0);
  EQUAL(plain, 33);
  // CLONE_FILES and CLONE_FS.
  int body2(void *x) { close(100); chdir("/"); return 0; }
  dup2(1, 100);
  char before[PATH_MAX], after[PATH_MAX];
  getcwd(before, sizeof before);
  a = clone(body2, stack + 65536, SIGCHLD | CLONE_FILES | CLONE_FS, NULL);
  outcome(a);
  FAILS(fcntl(100, F_GETFD), EBADF);
  CHECK(!strcmp(getcwd(after, sizeof after), "/"));
  chdir(before);
  // No exit signal: only __WALL or __WCLONE sees the child.
  a = clone(clone_body, stack + 65536, 0, &value);
  FAILS(waitpid(a, NULL, 0), ECHILD);
  int status;
  CHECK(waitpid(a, &status, __WALL) == a);
  FAILS(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
  int pidfd = -1;
  struct clone_args args = {.flags = CLONE_PIDFD | CLONE_CHILD_SETTID, .exit_signal = SIGCHLD,
                            .pidfd = (uintptr_t)&pidfd, .child_tid = (uintptr_t)&shared[2]};
  a = syscall(SYS_clone3, &args, sizeof args);
  if (a == 0) _exit(shared[2] == getpid() ? 21 : 1);
  CHECK(pidfd >= 0);
  EQUAL(outcome(a), 21);
  FAILS(syscall(SYS_clone3, &args, 8), EINVAL);
  // Bad places for the identifiers do not keep the child from being made; a bad one for the pidfd does.
  EQUAL(outcome(raw_clone(CLONE_PARENT_SETTID, NULL, NULL)), 4);
  EQUAL(outcome(raw_clone(CLONE_PARENT_SETTID, (void *)8, NULL)), 4);
  EQUAL(outcome(raw_clone(CLONE_PARENT_SETTID, (void *)(1L << 63), NULL)), 4);
  EQUAL(outcome(raw_clone(CLONE_CHILD_SETTID, NULL, NULL)), 4);
  EQUAL(outcome(raw_clone(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, NULL, (void *)8)), 4);
  FAILS(raw_clone(CLONE_PIDFD, NULL, NULL), EFAULT);
  FAILS(raw_clone(CLONE_PIDFD, (void *)8, NULL), EFAULT);
  FAILS(waitpid(-1, NULL, WNOHANG), ECHILD);
  args.flags = 1ULL << 60;
  FAILS(syscall(SYS_clone3, &args, sizeof args), EINVAL);
  munmap(stack, 65536);

  section("many children");
  int wrong = 0;
  for (int i = 0; i < 200; i++) wrong += outcome(CHILD(_exit(i & 127))) != (i & 127);
  EQUAL(wrong, 0);
  for (int i = 0; i < 50; i++) CHILD(sleep_ms(5); _exit(0));
  int count = 0;
  while (waitpid(-1, NULL, 0) > 0) count++;
  EQUAL(count, 50);
}

static void groups(void) {
  section("groups and sessions");
  pid_t a = CHILD({
    OK(setpgid(0, 0));
    CHECK(getpgrp() == getpid() && getpgid(0) == getpid());
    FAILS(setsid(), EPERM);
    FAILS(setpgid(0, -1), EINVAL);
    FAILS(setpgid(1 << 29, 0), ESRCH);
    FAILS(setpgid(0, 1 << 29), EPERM);
    _exit(checks_failed);
  });
  EQUAL(outcome(a), 0);
  a = CHILD({
    pid_t b = CHILD({
      CHECK(setsid() == getpid());
      CHECK(getsid(0) == getpid() && getpgrp() == getpid());
      FAILS(setpgid(0, 0), EPERM);
      int tty = open("/dev/tty", O_RDWR);
      CHECK(tty < 0 && errno == ENXIO);
      _exit(checks_failed);
    });
    _exit(outcome(b));
  });
  EQUAL(outcome(a), 0);
  FAILS(getsid(1 << 29), ESRCH);
  FAILS(getpgid(1 << 29), ESRCH);
  // kill(0) and kill(-group) reach the group, and only it.
  a = CHILD({
    setpgid(0, 0);
    for (int i = 0; i < 3; i++) CHILD(for (;;) pause());
    signal(SIGTERM, SIG_IGN);
    OK(kill(0, SIGTERM));
    int n = 0;
    int status;
    while (wait(&status) > 0) n += WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    EQUAL(n, 3);
    _exit(checks_failed);
  });
  EQUAL(outcome(a), 0);

  section("process 1");
  // Somebody's, whoever asks; what it is like differs.
  errno = 0;
  getpriority(PRIO_PROCESS, 1);
  EQUAL(errno, 0);
  CHECK(sched_getscheduler(1) >= 0);
  cpu_set_t cpus;
  OK(sched_getaffinity(1, sizeof cpus, &cpus));
  CHECK(CPU_COUNT(&cpus) > 0);
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522, 1};
  uint32_t data[6];
  OK(syscall(SYS_capget, &header, data));

  section("orphans");
  int p[2];
  MUST(pipe(p));
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  a = CHILD({
    CHILD({
      while (getppid() != 1 && shared[5] == 0) sleep_ms(1);
      _exit(17);
    });
    _exit(0);
  });
  EQUAL(outcome(a), 0);
  shared[5] = 1;
  int status;
  CHECK(wait(&status) > 0 && WEXITSTATUS(status) == 17);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  // PR_SET_PDEATHSIG: the parent's end is a signal.
  a = CHILD({
    pid_t b = CHILD({
      prctl(PR_SET_PDEATHSIG, SIGUSR1);
      sigset_t set;
      sigemptyset(&set), sigaddset(&set, SIGUSR1), sigprocmask(SIG_BLOCK, &set, NULL);
      write(p[1], "r", 1);
      int number;
      sigwait(&set, &number);
      write(p[1], number == SIGUSR1 ? "s" : "w", 1);
      _exit(0);
    });
    char c;
    read(p[0], &c, 1);
    _exit(0);
  });
  outcome(a);
  char c;
  EQUAL(read(p[0], &c, 1), 1);
  EQUAL(c, 's');
  close(p[0]), close(p[1]);
}

static void executing(void) {
  section("exec");
  char *argv[] = {"name", "one", "", "three words here", NULL}, *envp[] = {"A=1", "B=", NULL};
  char self[PATH_MAX] = {0};
  readlink("/proc/self/exe", self, sizeof self);
  OK(outcome(CHILD(execve(self, argv, envp); _exit(errno))));
  FAILS(execve("none", argv, envp), ENOENT);
  FAILS(execve("/", argv, envp), EACCES);
  make_file("plain", "not a program");
  FAILS(execve("plain", argv, envp), EACCES);
  chmod("plain", 0755);
  FAILS(execve("plain", argv, envp), ENOEXEC);
  make_file("empty", "");
  chmod("empty", 0755);
  FAILS(execve("empty", argv, envp), ENOEXEC);
  FAILS(execve("plain/x", argv, envp), ENOTDIR);
  FAILS(execve((char *)8, argv, envp), EFAULT);
  FAILS(execve(self, (char **)8, envp), EFAULT);
  int fd = MUST(open(self, O_PATH | O_CLOEXEC));
  EQUAL(outcome(CHILD(execveat(fd, "", argv, envp, AT_EMPTY_PATH); _exit(errno))), 0);
  close(fd);
  // A running program cannot be written, and a file open for writing cannot be run.
  FAILS(open(self, O_WRONLY), ETXTBSY);
  // Long argument lists.
  static char big[100000];
  memset(big, 'x', sizeof big - 1);
  char *large[] = {"large", big, big, NULL};
  EQUAL(outcome(CHILD(execve(self, large, envp); _exit(errno))), 0);
  static char *very[40];
  for (int i = 0; i < 39; i++) very[i] = big;
  static char huge[200000];
  memset(huge, 'y', sizeof huge - 1);
  char *too[] = {"too", huge, NULL};
  FAILS(execve(self, too, envp), E2BIG);
  // Handlers are reset, ignored signals and the mask stay.
  EQUAL(outcome(CHILD({
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, (void (*)(int))_exit);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGHUP), sigprocmask(SIG_BLOCK, &set, NULL);
    char *check[] = {"check-signals", NULL};
    execve(self, check, envp);
    _exit(99);
  })), 0);
}

extern char **environ;
int main(int argc, char **argv) {
  if (!strcmp(argv[0], "name")) {
    for (int i = 0; i < argc; i++) line("argv[%d] = '%s'", i, argv[i]);
    for (char **e = environ; *e; e++) line("env '%s'", *e);
    return 0;
  }
  if (!strcmp(argv[0], "large")) return strlen(argv[1]) + strlen(argv[2]) == 199998 ? 0 : 1;
  if (!strcmp(argv[0], "check-signals")) {
    struct sigaction one, two;
    sigset_t mask;
    sigaction(SIGUSR1, NULL, &one), sigaction(SIGUSR2, NULL, &two);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    return one.sa_handler == SIG_IGN && two.sa_handler == SIG_DFL && sigismember(&mask, SIGHUP) ? 0 : 1;
  }
  enter_work_directory();
  shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  waiting();
  cloning();
  groups();
  executing();
  struct tms t;
  CHECK(times(&t) != -1 && t.tms_utime >= 0 && t.tms_cutime >= 0);
  return conformance_end();
}
