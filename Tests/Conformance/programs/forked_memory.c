// Memory over fork: trees of processes that write, unmap, protect, move and give back parts of a large private mapping
// and fill a shared one, each with a model of what it must see. A kernel that shares page tables, or whole trees of them, over
// fork is found out by the first byte that one process sees of another's. The seed of the random steps is an argument.
#include "../conformance.h"
#include <sys/mman.h>

#define PAGE 4096UL
#define MOST_PAGES 3000UL    // of the private mapping: several page tables, more than is copied at once
#define SHARED_PAGES 2048UL  // of the shared one
#define RW (PROT_READ | PROT_WRITE)
#define SLOTS 16             // processes that write to the shared mapping, each to its own pages

enum { ABSENT = -1 };

// What the process must see: the first word of each private page, whether it may be written.
static struct {
  int32_t value[MOST_PAGES];
  uint8_t writable[MOST_PAGES];
} *model;
static size_t pages = MOST_PAGES;
static char *base;
static char *shared;
static uint64_t state;

static uint64_t next_random(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}
static uint64_t below(uint64_t bound) { return next_random() % bound; }

static volatile int32_t *word(size_t page) { return (volatile int32_t *)(base + page * PAGE); }

// The number of the first page that differs plus one; 0 when all agree.
static size_t difference(void) {
  for (size_t i = 0; i < pages; i++)
    if (model->value[i] != ABSENT && *word(i) != model->value[i]) return i + 1;
  return 0;
}

static void range(size_t *first, size_t *count) {
  *first = below(pages);
  size_t most = below(8) == 0 ? 1200 : 40;
  *count = 1 + below(most);
  if (*count > pages - *first) *count = pages - *first;
}

static bool step(void) {
  size_t first, count;
  range(&first, &count);
  char *at = base + first * PAGE;
  switch (below(12)) {
  case 0:
    if (munmap(at, count * PAGE)) return false;
    for (size_t i = first; i < first + count; i++) model->value[i] = ABSENT;
    return true;
  case 1:
    if (mmap(at, count * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) return false;
    for (size_t i = first; i < first + count; i++) model->value[i] = 0, model->writable[i] = 1;
    return true;
  case 2:
  case 3: {
    // Up to the first hole, as mprotect does; RW twice as often.
    int protection = below(3) ? RW : PROT_READ;
    bool whole = true;
    for (size_t i = first; i < first + count && whole; i++) whole = model->value[i] != ABSENT;
    if (!whole) return true;
    if (mprotect(at, count * PAGE, protection)) return false;
    for (size_t i = first; i < first + count; i++) model->writable[i] = protection == RW;
    return true;
  }
  case 4: {
    bool whole = true;
    for (size_t i = first; i < first + count && whole; i++) whole = model->value[i] != ABSENT;
    if (!whole) return true;
    if (madvise(at, count * PAGE, MADV_DONTNEED)) return false;
    for (size_t i = first; i < first + count; i++) model->value[i] = 0;
    return true;
  }
  case 5: {
    // One area, moved onto another place.
    if (count > 200) count = 200;
    for (size_t i = first; i < first + count; i++)
      if (model->value[i] == ABSENT || !model->writable[i]) return true;
    size_t target = below(pages - count);
    if (target < first + count && first < target + count) return true;
    // Pieces that mprotect or mmap left are separate areas: moved one page at a time, they are always one.
    for (size_t i = 0; i < count; i++) {
      char *to = base + (target + i) * PAGE;
      if (mremap(base + (first + i) * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) return false;
      model->value[target + i] = model->value[first + i];
      model->writable[target + i] = 1;
      model->value[first + i] = ABSENT;
    }
    return true;
  }
  default:
    for (size_t i = first; i < first + count; i++) {
      if (model->value[i] == ABSENT || !model->writable[i]) continue;
      if (below(4) == 0 && *word(i) != model->value[i]) return false;
      *word(i) = model->value[i] = (int32_t)(next_random() & 0x7fffffff);
    }
    return true;
  }
}

static int32_t shared_value(unsigned slot, size_t page) { return (int32_t)(slot * 100000 + page + 1); }

// 0, or where it went wrong.
static int live(int depth, unsigned slot, uint64_t seed) {
  state = seed * 0x9e3779b97f4a7c15 | 1;
  pid_t children[3];
  int count = 0;
  for (int i = 0; i < 60; i++) {
    if (!step()) return 10;
    if (i % 20 == 7 && depth > 0) {
      uint64_t child_seed = next_random();
      pid_t child = fork();
      if (child < 0) return 11;
      if (child == 0) _exit(live(depth - 1, (slot * 3 + (unsigned)count + 1) % SLOTS, child_seed));
      children[count++] = child;
    }
    if (i % 10 == 0 && difference()) return 12;
  }
  // Each process writes the pages of its slot: those with the same slot write the same.
  for (size_t page = slot; page < SHARED_PAGES; page += SLOTS)
    *(volatile int32_t *)(shared + page * PAGE) = shared_value(slot, page);
  if (difference()) return 13;
  int result = 0;
  for (int i = 0; i < count; i++) {
    int status = outcome(children[i]);
    if (status && !result) result = status;
    // What the child wrote to the shared mapping is here.
    unsigned wrote = (slot * 3 + (unsigned)i + 1) % SLOTS;
    for (size_t page = wrote; page < SHARED_PAGES; page += SLOTS)
      if (*(volatile int32_t *)(shared + page * PAGE) != shared_value(wrote, page) && !result) result = 14;
  }
  if (difference() && !result) return 15;
  return result;
}

static void random_trees(uint64_t seed) {
  section("trees of processes");
  model = mmap(NULL, sizeof *model, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base = mmap(NULL, pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  shared = mmap(NULL, SHARED_PAGES * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(model != MAP_FAILED && base != MAP_FAILED && shared != MAP_FAILED);
  for (size_t i = 0; i < pages; i++) *word(i) = model->value[i] = (int32_t)i, model->writable[i] = 1;
  for (int round = 0; round < 4; round++) {
    int result = outcome(CHILD(_exit(live(2, 0, seed + (uint64_t)round))));
    EQUAL(result, 0);
    EQUAL(difference(), 0);
  }
  OK(munmap(base, pages * PAGE));
  OK(munmap(shared, SHARED_PAGES * PAGE));
}

// A parent that goes on writing while children come and go, and a grandchild that outlives its parent.
static void generations(void) {
  section("generations");
  size_t size = 32 << 20;
  char *p = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  for (size_t i = 0; i < size; i += PAGE) p[i] = 1;
  int wrong = 0;
  for (int i = 0; i < 10; i++) {
    pid_t child = MUST(fork());
    if (child == 0) {
      for (size_t at = (size_t)i * PAGE; at < size; at += 64 * PAGE)
        if (p[at] != 1 && p[at] != 2) _exit(1);
      p[size / 2 + 100 * PAGE] = 99;
      _exit(p[size / 2 + 101 * PAGE] == 1 ? 0 : 2);
    }
    for (size_t at = (size_t)i * PAGE; at < size; at += 512 * PAGE) p[at] = 2;
    wrong += outcome(child) != 0;
  }
  EQUAL(wrong, 0);
  EQUAL(p[size / 2 + 100 * PAGE], 1);
  int ends[2];
  OK(pipe(ends));
  pid_t child = MUST(fork());
  if (child == 0) {
    p[0] = 3;
    if (fork() == 0) {
      char go;
      close(ends[1]);
      while (read(ends[0], &go, 1) > 0) {}  // until the parent has gone on
      _exit(0);
    }
    _exit(p[0] == 3 ? 0 : 1);
  }
  close(ends[0]);
  EQUAL(outcome(child), 0);
  for (size_t i = 0; i < size; i += PAGE) p[i] = 5;
  size_t sum = 0;
  for (size_t i = 0; i < size; i += PAGE) sum += p[i] == 5;
  EQUAL(sum, size / PAGE);
  close(ends[1]);
  OK(munmap(p, size));
}

// Shared memory that processes map for themselves, at different congruent places, and change the size of.
static void shared_segment(void) {
  section("a shared segment");
  size_t size = 8 << 20;
  int file = MUST(memfd_create("segment", 0));
  OK(ftruncate(file, (off_t)size));
  int wrong = 0;
  pid_t children[6];
  for (int i = 0; i < 6; i++) {
    children[i] = MUST(fork());
    if (children[i] == 0) {
      char *place = (char *)(0x600000000000 + (uintptr_t)i * (64 << 20));
      char *p = mmap(place, size, RW, MAP_SHARED | MAP_FIXED, file, 0);
      if (p != place) _exit(1);
      for (size_t at = (size_t)i * PAGE; at < size; at += 6 * PAGE) p[at] = (char)(i + 1);
      // A piece changes its rights, another one goes: nobody else may notice.
      if (mprotect(p + (2 << 20) + PAGE, 3 * PAGE, PROT_READ)) _exit(2);
      if (munmap(p + (4 << 20) + (size_t)i * PAGE, PAGE)) _exit(3);
      p[0] = p[0];
      _exit(0);
    }
  }
  for (int i = 0; i < 6; i++) wrong += outcome(children[i]) != 0;
  EQUAL(wrong, 0);
  char *p = mmap(NULL, size, RW, MAP_SHARED, file, 0);
  size_t right = 0;
  for (size_t page = 0; page < size / PAGE; page++) right += p[page * PAGE] == (char)(page % 6 + 1);
  EQUAL(right, size / PAGE);
  pid_t child = CHILD({
    OK(ftruncate(file, (off_t)size / 2));
    OK(ftruncate(file, (off_t)size));
    p[size - 1] = 7;
  });
  EQUAL(outcome(child), 0);
  EQUAL(p[size / 2 + PAGE], 0);
  EQUAL(p[size - 1], 7);
  EQUAL(p[PAGE], 2);
  OK(munmap(p, size));
  close(file);
}

int main(int argc, char **argv) {
  // A tree of processes is 13, each with pages of its own: in a small memory nothing but swapping would be tested.
  size_t part = (size_t)sysconf(_SC_PHYS_PAGES) / 6;
  if (pages > part) pages = part;
  random_trees(argc > 1 ? strtoull(argv[1], NULL, 10) : 20021128);
  generations();
  shared_segment();
  return conformance_end();
}
