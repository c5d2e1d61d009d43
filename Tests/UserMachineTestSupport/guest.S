// Guest programs for the tests of the user machine: position-independent code that the tests copy into guest memory.
// Each entry point is an offset from guest_start. Registers on entry are the test's.

#include <asm/unistd_64.h>

  .section .rodata.guest, "a", @progbits
  .balign 4096
  .globl guest_start
guest_start:

// System call 1000 for ever, with a count in rdi.
  .globl guest_syscall_loop
guest_syscall_loop:
  xor %edi, %edi
1:
  mov $1000, %eax
  syscall
  inc %rdi
  jmp 1b

// Spins, counting in rdi.
  .globl guest_spin
guest_spin:
  inc %rdi
  jmp guest_spin

// Reads the byte at rsi into rax, then calls.
  .globl guest_load
guest_load:
  movzbl (%rsi), %eax
  mov %rax, %rdi
  mov $1001, %eax
  syscall
  jmp guest_load

// Writes dil at rsi, then calls.
  .globl guest_store
guest_store:
  mov %dil, (%rsi)
  mov $1002, %eax
  syscall
  jmp guest_store

// Writes one byte to each page from rsi, rcx pages; then calls.
  .globl guest_touch
guest_touch:
  movb $1, (%rsi)
  add $4096, %rsi
  dec %rcx
  jnz guest_touch
  mov $1003, %eax
  syscall
  jmp guest_touch

// Puts rdi into all parts of the extended state that everyone has, calls, and shows them: xmm3 in rdi, ymm3's upper half
// in rsi, st(0) in rdx.
  .globl guest_extended
guest_extended:
  movq %rdi, %xmm3
  vpunpcklqdq %xmm3, %xmm3, %xmm3
  vinsertf128 $1, %xmm3, %ymm3, %ymm3
  push %rdi
  fildll (%rsp)
  pop %rdi
  mov $1004, %eax
  syscall
  .globl guest_extended_show
guest_extended_show:
  movq %xmm3, %rdi
  vextractf128 $1, %ymm3, %xmm4
  movq %xmm4, %rsi
  sub $8, %rsp
  fistpll (%rsp)
  pop %rdx
  mov $1005, %eax
  syscall
  ud2

// Sets the FS and GS bases to rdi and rsi, spins a moment and calls with what it reads.
  .globl guest_bases
guest_bases:
  wrfsbase %rdi
  wrgsbase %rsi
  mov $1006, %eax
  syscall
  .globl guest_bases_show
guest_bases_show:
  rdfsbase %rdi
  rdgsbase %rsi
  mov $1007, %eax
  syscall
  ud2

// Processor exceptions.
  .globl guest_divide
guest_divide:
  xor %ecx, %ecx
  div %ecx
  .globl guest_breakpoint
guest_breakpoint:
  int3
  .globl guest_undefined
guest_undefined:
  ud2
  .globl guest_protection
guest_protection:
  hlt

// Attacks. A system call with the registers of the test, and then one that nobody can mistake.
  .globl guest_call
guest_call:
  syscall
  mov %rax, %rdi
  mov $1008, %eax
  syscall
  ud2
  .globl guest_int80
guest_int80:
  int $0x80
  mov %rax, %rdi
  mov $1008, %eax
  syscall
  ud2
// Jumps to rbx with the registers of the test.
  .globl guest_jump
guest_jump:
  jmp *%rbx
// Jumps to the vsyscall page's gettimeofday.
  .globl guest_vsyscall
guest_vsyscall:
  sub $8, %rsp
  mov $0xffffffffff600000, %rax
  call *%rax
  mov %rax, %rdi
  mov $1008, %eax
  syscall
  ud2
// rt_sigreturn through the stub at rbx, with a frame at rsp that blocks all signals.
  .globl guest_return
guest_return:
  mov $__NR_rt_sigreturn, %eax
  jmp *%rbx
// Writes rdi over rcx quadwords from rsi, for ever.
  .globl guest_scribble
guest_scribble:
  mov %rsi, %r8
  mov %rcx, %r9
1:
  mov %rdi, (%r8)
  add $8, %r8
  dec %r9
  jnz 1b
  add $0x0101, %rdi
  jmp guest_scribble
// Writes rdi as a u32 at rsi for ever.
  .globl guest_forge
guest_forge:
  mov %edi, (%rsi)
  jmp guest_forge

// Calls the C function at rbx with the registers of the test, and shows its result in rdi.
  .globl guest_function
guest_function:
  call *%rbx
  movslq %eax, %rdi
  mov $1011, %eax
  syscall
  ud2
// Pretends the event edi in the report at rsi, and jumps into the stub at r15 with the registers of the test.
  .globl guest_squat
guest_squat:
  mov %edi, (%rsi)
  jmp *%r15
// Loads the selectors in rdi into DS and FS, calls, and shows them and MXCSR.
  .globl guest_selectors
guest_selectors:
  mov %edi, %ds
  mov %edi, %fs
  mov $1009, %eax
  syscall
  .globl guest_selectors_show
guest_selectors_show:
  xor %edi, %edi
  xor %esi, %esi
  mov %ds, %edi
  mov %fs, %esi
  mov $1010, %eax
  syscall
  ud2

  .globl guest_end
guest_end:

  .section .note.GNU-stack, "", @progbits
