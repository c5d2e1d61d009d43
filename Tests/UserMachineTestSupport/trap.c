// A piece of "kernel" whose exceptions must arrive in its own trap routine, on its own stack.

#include "guest.h"
#include "user_machine.h"

#include <setjmp.h>
#include <string.h>

static sigjmp_buf back;
static struct machine_trap_frame seen;
static volatile uintptr_t trap_stack;

__attribute__((noinline)) static void routine(struct machine_trap_frame *frame) {
  seen = *frame;
  trap_stack = (uintptr_t)__builtin_frame_address(0);
  siglongjmp(back, 1);
}

// The "image": one function.
__asm__(
    ".pushsection .text\n"
    "test_image_start:\n"
    "test_image_undefined: mov $0x5eed, %ebx; ud2\n"
    "test_image_load: mov (%rdi), %rax; ret\n"
    "test_image_end:\n"
    ".popsection\n");
extern const uint8_t test_image_start[], test_image_undefined[], test_image_load[], test_image_end[];

uint64_t trap_test(int load, uint64_t address, uint64_t *vector, uint64_t *fault, int64_t *stack_distance) {
  um_set_kernel((uint64_t)test_image_start, (uint64_t)test_image_end, routine);
  memset(&seen, 0, sizeof seen);
  const uint8_t *volatile code = load ? test_image_load : test_image_undefined;
  if (sigsetjmp(back, 1) == 0) ((void (*)(uint64_t))code)(address);
  um_set_kernel(0, 0, 0);
  *vector = seen.vector;
  *fault = seen.address;
  *stack_distance = (int64_t)(seen.registers.rsp - trap_stack);
  return seen.registers.rip == (uint64_t)code + (load ? 0 : 5) ? seen.registers.rbx : 0;
}
