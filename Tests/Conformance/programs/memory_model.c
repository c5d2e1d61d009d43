// Several processes, related by fork, each of which does to its memory whatever comes to mind: map, unmap, move, protect, lock,
// give back, page out, write, fork, exit. What each must find is written down in a flat model, which all processes can read; so
// anyone can look into anyone else's memory (process_vm_readv) and write there (process_vm_writev), and compare. One shared mapping has
// a model of its own.
//
//     memory_model [SEED [STEPS [PAGES]]]     STEPS of all processes together, PAGES of the private arena of each
//
// With more pages than there is memory, and swap, the same must hold (Scripts/command-line-test.sh).
#include "../conformance.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define SLOTS 6              // processes at a time
#define SHARED_PAGES 700UL   // of the shared mapping: more than a page table
#define FILE_PAGES 64UL      // of the file that is mapped privately
#define MOST_PAGES 16384UL
#define ARENA ((char *)0x200000000000)

enum { ABSENT, ANONYMOUS, FILE_PAGE };

// A page of a process, as it must be.
struct page {
  int32_t value;
  uint8_t kind, readable, writable, index;
};

// A process: its lock is held while its memory and model may differ.
struct slot {
  pthread_mutex_t lock;
  pid_t process;  // 0: free
  struct page pages[MOST_PAGES];
};

// What all processes have in common.
static struct {
  pthread_mutex_t table;   // who has which slot
  pthread_mutex_t shared;  // the shared mapping and its model
  int32_t shared_value[SHARED_PAGES];
  int64_t steps_left;
  int failed_at;           // a line of this file
  long details[4];
  struct slot slots[SLOTS];
} *all;

static struct slot *self;
static char *shared;
static size_t pages = 1500;
static int file;
static uint64_t state;

static uint64_t below(uint64_t bound) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % bound;
}

static void fail(int at, long a, long b, long c, long d) {
  if (__sync_bool_compare_and_swap(&all->failed_at, 0, at)) {
    long details[4] = {a, b, c, d};
    memcpy(all->details, details, sizeof details);
  }
}
#define FAIL(a, b, c, d) fail(__LINE__, (long)(a), (long)(b), (long)(c), (long)(d))

// An owner that died with the lock has died of something else than its end.
static void take(pthread_mutex_t *lock) {
  if (pthread_mutex_lock(lock) == EOWNERDEAD) {
    pthread_mutex_consistent(lock);
    FAIL(0, 0, 0, 0);
  }
}
static void let_go(pthread_mutex_t *lock) { pthread_mutex_unlock(lock); }

static int32_t file_value(size_t index) { return (int32_t)(1000000 + index); }
static int32_t fresh_value(const struct page *page) {
  return page->kind == FILE_PAGE ? file_value(page->index) : 0;
}
static volatile int32_t *word(size_t page) { return (volatile int32_t *)(ARENA + page * PAGE); }

static void range(size_t *first, size_t *count) {
  *first = below(pages);
  size_t most = below(16) == 0 ? 800 : 30;
  *count = 1 + below(most);
  if (*count > pages - *first) *count = pages - *first;
}

static bool is_whole(size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++)
    if (self->pages[i].kind == ABSENT) return false;
  return true;
}

// Compares pages of this process by looking at them.
static void look(size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++) {
    struct page *page = &self->pages[i];
    if (page->kind != ABSENT && page->readable && *word(i) != page->value) FAIL(i, *word(i), page->value, page->kind);
  }
}

static void map(size_t first, size_t count) {
  bool is_file = below(4) == 0;
  if (is_file && count > FILE_PAGES) count = FILE_PAGES;
  size_t index = is_file ? below(FILE_PAGES - count + 1) : 0;
  int flags = MAP_PRIVATE | MAP_FIXED | (is_file ? 0 : MAP_ANONYMOUS) | (below(5) == 0 ? MAP_POPULATE : 0);
  int protection = below(4) == 0 ? PROT_READ : RW;
  char *at = ARENA + first * PAGE;
  if (mmap(at, count * PAGE, protection, flags, is_file ? file : -1, (off_t)(index * PAGE)) != at)
    return FAIL(first, count, errno, is_file);
  for (size_t i = 0; i < count; i++) {
    struct page *page = &self->pages[first + i];
    *page = (struct page){.kind = is_file ? FILE_PAGE : ANONYMOUS, .readable = 1, .writable = protection == RW,
                          .index = (uint8_t)(index + i)};
    page->value = fresh_value(page);
  }
}

static void unmap(size_t first, size_t count) {
  if (munmap(ARENA + first * PAGE, count * PAGE)) return FAIL(first, count, errno, 0);
  for (size_t i = first; i < first + count; i++) self->pages[i].kind = ABSENT;
}

static void protect(size_t first, size_t count) {
  if (!is_whole(first, count)) return;
  int protection = below(6) == 0 ? PROT_NONE : below(3) == 0 ? PROT_READ : RW;
  if (mprotect(ARENA + first * PAGE, count * PAGE, protection)) return FAIL(first, count, errno, protection);
  for (size_t i = first; i < first + count; i++)
    self->pages[i].readable = protection != PROT_NONE, self->pages[i].writable = protection == RW;
}

static void give_back(size_t first, size_t count) {
  if (!is_whole(first, count)) return;
  if (madvise(ARENA + first * PAGE, count * PAGE, MADV_DONTNEED)) {
    // What is locked cannot be given back; what comes before it has been.
    if (errno != EINVAL) return FAIL(first, count, errno, 0);
    if (munlock(ARENA + first * PAGE, count * PAGE)) return FAIL(first, count, errno, 1);
    if (madvise(ARENA + first * PAGE, count * PAGE, MADV_DONTNEED)) return FAIL(first, count, errno, 2);
  }
  for (size_t i = first; i < first + count; i++) self->pages[i].value = fresh_value(&self->pages[i]);
}

// Advice and locks that no contents depend on. They may be refused.
static void hint(size_t first, size_t count) {
  static const int advice[] = {MADV_PAGEOUT, MADV_COLD, MADV_WILLNEED, MADV_RANDOM, MADV_NORMAL, MADV_POPULATE_READ,
                               MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE};
  char *at = ARENA + first * PAGE;
  switch (below(4)) {
  case 0: mlock(at, (count > 16 ? 16 : count) * PAGE); break;
  case 1: munlock(at, count * PAGE); break;
  default: madvise(at, count * PAGE, advice[below(sizeof advice / sizeof *advice)]);
  }
}

// Moves pages one by one: neighbours may be parts of different mappings, and mremap moves parts of one only.
static void move(size_t first, size_t count) {
  if (count > 60) count = 60;
  if (!is_whole(first, count) || pages <= count) return;
  size_t target = below(pages - count);
  if (target < first + count && first < target + count) return;
  for (size_t i = 0; i < count; i++) {
    char *to = ARENA + (target + i) * PAGE;
    if (mremap(ARENA + (first + i) * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
      return FAIL(first + i, target + i, errno, 0);
    self->pages[target + i] = self->pages[first + i];
    self->pages[first + i].kind = ABSENT;
  }
}

static void write_pages(size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++) {
    struct page *page = &self->pages[i];
    if (page->kind == ABSENT || !page->writable) continue;
    if (*word(i) != page->value) FAIL(i, *word(i), page->value, page->kind);
    *word(i) = page->value = (int32_t)below(INT32_MAX);
  }
}

// Reads or writes a few words of somebody's memory.
static void visit(void) {
  struct slot *other = &all->slots[below(SLOTS)];
  take(&other->lock);
  for (int i = 0; i < 6 && other->process; i++) {
    size_t at = below(pages);
    struct page *page = &other->pages[at];
    int32_t value = (int32_t)below(INT32_MAX);
    struct iovec here = {&value, sizeof value}, there = {ARENA + at * PAGE, sizeof value};
    bool writes = below(3) == 0;
    ssize_t done = writes ? process_vm_writev(other->process, &here, 1, &there, 1, 0)
                          : process_vm_readv(other->process, &here, 1, &there, 1, 0);
    bool is_possible = page->kind != ABSENT && (writes ? page->writable : page->readable);
    if (is_possible ? done != sizeof value : done != -1 || errno != EFAULT) {
      FAIL(at, done, errno, is_possible);
    } else if (is_possible && writes) {
      page->value = value;
    } else if (is_possible && value != page->value) {
      FAIL(at, value, page->value, page->kind);
    }
  }
  let_go(&other->lock);
}

static void use_shared(void) {
  size_t first = below(SHARED_PAGES), count = 1 + below(60);
  if (count > SHARED_PAGES - first) count = SHARED_PAGES - first;
  take(&all->shared);
  int kind = (int)below(8);
  if (kind == 0) madvise(shared + first * PAGE, count * PAGE, below(2) ? MADV_DONTNEED : MADV_PAGEOUT);
  if (kind == 1 && mprotect(shared + first * PAGE, count * PAGE, PROT_READ)) FAIL(first, count, errno, 0);
  for (size_t i = first; i < first + count; i++) {
    volatile int32_t *at = (volatile int32_t *)(shared + i * PAGE);
    if (*at != all->shared_value[i]) FAIL(i, *at, all->shared_value[i], kind);
    if (kind > 1) *at = all->shared_value[i] = (int32_t)below(INT32_MAX);
  }
  if (kind == 1 && mprotect(shared + first * PAGE, count * PAGE, RW)) FAIL(first, count, errno, 1);
  let_go(&all->shared);
}

static void live(void);

static void multiply(void) {
  take(&all->table);
  struct slot *child = NULL;
  for (int i = 0; i < SLOTS && !child; i++)
    if (!all->slots[i].process) child = &all->slots[i];
  if (child) {
    take(&child->lock);
    take(&self->lock);
    memcpy(child->pages, self->pages, pages * sizeof *self->pages);
    uint64_t seed = below(UINT64_MAX) | 1;
    pid_t process = fork();
    if (process == 0) {
      self = child;
      state = seed;
      live();
    }
    if (process < 0) {
      FAIL(errno, 0, 0, 0);
    } else {
      child->process = process;
    }
    let_go(&self->lock);
    let_go(&child->lock);
  }
  let_go(&all->table);
}

static void step(void) {
  size_t first, count;
  range(&first, &count);
  int kind = (int)below(40);
  if (kind == 0) return multiply();
  if (kind < 4) return visit();
  if (kind < 8) return use_shared();
  take(&self->lock);
  switch (kind) {
  case 8 ... 11: map(first, count); break;
  case 12 ... 13: unmap(first, count); break;
  case 14 ... 17: protect(first, count); break;
  case 18 ... 19: give_back(first, count); break;
  case 20 ... 21: hint(first, count); break;
  case 22 ... 23: move(first, count); break;
  case 24 ... 28: look(first, count); break;
  default: write_pages(first, count);
  }
  let_go(&self->lock);
}

// Children end by themselves, and not otherwise.
static void collect(int options) {
  int status;
  for (pid_t child; (child = waitpid(-1, &status, options)) > 0;)
    if (status) FAIL(child, status, 0, 0);
}

// Until there are no steps left, or for a while. The first process stays.
static void live(void) {
  bool is_first = self == &all->slots[0];
  size_t left = is_first ? SIZE_MAX : 20 + below(400);
  while (left-- > 0 && !all->failed_at && __sync_fetch_and_sub(&all->steps_left, 1) > 0) {
    step();
    if (is_first) collect(WNOHANG);
  }
  take(&self->lock);
  look(0, pages);
  if (!is_first) self->process = 0;
  let_go(&self->lock);
  if (!is_first) _exit(0);
}

static void make_lock(pthread_mutex_t *lock) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(lock, &attributes);
}

int main(int argc, char **argv) {
  uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20021128;
  int64_t steps = argc > 2 ? atoll(argv[2]) : 6000;
  if (argc > 3) pages = strtoull(argv[3], NULL, 10);
  if (pages > MOST_PAGES) pages = MOST_PAGES;
  section("processes and a flat model of their memory");
  alarm(600);
  all = mmap(NULL, sizeof *all, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  shared = mmap(NULL, SHARED_PAGES * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(all != MAP_FAILED && shared != MAP_FAILED);
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
  file = MUST(memfd_create("file", 0));
  for (size_t i = 0; i < FILE_PAGES; i++) {
    int32_t value = file_value(i);
    MUST(pwrite(file, &value, sizeof value, (off_t)(i * PAGE)));
  }
  OK(ftruncate(file, (off_t)(FILE_PAGES * PAGE)));
  make_lock(&all->table);
  make_lock(&all->shared);
  for (int i = 0; i < SLOTS; i++) make_lock(&all->slots[i].lock);
  self = &all->slots[0];
  self->process = getpid();
  all->steps_left = steps;
  state = seed * 0x9e3779b97f4a7c15 | 1;
  if (mmap(ARENA, pages * PAGE, RW, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) != ARENA) FAIL(errno, 0, 0, 0);
  for (size_t i = 0; i < pages; i++) self->pages[i] = (struct page){.kind = ANONYMOUS, .readable = 1, .writable = 1};
  write_pages(0, pages);
  live();
  collect(0);
  if (all->failed_at)
    line("seed %llu: line %d: %ld %ld %ld %ld", (unsigned long long)seed, all->failed_at, all->details[0],
         all->details[1], all->details[2], all->details[3]);
  EQUAL(all->failed_at, 0);
  for (int i = 1; i < SLOTS; i++) EQUAL(all->slots[i].process, 0);
  return conformance_end();
}
