// Clocks and sleeping.
#include "../conformance.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>

static void spin_ms(long ms) {
  int64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000;
  while (now_ns(CLOCK_THREAD_CPUTIME_ID) < end) {}
}

int main(void) {
  section("clocks");
  clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                        CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
  struct timespec t;
  for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
    OK(clock_gettime(clocks[i], &t));
    OK(syscall(SYS_clock_gettime, clocks[i], &t));
    OK(clock_getres(clocks[i], &t));
  }
  FAILS(clock_gettime(99, &t), EINVAL);
  FAILS(syscall(SYS_clock_gettime, 99, &t), EINVAL);
  FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
  OK(clock_getres(CLOCK_MONOTONIC, NULL));
  int backwards = 0;
  int64_t last = now_ns(CLOCK_MONOTONIC);
  for (int i = 0; i < 100000; i++) {
    int64_t n = now_ns(CLOCK_MONOTONIC);
    backwards += n < last;
    last = n;
  }
  EQUAL(backwards, 0);
  // The routine of the vDSO and the system call tell the same time.
  int64_t a = now_ns(CLOCK_MONOTONIC);
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
  int64_t b = t.tv_sec * 1000000000LL + t.tv_nsec, c = now_ns(CLOCK_MONOTONIC);
  CHECK(a <= b && b <= c);
  struct timeval v;
  struct timezone z;
  OK(gettimeofday(&v, NULL));
  OK(syscall(SYS_gettimeofday, &v, &z));
  CHECK(v.tv_sec > 1600000000 && v.tv_usec >= 0 && v.tv_usec < 1000000);
  time_t now = time(NULL), direct = syscall(SYS_time, NULL);
  CHECK(direct - now <= 1 && now - v.tv_sec <= 1);
  clock_gettime(CLOCK_BOOTTIME, &t);
  CHECK(t.tv_sec >= 0);

  section("sleeping");
  struct timespec d = {0, 30000000}, wrong = {0, 1000000000}, negative = {-1, 0};
  a = now_ns(CLOCK_MONOTONIC);
  OK(nanosleep(&d, NULL));
  b = now_ns(CLOCK_MONOTONIC) - a;
  CHECK(b >= 30000000 && b < 30000000000);
  FAILS(nanosleep(&wrong, NULL), EINVAL);
  FAILS(nanosleep(&negative, NULL), EINVAL);
  FAILS(nanosleep((void *)8, NULL), EFAULT);
  OK(clock_nanosleep(CLOCK_MONOTONIC, 0, &d, NULL));
  clock_gettime(CLOCK_MONOTONIC, &t);
  a = now_ns(CLOCK_MONOTONIC);
  t.tv_nsec += 20000000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
  OK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
  CHECK(now_ns(CLOCK_MONOTONIC) - a >= 19000000);
  t.tv_sec = 1;
  OK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL));
  EQUAL(clock_nanosleep(99, 0, &d, NULL), EINVAL);
  EQUAL(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &d, NULL), EINVAL);
  struct timespec zero = {0, 0};
  OK(nanosleep(&zero, NULL));

  section("processor time");
  a = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  sleep_ms(300);
  b = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  CHECK(b - a < 200000000);
  spin_ms(30);
  c = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  CHECK(c - b >= 29000000);
  struct rusage u;
  OK(getrusage(RUSAGE_SELF, &u));
  CHECK(u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec >= 20000);
  OK(getrusage(RUSAGE_THREAD, &u));
  FAILS(getrusage(99, &u), EINVAL);
  pid_t child = CHILD(spin_ms(40));
  EQUAL(outcome(child), 0);
  OK(getrusage(RUSAGE_CHILDREN, &u));
  CHECK(u.ru_utime.tv_usec + u.ru_stime.tv_usec >= 30000);
  struct tms m;
  CHECK(times(&m) > 0);
  CHECK(m.tms_cutime + m.tms_cstime >= 3);
  clockid_t of_child;
  OK(clock_getcpuclockid(0, &of_child));
  OK(clock_gettime(of_child, &t));
  child = CHILD({
    struct rlimit r = {1, 2};
    setrlimit(RLIMIT_CPU, &r);
    for (;;) {}
  });
  EQUAL(outcome(child), SIGNALLED(SIGXCPU));
  return conformance_end();
}
