// void monitor_enter_kernel(struct machine_cpu *cpu, uint64_t entry, uint64_t argument, uint64_t stack_top)
  .text
  .globl monitor_enter_kernel
  .type monitor_enter_kernel, @function
monitor_enter_kernel:
  andq $-16, %rsp
  movq %rsp, 16(%rdi)        // machine_cpu.host_stack
  wrgsbase %rdi
  movq %rcx, %rsp
  xorl %ebp, %ebp
  movq %rdx, %rdi
  pushq $0                   // as after a call
  jmp *%rsi
  .section .note.GNU-stack, "", @progbits
