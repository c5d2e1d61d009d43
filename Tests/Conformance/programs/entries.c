// The other ways into a kernel: 32-bit system calls, the x32 range, and the flags and registers that SYSCALL leaves.
#include "../conformance.h"
#include <sched.h>

int main(void) {
  section("x32 numbers");
  FAILS(syscall(0x40000000 | SYS_getpid), ENOSYS);
  section("registers across a system call");
  long rax, rcx, kept;
  __asm__ volatile(
      "mov $1, %%rbx; mov $8, %%r8; mov $9, %%r9; mov $10, %%r10; mov $11, %%rdx; mov $12, %%r12\n syscall\n"
      "lea (%%rbx,%%r8), %1; add %%r9, %1; add %%r10, %1; add %%rdx, %1; add %%r12, %1"
      : "=a"(rax), "=&S"(kept) : "a"((long)SYS_getppid)
      : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "memory");
  CHECK(rax == getppid());
  EQUAL(kept, 51);
  long behind;
  __asm__ volatile("syscall\n1: lea 1b(%%rip), %1" : "=c"(rcx), "=r"(behind) : "a"((long)SYS_getppid) : "r11", "memory");
  CHECK(rcx == behind);
  // The direction flag survives, and r11 holds the flags.
  long flags, copy;
  __asm__ volatile("std; syscall; pushfq; pop %0; mov %%r11, %1; cld" : "=&b"(flags), "=&d"(copy) : "a"((long)SYS_getppid) : "rcx", "r11", "memory");
  CHECK(flags & 0x400);
  CHECK(copy & 0x400);
  // Vector registers survive system calls and switches between processes.
  __asm__ volatile("pcmpeqd %%xmm9, %%xmm9" ::: "xmm9");
  pid_t child = fork();
  if (child == 0) {
    __asm__ volatile("pxor %%xmm9, %%xmm9" ::: "xmm9");
    _exit(0);
  }
  sleep_ms(10);
  EQUAL(outcome(child), 0);
  double a = 1.5;
  for (int i = 0; i < 1000; i++) {
    a = a * 1.0000001;
    syscall(SYS_getppid);
    if (i % 100 == 0) sched_yield();
  }
  line("%.12f", a);
  return conformance_end();
}
