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

#include "layout.h"

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

// Runs the function in a child process.
static inline pid_t in_child(void (*function)(void)) {
  pid_t child = MUST(fork());
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

// The reserved region.
#define PARAMETERS(slot) (UM_PARAMETERS + ((uint64_t)(slot) << UM_PARAMETER_SHIFT))
#define REPORT(slot) (UM_REPORTS + ((uint64_t)(slot) << UM_REPORT_SHIFT))
#define U64(address) (*(volatile uint64_t *)(uint64_t)(address))
#define U32(address) (*(volatile uint32_t *)(uint64_t)(address))

// The stub's SYSCALL instructions, in the order of their addresses.
static uint64_t stub_sites[64];
static int stub_site_count;
static inline void find_stub_sites(void) {
  const uint8_t *code = (const uint8_t *)UM_CODE;
  stub_site_count = 0;
  for (int i = 0; i < UM_PART - 1 && stub_site_count < 64; i++)
    if (code[i] == 0x0f && code[i + 1] == 0x05) stub_sites[stub_site_count++] = UM_CODE + i;
}

// The three that guest threads can reach: wake the kernel process, wait for a resumption, return from a signal.
enum { STUB_WAKE, STUB_WAIT, STUB_RETURN };
static inline uint64_t stub_site(int which) {
  if (stub_site_count == 0) find_stub_sites();
  if (stub_site_count < 3) {
    say("FATAL the stub has %d sites", stub_site_count);
    _exit(98);
  }
  return stub_sites[stub_site_count - 3 + which];
}

// Offsets in the host's ucontext that layout.h does not name.
enum {
  CONTEXT_FLAGS = 0, CONTEXT_RSP = 160, CONTEXT_EFLAGS = 176, CONTEXT_SEGMENTS = 184, CONTEXT_EXTENDED = 224, CONTEXT_MASK = 296,
};

// The report of the calling thread: the gate keeps its address in the host's GS base.
static inline uint64_t own_report(void) {
  uint64_t report;
  __asm__ volatile("rdgsbase %0" : "=r"(report));
  return report;
}
static inline uint64_t report_slot(uint64_t report) { return (report - UM_REPORTS) >> UM_REPORT_SHIFT; }

// Writes into a report what the gate would for a system call.
static inline void forge_call(uint64_t report, uint64_t number, uint64_t first, uint64_t second, uint64_t third) {
  uint64_t *saved = (uint64_t *)(report + UM_REPORT_SAVED);
  memset(saved, 0, 128);
  saved[0] = number, saved[4] = first, saved[3] = second, saved[2] = third;
  saved[14] = 0x400000, saved[15] = 0x202;
  U32(report + UM_REPORT_SIGNAL) = UM_REPORT_CALL;
  U64(report + UM_REPORT_FS) = 0;
  U64(report + UM_REPORT_GS) = report;
}

// Publishes the forged event, wakes the kernel process and does not sleep itself: it continues at once with the frame that its
// parameters name, in whatever state that frame is.
__attribute__((noreturn)) static inline void publish_and_continue(uint64_t report) {
  uint32_t resumption = U32(report + UM_REPORT_RESUME);
  uint64_t entry = stub_site(STUB_WAKE) - 18;
  U32(report + UM_REPORT_EVENT) = resumption;
  __asm__ volatile("mov %0, %%rbx; mov %1, %%r9d; xor %%r14d, %%r14d; jmp *%2" ::"r"(report), "r"(resumption + 1), "r"(entry)
                   : "rbx", "r9", "r14", "memory");
  __builtin_unreachable();
}

#endif
