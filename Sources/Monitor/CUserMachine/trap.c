// Processor exceptions of the kernel process. Those of kernel code (a Swift runtime failure is #UD) continue in the
// kernel's own trap routine, on the stack that was interrupted, as they would on a bare machine. Those of the monitor
// are errors of the monitor.

#include "internal.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

uint64_t um_image_base;
static uint64_t image_end;
static void (*kernel_trap)(struct machine_trap_frame *);
static uint64_t refusable_call;

static void (*last_act)(void);

void um_set_last_act(void (*act)(void)) { last_act = act; }

void um_set_refusable_call(uint64_t place) { refusable_call = place; }

#define RED_ZONE 128
#define SIGNAL_STACK_SIZE 0x10000

void um_set_kernel(uint64_t base, uint64_t end, void (*trap)(struct machine_trap_frame *)) {
  um_image_base = base;
  image_end = end;
  kernel_trap = trap;
}

static char *append(char *at, const char *text) {
  while (*text) *at++ = *text++;
  return at;
}
static char *append_number(char *at, uint64_t value, unsigned base) {
  char digits[24];
  int count = 0;
  do digits[count++] = "0123456789abcdef"[value % base];
  while (value /= base);
  while (count) *at++ = digits[--count];
  return at;
}

// A request of the guest asked the devices for a call that is not allowed: it fails, and goes to the log, each call once.
static void refuse_call(siginfo_t *information, greg_t *registers) {
  static _Atomic uint64_t reported[8];
  uint32_t number = (uint32_t)information->si_syscall;
  registers[REG_RAX] = -EPERM;
  if (number >= 64 * sizeof reported / sizeof reported[0]) return;
  uint64_t bit = 1ull << number % 64;
  if (atomic_fetch_or(&reported[number / 64], bit) & bit) return;
  char text[120], *end = append(text, "apus: a request of the sandbox failed: the confinement does not allow system call ");
  end = append_number(end, number, 10);
  *end++ = '\n';
  um_call3(SYS_write, 2, text, end - text);
}

// Whether another process sent the signal: no instruction of ours is at fault (sigaction(2), si_code).
static bool is_sent(const siginfo_t *information) { return information->si_code <= 0; }

// The monitor's own end. A fatal signal ends it with status 125 and restores the terminal, also when another process sent it.
static void report_and_die(int number, siginfo_t *information, const greg_t *registers) {
  char text[200], *end = append(text, "apus: the monitor failed: ");
  if (number == SIGSYS && !is_sent(information)) {
    end = append(end, "its confinement does not allow system call ");
    end = append_number(end, (uint64_t)information->si_syscall, 10);
  } else {
    end = append(end, "signal ");
    end = append_number(end, (uint64_t)number, 10);
    end = append(end, is_sent(information) ? ", sent by process " : ", address 0x");
    if (is_sent(information)) end = append_number(end, (uint64_t)information->si_pid, 10);
    else end = append_number(end, (uint64_t)registers[REG_CR2], 16);
  }
  end = append(end, " at 0x");
  end = append_number(end, (uint64_t)registers[REG_RIP], 16);
  *end++ = '\n';
  um_call3(SYS_write, 2, text, end - text);
  void (*act)(void) = last_act;
  last_act = NULL;  // it may fail itself
  if (act) act();
  um_call1(SYS_exit_group, 125);
}

static void handler(int number, siginfo_t *information, void *argument) {
  ucontext_t *context = argument;
  greg_t *r = context->uc_mcontext.gregs;
  uint64_t rip = (uint64_t)r[REG_RIP];
  if (is_sent(information)) report_and_die(number, information, r);
  if (number == SIGSYS && refusable_call && rip == refusable_call) {
    refuse_call(information, r);
    return;
  }
  if (number == SIGSYS || !kernel_trap || rip < um_image_base || rip >= image_end || !um_this_cpu) {
    report_and_die(number, information, r);
    return;
  }
  uint64_t rsp = (uint64_t)r[REG_RSP], address = (uint64_t)r[REG_CR2];
  uint64_t top = (rsp - RED_ZONE) & ~63ull;
  // A fault near the stack pointer is the guard page: the trap routine needs another stack to tell of it.
  if (r[REG_TRAPNO] == 14 && address > rsp - 0x10000 && address < rsp + MACHINE_PAGE_SIZE)
    top = (uint64_t)um_this_cpu->emergency_stack + SIGNAL_STACK_SIZE;
  struct machine_trap_frame *frame = (struct machine_trap_frame *)((top - sizeof(struct machine_trap_frame)) & ~15ull);
  memset(frame, 0, sizeof *frame);
  struct machine_registers *to = &frame->registers;
  to->r15 = (uint64_t)r[REG_R15];
  to->r14 = (uint64_t)r[REG_R14];
  to->r13 = (uint64_t)r[REG_R13];
  to->r12 = (uint64_t)r[REG_R12];
  to->rbp = (uint64_t)r[REG_RBP];
  to->rbx = (uint64_t)r[REG_RBX];
  to->r11 = (uint64_t)r[REG_R11];
  to->r10 = (uint64_t)r[REG_R10];
  to->r9 = (uint64_t)r[REG_R9];
  to->r8 = (uint64_t)r[REG_R8];
  to->rax = to->orig_rax = (uint64_t)r[REG_RAX];
  to->rcx = (uint64_t)r[REG_RCX];
  to->rdx = (uint64_t)r[REG_RDX];
  to->rsi = (uint64_t)r[REG_RSI];
  to->rdi = (uint64_t)r[REG_RDI];
  to->rip = rip;
  to->rsp = rsp;
  to->eflags = (uint64_t)r[REG_EFL];
  to->cs = (uint64_t)r[REG_CSGSFS] & 0xffff;
  frame->vector = (uint64_t)r[REG_TRAPNO];
  frame->error_code = (uint64_t)r[REG_ERR];
  frame->address = address;
  // As if the interrupted instruction had called the routine: aligned stack, return address 0 (the end of a backtrace).
  uint64_t *stack = (uint64_t *)frame - 1;
  *stack = 0;
  r[REG_RSP] = (greg_t)stack;
  r[REG_RDI] = (greg_t)frame;
  r[REG_RIP] = (greg_t)kernel_trap;
  r[REG_EFL] &= ~0x400;  // the direction flag is clear at a call
}

void um_traps_install(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  const int numbers[] = {SIGILL, SIGSEGV, SIGFPE, SIGBUS, SIGSYS};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) sigaction(numbers[i], &action, NULL);
}
