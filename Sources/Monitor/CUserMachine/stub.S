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

// r12: the parameters that belong to the report in rbx. Changes rax.
.macro find_parameters
  mov %rbx, %r12
  movabs $UM_REPORTS, %rax
  sub %rax, %r12
  shr $(UM_REPORT_SHIFT - UM_PARAMETER_SHIFT), %r12
  movabs $UM_PARAMETERS, %rax
  add %rax, %r12
.endm

  .section .rodata.um_stub, "a", @progbits
  .balign 4096
  .globl um_stub_start
um_stub_start:

#include "stub_boot.h"

// The loop of zygote and mappers. r12 ring, r13d commands done, r14 first error since the last acknowledgement (as a
// positive number), r15 result of the last clone, rbx current entry.
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
  test %rax, %rax
  jns um_stub_loop
  // A mapping command failed, most likely by the host's limit of areas. The mappings are only a cache of the kernel's
  // page tables, so it is always right to drop more of them than asked for: a protect (which stops at a hole) becomes an
  // unmap of the same range, and an unmap or map that fails drops everything and tries again.
  mov UM_ENTRY_NUMBER(%rbx), %rcx
  cmp $__NR_mprotect, %rcx
  jne 4f
  movabs $UM_LIMIT, %rax              // the reports are no cache: there the protection itself counts
  cmp %rax, %rdi
  jb 2f
  jmp 3f
4:
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
  mov $UM_USER_START, %edi
  movabs $(UM_LIMIT - UM_USER_START), %rsi
  syscall
  test %rax, %rax
  js um_stub_error
  mov UM_ENTRY_NUMBER(%rbx), %rax
  cmp $__NR_munmap, %rax
  je um_stub_loop
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

// The gate: code whose SYSCALL was replaced comes here by a jump, with rcx the address behind the replaced instruction.
// First an entry for each number, 16 bytes apart, for places where the `mov` of the number was replaced too.
// GS is our report as long as the program does not use it.
  .balign 64
  .globl um_gate_begin
um_gate_begin:
  .set number, 0
  .rept UM_GATE_ENTRIES
  mov $number, %eax
  .byte 0xe9
  .long um_gate_enter - . - 4
  .balign 16
  .set number, number + 1
  .endr

  .balign 64
  .globl um_gate_enter
um_gate_enter:
  rdgsbase %r11
  shr $24, %r11
  cmp $(UM_REPORTS >> 24), %r11
  jne um_gate_trap
  cmp $(UM_GATE_ENTRIES - 1), %eax
  ja um_gate_trap
  bt %eax, um_gate_trapping(%rip)
  jc um_gate_trap
  rdgsbase %r11
  mov %rax, UM_REPORT_SAVED(%r11)
  mov %rbx, UM_REPORT_SAVED+8(%r11)
  mov %rdx, UM_REPORT_SAVED+16(%r11)
  mov %rsi, UM_REPORT_SAVED+24(%r11)
  mov %rdi, UM_REPORT_SAVED+32(%r11)
  mov %rbp, UM_REPORT_SAVED+40(%r11)
  mov %rsp, UM_REPORT_SAVED+48(%r11)
  mov %r8, UM_REPORT_SAVED+56(%r11)
  mov %r9, UM_REPORT_SAVED+64(%r11)
  mov %r10, UM_REPORT_SAVED+72(%r11)
  mov %r12, UM_REPORT_SAVED+80(%r11)
  mov %r13, UM_REPORT_SAVED+88(%r11)
  mov %r14, UM_REPORT_SAVED+96(%r11)
  mov %r15, UM_REPORT_SAVED+104(%r11)
  mov %rcx, UM_REPORT_SAVED+112(%r11)
  mov %r11, %rbx
  lea UM_REPORT_SIZE-64(%rbx), %rsp
  pushfq
  popq UM_REPORT_SAVED+120(%rbx)
  rdfsbase %rax
  mov %rax, UM_REPORT_FS(%rbx)
  mov %rbx, UM_REPORT_GS(%rbx)
  movabs $UM_XSTATE_FEATURES, %rdx
  mov (%rdx), %eax
  mov 4(%rdx), %edx
  xsave64 UM_BUILT_EXTENDED(%rbx)
  find_parameters
  movl $UM_REPORT_CALL, UM_REPORT_SIGNAL(%rbx)
  jmp um_stub_publish

// Calls that must leave all registers in a signal frame, and programs that use GS: the kernel knows the trap's place.
um_gate_trap:
  int3
  .globl um_gate_trapped
um_gate_trapped:
  ud2
  .balign 8
  .globl um_gate_trapping
um_gate_trapping:                     // a bit for each number: exit, clone and the like, see um_gate_serves
#define SLOW(number) (1 << ((number) & 31))
  .long SLOW(__NR_rt_sigreturn)
  .long SLOW(__NR_clone) | SLOW(__NR_fork) | SLOW(__NR_vfork) | SLOW(__NR_execve) | SLOW(__NR_exit)
  .rept 5
  .long 0
  .endr
  .long SLOW(__NR_exit_group)
  .long 0, 0
  .long SLOW(__NR_execveat)
  .long 0, 0
  .long SLOW(__NR_clone3)
  .long 0, 0

// The preemption signal met code of the gate, whose registers are no program's: it takes notice and goes on. On the way
// back to the program it starts that path over, where the notice is seen.
um_stub_preempted:
  mov UM_CONTEXT_RIP(%rdx), %rax
  movabs $(UM_CODE + um_gate_begin - um_stub_start), %rcx
  sub %rcx, %rax
  cmp $(um_gate_end - um_gate_begin), %rax
  jae um_stub_signal
  mov %rsp, %rbx
  and $-UM_REPORT_SIZE, %rbx
  movl $1, UM_REPORT_DEFERRED(%rbx)
  cmp $(um_stub_continue - um_gate_begin), %rax
  jb 1f
  find_parameters
  mov %rbx, UM_CONTEXT_RBX(%rdx)
  mov %r12, UM_CONTEXT_R12(%rdx)
  movabs $(UM_CODE + um_stub_continue - um_stub_start), %rax
  mov %rax, UM_CONTEXT_RIP(%rdx)
1:
  mov %rdx, %rsp
  jmp um_stub_return

// Entered by the host for every signal, on the alternate stack: rdi signal, rdx ucontext. All signals are blocked.
  .balign 64
  .globl um_stub_handler
um_stub_handler:
  cmp $UM_PREEMPT_SIGNAL, %edi
  je um_stub_preempted
um_stub_signal:
  mov %rsp, %rbx
  and $-UM_REPORT_SIZE, %rbx          // our report; its number is our number
  find_parameters                     // ours
  rdfsbase %rax
  mov %rax, UM_REPORT_FS(%rbx)
  rdgsbase %rax
  mov %rax, UM_REPORT_GS(%rbx)
  mov %edi, UM_REPORT_SIGNAL(%rbx)
  mov %rdx, UM_REPORT_FRAME(%rbx)

// Tells the kernel process, and waits until it resumes us. rbx: our report, r12: our parameters.
  .globl um_stub_publish
um_stub_publish:
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
  mov %rdi, %rbx
  and $-UM_REPORT_SIZE, %rbx
  find_parameters

um_stub_continue:
  cmpl $0, UM_REPORT_DEFERRED(%rbx)
  jne um_stub_again
  mov UM_PARAMETER_FRAME(%r12), %rsp
  test %rsp, %rsp
  jz um_gate_return
  test $UM_FRAME_END, %spl
  jnz um_stub_exit
  xor %eax, %eax                      // selectors are in no frame, and a thread serves one program after another
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  mov UM_PARAMETER_FS(%r12), %rax
  wrfsbase %rax
  mov UM_PARAMETER_GS(%r12), %rax
  wrgsbase %rax
um_stub_return:
  mov $__NR_rt_sigreturn, %eax
  syscall
  .globl um_stub_site_return
um_stub_site_return:
  ud2

// The kernel process has no use for this thread any more (host_threads.c).
um_stub_exit:
  mov $__NR_exit, %eax
  xor %edi, %edi
  syscall
  .globl um_stub_site_exit
um_stub_site_exit:
  ud2

um_stub_again:
  movl $UM_REPORT_AGAIN, UM_REPORT_SIGNAL(%rbx)
  jmp um_stub_publish

// Back to the program behind the SYSCALL that it did not execute: all registers as they were, but the result.
um_gate_return:
  mov UM_PARAMETER_RESULT(%r12), %rax
  mov UM_REPORT_SAVED+16(%rbx), %rdx
  mov UM_REPORT_SAVED+24(%rbx), %rsi
  mov UM_REPORT_SAVED+32(%rbx), %rdi
  mov UM_REPORT_SAVED+40(%rbx), %rbp
  mov UM_REPORT_SAVED+48(%rbx), %rsp
  mov UM_REPORT_SAVED+56(%rbx), %r8
  mov UM_REPORT_SAVED+64(%rbx), %r9
  mov UM_REPORT_SAVED+72(%rbx), %r10
  mov UM_REPORT_SAVED+80(%rbx), %r12
  mov UM_REPORT_SAVED+88(%rbx), %r13
  mov UM_REPORT_SAVED+96(%rbx), %r14
  mov UM_REPORT_SAVED+104(%rbx), %r15
  mov UM_REPORT_SAVED+112(%rbx), %rcx
  mov UM_REPORT_SAVED+120(%rbx), %r11
  mov UM_REPORT_SAVED+8(%rbx), %rbx
  jmp *%rcx
  .globl um_gate_end
um_gate_end:

  .balign 16
  .globl um_stub_end
um_stub_end:

  .section .note.GNU-stack, "", @progbits
