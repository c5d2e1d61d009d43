// What an ordinary user may do to others. Root makes files, a set-user-ID program and a process of its own, then becomes user 1000 and
// tries what only root may: files, processes, limits, identities, mounts, devices, time, the system's settings. Each of these calls must
// fail. The control is a list of the same kind that must succeed on what belongs to the user.
//
// run: --cpus 2 --user 0 -- @
// expect: -- [0-9]+ tries, 0 succeeded
// expect: ok control: .*
// native: @
// needs: test $(id -u) = 0
// expect: ok control: .*
#include "attack.h"

#include <grp.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static int tries, succeeded;
// A call that must fail.
#define REFUSED(call)                                                        \
  do {                                                                       \
    tries++;                                                                 \
    if ((long long)(call) >= 0) succeeded++, say("SUCCEEDED %s", #call);     \
  } while (0)
// The control: one that must succeed.
static int allowed, wanted;
#define ALLOWED(call)                                                        \
  do {                                                                       \
    wanted++;                                                                \
    errno = 0;                                                               \
    if ((long long)(call) >= 0) allowed++;                                   \
    else say("FAILED %s: %s", #call, strerrorname_np(errno));                \
  } while (0)

static char secret[64] = "the secret of root";
static char path[128], directory[] = "/tmp/rights-XXXXXX";
static const char *in(const char *name) {
  static char names[4][128];
  static int next;
  char *text = names[next++ % 4];
  snprintf(text, sizeof names[0], "%s/%s", directory, name);
  return text;
}
static const char *of(pid_t process, const char *name) {
  snprintf(path, sizeof path, "/proc/%d/%s", process, name);
  return path;
}
static void make(const char *name, mode_t mode) {
  int file = MUST(open(in(name), O_RDWR | O_CREAT | O_TRUNC, 0600));
  MUST(write(file, "secret", 6));
  MUST(fchmod(file, mode));
  close(file);
}

static void try_files(int kept) {
  struct timespec times[2] = {{1, 0}, {1, 0}};
  REFUSED(open(in("secret"), O_RDONLY));
  REFUSED(open(in("closed/file"), O_RDONLY));
  REFUSED(open(in("readable"), O_RDWR));
  REFUSED(truncate(in("readable"), 0));
  REFUSED(unlink(in("sticky/file")));
  REFUSED(rename(in("sticky/file"), in("mine/file")));
  REFUSED(chmod(in("readable"), 0666));
  REFUSED(chown(in("readable"), 1000, 1000));
  REFUSED(chown(in("mine"), 0, 0));
  REFUSED(utimensat(AT_FDCWD, in("readable"), times, 0));
  REFUSED(setxattr(in("readable"), "user.x", "y", 1, 0));
  REFUSED(mknod(in("mine/device"), S_IFCHR | 0666, 0x101));
  REFUSED(mknod(in("mine/disk"), S_IFBLK | 0666, 0xfe00));
  REFUSED(open("/etc/shadow", O_RDONLY));
  REFUSED(open("/etc/passwd-", O_RDWR));
  REFUSED(mkdir("/new", 0700));
  REFUSED(rename("/etc", in("mine/etc")));
  // An inherited descriptor for reading, of a file that the user may not open, does not become one for writing.
  snprintf(path, sizeof path, "/proc/self/fd/%d", kept);
  REFUSED(open(path, O_RDWR));
  REFUSED(write(kept, "x", 1));
  REFUSED(ftruncate(kept, 0));
  REFUSED(fallocate(kept, 3, 0, 100));
  REFUSED(fchmod(kept, 0777));
  REFUSED(fsetxattr(kept, "user.a", "b", 1, 0));
  REFUSED(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, kept, 0) == MAP_FAILED ? -1 : 0);
  char *page = MUST(mmap(NULL, 4096, PROT_READ, MAP_SHARED, kept, 0));
  REFUSED(mprotect(page, 4096, PROT_READ | PROT_WRITE));
  REFUSED(madvise(page, 4096, MADV_REMOVE));
  int memory = open("/proc/self/mem", O_RDWR);
  REFUSED(pwrite(memory, "X", 1, (off_t)page));
  REFUSED(process_vm_writev(getpid(), &(struct iovec){secret, 1}, 1, &(struct iovec){page, 1}, 1, 0));
  REFUSED(fcntl(kept, F_SETFL, O_RDWR) < 0 ? -1 : write(kept, "x", 1));
  ALLOWED(mkdir(in("mine/directory"), 0700));
  ALLOWED(open(in("mine/own"), O_RDWR | O_CREAT, 0600));
  ALLOWED(chmod(in("mine/own"), 0644));
  ALLOWED(rename(in("mine/own"), in("mine/other")));
  ALLOWED(open(in("readable"), O_RDONLY));
}

static void try_processes(pid_t victim) {
  char buffer[64];
  struct iovec own = {buffer, 18}, other = {secret, 18};
  struct rlimit limit = {1, 1};
  struct sched_param priority = {50};
  cpu_set_t cpu;
  CPU_ZERO(&cpu);
  CPU_SET(0, &cpu);
  REFUSED(ptrace(PTRACE_ATTACH, victim, 0, 0));
  REFUSED(ptrace(0x4206, victim, 0, 0));
  REFUSED(process_vm_readv(victim, &own, 1, &other, 1, 0));
  REFUSED(process_vm_writev(victim, &own, 1, &other, 1, 0));
  REFUSED(kill(victim, SIGTERM));
  REFUSED(kill(victim, 0));
  REFUSED(kill(1, 0));
  int descriptor = syscall(SYS_pidfd_open, victim, 0);
  REFUSED(syscall(SYS_pidfd_send_signal, descriptor, SIGKILL, 0, 0));
  REFUSED(syscall(SYS_pidfd_getfd, descriptor, 3, 0));
  REFUSED(syscall(SYS_process_madvise, descriptor, &other, 1, 20, 0));
  REFUSED(setpriority(PRIO_PROCESS, victim, 5));
  REFUSED(setpriority(PRIO_PROCESS, 0, -5));
  REFUSED(sched_setscheduler(0, SCHED_FIFO, &priority));
  REFUSED(sched_setaffinity(victim, sizeof cpu, &cpu));
  REFUSED(prlimit(victim, RLIMIT_NOFILE, &limit, NULL));
  REFUSED(prlimit(victim, RLIMIT_NOFILE, NULL, &limit));
  REFUSED(syscall(SYS_get_robust_list, victim, buffer, buffer + 8));
  REFUSED(open(of(victim, "clear_refs"), O_WRONLY));
  REFUSED(open(of(victim, "mem"), O_RDWR));
  int score = open(of(victim, "oom_score_adj"), O_WRONLY);
  REFUSED(write(score, "1000", 4));
  score = open("/proc/self/oom_score_adj", O_WRONLY);
  REFUSED(write(score, "-1000", 5));
  pid_t child = MUST(fork());
  if (child == 0)
    for (;;) pause();
  ALLOWED(kill(child, 0));
  ALLOWED(sched_setaffinity(child, sizeof cpu, &cpu));
  ALLOWED(prlimit(child, RLIMIT_NOFILE, NULL, &limit));
  ALLOWED(process_vm_readv(child, &own, 1, &other, 1, 0));
  ALLOWED(kill(child, SIGKILL));
  outcome(child);
}

static void try_identity_and_system(void) {
  char buffer[256] = "";
  unsigned header[2] = {0x20080522, 0}, all[6] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
  struct rlimit more = {1 << 20, 1 << 30};
  REFUSED(setuid(0));
  REFUSED(setresuid(0, 0, 0));
  REFUSED(setgid(0));
  REFUSED(setgroups(1, (gid_t[]){0}));
  setfsuid(0);
  REFUSED(open(in("secret"), O_RDONLY));
  REFUSED(syscall(SYS_capset, header, all));
  REFUSED(prctl(PR_CAP_AMBIENT, 2, 21, 0, 0));
  REFUSED(prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
  REFUSED(setrlimit(RLIMIT_NOFILE, &more));
  REFUSED(chroot(in("mine")));
  REFUSED(mount("none", in("mine"), "tmpfs", 0, 0));
  REFUSED(umount2("/proc", MNT_DETACH));
  REFUSED(syscall(SYS_pivot_root, "/tmp", in("mine")));
  REFUSED(sethostname("x", 1));
  REFUSED(syscall(SYS_setdomainname, "x", 1));
  REFUSED(clock_settime(CLOCK_REALTIME, &(struct timespec){1, 0}));
  REFUSED(settimeofday(&(struct timeval){1, 0}, NULL));
  REFUSED(syscall(SYS_reboot, 0xfee1dead, 672274793, 0x1234567, 0));
  REFUSED(syscall(SYS_swapon, in("mine/other"), 0));
  REFUSED(syscall(SYS_swapoff, "/dev/vda"));
  REFUSED(syscall(SYS_syslog, 5, 0, 0));
  REFUSED(syscall(SYS_init_module, buffer, 10, ""));
  REFUSED(syscall(SYS_iopl, 3));
  REFUSED(syscall(SYS_ioperm, 0, 1, 1));
  REFUSED(syscall(SYS_acct, in("mine/other")));
  REFUSED(syscall(SYS_open_by_handle_at, 3, buffer, 0));
  REFUSED(open("/dev/mem", O_RDWR));
  REFUSED(open("/dev/kmsg", O_RDWR));
  REFUSED(open("/proc/sysrq-trigger", O_WRONLY));
  REFUSED(open("/proc/sys/vm/drop_caches", O_WRONLY));
  REFUSED(open("/proc/sys/vm/overcommit_memory", O_WRONLY));
  REFUSED(open("/proc/sys/kernel/hostname", O_WRONLY));
  ALLOWED(setuid(1000));
  ALLOWED(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}));
  ALLOWED(open("/proc/sys/kernel/hostname", O_RDONLY));
}

int main(void) {
  umask(022);
  MUST(mkdtemp(directory));
  MUST(chmod(directory, 0755));
  make("secret", 0600);
  make("readable", 0644);
  MUST(mkdir(in("closed"), 0700));
  make("closed/file", 0644);
  MUST(mkdir(in("sticky"), 0700));
  MUST(chmod(in("sticky"), 01777));
  make("sticky/file", 0644);
  MUST(mkdir(in("mine"), 0755));
  MUST(chown(in("mine"), 1000, 1000));
  pid_t victim = MUST(fork());
  if (victim == 0)
    for (;;) pause();
  int kept = MUST(open(in("secret"), O_RDONLY));
  pid_t user = MUST(fork());
  if (user == 0) {
    MUST(setgroups(0, NULL));
    become_user(1000);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    try_files(kept);
    try_processes(victim);
    try_identity_and_system();
    say("-- %d tries, %d succeeded", tries, succeeded);
    check(allowed == wanted, "control: %d of %d allowed calls succeed", allowed, wanted);
    _exit(succeeded != 0 || allowed != wanted);
  }
  int end = outcome(user);
  kill(victim, SIGKILL);
  outcome(victim);
  char command[160];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  system(command);
  return end;
}
