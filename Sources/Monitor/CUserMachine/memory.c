// Guest memory, and the stacks of kernel threads.

#include "internal.h"

#include <fcntl.h>
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
// A stack lies behind a guard page, and that behind a page with its size. Stacks that are given back wait in a list for
// the next thread: most have one size, and making one costs several faults.

struct stack_header {
  uint64_t size;
  struct stack_header *next;
};
#define STACK_PREFIX (2 * MACHINE_PAGE_SIZE)
#define STACKS_KEPT 64

static um_lock stack_lock;
static struct stack_header *kept;
static uint32_t kept_count;

static uint64_t make_stack(uint64_t size) {
  um_lock_take(&stack_lock);
  struct stack_header **place = &kept, *found = NULL;
  while (*place && (*place)->size != size) place = &(*place)->next;
  if (*place) {
    found = *place;
    *place = found->next;
    kept_count--;
  }
  um_lock_release(&stack_lock);
  if (!found) {
    found = mmap(NULL, STACK_PREFIX + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return 0;
    if (mprotect((uint8_t *)found + MACHINE_PAGE_SIZE, MACHINE_PAGE_SIZE, PROT_NONE) != 0) {
      munmap(found, STACK_PREFIX + size);
      return 0;
    }
    found->size = size;
  }
  return (uint64_t)found + STACK_PREFIX;
}

uint64_t um_thread_stack(uint64_t size, uint64_t old) {
  if (old) {
    struct stack_header *header = (struct stack_header *)(old - STACK_PREFIX);
    um_lock_take(&stack_lock);
    bool keep = kept_count < STACKS_KEPT;
    if (keep) {
      header->next = kept;
      kept = header;
      kept_count++;
    }
    um_lock_release(&stack_lock);
    if (!keep) munmap(header, STACK_PREFIX + header->size);
  }
  if (size == 0 || size > 1ull << 30) return 0;
  return make_stack((size + MACHINE_PAGE_SIZE - 1) & ~(uint64_t)(MACHINE_PAGE_SIZE - 1));
}
