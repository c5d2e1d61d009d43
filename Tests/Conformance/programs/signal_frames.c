// The state in which a handler starts, and frames that come back damaged.
#include "../conformance.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

#define ROUND_UP 0x4000
#define INITIAL_MXCSR 0x1f80
#define INITIAL_CONTROL 0x37f

static unsigned mxcsr(void) {
  unsigned value;
  __asm__ volatile("stmxcsr %0" : "=m"(value));
  return value;
}
static void set_mxcsr(unsigned value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }
static unsigned control_word(void) {
  unsigned short value;
  __asm__ volatile("fnstcw %0" : "=m"(value));
  return value;
}

static volatile unsigned inside_mxcsr, inside_control;
static volatile uint64_t inside_vector;
static void look(int number) {
  uint64_t low;
  __asm__ volatile("movq %%xmm9, %0" : "=r"(low));
  inside_vector = low;
  inside_mxcsr = mxcsr();
  inside_control = control_word();
  set_mxcsr(INITIAL_MXCSR | 0x2000);
}

static void initial_state(void) {
  section("a handler starts with the initial floating-point state");
  signal(SIGUSR1, look);
  unsigned short rounding = INITIAL_CONTROL | 0xc00;
  __asm__ volatile("fldcw %0" : : "m"(rounding));
  set_mxcsr(INITIAL_MXCSR | ROUND_UP);
  uint64_t pattern = 0x1234567890abcdef, after;
  long result, process = getpid();
  register long self __asm__("rdi") = process;
  __asm__ volatile("movq %3, %%xmm9\n syscall\n movq %%xmm9, %1"
                   : "=a"(result), "=r"(after)
                   : "0"(SYS_kill), "r"(pattern), "r"(self), "S"((long)SIGUSR1)
                   : "rcx", "r11", "xmm9", "memory");
  unsigned mxcsr_after = mxcsr(), control_after = control_word();
  set_mxcsr(INITIAL_MXCSR);
  __asm__ volatile("fninit");
  EQUAL(result, 0);
  EQUAL(inside_mxcsr, INITIAL_MXCSR);
  EQUAL(inside_control, INITIAL_CONTROL);
  EQUAL(inside_vector, 0);
  EQUAL(mxcsr_after, INITIAL_MXCSR | ROUND_UP);
  EQUAL(control_after, INITIAL_CONTROL | 0xc00);
  CHECK(after == pattern);
}

// What a handler does to its frame before it returns.
enum damage { HEADER, VERSION, RESERVED, CONTROL, POINTER, MISALIGNED };
static volatile enum damage damage;
static volatile int faults, damaged;
static void wreck(int number, siginfo_t *i, void *context) {
  ucontext_t *u = context;
  char *area = (char *)u->uc_mcontext.fpregs;
  damaged++;
  switch (damage) {
    case HEADER: memset(area + 512, 0xff, 8); break;
    case VERSION: area[520 + 7] = (char)0x80; break;
    case RESERVED: area[512 + 40] = 1; break;
    case CONTROL: memset(area + 24, 0xff, 4); break;
    case POINTER: u->uc_mcontext.fpregs = (void *)8; break;
    case MISALIGNED: u->uc_mcontext.fpregs = (void *)(area + 1); break;
  }
}
static void fault(int number) {
  if (++faults > 10) _exit(77);
}

static void wrecked_frames(void) {
  section("a frame whose extended state is damaged");
  static const char *const names[] = {"header", "version", "reserved", "control", "pointer", "misaligned"};
  for (int k = HEADER; k <= MISALIGNED; k++) {
    // The program ends by SIGSEGV, or its handler runs and it goes on where it was interrupted; it never runs in circles.
    int plain = outcome(CHILD({
      struct sigaction a = {.sa_sigaction = wreck, .sa_flags = SA_SIGINFO};
      sigaction(SIGUSR1, &a, NULL);
      damage = k;
      raise(SIGUSR1);
      _exit(0);
    }));
    int caught = outcome(CHILD({
      struct sigaction a = {.sa_sigaction = wreck, .sa_flags = SA_SIGINFO};
      sigaction(SIGUSR1, &a, NULL);
      signal(SIGSEGV, fault);
      damage = k;
      raise(SIGUSR1);
      _exit(faults ? 10 + faults : 0);
    }));
    line("%s: uncaught %d, caught %d", names[k], plain, caught);
  }
}

static void numbers(void) {
  section("the number of a system call is 32 bits wide");
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "0"(0x100000000 + SYS_getppid) : "rcx", "r11", "memory");
  CHECK(result == getppid());
  __asm__ volatile("syscall" : "=a"(result) : "0"(-1L) : "rcx", "r11", "memory");
  EQUAL(result, -ENOSYS);
  __asm__ volatile("syscall" : "=a"(result) : "0"(0xffffffffL) : "rcx", "r11", "memory");
  EQUAL(result, -ENOSYS);
}

static pthread_t worker;
static volatile int by_worker, by_others;
static volatile bool finished;
static void profiled(int number) {
  if (pthread_equal(pthread_self(), worker)) by_worker++;
  else by_others++;
}
static void *work(void *unused) {
  while (by_worker < 5) {}
  finished = true;
  return NULL;
}

static void profiling(void) {
  section("SIGPROF goes to the thread that uses the time");
  signal(SIGPROF, profiled);
  MUST(-pthread_create(&worker, NULL, work, NULL));
  struct itimerval every = {{0, 10000}, {0, 10000}}, off = {0};
  OK(setitimer(ITIMER_PROF, &every, NULL));
  UNTIL(finished);
  OK(setitimer(ITIMER_PROF, &off, NULL));
  CHECK(by_worker >= 5);
  pthread_join(worker, NULL);
}

int main(void) {
  initial_state();
  wrecked_frames();
  numbers();
  profiling();
  return conformance_end();
}
