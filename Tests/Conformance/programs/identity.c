// Credentials, capabilities, limits, priorities, affinity, prctl, and what the system says about itself.
#include "../conformance.h"
#include <asm/prctl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/personality.h>

static void users(void) {
  section("users and groups");
  uid_t r, e, s;
  OK(getresuid(&r, &e, &s));
  CHECK(r == getuid() && e == geteuid());
  OK(getresgid(&r, &e, &s));
  CHECK(r == getgid() && e == getegid());
  if (geteuid() != 0) return line("not root");
  EQUAL(outcome(CHILD({
    gid_t groups[3] = {100, 200, 300};
    OK(setgroups(3, groups));
    gid_t got[5];
    EQUAL(getgroups(5, got), 3);
    EQUAL(getgroups(0, NULL), 3);
    EQUAL(got[1], 200);
    FAILS(getgroups(1, got), EINVAL);
    FAILS(setgroups(70000, groups), EINVAL);
    OK(setresgid(1, 2, 3));
    getresgid(&r, &e, &s);
    CHECK(r == 1 && e == 2 && s == 3);
    OK(setresuid(10, 20, 30));
    getresuid(&r, &e, &s);
    CHECK(r == 10 && e == 20 && s == 30);
    FAILS(setuid(40), EPERM);
    OK(setuid(30));
    EQUAL(geteuid(), 30);
    OK(setreuid(-1, 10));
    EQUAL(geteuid(), 10);
    FAILS(setresuid(40, -1, -1), EPERM);
    FAILS(setgroups(0, NULL), EPERM);
    FAILS(setgid(77), EPERM);
    OK(setregid(2, 1));
    _exit(checks_failed);
  })), 0);
  EQUAL(outcome(CHILD({
    OK(setuid(1000));
    getresuid(&r, &e, &s);
    CHECK(r == 1000 && e == 1000 && s == 1000);
    FAILS(setuid(0), EPERM);
    FAILS(kill(getppid(), SIGUSR1), EPERM);
    OK(kill(getpid(), 0));
    FAILS(setpriority(PRIO_PROCESS, 0, -5), EACCES);
    FAILS(sethostname("x", 1), EPERM);
    struct rlimit l;
    l = (struct rlimit){100, 200};
    OK(setrlimit(RLIMIT_NPROC, &l));
    l.rlim_max = 300;
    FAILS(setrlimit(RLIMIT_NPROC, &l), EPERM);
    _exit(checks_failed);
  })), 0);
  EQUAL(outcome(CHILD({
    OK(seteuid(1000));
    EQUAL(getuid(), 0);
    OK(seteuid(0));
    EQUAL(setfsuid(5), 0);
    EQUAL(setfsuid(-1), 5);
    EQUAL(setfsgid(6), 0);
    EQUAL(setfsgid(-1), 6);
    _exit(checks_failed);
  })), 0);

  section("capabilities");
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  OK(syscall(SYS_capget, &header, data));
  CHECK(data[0].effective & 1 << CAP_CHOWN);
  header.version = 1;
  FAILS(syscall(SYS_capget, &header, data), EINVAL);
  CHECK(header.version == _LINUX_CAPABILITY_VERSION_3);
  EQUAL(outcome(CHILD({
    data[0].effective &= ~(1u << CAP_CHOWN | 1u << CAP_FOWNER);
    OK(syscall(SYS_capset, &header, data));
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) FAILS(fchown(fd, 5, 5), EPERM);
    data[0].permitted &= ~(1u << CAP_CHOWN);
    OK(syscall(SYS_capset, &header, data));
    data[0].permitted |= 1u << CAP_CHOWN;
    FAILS(syscall(SYS_capset, &header, data), EPERM);
    _exit(checks_failed);
  })), 0);
  EQUAL(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
  FAILS(prctl(PR_CAPBSET_READ, 1000), EINVAL);
  EQUAL(outcome(CHILD({
    OK(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
    EQUAL(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
    OK(prctl(PR_SET_KEEPCAPS, 1));
    EQUAL(prctl(PR_GET_KEEPCAPS), 1);
    setuid(1000);
    syscall(SYS_capget, &header, data);
    CHECK(data[0].effective == 0 && data[0].permitted != 0);
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    FAILS(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    _exit(checks_failed);
  })), 0);
}

static void limits(void) {
  section("limits");
  struct rlimit l, m;
  for (int i = 0; i < RLIM_NLIMITS; i++)
    if (getrlimit(i, &l) != 0 || l.rlim_cur > l.rlim_max) line("NOT OK limit %d", i);
  FAILS(getrlimit(RLIM_NLIMITS, &l), EINVAL);
  l = (struct rlimit){10, 5};
  FAILS(setrlimit(RLIMIT_CORE, &l), EINVAL);
  l = (struct rlimit){5, 10};
  EQUAL(outcome(CHILD({
    OK(prlimit(0, RLIMIT_CORE, &l, &m));
    OK(prlimit(getpid(), RLIMIT_CORE, NULL, &m));
    CHECK(m.rlim_cur == 5 && m.rlim_max == 10);
    EQUAL(outcome(CHILD(getrlimit(RLIMIT_CORE, &m); _exit(m.rlim_cur))), 5);
    _exit(checks_failed);
  })), 0);
  FAILS(prlimit(1 << 29, RLIMIT_CORE, NULL, &m), ESRCH);
  // Nothing is printed under the limit: it counts for the file behind standard output as well.
  char name[] = "/tmp/limit.XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  static char b[2000];
  l = (struct rlimit){1000, 1000};
  EQUAL(outcome(CHILD({
    setrlimit(RLIMIT_FSIZE, &l);
    signal(SIGXFSZ, SIG_IGN);
    int right = write(fd, b, 2000) == 1000;
    right += write(fd, b, 1) == -1 && errno == EFBIG;
    right += ftruncate(fd, 1001) == -1 && errno == EFBIG;
    _exit(right);
  })), 3);
  EQUAL(outcome(CHILD(setrlimit(RLIMIT_FSIZE, &l); pwrite(fd, b, 1, 1000))), SIGNALLED(SIGXFSZ));
  close(fd);
  EQUAL(outcome(CHILD({
    struct rlimit space;
    space = (struct rlimit){64 << 20, 64 << 20};
    setrlimit(RLIMIT_AS, &space);
    CHECK(malloc(128 << 20) == NULL);
    CHECK(malloc(1 << 20) != NULL);
    _exit(checks_failed);
  })), 0);

  section("priorities and affinity");
  EQUAL(outcome(CHILD({
    OK(setpriority(PRIO_PROCESS, 0, 5));
    EQUAL(getpriority(PRIO_PROCESS, 0), 5);
    EQUAL(nice(3), 8);
    EQUAL(nice(100), 19);
    FAILS(getpriority(9, 0), EINVAL);
    FAILS(getpriority(PRIO_PROCESS, 1 << 29), ESRCH);
    _exit(checks_failed);
  })), 0);
  cpu_set_t set;
  OK(sched_getaffinity(0, sizeof set, &set));
  FAILS(sched_getaffinity(-1, sizeof set, &set), ESRCH);
  FAILS(sched_setaffinity(-1, sizeof set, &set), ESRCH);
  CHECK(CPU_COUNT(&set) >= 1);
  EQUAL(outcome(CHILD({
    int first = 0;
    while (!CPU_ISSET(first, &set)) first++;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    OK(sched_setaffinity(0, sizeof set, &set));
    EQUAL(sched_getcpu(), first);
    CPU_ZERO(&set);
    FAILS(sched_setaffinity(0, sizeof set, &set), EINVAL);
    unsigned cpu = 99;
    unsigned node = 99;
    OK(syscall(SYS_getcpu, &cpu, &node, NULL));
    CHECK(cpu == (unsigned)first && node == 0);
    _exit(checks_failed);
  })), 0);
  FAILS(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
  FAILS(sched_getaffinity(1 << 29, sizeof set, &set), ESRCH);
  OK(sched_yield());
  EQUAL(sched_getscheduler(0), SCHED_OTHER);
  struct sched_param parameter;
  OK(sched_getparam(0, &parameter));
  EQUAL(parameter.sched_priority, 0);
  EQUAL(sched_get_priority_max(SCHED_FIFO), 99);
  EQUAL(sched_get_priority_min(SCHED_RR), 1);
  EQUAL(sched_get_priority_max(SCHED_OTHER), 0);
  FAILS(sched_get_priority_max(77), EINVAL);
  parameter.sched_priority = 5;
  FAILS(sched_setscheduler(0, SCHED_OTHER, &parameter), EINVAL);
  parameter.sched_priority = 0;
  OK(sched_setscheduler(0, SCHED_BATCH, &parameter));
  EQUAL(sched_getscheduler(0), SCHED_BATCH);
  OK(sched_setscheduler(0, SCHED_OTHER, &parameter));
}

static void system_facts(void) {
  section("the system");
  struct utsname u;
  OK(uname(&u));
  CHECK(!strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64"));
  int major = 0;
  int minor = 0;
  CHECK(sscanf(u.release, "%d.%d", &major, &minor) == 2 && major >= 5);
  FAILS(uname((void *)8), EFAULT);
  struct sysinfo i;
  OK(sysinfo(&i));
  CHECK(i.totalram * i.mem_unit > 8 << 20 && i.freeram <= i.totalram && i.procs >= 1 && i.uptime >= 0);
  unsigned char b[300];
  memset(b, 0, sizeof b);
  EQUAL(getrandom(b, 300, 0), 300);
  int zeros = 0;
  for (int k = 0; k < 300; k++) zeros += !b[k];
  CHECK(zeros < 30);
  EQUAL(getrandom(b, 10, GRND_NONBLOCK), 10);
  FAILS(getrandom(b, 10, 0x40), EINVAL);
  FAILS(getrandom((void *)8, 10, 0), EFAULT);
  FAILS(syscall(1000), ENOSYS);
  FAILS(syscall(-1), ENOSYS);
  FAILS(syscall(SYS_query_module), ENOSYS);
  EQUAL(personality(0xffffffff), PER_LINUX);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) >= 0);
  FAILS(syscall(SYS_membarrier, 0x4000000, 0, 0), EINVAL);
  unsigned long base = 0;
  OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &base));
  CHECK(base != 0);
  static long gs = 1234;
  OK(syscall(SYS_arch_prctl, ARCH_SET_GS, &gs));
  long value;
  __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
  EQUAL(value, 1234);
  OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
  CHECK(base == (unsigned long)&gs);
  FAILS(syscall(SYS_arch_prctl, ARCH_SET_FS, 1UL << 63), EPERM);
  FAILS(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
  FAILS(prctl(9999, 0, 0, 0, 0), EINVAL);
  EQUAL(prctl(PR_GET_DUMPABLE), 1);
  OK(prctl(PR_SET_DUMPABLE, 0));
  EQUAL(prctl(PR_GET_DUMPABLE), 0);
  FAILS(prctl(PR_SET_DUMPABLE, 7), EINVAL);
  int sig = 99;
  OK(prctl(PR_GET_PDEATHSIG, &sig));
  EQUAL(sig, 0);
  FAILS(prctl(PR_SET_PDEATHSIG, 100), EINVAL);
  CHECK(syscall(SYS_set_tid_address, &value) == gettid());
  char host[65];
  OK(gethostname(host, sizeof host));
  CHECK(strlen(host) > 0);
  EQUAL(sysconf(_SC_PAGESIZE), 4096);
  EQUAL(sysconf(_SC_CLK_TCK), 100);
}

int main(void) {
  users();
  limits();
  system_facts();
  return conformance_end();
}
