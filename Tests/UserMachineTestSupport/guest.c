#include "guest.h"

#include <string.h>

#define PROGRAMS(X)                                                                                                 \
  X(syscall_loop) X(spin) X(load) X(store) X(touch) X(extended) X(extended_show) X(bases) X(bases_show) X(divide)   \
  X(breakpoint) X(undefined) X(protection) X(call) X(int80) X(jump) X(vsyscall) X(return) X(scribble) X(forge)   \
  X(squat) X(selectors) X(selectors_show) X(function)

#define X(name) extern const uint8_t guest_##name[];
PROGRAMS(X)
#undef X

uint64_t guest_offset(enum guest_entry entry) {
#define X(name) guest_##name,
  static const uint8_t *const programs[] = {PROGRAMS(X)};
#undef X
  return (uint64_t)(programs[entry] - guest_start);
}

void guest_copy(uint8_t *to) { memcpy(to, guest_start, (uint64_t)(guest_end - guest_start)); }

// The machine's own code, which attackers jump into.
extern const uint8_t um_stub_start[], um_stub_end[], um_stub_site_return[], um_stub_wake[];
const uint8_t *stub_code(void) { return um_stub_start; }
uint64_t stub_code_length(void) { return (uint64_t)(um_stub_end - um_stub_start); }
uint64_t stub_return_site(void) { return (uint64_t)(um_stub_site_return - um_stub_start); }
uint64_t stub_wake(void) { return (uint64_t)(um_stub_wake - um_stub_start); }
extern const uint8_t um_gate_begin[], um_gate_end[];
uint64_t gate_start(void) { return (uint64_t)(um_gate_begin - um_stub_start) + 16 * 508; }
uint64_t gate_end(void) { return (uint64_t)(um_gate_end - um_stub_start); }
