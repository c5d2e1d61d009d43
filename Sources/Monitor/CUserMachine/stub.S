// The code that runs in user processes outside of guest programs. It is copied into the control memfd, and mapped
// read-execute at UM_CODE in the zygote and so in every user process.
//
// Three kinds of thread run it:
//   - the zygote and the mappers (one in each user process) run um_stub_loop: it takes commands from a ring that they
//     can only read. It has no stack and keeps its whole state in registers, because all other writable memory of a
//     user process belongs to guest code, which may change it at any time;
//   - user threads wait in um_stub_wait, and enter at um_stub_handler by a signal of the host.
// Guest code may jump to any instruction here, with any registers. That is harmless: it runs under the filter of user
// threads, which lets only the system calls at the three labels um_stub_site_… through.

#include <asm/unistd_64.h>
#include "layout.h"

  .section .rodata.um_stub, "a", @progbits
  .balign 4096
  .globl um_stub_start
um_stub_start:

// void boot(uint64_t keep): entered once, at a temporary address, by the process that becomes the zygote. Unmaps
// everything else (but UM_HOST_CLOCK when `keep` is not 0), maps the reserved region and becomes the loop. Descriptors
// are in their final places.
  .globl um_stub_boot
um_stub_boot:
  lea um_stub_start(%rip), %rbx
  mov %rdi, %r12
  mov $__NR_munmap, %eax              // [0, us)
  xor %edi, %edi
  mov %rbx, %rsi
  syscall
  test %rax, %rax
  jnz um_stub_die                     // a process with memory of the monitor must not live
  mov $__NR_munmap, %eax              // [behind us, end of user addresses) in two parts: the old stack too
  lea UM_PART(%rbx), %rdi
  movabs $UM_HOST_CLOCK, %rsi
  sub %rdi, %rsi
  syscall
  test %rax, %rax
  jnz um_stub_die
  mov $__NR_munmap, %eax
  movabs $(UM_HOST_CLOCK + UM_HOST_CLOCK_SIZE), %rdi
  movabs $(UM_TASK_END - UM_HOST_CLOCK - UM_HOST_CLOCK_SIZE), %rsi
  syscall
  test %rax, %rax
  jnz um_stub_die
  test %r12, %r12
  jnz 1f
  mov $__NR_munmap, %eax
  movabs $UM_HOST_CLOCK, %rdi
  mov $UM_HOST_CLOCK_SIZE, %esi
  syscall
  test %rax, %rax
  jnz um_stub_die
1:
  movabs $UM_CODE, %rdi
  mov $5, %edx                        // PROT_READ | PROT_EXEC
  mov $UM_CONTROL_CODE, %r9d
0:
  mov $UM_PART, %esi
  mov $0x11, %r10d                    // MAP_SHARED | MAP_FIXED
  mov $UM_FD_CONTROL, %r8d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne um_stub_die
  add $UM_PART, %rdi                  // code, constants, zygote ring follow one another in both maps
  add $UM_PART, %r9
  mov $1, %edx                        // PROT_READ
  movabs $(UM_ZYGOTE_RING + UM_PART), %rax
  cmp %rax, %rdi
  jne 0b
  movabs $UM_ZYGOTE_RING, %r12
  xor %r13d, %r13d
  xor %r14d, %r14d
  movabs $(UM_CODE + um_stub_loop - um_stub_start), %rax
  jmp *%rax

// The loop of zygote and mappers. r12 ring, r13d commands done, r14 first error since the last acknowledgement (as a
// positive number), r15 last result, rbx current entry.
  .balign 64
um_stub_loop:
  mov (%r12), %edx                    // commands published; the entries were written before (x86 keeps the order)
  cmp %r13d, %edx
  jne 1f
  mov $__NR_futex, %eax
  mov %r12, %rdi
  xor %esi, %esi                      // FUTEX_WAIT
  xor %r10d, %r10d
  syscall
  jmp um_stub_loop
1:
  mov %r13d, %eax
  and $(UM_RING_CAPACITY - 1), %eax
  shl $UM_ENTRY_SHIFT, %eax
  lea UM_RING_ENTRIES(%r12, %rax), %rbx
  inc %r13d
um_stub_load:
  mov UM_ENTRY_NUMBER(%rbx), %rax
  mov UM_ENTRY_ARGUMENTS(%rbx), %rdi
  mov UM_ENTRY_ARGUMENTS+8(%rbx), %rsi
  mov UM_ENTRY_ARGUMENTS+16(%rbx), %rdx
  mov UM_ENTRY_ARGUMENTS+24(%rbx), %r10
  mov UM_ENTRY_ARGUMENTS+32(%rbx), %r8
  mov UM_ENTRY_ARGUMENTS+40(%rbx), %r9
  cmp $UM_COMMAND_SPECIAL, %rax
  jae um_stub_special
  syscall
  mov %rax, %r15
  test %rax, %rax
  jns um_stub_loop
  // A mapping command failed, most likely by the host's limit of areas. The mappings are only a cache of the kernel's
  // page tables, so it is always right to drop more of them than asked for: a protect (which stops at a hole) becomes an
  // unmap of the same range, and an unmap or map that fails drops everything and tries again.
  mov UM_ENTRY_NUMBER(%rbx), %rcx
  cmp $__NR_mprotect, %rcx
  je 2f
  cmp $__NR_munmap, %rcx
  je 3f
  cmp $__NR_mmap, %rcx
  je 3f
  jmp um_stub_error
2:
  mov $__NR_munmap, %eax              // address and length are still in place
  syscall
  test %rax, %rax
  jns um_stub_loop
3:
  mov $__NR_munmap, %eax
  xor %edi, %edi
  movabs $UM_LIMIT, %rsi
  syscall
  test %rax, %rax
  js um_stub_error
  mov UM_ENTRY_NUMBER(%rbx), %rax
  cmp $__NR_mmap, %rax
  jne um_stub_loop
  mov UM_ENTRY_ARGUMENTS(%rbx), %rdi
  mov UM_ENTRY_ARGUMENTS+8(%rbx), %rsi
  mov UM_ENTRY_ARGUMENTS+16(%rbx), %rdx
  mov UM_ENTRY_ARGUMENTS+24(%rbx), %r10
  mov UM_ENTRY_ARGUMENTS+32(%rbx), %r8
  mov UM_ENTRY_ARGUMENTS+40(%rbx), %r9
  syscall
  test %rax, %rax
  jns um_stub_loop
um_stub_error:
  test %r14, %r14
  jnz um_stub_loop
  neg %rax
  mov %rax, %r14
  jmp um_stub_loop

um_stub_special:
  cmp $UM_COMMAND_ACKNOWLEDGE, %eax
  jne 1f
  mov %r14, %rcx
  xor %r14d, %r14d
  jmp um_stub_write
1:
  mov %r15, %rcx
  cmp $UM_COMMAND_REPORT_LOW, %eax
  je 2f
  shr $12, %rcx
  cmp $UM_COMMAND_REPORT_HIGH, %eax
  jne 3f
2:
  and $(UM_ACKNOWLEDGEMENT_COUNT - 1), %ecx
um_stub_write:
  // A value of a process goes out through its eventfd, from a table of all values: guest threads cannot write(2), and
  // could change any memory that we would have put it in.
  movabs $UM_ACKNOWLEDGEMENTS, %rsi
  lea (%rsi, %rcx, 8), %rsi
  mov $8, %edx
  mov $__NR_write, %eax
  syscall
  jmp um_stub_loop
3:
  cmp $UM_COMMAND_RESUME, %eax
  jne 5f
  mov %esi, UM_REPORT_RESUME(%rdi)    // the one store of a mapper: address and value come from the ring
  mov $1, %eax
  xchg %eax, UM_REPORT_AWAKE(%rdi)
  test %eax, %eax
  jnz um_stub_loop
  mov $__NR_futex, %eax
  add $UM_REPORT_AWAKE, %rdi
  mov $1, %esi                        // FUTEX_WAKE
  mov $1, %edx
  syscall
  jmp um_stub_loop
5:
  cmp $UM_COMMAND_PARENT, %eax
  jne 6f
  mov $__NR_getppid, %eax
  syscall
  cmp %edi, %eax
  je um_stub_loop
  jmp um_stub_die
6:
  mov UM_ENTRY_OPERAND(%rbx), %rbp
  mov %eax, %r15d
  mov $__NR_clone, %eax
  syscall
  test %rax, %rax
  jz 4f
  mov %rax, %r15
  js um_stub_error
  jmp um_stub_loop
4:
  cmp $UM_COMMAND_THREAD, %r15d
  je um_stub_thread
  mov %rbp, %r12                      // a new user process: its own ring, from the beginning
  xor %r13d, %r13d
  xor %r14d, %r14d
  jmp um_stub_loop

um_stub_die:
  mov $__NR_exit_group, %eax
  mov $1, %edi
  syscall
  ud2

// A new user thread; rbp: its parameters. All signals are blocked; the first rt_sigreturn unblocks them, and sets the
// alternate stack.
um_stub_thread:
  movabs $UM_STUB_FLAGS, %rax
  testl $UM_STUB_FLAG_UNFILTERED, (%rax)
  jnz 1f
  mov $__NR_seccomp, %eax
  mov $1, %edi                        // SECCOMP_SET_MODE_FILTER
  xor %esi, %esi
  movabs $UM_USER_FILTER, %rdx
  syscall
  test %rax, %rax
  jnz um_stub_die
1:
  mov %rbp, %r12
  movabs $UM_PARAMETERS, %rax         // our report has the number of our parameters
  mov %rbp, %rbx
  sub %rax, %rbx
  shl $(UM_REPORT_SHIFT - UM_PARAMETER_SHIFT), %rbx
  movabs $UM_REPORTS, %rax
  add %rax, %rbx
  xor %r9d, %r9d
  lea UM_REPORT_AWAKE(%rbx), %rdi
  jmp um_stub_sleep

// Entered by the host for every signal, on the alternate stack: rdi signal, rdx ucontext. All signals are blocked.
  .balign 64
  .globl um_stub_handler
um_stub_handler:
  mov %rsp, %rbx
  and $-UM_REPORT_SIZE, %rbx          // our report; its number is our number
  movabs $UM_REPORTS, %rax
  mov %rbx, %r12
  sub %rax, %r12
  shr $(UM_REPORT_SHIFT - UM_PARAMETER_SHIFT), %r12
  movabs $UM_PARAMETERS, %rax
  add %rax, %r12                      // our parameters
  rdfsbase %rax
  mov %rax, UM_REPORT_FS(%rbx)
  rdgsbase %rax
  mov %rax, UM_REPORT_GS(%rbx)
  mov %edi, UM_REPORT_SIGNAL(%rbx)
  mov %rdx, UM_REPORT_FRAME(%rbx)
  mov UM_REPORT_RESUME(%rbx), %r9d
  mov UM_PARAMETER_SPIN(%r12), %r14
  movl $1, UM_REPORT_AWAKE(%rbx)
  mov %r9d, %eax
  xchg %eax, UM_REPORT_EVENT(%rbx)    // published, behind a full fence: either we see that the kernel process sleeps,
  cmpl $0, UM_PARAMETER_ASLEEP(%r12)  // or it sees the event before it does
  je um_stub_poll
  .globl um_stub_wake
um_stub_wake:
  mov $__NR_futex, %eax
  lea UM_REPORT_EVENT(%rbx), %rdi
  mov $1, %esi                        // FUTEX_WAKE
  mov $1, %edx
  syscall
  .globl um_stub_site_wake
um_stub_site_wake:
  // On a shared CPU the kernel process has most often answered by now: it ran as soon as it was woken.
um_stub_poll:
  test %r14, %r14
  jz 3f
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  add %rax, %r14                      // when to give up
1:
  mov $64, %ecx                       // the clock costs as much as several looks
2:
  cmp %r9d, UM_REPORT_RESUME(%rbx)
  jne um_stub_continue
  pause
  dec %ecx
  jnz 2b
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  cmp %r14, %rax
  jb 1b
3:
  lea UM_REPORT_AWAKE(%rbx), %rdi

// Sleeps in the word at rdi, our report's `awake`, until `resume` is no longer r9d; then continues with the context
// that our parameters name. These two words lie where guest threads can change them, because the host finds a futex
// word faster there than in a read-only page: a guest can wake its own threads too early, and harm itself. What follows
// the system call depends on rdi and r9 only, which the host shows among the arguments of a sleeping thread: so a look
// from outside proves that a thread is at rest here (recycle.c).
um_stub_sleep:
  xor %eax, %eax
  xchg %eax, (%rdi)                   // full fence: either the kernel sees 0 and wakes us, or we see the new number
  cmp %r9d, UM_REPORT_RESUME-UM_REPORT_AWAKE(%rdi)
  jne 1f
  mov $__NR_futex, %eax
  xor %esi, %esi                      // FUTEX_WAIT
  xor %edx, %edx
  xor %r10d, %r10d
  syscall
  .globl um_stub_site_wait
um_stub_site_wait:
  jmp um_stub_sleep
1:
  mov %rdi, %r12
  and $-UM_REPORT_SIZE, %r12
  movabs $UM_REPORTS, %rax
  sub %rax, %r12
  shr $(UM_REPORT_SHIFT - UM_PARAMETER_SHIFT), %r12
  movabs $UM_PARAMETERS, %rax
  add %rax, %r12

um_stub_continue:
  xor %eax, %eax                      // selectors are in no frame, and a thread serves one program after another
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  mov UM_PARAMETER_FS(%r12), %rax
  wrfsbase %rax
  mov UM_PARAMETER_GS(%r12), %rax
  wrgsbase %rax
  mov UM_PARAMETER_FRAME(%r12), %rsp
  mov $__NR_rt_sigreturn, %eax
  syscall
  .globl um_stub_site_return
um_stub_site_return:
  ud2

  .balign 16
  .globl um_stub_end
um_stub_end:

  .section .note.GNU-stack, "", @progbits
