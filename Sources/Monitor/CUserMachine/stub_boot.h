// The first part of the stub (stub.S): how a fork of the monitor becomes the zygote. Assembly.

// void boot(uint64_t keep, uint64_t start, uint64_t stub): entered once, at a temporary address, by the process that
// becomes the zygote. Unmaps everything else from `start` on (but UM_HOST_CLOCK when `keep` is not 0), maps the reserved
// region, code and constants from the descriptor `stub`, which it closes, and becomes the loop under its filter. The other
// descriptors are in their final places.
  .globl um_stub_boot
um_stub_boot:
  lea um_stub_start(%rip), %rbx
  mov %rdi, %r12
  mov %edx, %r13d
  mov $__NR_munmap, %eax              // [start, us)
  mov %rsi, %rdi
  mov %rbx, %rsi
  sub %rdi, %rsi
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
  mov $0x12, %r10d                    // MAP_PRIVATE | MAP_FIXED: old hosts share no sealed file
  mov %r13d, %r8d
  mov $UM_STUB_CODE, %r9d
0:
  mov $UM_PART, %esi
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne um_stub_die
  mov $1, %edx                        // PROT_READ
  add $UM_PART, %rdi                  // code, constants, zygote ring follow one another
  mov $UM_STUB_CONSTANTS, %r9d
  movabs $UM_CONSTANTS, %rax
  cmp %rax, %rdi
  je 0b
  mov $0x11, %r10d                    // MAP_SHARED | MAP_FIXED
  mov $UM_FD_CONTROL, %r8d
  mov $UM_CONTROL_ZYGOTE_RING, %r9d
  movabs $UM_ZYGOTE_RING, %rax
  cmp %rax, %rdi
  je 0b
  mov $__NR_close, %eax
  mov %r13d, %edi
  syscall
  mov $__NR_munmap, %eax              // what is left below the limit: us, at the temporary address
  mov %rbx, %rdi
  mov $UM_PART, %esi
  movabs $(UM_CODE + um_stub_become - um_stub_start), %rcx
  jmp *%rcx
um_stub_become:
  syscall
  test %rax, %rax
  jnz um_stub_die
  movabs $UM_STUB_FLAGS, %rax
  testl $UM_STUB_FLAG_UNFILTERED, (%rax)
  jnz 1f
  mov $__NR_seccomp, %eax
  mov $1, %edi                        // SECCOMP_SET_MODE_FILTER
  xor %esi, %esi
  movabs $UM_ZYGOTE_FILTER, %rdx
  syscall
  test %rax, %rax
  jnz um_stub_die
1:
  movabs $UM_ZYGOTE_RING, %r12
  xor %r13d, %r13d
  xor %r14d, %r14d
  jmp um_stub_loop
