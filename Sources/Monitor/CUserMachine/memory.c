// Guest memory, and the stacks of kernel threads.

#include "internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

uint8_t *um_memory_base(void) { return um.memory; }

int64_t um_memory_release(uint64_t physical, uint64_t length) {
  if ((physical | length) & (MACHINE_PAGE_SIZE - 1) || physical > um.config.memory_size ||
      length > um.config.memory_size - physical)
    return -EINVAL;
  if (length == 0) return 0;
  for (uint64_t page = physical / UM_LARGE_PAGE; page <= (physical + length - 1) / UM_LARGE_PAGE; page++)
    atomic_store_explicit(&um.enlarged[page], 0, memory_order_relaxed);
  int64_t result = um_call4(SYS_fallocate, um.memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, physical, length);
  return result < 0 ? result : 1;
}

// The host gives memory files pages of 4 KiB unless its administrator says otherwise, but it joins them on request
// (MADV_COLLAPSE, Linux 6.1): 0.25 ms for a page of 2 MiB, where 512 faults cost more than 1 ms. All that later happens to
// the range as a whole, a write-protection at fork above all, costs a hundredth.
#define COLLAPSE 25  // MADV_COLLAPSE, which older headers lack

// Some hosts do not have the memory at hand: they are virtual machines that have given large free blocks back, and get
// them again page by page, 8 ms for an extent, while small pages are found among scraps. So after an extent that took
// more of the processor than its faults would have taken, the next ones stay in small pages.
#define DEAR_NS 1000000
#define SPARED 31
static _Atomic int32_t spared;

static uint64_t thread_time(void) {
  struct timespec used = {0};
  um_call2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &used);
  return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

int64_t um_memory_enlarge(uint64_t physical, uint64_t length) {
  if ((physical | length) & (UM_LARGE_PAGE - 1) || physical > um.config.memory_size ||
      length > um.config.memory_size - physical)
    return -EINVAL;
  int64_t made = 0;
  for (uint64_t end = physical + length; physical < end; physical += UM_LARGE_PAGE) {
    _Atomic uint8_t *enlarged = &um.enlarged[physical / UM_LARGE_PAGE];
    if (atomic_load_explicit(enlarged, memory_order_relaxed)) {
      made++;
      continue;
    }
    if (atomic_load_explicit(&spared, memory_order_relaxed) > 0) {
      atomic_fetch_sub_explicit(&spared, 1, memory_order_relaxed);
      break;
    }
    uint64_t begin = thread_time();
    // The host has nothing to join in an extent without any page. A look at a shared page makes it; the compiler would
    // leave out an addition of nothing.
    (void)*(volatile uint8_t *)(um.memory + physical);
    if (um_call3(SYS_madvise, (uint64_t)(uintptr_t)um.memory + physical, UM_LARGE_PAGE, COLLAPSE) != 0) break;
    atomic_store_explicit(enlarged, 1, memory_order_relaxed);
    if (thread_time() - begin > DEAR_NS) atomic_store_explicit(&spared, SPARED, memory_order_relaxed);
    made++;
  }
  return made;
}

// MARK: Stacks
//
// Stacks of kernel threads are guest memory, so that they are charged to it. Each block of their size has its place in a
// range of addresses, behind a guard of the same size, where it is mapped a second time while it is a stack.

#define STACK_STRIDE (2 * MACHINE_STACK_SIZE)

uint64_t um_stacks_size(uint64_t memory_size) { return memory_size / MACHINE_STACK_SIZE * STACK_STRIDE; }
static uint64_t stack_range_size(void) { return um_stacks_size(um.config.memory_size); }

bool um_stacks_reserve(void) {
  void *range = mmap(NULL, stack_range_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  um.stacks = range == MAP_FAILED ? NULL : range;
  return um.stacks;
}

void um_stacks_release(void) {
  if (um.stacks) munmap(um.stacks, stack_range_size());
}

uint64_t um_thread_stack(uint64_t physical, uint64_t old) {
  if (old) {
    uint8_t *stack = (uint8_t *)old;
    if (mmap(stack, MACHINE_STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != stack)
      abort();  // the frames would be used again while they can be reached as a stack
    return (uint64_t)(stack - um.stacks) / STACK_STRIDE * MACHINE_STACK_SIZE;
  }
  if (physical % MACHINE_STACK_SIZE || physical / MACHINE_STACK_SIZE >= um.config.memory_size / MACHINE_STACK_SIZE) return 0;
  uint8_t *stack = um.stacks + physical / MACHINE_STACK_SIZE * STACK_STRIDE + MACHINE_STACK_SIZE;
  void *made = mmap(stack, MACHINE_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, um.memory_fd, (off_t)physical);
  return made == stack ? (uint64_t)stack : 0;
}

uint64_t um_first_stack(uint64_t size) {
  uint8_t *range = mmap(NULL, MACHINE_PAGE_SIZE + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED || mprotect(range, MACHINE_PAGE_SIZE, PROT_NONE) != 0) return 0;
  return (uint64_t)range + MACHINE_PAGE_SIZE;
}
