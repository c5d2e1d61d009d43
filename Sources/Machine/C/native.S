// Code of the image that Swift and C cannot express: entry points, the stack switch, and the native routines of the VMI.
#if !defined(__linux__)

// struct machine_image_header, which the linker script puts at the very beginning of the image.
  .section .image_header, "ax", @progbits
  .balign 8
1:
  .quad 0x4547414d49555041   // MACHINE_IMAGE_MAGIC
  .quad 1                    // MACHINE_VERSION
  .quad _start - 1b
  .quad machine_cpu_entry - 1b
  .quad machine_kernel_trap - 1b

// void _start(const struct machine_boot_info *)
// The image's entry point, on a kernel stack of the boot CPU.
  .section .text._start, "ax", @progbits
  .globl _start
_start:
  xorl %ebp, %ebp            // the end of every backtrace
  andq $-16, %rsp
  call apus_boot
  ud2

// void machine_cpu_entry(uint64_t index)
// Where the other CPUs start, each on a kernel stack of its own.
  .section .text.machine_cpu_entry, "ax", @progbits
  .globl machine_cpu_entry
machine_cpu_entry:
  xorl %ebp, %ebp
  andq $-16, %rsp
  call apus_start_cpu
  ud2

// void machine_kernel_trap(struct machine_trap_frame *)
// A trap of kernel code. Entered by a jump, with the frame's address in rdi, on the interrupted stack.
  .section .text.machine_kernel_trap, "ax", @progbits
  .globl machine_kernel_trap
machine_kernel_trap:
  andq $-16, %rsp
  call apus_kernel_trap
  ud2

// void machine_switch_stack(uint64_t *from, uint64_t to)
  .section .text.machine_switch_stack, "ax", @progbits
  .globl machine_switch_stack
machine_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret

// uint64_t machine_prepare_stack(uint64_t top, void (*entry)(void *), void *argument)
// Lays out what machine_switch_stack pops: r12 = entry, r13 = argument, and the return to 1f.
  .section .text.machine_prepare_stack, "ax", @progbits
  .globl machine_prepare_stack
machine_prepare_stack:
  leaq -64(%rdi), %rax
  andq $-16, %rax
  movq $0, 0(%rax)           // r15
  movq $0, 8(%rax)           // r14
  movq %rdx, 16(%rax)        // r13
  movq %rsi, 24(%rax)        // r12
  movq $0, 32(%rax)          // rbx
  movq $0, 40(%rax)          // rbp: the end of every backtrace
  leaq 1f(%rip), %rcx
  movq %rcx, 48(%rax)
  ret
1:
  movq %r13, %rdi
  call *%r12
  ud2

// The native routines. No machine without a ROM is supported yet, so that a site which nobody patched stops the CPU at
// once instead of doing something else than what was asked.
  .macro absent name
  .globl machine_native_\name
machine_native_\name:
  .endm
  .section .text.machine_native, "ax", @progbits
  .irp name, clock_monotonic, clock_realtime, idle, cpu_start, cpu_kick, space_create, space_destroy, space_map, \
    space_unmap, space_protect, space_commit, user_create, user_destroy, user_run, user_xstate_read, \
    user_xstate_write, user_xstate_copy, device_queue, device_kick, console_write, random, power_off, memory_release, \
    interrupts_pending, thread_stack, text_seal, memory_enlarge, space_user, text_replace
  absent \name
  .endr
  ud2

  .globl machine_native_pause
machine_native_pause:
  pause
  ret
#endif

// Also for the host, where this file is otherwise empty: an object without it would make every stack executable.
  .section .note.GNU-stack, "", @progbits
