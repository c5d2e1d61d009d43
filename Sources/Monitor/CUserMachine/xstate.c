// Extended state: x87, SSE, AVX and further registers of a user thread, in the standard format of XSAVE (Intel SDM
// volume 1, chapter 13).
//
// While a thread is stopped its state lies in its signal frame, with Linux's trailer: the software-reserved bytes of the
// legacy area tell size and features, and a magic word ends the area. The host checks it when it loads it; what a guest
// thread has damaged there costs it its own life.

#include "internal.h"

#include <cpuid.h>
#include <string.h>

#define LEGACY_SIZE 512
#define HEADER_SIZE 64
#define SOFTWARE_BYTES 464       // struct _fpx_sw_bytes
#define MXCSR 24
#define MXCSR_MASK 28
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u
#define ARCH_GET_XCOMP_PERM 0x1022
#define FEATURE_X87 1ull
#define FEATURE_SSE 2ull
#define FEATURE_AVX 4ull
#define INITIAL_CONTROL_WORD 0x37f
#define INITIAL_MXCSR 0x1f80u

struct software_bytes {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t xstate_size, padding[7];
};

void um_xstate_discover(void) {
  uint32_t a, b, c, d, low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  uint64_t features = (uint64_t)high << 32 | low, permitted = 0;
  // Features such as AMX are in XCR0 but out of reach of processes that have not asked for them.
  if (um_call2(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &permitted) == 0) features &= permitted;
  um.xstate_features = features;
  um.xstate_size = LEGACY_SIZE + HEADER_SIZE;
  for (uint32_t i = 2; i < 63; i++) {
    if (!(features >> i & 1)) continue;
    __cpuid_count(0xd, i, a, b, c, d);
    um.xstate_offset[i] = b;
    um.xstate_length[i] = a;
    if ((uint64_t)a + b > um.xstate_size) um.xstate_size = (uint64_t)a + b;
  }
  uint8_t area[LEGACY_SIZE] __attribute__((aligned(64))) = {0};
  __asm__ volatile("fxsave64 %0" : "=m"(area));
  memcpy(&um.mxcsr_mask, area + MXCSR_MASK, 4);
  if (um.mxcsr_mask == 0) um.mxcsr_mask = 0xffbf;  // SDM: the mask of processors that do not tell it
}

uint64_t um_xstate_size(void) { return um.xstate_size; }

static void initial(uint8_t *area) {
  memset(area, 0, um.xstate_size);
  uint16_t control = INITIAL_CONTROL_WORD;
  uint32_t mxcsr = INITIAL_MXCSR;
  memcpy(area, &control, 2);
  memcpy(area + MXCSR, &mxcsr, 4);
}

// XSAVE leaves the bytes of a component in its initial state unwritten: puts the initial state there. Also takes away
// the host's software bytes.
static void complete(uint8_t *area) {
  uint64_t present;
  memcpy(&present, area + LEGACY_SIZE, 8);
  present &= um.xstate_features;
  memset(area + SOFTWARE_BYTES, 0, LEGACY_SIZE - SOFTWARE_BYTES);
  memset(area + LEGACY_SIZE, 0, HEADER_SIZE);
  if (!(present & FEATURE_X87)) {
    uint16_t control = INITIAL_CONTROL_WORD;
    memset(area, 0, MXCSR);
    memcpy(area, &control, 2);
    memset(area + 32, 0, 128);
  }
  if (!(present & (FEATURE_SSE | FEATURE_AVX))) {
    uint32_t mxcsr = INITIAL_MXCSR;
    memcpy(area + MXCSR, &mxcsr, 4);
  }
  if (!(present & FEATURE_SSE)) memset(area + 160, 0, 256);
  for (uint32_t i = 2; i < 63; i++)
    if (um.xstate_length[i] && !(present >> i & 1)) memset(area + um.xstate_offset[i], 0, um.xstate_length[i]);
  memcpy(area + LEGACY_SIZE, &present, 8);
}

static bool valid(const uint8_t *area) {
  uint64_t header[HEADER_SIZE / 8];
  uint32_t mxcsr;
  memcpy(header, area + LEGACY_SIZE, HEADER_SIZE);
  memcpy(&mxcsr, area + MXCSR, 4);
  if (header[0] & ~um.xstate_features) return false;
  // XRSTOR checks XCOMP_BV and the word behind it, no others (Intel SDM 1, 13.8.1).
  if (header[1] || header[2]) return false;
  return (mxcsr & ~um.mxcsr_mask) == 0;
}

// The area in a stopped thread's frame, or NULL when the frame names none (the initial state), or none that lies in the
// thread's own report.
static uint8_t *area_of(struct um_thread *thread, uint32_t index, uint32_t slot) {
  if (thread->frame == 0) return NULL;
  uint64_t start = um_report_address(slot);
  uint8_t *report = (uint8_t *)um_thread_report(index, slot);
  struct um_context *context = (struct um_context *)(report + (thread->frame - start));
  uint64_t address = *(volatile uint64_t *)&context->extended;
  if (address & 63 || address < start + UM_BUILT_EXTENDED || address > start + UM_REPORT_SIZE - um.xstate_size - 4) return NULL;
  return report + (address - start);
}

// What tells the host that an area holds extended state.
static void seal(uint8_t *area) {
  struct software_bytes software = {MAGIC1, (uint32_t)um.xstate_size + 4, um.xstate_features, (uint32_t)um.xstate_size, {0}};
  uint32_t magic2 = MAGIC2;
  memcpy(area + SOFTWARE_BYTES, &software, sizeof software);
  memcpy(area + um.xstate_size, &magic2, 4);
}

void um_xstate_seal(struct um_thread *thread, uint32_t index, uint32_t slot) {
  uint8_t *area = area_of(thread, index, slot);
  if (!area) return;
  // XSAVE writes the first word of the header only.
  memset(area + LEGACY_SIZE + 8, 0, HEADER_SIZE - 8);
  seal(area);
}

int64_t um_user_xstate_read(int64_t user, void *buffer, uint64_t size) {
  uint32_t index, slot;
  struct um_thread *thread = um_thread_find(user, &index, &slot);
  if (!thread) return -EBADF;
  if (size < um.xstate_size) return -EINVAL;
  const uint8_t *area = area_of(thread, index, slot);
  if (!area) {
    initial(buffer);
    return 0;
  }
  memcpy(buffer, area, um.xstate_size);
  complete(buffer);
  return 0;
}

int64_t um_user_xstate_write(int64_t user, const void *buffer, uint64_t size) {
  uint32_t index, slot;
  struct um_thread *thread = um_thread_find(user, &index, &slot);
  if (!thread) return -EBADF;
  if (size < um.xstate_size || !valid(buffer)) return -EINVAL;
  uint8_t *area = area_of(thread, index, slot);
  uint64_t start = um_report_address(slot);
  if (!area) {
    // A thread that has no area gets the one below its signal stack.
    uint8_t *report = (uint8_t *)um_thread_report(index, slot);
    if (thread->frame == 0) thread->frame = start + UM_BUILT_FRAME;
    struct um_context *context = (struct um_context *)(report + (thread->frame - start));
    context->extended = start + UM_BUILT_EXTENDED;
    area = report + UM_BUILT_EXTENDED;
  }
  memcpy(area, buffer, um.xstate_size);
  seal(area);
  thread->in_gate = 0;  // what is in its registers is no longer its state
  return 0;
}

int64_t um_user_xstate_copy(int64_t from, int64_t to) {
  if (!um_this_cpu) return -EPERM;
  int64_t result = um_user_xstate_read(from, um_this_cpu->scratch, um.xstate_size);
  // What a guest thread has damaged in its own frame gives the child the initial state.
  if (result == 0 && !valid(um_this_cpu->scratch)) initial(um_this_cpu->scratch);
  return result < 0 ? result : um_user_xstate_write(to, um_this_cpu->scratch, um.xstate_size);
}
