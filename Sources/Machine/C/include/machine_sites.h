// Patchable call sites: the kernel's side of the VMI in the image. Included by machine.h only.
//
// A site is `call machine_native_NAME`, five bytes, recorded in the section machine_sites. The arguments are where the
// System V ABI puts them and the result is in rax, so a ROM routine is an ordinary function (which must switch to the
// host stack by itself and may not assume an aligned stack); inlined bytes may use the same registers.

#include <stdint.h>

#define MACHINE_SITE(name)                                       \
  "771: call machine_native_" #name "\n"                         \
  "772: .pushsection machine_sites,\"a\",@progbits\n"            \
  ".balign 4\n"                                                  \
  "773: .long 771b - 773b\n"                                     \
  ".short %c[op], 772b - 771b\n"                                 \
  ".popsection\n"

#define MACHINE_INLINE static inline __attribute__((always_inline))

#define MACHINE_ASM(name, inputs...)                                                                 \
  register uint64_t r8 __asm__("r8") = a4;                                                           \
  register uint64_t r9 __asm__("r9") = a5;                                                           \
  uint64_t result;                                                                                   \
  __asm__ volatile(MACHINE_SITE(name)                                                                \
                   : "=a"(result), "+D"(a0), "+S"(a1), "+d"(a2), "+c"(a3), "+r"(r8), "+r"(r9)        \
                   : [op] "i"(MACHINE_OP_##name)                                                     \
                   : "r10", "r11", "cc", "memory");

#define MACHINE_BODY(type, name, v0, v1, v2, v3, v4, v5)                                             \
  uint64_t a0 = (uint64_t)(v0), a1 = (uint64_t)(v1), a2 = (uint64_t)(v2), a3 = (uint64_t)(v3),       \
           a4 = (uint64_t)(v4), a5 = (uint64_t)(v5);                                                 \
  MACHINE_ASM(name)                                                                                  \
  return (type)result;

#define MACHINE_OPERATION0(type, name) \
  MACHINE_INLINE type machine_##name(void) { MACHINE_BODY(type, name, 0, 0, 0, 0, 0, 0) }
#define MACHINE_OPERATION1(type, name, t0, n0) \
  MACHINE_INLINE type machine_##name(t0 n0) { MACHINE_BODY(type, name, n0, 0, 0, 0, 0, 0) }
#define MACHINE_OPERATION2(type, name, t0, n0, t1, n1) \
  MACHINE_INLINE type machine_##name(t0 n0, t1 n1) { MACHINE_BODY(type, name, n0, n1, 0, 0, 0, 0) }
#define MACHINE_OPERATION3(type, name, t0, n0, t1, n1, t2, n2) \
  MACHINE_INLINE type machine_##name(t0 n0, t1 n1, t2 n2) { MACHINE_BODY(type, name, n0, n1, n2, 0, 0, 0) }
#define MACHINE_OPERATION4(type, name, t0, n0, t1, n1, t2, n2, t3, n3) \
  MACHINE_INLINE type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3) { MACHINE_BODY(type, name, n0, n1, n2, n3, 0, 0) }
#define MACHINE_OPERATION5(type, name, t0, n0, t1, n1, t2, n2, t3, n3, t4, n4)               \
  MACHINE_INLINE type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3, t4 n4) {                    \
    MACHINE_BODY(type, name, n0, n1, n2, n3, n4, 0)                                          \
  }
#define MACHINE_OPERATION6(type, name, t0, n0, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5)       \
  MACHINE_INLINE type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3, t4 n4, t5 n5) {             \
    MACHINE_BODY(type, name, n0, n1, n2, n3, n4, n5)                                         \
  }

// The CPU that the caller runs on: valid until the caller's thread switches.
MACHINE_INLINE struct machine_cpu *machine_this_cpu(void) {
  struct machine_cpu *cpu;
  __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
  return cpu;
}
