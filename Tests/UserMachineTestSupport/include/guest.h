// The guest programs of guest.S.
#ifndef GUEST_H
#define GUEST_H
#include <stdint.h>
extern const uint8_t guest_start[], guest_end[];
enum guest_entry {
  GUEST_SYSCALL_LOOP, GUEST_SPIN, GUEST_LOAD, GUEST_STORE, GUEST_TOUCH, GUEST_EXTENDED, GUEST_EXTENDED_SHOW, GUEST_BASES,
  GUEST_BASES_SHOW, GUEST_DIVIDE, GUEST_BREAKPOINT, GUEST_UNDEFINED, GUEST_PROTECTION, GUEST_CALL, GUEST_INT80,
  GUEST_JUMP, GUEST_VSYSCALL, GUEST_RETURN, GUEST_SCRIBBLE, GUEST_FORGE, GUEST_SQUAT,
  GUEST_SELECTORS, GUEST_SELECTORS_SHOW, GUEST_FUNCTION,
};
// Offset of a program from the start.
uint64_t guest_offset(enum guest_entry entry);
// Copies the code.
void guest_copy(uint8_t *to);
// The code of the machine's stub, and the offset behind its rt_sigreturn.
const uint8_t *stub_code(void);
uint64_t stub_code_length(void);
uint64_t stub_return_site(void);
// The offset of the stub's futex wake, which falls into its poll and its sleep.
uint64_t stub_wake(void);
// The gate, from its last few entries on.
uint64_t gate_start(void);
uint64_t gate_end(void);
// Executes UD2 in a pretended kernel image (`load` 0), or reads `address` there; what its trap routine saw. Returns rbx.
uint64_t trap_test(int load, uint64_t address, uint64_t *vector, uint64_t *fault, int64_t *stack_distance);
#endif
