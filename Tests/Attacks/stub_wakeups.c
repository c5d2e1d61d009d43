// Wake-ups that are meant for somebody else. A guest thread, which the kernel believes asleep, waits at the stub's futex instruction on
// a word of its choice: the count of its mapper's ring above all, where it would take the wake-up that is meant for the mapper, and the
// kernel would wait for the mapper's answer for ever; or with a time limit, by which it would wake itself. All that a guest may wait for
// are words of its own process's reports, until somebody wakes it.
//
// The program's own mappings change meanwhile, which needs its mapper, and another process runs on. What the attacker's process comes to
// is its own affair; that it comes to an end is not.
//
// run: --cpus 1 -- @ ring
// run: --cpus 2 --user 1000 -- @ ring
// run: --cpus 1 -- @ timed
// expect: ok another process runs on
// expect: ok the thread was not asleep there
// control: --cpus 1 -- @ report
// expect: ok control: the thread sleeps in a word of its report
// expect: ok 64 mappings were changed
#include "attack.h"

static volatile int began;
static volatile uint64_t report_of_thief;
static const char *mode;

static void *thief(void *unused) {
  sched_yield();
  uint64_t report = report_of_thief = own_report();
  uint64_t frame = frame_of_fault(report);
  bool ring = strcmp(mode, "ring") == 0;
  static struct timespec limit = {3600, 0};
  forge_call(report, SYS_pause, 0, 0, 0);
  U64(frame + CONTEXT_FLAGS) = 7;
  U64(frame + CONTEXT_MASK) = 1 << (UM_PREEMPT_SIGNAL - 1);
  U64(frame + CONTEXT_EFLAGS) = 0x202;
  U64(frame + UM_CONTEXT_RIP) = stub_site(STUB_WAIT);
  U64(frame + 144) = SYS_futex;                                         // rax
  U64(frame + 104) = ring ? UM_RING : report + UM_REPORT_SAVED + 128;   // rdi
  U64(frame + 112) = 0;                                                 // rsi: FUTEX_WAIT
  U64(frame + 136) = ring ? U32(UM_RING) : U32(report + UM_REPORT_SAVED + 128);  // rdx
  U64(frame + 56) = strcmp(mode, "timed") == 0 ? (uint64_t)&limit : 0;  // r10
  began = 1;
  publish_and_continue(report);
  return unused;
}

int main(int count, char **words) {
  mode = count > 1 ? words[1] : "ring";
  volatile int *shared = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t other = MUST(fork());
  if (other == 0)
    for (;;) shared[0]++, sched_yield();
  pid_t attacker = MUST(fork());
  if (attacker == 0) {
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, thief, NULL));
    UNTIL(began);
    sleep_ms(50);
    // The stub writes into the report when the host refuses the wait, as for every signal.
    shared[1] = U32(report_of_thief + UM_REPORT_SIGNAL) == UM_REPORT_CALL;
    for (int i = 0; i < 64; i++) {
      char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      *(volatile char *)page = 1;
      munmap(page, 4096);
      shared[2]++;
    }
    _exit(0);
  }
  say("the attacker ended with %d", outcome(attacker));
  int seen = shared[0];
  UNTIL(shared[0] != seen);
  check(shared[0] != seen, "another process runs on");
  if (strcmp(mode, "report") == 0) {
    check(shared[1] == 1, "control: the thread sleeps in a word of its report");
    check(shared[2] == 64, "64 mappings were changed");
  } else {
    check(shared[1] == 0, "the thread was not asleep there");
  }
  MUST(kill(other, SIGKILL));
  outcome(other);
  return attack_end();
}
