// What a program leaves in the process that served it. The program ends, by a forged report, while its thread goes to sleep where the
// monitor looks for a thread at rest, in a processor state of its choice: with the trap flag set, or alignment checks. The next program
// that gets the process must not notice: it would die at its first instruction, or at an access that is not aligned.
//
// The control is the same state in a program's own life: there it has the effect that the next program must not see.
//
// run: --cpus 1 -- @
// run: --cpus 2 -- @
// expect: ok control: the trap flag ends a program
// expect: ok control: an alignment check ends a program
// expect: ok 0 of [0-9]+ innocent programs died
#include "attack.h"

enum { TRAP = 0x100, ALIGNMENT = 0x40000, ROUNDS = 60 };
static uint64_t flag;

static void leave(void) {
  become_user(1000);
  for (int i = 0; i < 3; i++) MUST((int)syscall(SYS_getppid));
  uint64_t report = own_report(), frame = U64(PARAMETERS(report_slot(report)) + UM_PARAMETER_FRAME);
  if (frame == 0) _exit(98);
  forge_call(report, SYS_exit_group, 0, 0, 0);
  U64(frame + CONTEXT_FLAGS) = 7;
  U64(frame + CONTEXT_MASK) = ~0ull;
  U64(frame + UM_CONTEXT_RIP) = stub_site(STUB_WAIT);
  U64(frame + 144) = SYS_futex;                                 // rax
  U64(frame + 104) = report + UM_REPORT_AWAKE;                  // rdi
  U64(frame + 112) = U64(frame + 136) = U64(frame + 56) = 0;    // rsi, rdx, r10
  U64(frame + 48) = U32(report + UM_REPORT_RESUME);             // r9
  U64(frame + CONTEXT_EFLAGS) = 0x202 | flag;
  publish_and_continue(report);
}

static void set_flag(void) {
  __asm__ volatile("pushfq; orq %0, (%%rsp); popfq; nop; nop" ::"r"(flag) : "memory", "cc");
  static char bytes[16];
  (void)*(volatile uint32_t *)(bytes + 1);
  __asm__ volatile("nop");
}

// Makes accesses that are not aligned, and a few calls.
static void innocent(void) {
  static char bytes[64];
  for (int i = 0; i < 16; i++) *(volatile uint64_t *)(bytes + i) += i;
  for (int i = 0; i < 4; i++) MUST((int)syscall(SYS_getppid));
}

int main(void) {
  find_stub_sites();
  flag = TRAP;
  check(outcome(in_child(set_flag)) == SIGNALLED(SIGTRAP), "control: the trap flag ends a program");
  flag = ALIGNMENT;
  check(outcome(in_child(set_flag)) == SIGNALLED(SIGBUS), "control: an alignment check ends a program");
  int died = 0;
  for (int i = 0; i < ROUNDS; i++) {
    flag = i % 3 == 2 ? ALIGNMENT : TRAP;
    outcome(in_child(leave));
    if (i % 2) sleep_ms(3);  // so that the process is looked at before it is wanted, too
    for (int k = 0; k < 3; k++) died += outcome(in_child(innocent)) != 0;
  }
  check(died == 0, "%d of %d innocent programs died", died, 3 * ROUNDS);
  return attack_end();
}
