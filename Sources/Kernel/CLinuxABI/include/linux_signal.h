// Signal structures of x86-64 Linux: sigaction(2), sigaltstack(2), siginfo_t (POSIX <signal.h>) and the frame which the
// kernel pushes for a handler (signal(7)).
#ifndef LINUX_SIGNAL_H
#define LINUX_SIGNAL_H
#include <stdint.h>

struct linux_sigaction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

struct linux_sigaltstack {
  uint64_t sp;
  int32_t flags;
  uint32_t padding;
  uint64_t size;
};

// siginfo_t: the union behind the three leading words is 112 bytes, of which Linux defines the first 32.
struct linux_siginfo {
  int32_t signo;
  int32_t error;
  int32_t code;
  int32_t padding;
  uint64_t fields[4];
  uint64_t unused[10];
};

struct linux_sigcontext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t error_code, trap_number, old_mask, cr2;
  uint64_t fpstate;  // user address of the XSAVE image, or 0
  uint64_t reserved[8];
};

struct linux_ucontext {
  uint64_t flags;
  uint64_t link;
  struct linux_sigaltstack stack;
  struct linux_sigcontext context;
  uint64_t mask;
};

struct linux_rt_sigframe {
  uint64_t return_address;
  struct linux_ucontext ucontext;
  struct linux_siginfo info;
};

// The software-reserved bytes of the FXSAVE area (offset 464), by which programs find the extended state behind it.
struct linux_fpx_sw_bytes {
  uint32_t magic1;
  uint32_t extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size;
  uint32_t padding[7];
};

struct linux_signalfd_siginfo {
  uint32_t signo;
  int32_t error;
  int32_t code;
  uint32_t pid, uid;
  int32_t fd;
  uint32_t tid, band, overrun, trapno;
  int32_t status, integer;
  uint64_t pointer, user_time, system_time, address;
  uint16_t address_lsb, padding2;
  int32_t syscall;
  uint64_t call_address;
  uint32_t arch;
  uint8_t padding[28];
};

struct linux_sigevent {
  uint64_t value;
  int32_t signo;
  int32_t notify;
  int32_t tid;
  int32_t padding[11];
};
#endif
