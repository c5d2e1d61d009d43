// The user machine as a guest sees it: the stub's code, the reports, and how to forge there what the stub would write.
#ifndef STUB_H
#define STUB_H

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"

// The reserved region.
#define PARAMETERS(slot) (UM_PARAMETERS + ((uint64_t)(slot) << UM_PARAMETER_SHIFT))
#define REPORT(slot) (UM_REPORTS + ((uint64_t)(slot) << UM_REPORT_SHIFT))
#define U64(address) (*(volatile uint64_t *)(uint64_t)(address))
#define U32(address) (*(volatile uint32_t *)(uint64_t)(address))

// The stub's SYSCALL instructions, in the order of their addresses.
static uint64_t stub_sites[64];
static int stub_site_count;
static inline void find_stub_sites(void) {
  const uint8_t *code = (const uint8_t *)UM_CODE;
  stub_site_count = 0;
  for (int i = 0; i < UM_PART - 1 && stub_site_count < 64; i++)
    if (code[i] == 0x0f && code[i + 1] == 0x05) stub_sites[stub_site_count++] = UM_CODE + i;
}

// The four that guest threads can reach: wake the kernel process, wait for a resumption, return from a signal, end the thread.
enum { STUB_WAKE, STUB_WAIT, STUB_RETURN, STUB_EXIT };
static inline uint64_t stub_site(int which) {
  if (stub_site_count == 0) find_stub_sites();
  if (stub_site_count < 4) _exit(98);
  return stub_sites[stub_site_count - 4 + which];
}

// Offsets in the host's ucontext that layout.h does not name.
enum {
  CONTEXT_FLAGS = 0, CONTEXT_RSP = 160, CONTEXT_EFLAGS = 176, CONTEXT_SEGMENTS = 184, CONTEXT_EXTENDED = 224, CONTEXT_MASK = 296,
};

// The report of the calling thread: the gate keeps its address in the host's GS base.
static inline uint64_t own_report(void) {
  uint64_t report;
  __asm__ volatile("rdgsbase %0" : "=r"(report));
  return report;
}
static inline uint64_t report_slot(uint64_t report) { return (report - UM_REPORTS) >> UM_REPORT_SHIFT; }

// A fault leaves a frame in the parameters, the one to go on with; a preemption before it is read takes it away again.
static inline uint64_t frame_of_fault(uint64_t report) {
  for (;;) {
    char *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)fresh = 1;
    uint64_t frame = U64(PARAMETERS(report_slot(report)) + UM_PARAMETER_FRAME);
    if (frame != 0) return frame;
  }
}

// Writes into a report what the gate would for a system call.
static inline void forge_call(uint64_t report, uint64_t number, uint64_t first, uint64_t second, uint64_t third) {
  uint64_t *saved = (uint64_t *)(report + UM_REPORT_SAVED);
  memset(saved, 0, 128);
  saved[0] = number, saved[4] = first, saved[3] = second, saved[2] = third;
  saved[14] = 0x400000, saved[15] = 0x202;
  U32(report + UM_REPORT_SIGNAL) = UM_REPORT_CALL;
  U64(report + UM_REPORT_FS) = 0;
  U64(report + UM_REPORT_GS) = report;
}

// Publishes the forged event, wakes the kernel process and does not sleep itself: it continues at once with the frame that its
// parameters name, in whatever state that frame is.
__attribute__((noreturn)) static inline void publish_and_continue(uint64_t report) {
  uint32_t resumption = U32(report + UM_REPORT_RESUME);
  uint64_t entry = stub_site(STUB_WAKE) - 18;
  U32(report + UM_REPORT_EVENT) = resumption;
  __asm__ volatile("mov %0, %%rbx; mov %1, %%r9d; xor %%r14d, %%r14d; jmp *%2" ::"r"(report), "r"(resumption + 1), "r"(entry)
                   : "rbx", "r9", "r14", "memory");
  __builtin_unreachable();
}

#endif
