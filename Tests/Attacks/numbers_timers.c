// Times near and beyond the largest that the kernel counts: as intervals and values of all kinds of timers, as time-outs, as
// limits. No timer interrupt and no wait computes with them wrongly: timers stay armed, and waits end by a signal only.
// The control: the same calls with short times expire.
//
// run: --cpus 1 --user 1000 -- @
// expect: ok timers with the longest times .*
// expect: ok the same timers expire .*
// expect: ok waits with the longest times .*
// expect: ok the same waits end .*
// run: --cpus 2 --user 0 -- @
// expect: ok timers with the longest times .*
// expect: ok waits with the longest times .*
// expect: ok the clock .*
#include "attack.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static const int64_t longest[] = {
    INT64_MAX, INT64_MAX - 1, INT64_MAX / 1000000000, INT64_MAX / 1000000000 + 1, INT64_MAX / 1000000000 * 2, 18446744073, 9223372036,
    1ll << 33, 1ll << 62,
};
enum { LONGEST = sizeof longest / sizeof longest[0] };

static volatile sig_atomic_t alarms;
static void count(int number) { alarms++; }

static void spin(int clock, int64_t nanoseconds) {
  int64_t end = now_ns(clock) + nanoseconds;
  while (now_ns(clock) < end) {}
}

// Each kind is set to expire once soon and then after `seconds`, so that its interrupt computes the next expiry; then to expire
// after `seconds`, and must be armed.
static int armed, expired, tried;

static void tryTimers(int64_t seconds, long fraction) {
  for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
    struct itimerval soon = {{seconds, fraction / 1000}, {0, 1000}}, late = {{seconds, fraction / 1000}, {seconds, fraction / 1000}}, now;
    tried++;
    alarms = 0;
    MUST(setitimer(which, &soon, NULL));
    UNTIL(({ spin(CLOCK_PROCESS_CPUTIME_ID, 2000000); alarms > 0; }));
    expired += alarms > 0;
    MUST(setitimer(which, &late, NULL));
    MUST(getitimer(which, &now));
    armed += now.it_value.tv_sec > 1000000000 && now.it_interval.tv_sec > 1000000000;
    MUST(setitimer(which, &(struct itimerval){0}, NULL));
  }
  for (int kind = 0; kind < 4; kind++) {
    struct sigevent event = {.sigev_notify = kind & 1 ? SIGEV_NONE : SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    int clock = kind & 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    struct itimerspec soon = {{seconds, fraction}, {0, 1000}}, late = {{seconds, fraction}, {seconds, fraction}}, now;
    int timer;
    tried++;
    alarms = 0;
    MUST(syscall(SYS_timer_create, clock, &event, &timer));
    MUST(syscall(SYS_timer_settime, timer, 0, &soon, NULL));
    if (kind & 1) {
      // Nothing tells of its expiry: then the next one is far away.
      UNTIL(({ MUST(syscall(SYS_timer_gettime, timer, &now)); now.it_value.tv_sec > 1000000000; }));
      expired += now.it_value.tv_sec > 1000000000;
    } else {
      UNTIL(alarms > 0);
      expired += alarms > 0;
    }
    MUST(syscall(SYS_timer_settime, timer, 0, &late, NULL));
    MUST(syscall(SYS_timer_gettime, timer, &now));
    armed += now.it_value.tv_sec > 1000000000 && now.it_interval.tv_sec > 1000000000;
    MUST(syscall(SYS_timer_settime, timer, TIMER_ABSTIME, &late, NULL));
    MUST(syscall(SYS_timer_delete, timer));
  }
  for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++) {
    struct itimerspec soon = {{seconds, fraction}, {0, 1000}}, late = {{seconds, fraction}, {seconds, fraction}}, now;
    int file = MUST(timerfd_create(clock, 0));
    uint64_t expiries = 0;
    tried++;
    MUST(timerfd_settime(file, 0, &soon, NULL));
    MUST(read(file, &expiries, 8));
    expired += expiries == 1;
    MUST(timerfd_gettime(file, &now));
    MUST(timerfd_settime(file, 0, &late, NULL));
    MUST(timerfd_gettime(file, &now));
    armed += now.it_value.tv_sec > 1000000000 && now.it_interval.tv_sec > 1000000000;
    MUST(timerfd_settime(file, TFD_TIMER_ABSTIME, &late, NULL));
    close(file);
  }
}

enum { WAITS = 9 };

// Waits in a way of its own for `time`; 0 when the wait ended at its time, 1 when a signal came.
static int waitOnce(int kind, struct timespec time) {
  struct timeval coarse = {time.tv_sec, time.tv_nsec / 1000};
  struct epoll_event event;
  static int word;
  sigset_t none;
  sigemptyset(&none);
  long result = 0;
  switch (kind) {
  case 0: result = ppoll(NULL, 0, &time, NULL); break;
  case 1: result = select(0, NULL, NULL, NULL, &coarse); break;
  case 2: result = pselect(0, NULL, NULL, NULL, &time, NULL); break;
  case 3: result = nanosleep(&time, NULL); break;
  case 4: return clock_nanosleep(CLOCK_REALTIME, 0, &time, NULL) != 0;
  case 5: result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0); break;
  case 6: result = syscall(SYS_rt_sigtimedwait, &none, NULL, &time, 8); break;
  case 7: result = syscall(441 /* epoll_pwait2 */, epoll_create1(0), &event, 1, &time, NULL, 0); break;
  case 8: {
    if (time.tv_sec < 1000000) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      time.tv_sec += now.tv_sec + 1;
    }
    result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &time, NULL, -1);
  }
  }
  return result == -1 && errno == EINTR;
}

int main(void) {
  struct sigaction action = {.sa_handler = count};
  int numbers[] = {SIGALRM, SIGVTALRM, SIGPROF};
  for (int i = 0; i < 3; i++) MUST(sigaction(numbers[i], &action, NULL));
  for (int i = 0; i < LONGEST; i++) {
    tryTimers(longest[i], 0);
    tryTimers(longest[i], 999999999);
  }
  check(armed == tried, "timers with the longest times stay armed (%d of %d)", armed, tried);
  check(expired == tried, "the same timers expire first (%d of %d)", expired, tried);

  int interrupted = 0, ended = 0;
  for (int kind = 0; kind < WAITS; kind++)
    for (int i = 0; i < LONGEST; i++) {
      // The alarm comes again and again: the first one may come before the wait begins.
      struct itimerval often = {{0, 5000}, {0, 5000}};
      MUST(setitimer(ITIMER_REAL, &often, NULL));
      interrupted += waitOnce(kind, (struct timespec){longest[i], i & 1 ? 999999999 : 0});
      MUST(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
    }
  check(interrupted == WAITS * LONGEST, "waits with the longest times last until a signal comes (%d of %d)", interrupted, WAITS * LONGEST);
  for (int kind = 0; kind < WAITS; kind++) ended += waitOnce(kind, (struct timespec){0, 1000000}) == 0;
  check(ended == WAITS, "the same waits end at short times (%d of %d)", ended, WAITS);

  for (int i = 0; i < LONGEST; i++) {
    struct rlimit limit = {longest[i], longest[i]};
    setrlimit(RLIMIT_CPU, &limit);
    spin(CLOCK_PROCESS_CPUTIME_ID, 2000000);
    struct timespec times[2] = {{longest[i], 999999999}, {-longest[i], 999999999}};
    int file = MUST(open("/dev/shm/times", O_CREAT | O_RDWR, 0600));
    char byte;
    futimens(file, times);
    if (write(file, "x", 1) + pread(file, &byte, 1, 0) != 2) return 2;
    futimens(file, (struct timespec[2]){times[1], times[0]});
    if (pread(file, &byte, 1, 0) != 1) return 2;
    close(file);
  }
  unlink("/dev/shm/times");
  if (getuid() == 0) {
    int refused = 0;
    for (int i = 0; i < LONGEST; i++) refused += clock_settime(CLOCK_REALTIME, &(struct timespec){longest[i], 999999999}) < 0;
    struct timespec before = {1800000000, 0}, after;
    MUST(clock_settime(CLOCK_REALTIME, &before));
    MUST(clock_gettime(CLOCK_REALTIME, &after));
    check(after.tv_sec >= 1800000000 && refused >= 5, "the clock takes times that it can run on from (%d refused)", refused);
  }
  return attack_end();
}
