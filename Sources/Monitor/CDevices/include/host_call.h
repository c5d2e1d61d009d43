// System calls of the devices, without the C library between: a wrapper of the library may issue another call than its name
// says (renameat2 without flags is renameat, fchmodat is fchmodat2 with newer libraries), and the confinement knows calls by
// their numbers. All are issued by one instruction, so that the monitor's SIGSYS handler can tell a request of the guest that
// asks for too much, which fails with EPERM, from a call that the monitor should never make, which ends it.

#ifndef HOST_CALL_H
#define HOST_CALL_H

#include <stdint.h>

// Issues system call `number`; its result, or a negative error number.
int64_t host_call(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);

// Where host_call's system call returns to: what the host tells a SIGSYS handler as the place of the call.
extern const uint8_t host_call_return[];
static inline uint64_t host_call_place(void) { return (uint64_t)host_call_return; }

// The same for calls with fewer arguments, integers or pointers; those that a signal interrupts are made again.
#define HOST_ARGUMENT(x) ((int64_t)(x))
#define HOST_CALL6(number, a, b, c, d, e, f) \
  ({ \
    int64_t result_; \
    do \
      result_ = host_call(number, HOST_ARGUMENT(a), HOST_ARGUMENT(b), HOST_ARGUMENT(c), HOST_ARGUMENT(d), HOST_ARGUMENT(e), \
                          HOST_ARGUMENT(f)); \
    while (result_ == -4 /* EINTR */); \
    result_; \
  })
#define HOST_CALL1(number, a) HOST_CALL6(number, a, 0, 0, 0, 0, 0)
#define HOST_CALL2(number, a, b) HOST_CALL6(number, a, b, 0, 0, 0, 0)
#define HOST_CALL3(number, a, b, c) HOST_CALL6(number, a, b, c, 0, 0, 0)
#define HOST_CALL4(number, a, b, c, d) HOST_CALL6(number, a, b, c, d, 0, 0)
#define HOST_CALL5(number, a, b, c, d, e) HOST_CALL6(number, a, b, c, d, e, 0)

#endif
