// Calls that change the whole system, as somebody who may not; and the scheduler's rarer calls.
#include "../conformance.h"
#include <sched.h>
#include <sys/klog.h>
#include <sys/time.h>

struct attributes { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; };

int main(void) {
  section("scheduling");
  struct timespec slice = {9, 9};
  OK(sched_rr_get_interval(0, &slice));
  CHECK(slice.tv_sec == 0 && slice.tv_nsec >= 0 && slice.tv_nsec < 1000000000);
  FAILS(sched_rr_get_interval(-1, &slice), EINVAL);
  FAILS(sched_rr_get_interval(1 << 29, &slice), ESRCH);
  struct sched_param parameter = {0};
  OK(sched_setparam(0, &parameter));
  parameter.sched_priority = 3;
  FAILS(sched_setparam(0, &parameter), EINVAL);
  FAILS(sched_setparam(-1, &parameter), EINVAL);
  struct attributes a = {0};
  OK(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0));
  CHECK(a.policy == SCHED_OTHER && a.priority == 0);
  FAILS(syscall(SYS_sched_getattr, 0, &a, 8, 0), EINVAL);
  FAILS(syscall(SYS_sched_getattr, 1 << 29, &a, sizeof a, 0), ESRCH);
  EQUAL(outcome(CHILD({
    a = (struct attributes){.size = 48, .policy = SCHED_OTHER, .nice = 4};
    OK(syscall(SYS_sched_setattr, 0, &a, 0));
    EQUAL(getpriority(0, 0), 4);
    a.policy = 77;
    FAILS(syscall(SYS_sched_setattr, 0, &a, 0), EINVAL);
    FAILS(syscall(SYS_sched_setattr, 0, &a, 1), EINVAL);
    _exit(checks_failed);
  })), 0);

  section("signals with information");
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigprocmask(SIG_BLOCK, &set, NULL);
  siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE}, got;
  info.si_value.sival_int = 31;
  OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
  EQUAL(sigwaitinfo(&set, &got), SIGUSR1);
  EQUAL(got.si_value.sival_int, 31);
  FAILS(syscall(SYS_rt_tgsigqueueinfo, -1, gettid(), SIGUSR1, &info), EINVAL);
  FAILS(syscall(SYS_rt_tgsigqueueinfo, getpid(), 1 << 29, SIGUSR1, &info), ESRCH);

  section("not allowed");
  if (geteuid() == 0) {
    struct timespec t = {1, 0};
    struct timeval v = {1, 0};
    EQUAL(outcome(CHILD({
      MUST(setuid(4321));
      FAILS(clock_settime(CLOCK_REALTIME, &t), EPERM);
      FAILS(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
      FAILS(settimeofday(&v, NULL), EPERM);
      FAILS(sethostname("name", 4), EPERM);
      FAILS(setdomainname("name", 4), EPERM);
      FAILS(klogctl(5, NULL, 0), EPERM);
      FAILS(syscall(SYS_reboot, 0xfee1dead, 672274793, 0x1234567, 0), EPERM);
      _exit(checks_failed);
    })), 0);
    char name[100];
    memset(name, 'n', sizeof name);
    FAILS(sethostname(name, 65), EINVAL);
    FAILS(setdomainname(name, 65), EINVAL);
    FAILS(syscall(SYS_reboot, 1, 2, 3, 0), EINVAL);
    t.tv_nsec = -1;
    FAILS(clock_settime(CLOCK_REALTIME, &t), EINVAL);
  }
  return conformance_end();
}
