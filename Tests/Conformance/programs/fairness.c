// Threads that share a CPU: one that has run alone for long is not behind those that come later, and many short processes do not
// keep a long one from running. Times are CPU times of the processes, so that a busy host changes nothing.
#include "../conformance.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

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
  return conformance_end();
}
