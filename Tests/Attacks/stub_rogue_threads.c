// Threads that run on although the kernel believes them asleep: they forge a call of pause, and go on with a frame that blocks all
// signals. Nobody grants them a CPU, nobody is charged for it, and no preemption reaches them. The monitor sees from outside that their
// process uses more of the host's time than its threads were given, and ends it.
//
// A second process of the attacker's only computes, as the control: that it must not be ended shows that using a CPU is not what counts.
//
// run: --cpus 1 -- @ 8
// run: --cpus 2 --user 1000 -- @ 2
// run: --cpus 4 --user 1000 -- @ 1
// expect: apus: a user process was ended: it runs threads that should sleep .*
// expect: ok the process with rogue threads was ended
// expect: ok control: a process that only computes goes on
#include "attack.h"

static volatile int ready;

__attribute__((noinline)) static void spin(void) {
  for (;;) __asm__ volatile("pause");
}

static void *rogue(void *unused) {
  static __thread char stack[4096];
  for (int i = 0; i < 3; i++) sched_yield();
  uint64_t report = own_report();
  uint64_t frame = frame_of_fault(report);
  forge_call(report, SYS_pause, 0, 0, 0);
  U64(frame + CONTEXT_FLAGS) = 7;
  U64(frame + CONTEXT_MASK) = ~0ull;
  U64(frame + CONTEXT_EFLAGS) = 0x202;
  U64(frame + UM_CONTEXT_RIP) = (uint64_t)spin;
  U64(frame + CONTEXT_RSP) = (uint64_t)stack + 4000;
  ready++;
  publish_and_continue(report);
  return unused;
}

int main(int count, char **words) {
  int rogues = count > 1 ? atoi(words[1]) : 4;
  find_stub_sites();
  volatile uint64_t *work = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t honest = MUST(fork());
  if (honest == 0)
    for (;;) work[0]++;
  pid_t attacker = MUST(fork());
  if (attacker == 0) {
    for (int i = 0; i < rogues; i++) {
      pthread_t thread;
      pthread_create(&thread, NULL, rogue, NULL);
      sched_yield();
    }
    // Awake from time to time, so that the end is noticed.
    for (;;) sleep_ms(5);
  }
  check(outcome(attacker) == SIGNALLED(SIGKILL), "the process with rogue threads was ended");
  uint64_t before = work[0];
  UNTIL(work[0] > before + 100000);
  check(work[0] > before && kill(honest, 0) == 0, "control: a process that only computes goes on");
  MUST(kill(honest, SIGKILL));
  outcome(honest);
  return attack_end();
}
