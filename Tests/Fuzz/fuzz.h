// Shared by the fuzzers that run inside Apus: random numbers with a seed, raw system calls, and the record of what each worker did.
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

// One line of output in one write.
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

#define MUST(call)                                                                       \
  ({                                                                                     \
    errno = 0;                                                                           \
    __typeof__(call) result_ = (call);                                                   \
    if ((long long)result_ == -1) {                                                      \
      say("FATAL %s: %s (line %d)", #call, strerrorname_np(errno) ?: "?", __LINE__);     \
      _exit(98);                                                                         \
    }                                                                                    \
    result_;                                                                             \
  })

// Random numbers of one worker: splitmix64.
typedef struct { uint64_t state; } generator;
static inline uint64_t next_random(generator *g) {
  uint64_t z = (g->state += 0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}
static inline uint64_t below(generator *g, uint64_t n) { return next_random(g) % n; }
static inline bool one_in(generator *g, uint64_t n) { return below(g, n) == 0; }
static inline generator derive(uint64_t seed, uint64_t a, uint64_t b) {
  generator g = {seed ^ a * 0xd1342543de82ef95 ^ b * 0x9e6c63d0876a9a47};
  next_random(&g);
  return g;
}
#define PICK(g, list) ((list)[below(g, sizeof(list) / sizeof *(list))])

// A number near a boundary of some width, or any.
static inline uint64_t odd_number(generator *g) {
  switch (below(g, 6)) {
    case 0: return below(g, 9);
    case 1: return -below(g, 9);
    case 2: return (1ull << below(g, 64)) + below(g, 3) - 1;
    case 3: return -(1ull << below(g, 64)) + below(g, 3) - 1;
    case 4: return (uint64_t)INT32_MAX + below(g, 3) - 1;
    default: return next_random(g);
  }
}

// A system call by the instruction itself: no errno, no thread-local storage, no cancellation. The child of a call that makes one
// ends at once when `makes_child` is 1, and waits for its end when it is 2: it never returns on a stack that it may share.
static inline long raw_call(long number, const uint64_t a[6], long makes_child) {
  long result = number;
  register uint64_t r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
  register long kind __asm__("r12") = makes_child;
  __asm__ volatile(
    "syscall\n"
    "test %%rax, %%rax\n jnz 9f\n"
    "test %%r12, %%r12\n jz 9f\n"
    "cmp $2, %%r12\n jne 8f\n"
    "7: mov $34, %%eax\n syscall\n jmp 7b\n"
    "8: mov $60, %%eax\n xor %%edi, %%edi\n syscall\n jmp 8b\n"
    "9:\n"
    : "+a"(result)
    : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9), "r"(kind)
    : "rcx", "r11", "memory");
  return result;
}
static inline long plain_call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  return raw_call(number, (uint64_t[]){a, b, c, d, e, f}, 0);
}

// What a worker did last. It stands in memory that the supervisor shares with it; the worker's own calls may damage it.
enum { RING = 16, WORKERS = 64 };
struct record { uint32_t number, done; uint64_t arguments[6]; int64_t result; };
struct worker {
  volatile uint32_t process, thread;   // thread is 0 when the worker is not at work
  volatile uint64_t calls;
  uint64_t life;
  struct record ring[RING];
};

#endif
