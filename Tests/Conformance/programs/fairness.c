// Threads that share a CPU: one that has run alone for long is not behind those that come later, and many short processes do not
// keep a long one from running, nor do many that sleep and wake by turns keep a new one from beginning. Times are CPU times of
// the processes, so that a busy host changes nothing.
#include "../conformance.h"
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static double used(pid_t process) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = read(file, text, sizeof text - 1);
  close(file);
  text[n > 0 ? n : 0] = 0;
  unsigned long user = 0, system = 0;
  char *rest = strrchr(text, ')');
  if (rest) sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  return (user + system) / (double)sysconf(_SC_CLK_TCK);
}

static pid_t spin(void) {
  pid_t process = fork();
  if (process == 0)
    for (volatile unsigned long i = 0;; i++) continue;
  return process;
}

#define SLEEPERS 60

static struct { unsigned word; volatile unsigned long woken; } *crowd;

// The most wake-ups of others between a fork and the first instruction of the child.
static unsigned long longest_wait(void) {
  pid_t sleepers[SLEEPERS + 1];
  for (int i = 0; i <= SLEEPERS; i++) {
    sleepers[i] = fork();
    if (sleepers[i] != 0) continue;
    for (;;) {
      if (i == SLEEPERS) syscall(SYS_futex, &crowd->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
      else if (syscall(SYS_futex, &crowd->word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0) __atomic_fetch_add(&crowd->woken, 1, __ATOMIC_RELAXED);
    }
  }
  UNTIL(crowd->woken > 10 * SLEEPERS);
  unsigned long longest = 0;
  for (int i = 0; i < 20; i++) {
    unsigned long before = crowd->woken;
    pid_t child = fork();
    if (child == 0) {
      unsigned long waited = crowd->woken - before;
      _exit(waited > 200000 ? 200 : waited / 1000);
    }
    int status;
    waitpid(child, &status, 0);
    if ((unsigned long)WEXITSTATUS(status) > longest) longest = WEXITSTATUS(status);
  }
  for (int i = 0; i <= SLEEPERS; i++) kill(sleepers[i], SIGKILL);
  for (int i = 0; i <= SLEEPERS; i++) waitpid(sleepers[i], NULL, 0);
  return longest * 1000;
}

int main(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) {
    line("FATAL CPU 0 is not to be had");
    return 98;
  }
  section("a program that has run alone");
  pid_t spinner = spin();
  UNTIL(used(spinner) >= 0.5);
  double before = used(spinner);
  // What the short processes and their maker use is this process's time and its children's.
  struct rusage self, children;
  double mine;
  do {
    for (int i = 0; i < 50; i++) {
      pid_t child = fork();
      if (child == 0) _exit(0);
      waitpid(child, NULL, 0);
    }
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    mine = self.ru_utime.tv_sec + self.ru_stime.tv_sec + children.ru_utime.tv_sec + children.ru_stime.tv_sec +
           (self.ru_utime.tv_usec + self.ru_stime.tv_usec + children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6;
  } while (mine < 0.3);
  CHECK(used(spinner) - before >= 0.1);
  section("a program that comes later");
  pid_t later = spin();
  UNTIL(used(later) >= 0.2);
  CHECK(used(later) >= 0.2);
  kill(spinner, SIGKILL);
  kill(later, SIGKILL);
  waitpid(spinner, NULL, 0);
  waitpid(later, NULL, 0);
  section("nice");
  // Two equal ones share, also beside a third that wants little; weights hold between two as well.
  pid_t equal[2] = {spin(), spin()}, nice = spin();
  OK(setpriority(PRIO_PROCESS, nice, 19));
  double at[3] = {used(equal[0]), used(equal[1]), used(nice)};
  UNTIL(used(equal[0]) + used(equal[1]) - at[0] - at[1] >= 1);
  double had[3] = {used(equal[0]) - at[0], used(equal[1]) - at[1], used(nice) - at[2]};
  CHECK(had[0] < 1.3 * had[1] && had[1] < 1.3 * had[0]);
  CHECK(had[2] < 0.2);
  kill(equal[0], SIGKILL);
  waitpid(equal[0], NULL, 0);
  at[1] = used(equal[1]), at[2] = used(nice);
  UNTIL(used(equal[1]) - at[1] >= 0.5);
  CHECK(used(nice) - at[2] < 0.1);
  kill(equal[1], SIGKILL);
  kill(nice, SIGKILL);
  waitpid(equal[1], NULL, 0);
  waitpid(nice, NULL, 0);
  section("a new program among many that sleep and wake");
  crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  unsigned long waited = longest_wait();
  line("note %lu", waited);
  CHECK(waited < 5000);
  return conformance_end();
}
