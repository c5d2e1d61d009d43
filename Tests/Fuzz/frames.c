// Fuzzes the hand-over between programs and the kernel: signal frames, the stub and the report pages.
//
//   frames [--seed N] [--rounds N] [--seconds N] [--first N] [--kinds MASK]
//
// A round makes attempts of four kinds, each in a process of its own, half of them as an ordinary user:
//   kernel   rt_sigreturn of the kernel with a random frame
//   host     the stub's own rt_sigreturn, with a random frame in the report page
//   jump     a jump to a random place of the stub with random registers
//   report   random stores to the report pages while other threads make calls
// An attempt may do to its own process what it likes; it must end by SIGKILL at the latest, the innocent process must not notice,
// and memory must return.
#include "supervisor.h"

#include <pthread.h>

#include "stub.h"

enum { CHILDREN = 8, ATTEMPTS = 240 };
static struct { uint64_t seed, rounds, first, seconds, kinds; } options = {.seed = 1, .rounds = 1, .kinds = 15};

static generator g;
static uint64_t context[2048] __attribute__((aligned(64)));
static volatile int stop;

static void target(void) { _exit(7); }

static uint64_t value(void) {
  switch (below(&g, 16)) {
    case 0: return 0;
    case 1: return ~0ull;
    case 2: return REPORT(0) + below(&g, 4 * UM_REPORT_SIZE);
    case 3: return UM_CODE + below(&g, 0x3400);
    case 4: return UM_RING + below(&g, 0x3000);
    case 5: return PARAMETERS(below(&g, 8)) + below(&g, 64);
    case 6: return 1ull << below(&g, 64);
    case 7: return UM_GATE + below(&g, UM_GATE_SIZE);
    case 8: return stub_site(STUB_WAIT);
    case 9: return stub_site(STUB_RETURN);
    case 10: return stub_site(STUB_WAKE);
    case 11: return UM_CONSTANTS + below(&g, UM_PART);
    case 12: return (uint64_t)context + below(&g, sizeof context);
    case 13: return (uint64_t)target;
    case 14: return below(&g, 512);
    default: return next_random(&g);
  }
}

// A frame with fields that are plausible half of the time.
static void random_frame(uint64_t *frame) {
  uint32_t *extended = (uint32_t *)(context + 512);
  for (int i = 0; i < 200; i++) frame[i] = below(&g, 4) ? 0 : value();
  for (int i = UM_CONTEXT_R12 / 8 - 4; i < 23; i++) frame[i] = value();
  frame[0] = below(&g, 8);
  if (one_in(&g, 2)) frame[UM_CONTEXT_RIP / 8] = (uint64_t)target;
  if (one_in(&g, 2)) frame[CONTEXT_RSP / 8] = (uint64_t)(context + 1900);
  if (below(&g, 4)) frame[CONTEXT_EFLAGS / 8] = 0x202 | (next_random(&g) & 0x254dd5);
  frame[CONTEXT_SEGMENTS / 8] = one_in(&g, 2) ? 0x2b00000000000033 : one_in(&g, 2) ? 0x2b00000000000023 : value();
  frame[CONTEXT_EXTENDED / 8] = below(&g, 3) ? 0 : one_in(&g, 2) ? (uint64_t)extended : value();
  if (one_in(&g, 2)) frame[CONTEXT_MASK / 8] = value();
  memset(extended, 0, 4096);
  if (one_in(&g, 2)) {
    extended[116] = 0x46505853;  // FP_XSTATE_MAGIC1, then size, features, size of the state, and its header
    extended[117] = below(&g, 3) ? 2688 + below(&g, 32) : value();
    *(uint64_t *)(extended + 118) = one_in(&g, 2) ? 0xe7 : value();
    extended[120] = below(&g, 3) ? 2696 : value();
    *(uint64_t *)(extended + 128) = value();
    *(uint64_t *)(extended + 130) = one_in(&g, 2) ? 0 : value();
    extended[6] = value();
  }
}

static void return_by_kernel(void) {
  uint64_t *frame = context + (one_in(&g, 2) ? 0 : below(&g, 64));
  random_frame(frame);
  if (one_in(&g, 10)) frame = (uint64_t *)value();
  __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(frame));
}

static void return_by_host(void) {
  uint64_t frame = own_report() + 0x1000 + (below(&g, 0x2800) & ~15ull);
  random_frame((uint64_t *)frame);
  if (one_in(&g, 10)) frame = value();
  __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; jmp *%1" ::"r"(frame), "r"(stub_site(STUB_RETURN)));
}

static void jump(void) {
  uint64_t registers[16], to = below(&g, 8) ? UM_CODE + below(&g, 0x3400) : UM_HOST_CLOCK + below(&g, 0x8000);
  for (int i = 0; i < 16; i++) registers[i] = value();
  if (one_in(&g, 3))
    for (int i = 0; i < 30; i++) ((uint64_t *)REPORT(0))[below(&g, 512)] = value();
  if (one_in(&g, 2)) registers[1] = REPORT(below(&g, 3));
  if (one_in(&g, 2)) registers[2] = PARAMETERS(below(&g, 3));
  if (one_in(&g, 2)) registers[3] = REPORT(0) + UM_REPORT_AWAKE;
  __asm__ volatile(
    "mov %0, %%r15; mov %1, %%rbp; mov 8(%%r15), %%rbx; mov 16(%%r15), %%r12; mov 24(%%r15), %%rdi; mov 32(%%r15), %%rsi;"
    "mov 40(%%r15), %%rdx; mov 48(%%r15), %%rax; mov 56(%%r15), %%rcx; mov 64(%%r15), %%r8; mov 72(%%r15), %%r9; mov 80(%%r15), %%r10;"
    "mov 88(%%r15), %%r11; mov 96(%%r15), %%r13; mov 104(%%r15), %%r14; jmp *%%rbp" ::"b"(registers), "a"(to)
    : "memory");
  __builtin_unreachable();
}

static void *caller(void *unused) {
  (void)unused;
  char buffer[64];
  int zero = open("/dev/zero", O_RDONLY);
  while (!stop) {
    syscall(SYS_getppid);
    read(zero, buffer, sizeof buffer);
    sched_yield();
    syscall(SYS_futex, &stop, 129, 1, 0, 0, 0);
  }
  return NULL;
}

static void scribble(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, caller, NULL);
  for (int i = 0; i < 2000; i++) {
    uint64_t report = REPORT(below(&g, 4));
    switch (below(&g, 7)) {
      case 0: U32(report + UM_REPORT_EVENT) = U32(report + UM_REPORT_RESUME); break;
      case 1: U32(report + UM_REPORT_SIGNAL) = below(&g, 110); break;
      case 2: U64(report + UM_REPORT_FRAME) = one_in(&g, 2) ? report + 0x1000 + below(&g, 0x3000) : value(); break;
      case 3: U64(report + UM_REPORT_FS + 8 * below(&g, 2)) = value(); break;
      case 4: U32(report + UM_REPORT_AWAKE + 4 * below(&g, 3)) = value(); break;
      case 5: U64(report + 8 * below(&g, UM_REPORT_SIZE / 8)) = value(); break;
      default: sched_yield();
    }
  }
  stop = 1;
}

static void attempt(uint64_t round, int number) {
  static void (*const kinds[])(void) = {return_by_kernel, return_by_host, jump, scribble};
  if (number & 4) {
    MUST(syscall(SYS_setresgid, 1000, 1000, 1000));
    MUST(syscall(SYS_setresuid, 1000, 1000, 1000));
  }
  g = derive(options.seed, round, number);
  find_stub_sites();
  if (options.kinds >> number % 4 & 1) kinds[number % 4]();
  _exit(0);
}

__attribute__((noreturn)) static void fault(const char *what) {
  say("FAULT: %s (seed %lu)", what, options.seed);
  _exit(1);
}

static uint64_t signals, exits, killed;

static void run_round(uint64_t round) {
  pid_t children[CHILDREN] = {0};
  int looks[CHILDREN] = {0};
  uint64_t innocent_looks = watch->looks;
  int64_t quiet = now_ms();
  for (int started = 0, ended = 0; ended < ATTEMPTS;) {
    for (int i = 0; i < CHILDREN && started < ATTEMPTS; i++)
      if (children[i] == 0) {
        pid_t child = fork();
        if (child == 0) attempt(round, started);
        if (child < 0) break;
        children[i] = child, looks[i] = 0, started++;
      }
    int status;
    pid_t process = waitpid(-1, &status, WNOHANG);
    if (process == innocent_process) innocent_ended(status);
    for (int i = 0; i < CHILDREN && process > 0; i++)
      if (children[i] == process) {
        children[i] = 0, ended++, quiet = now_ms();
        if (WIFSIGNALED(status)) signals++; else exits++;
      }
    if (process > 0) continue;
    usleep(1000);
    for (int i = 0; i < CHILDREN; i++)
      if (children[i] > 0 && ++looks[i] == 200) kill(children[i], SIGKILL), killed++;
    if (now_ms() - quiet > HANG_MS) fault("a process does not end by SIGKILL");
  }
  end_others();
  await_innocent(innocent_looks);
}

int main(int count, char **words) {
  static const char *const names[] = {"--seed", "--rounds", "--first", "--seconds", "--kinds"};
  uint64_t *const places[] = {&options.seed, &options.rounds, &options.first, &options.seconds, &options.kinds};
  for (int i = 1; i + 1 < count; i += 2)
    for (int k = 0; k < 5; k++)
      if (!strcmp(words[i], names[k])) *places[k] = strtoull(words[i + 1], NULL, 0);
  find_stub_sites();
  begin_supervision("/tmp");
  int64_t begin = now_ms();
  struct counts before = {0}, after = {0};
  uint64_t rounds = 0, round = options.first;
  for (; options.seconds ? now_ms() - begin < (int64_t)options.seconds * 1000 : rounds < options.rounds; round++) {
    if (rounds % 8 == 0) say("round %lu, %ld ms", round, now_ms() - begin);
    run_round(round);
    if (++rounds == 2) before = at_rest();
  }
  after = at_rest();
  say("%lu attempts in %lu rounds: %lu ended by signals, %lu by exits, %lu had to be killed", rounds * ATTEMPTS, rounds, signals, exits, killed);
  if (rounds > 4 && compare(&before, &after, rounds - 2)) fault("memory does not return");
  end_supervision();
  return 0;
}
