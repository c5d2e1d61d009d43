// Shared by the attacks: checks, children, and the user machine as a guest sees it. A guest can read its own stub code, ring and
// parameters, and write its reports (layout.h); an attack forges there what the stub would write.
#ifndef ATTACK_H
#define ATTACK_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stub.h"

static int attack_failures;

// One line of output. It goes out in one write, so that lines of several processes do not mix.
static inline void say(const char *format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(text, sizeof text - 1, format, list);
  va_end(list);
  if (n > (int)sizeof text - 2) n = sizeof text - 2;
  text[n++] = '\n';
  if (write(STDOUT_FILENO, text, n) != n) _exit(99);
}

// `ok WHAT` or `NOT OK WHAT`; what is not ok makes the status of attack_end 1.
static inline bool check(bool holds, const char *format, ...) {
  char text[900];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  say("%s %s", holds ? "ok" : "NOT OK", text);
  if (!holds) attack_failures++;
  return holds;
}

static inline int attack_end(void) {
  say("-- %d failures", attack_failures);
  return attack_failures != 0;
}

// Set-up without which the rest means nothing: the number returned, or the end of the program with status 98.
#define MUST(call)                                                                 \
  ({                                                                               \
    errno = 0;                                                                     \
    __typeof__(call) result_ = (call);                                             \
    if ((long long)result_ == -1) {                                                \
      say("FATAL %s: %s (line %d)", #call, strerrorname_np(errno) ?: "?", __LINE__); \
      _exit(98);                                                                   \
    }                                                                              \
    result_;                                                                       \
  })

// Waits for a child: its exit status, or 1000 + the signal that ended it.
static inline int outcome(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
#define SIGNALLED(number) (1000 + (number))

static inline void sleep_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) < 0 && errno == EINTR) {}
}

static inline int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Waits until the condition holds. After two minutes it is for the check behind to say what is missing.
#define UNTIL(condition) \
  for (int64_t end_ = now_ns(CLOCK_MONOTONIC) + 120000000000; !(condition) && now_ns(CLOCK_MONOTONIC) < end_;) sleep_ms(1)

// Runs the function in a child process. A user whose programs had to be ended for an attack owes their time, and may fork a while
// later only (EAGAIN).
static inline pid_t in_child(void (*function)(void)) {
  pid_t child;
  UNTIL((child = fork()) >= 0 || errno != EAGAIN);
  MUST(child);
  if (child == 0) {
    function();
    _exit(0);
  }
  return child;
}

static inline void become_user(uid_t id) {
  MUST(setresgid(id, id, id));
  MUST(setresuid(id, id, id));
}

// Random numbers that a seed repeats (splitmix64).
static uint64_t random_state = 1;
static inline uint64_t random_u64(void) {
  uint64_t z = (random_state += 0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}
static inline uint64_t random_below(uint64_t n) { return random_u64() % n; }

// Faults inside TRAPPED come back as the value of the expression: 0, or the number of the signal.
static sigjmp_buf trapped_back;
static volatile int trapped_signal;
static inline void trapped_handler(int number) {
  trapped_signal = number;
  siglongjmp(trapped_back, 1);
}
static inline void catch_faults(void) {
  static char stack[65536];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  MUST(sigaltstack(&alternate, NULL));
  struct sigaction action = {.sa_handler = trapped_handler, .sa_flags = SA_NODEFER | SA_ONSTACK};
  for (int i = 0; i < 6; i++) MUST(sigaction((int[]){SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS}[i], &action, NULL));
}
#define TRAPPED(...)                      \
  ({                                      \
    trapped_signal = 0;                   \
    if (sigsetjmp(trapped_back, 1) == 0) { __VA_ARGS__; } \
    trapped_signal;                       \
  })

#endif
