// Code in which SYSCALL instructions have been replaced, so that calls come through the gate and not by a trap.
//
// The copies of pages lie behind guest memory in its file, and are shown to user processes in place of the pages: the
// kernel's page tables, and all that the kernel reads for a program, know of none. A copy is never changed once it is
// shown, because other processes may be executing it: one more replacement makes one more copy. Copies are not given
// back, since nobody knows where they are mapped; when there is no room for more, calls trap.
//
// Copies belong to an owner, the identity of the programs that asked for them, and are shown to programs of that owner only:
// what one user has replaced is in no program of another. An owner has at most OWNER_COPIES, so that none can use up
// what there is. Within an owner's programs patch.c decides what is replaced, by the bytes of the page alone.
//
// A copy belongs to the contents of a page. The page may be changed or be used for something else later: so it is
// compared with what it was each time before the copy is shown.

#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define COPIES (UM_TEXT_SIZE / MACHINE_PAGE_SIZE)
#define OWNER_COPIES (COPIES / 8)
#define OWNERS 64       // owners that can have copies
#define HITS 16         // traps in one page of a space before it is worth the price of a copy
#define MOST_HITS 4096  // the same when it has been asked for often

extern const uint8_t um_gate_trapping[];

static struct {
  um_lock lock;
  uint32_t count;
  uint8_t *originals;             // of each copy, the page as it was
  uint64_t physical[COPIES];      // of each copy, the page's address; 1: out of use
  uint8_t owner[COPIES];          // of each copy, the place of its owner
  struct { uint64_t identity; uint32_t count; } owners[OWNERS];  // identity 0: free
  uint32_t newest[COPIES];        // by the page's number: 1 + its newest copy, or that of another page
  uint32_t next[COPIES];          // of each copy: 1 + an older one
} text;

bool um_text_start(void) {
  memset(&text, 0, sizeof text);
  text.originals = mmap(NULL, UM_TEXT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (text.originals != MAP_FAILED) return true;
  text.originals = NULL;
  return false;
}

void um_text_stop(void) {
  if (text.originals) munmap(text.originals, UM_TEXT_SIZE);
  text.originals = NULL;
}

bool um_gate_serves(uint32_t number) {
  return number < UM_GATE_ENTRIES - 1 && !(um_gate_trapping[number / 8] >> (number % 8) & 1);
}

// Traps are counted for each page of a space. A page in which nothing can be replaced is looked at less and less often.
bool um_text_is_hot(struct um_cpu *cpu, int64_t space, uint64_t address) {
  uint64_t key = (uint64_t)space << 40 ^ address / MACHINE_PAGE_SIZE;
  uint32_t place = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 56) % UM_HOT_PAGES;
  if (cpu->hot_pages[place].key != key) {
    cpu->hot_pages[place].key = key;
    cpu->hot_pages[place].count = 0;
    cpu->hot_pages[place].limit = HITS;
  }
  if (++cpu->hot_pages[place].count < cpu->hot_pages[place].limit) return false;
  cpu->hot_pages[place].count = 0;
  if (cpu->hot_pages[place].limit < MOST_HITS) cpu->hot_pages[place].limit *= 2;
  cpu->hot_site = address;
  cpu->hot_place = place;
  return true;
}

static uint8_t *copy_at(uint32_t i) { return um.memory + um.config.memory_size + (uint64_t)i * MACHINE_PAGE_SIZE; }
static uint8_t *original_at(uint32_t i) { return text.originals + (uint64_t)i * MACHINE_PAGE_SIZE; }

static uint64_t bucket(uint64_t physical) { return physical / MACHINE_PAGE_SIZE % COPIES; }

// The place of an owner; OWNERS when it has none, and there is none left or `make` is false. Under the lock.
static uint32_t place_of(uint64_t owner, bool make) {
  for (uint32_t i = 0; i < OWNERS; i++) {
    if (text.owners[i].identity == owner) return i;
    if (text.owners[i].identity != 0) continue;
    if (!make) return OWNERS;
    text.owners[i].identity = owner;
    return i;
  }
  return OWNERS;
}

// The owner's newest copy of the page, when that still is what it was. Under the lock.
static int64_t current(uint32_t owner, uint64_t physical) {
  for (uint32_t i = text.newest[bucket(physical)]; i-- != 0; i = text.next[i]) {
    if (text.physical[i] != physical || text.owner[i] != owner) continue;
    if (memcmp(original_at(i), um.memory + physical, MACHINE_PAGE_SIZE) == 0) return i;
    text.physical[i] = 1;
  }
  return -1;
}

uint64_t um_text_find(uint64_t owner, uint64_t physical) {
  um_lock_take(&text.lock);
  uint32_t place = place_of(owner, false);
  int64_t found = place < OWNERS ? current(place, physical) : -1;
  um_lock_release(&text.lock);
  return found < 0 ? physical : um.config.memory_size + (uint64_t)found * MACHINE_PAGE_SIZE;
}

bool um_text_patch(struct um_cpu *cpu, uint64_t owner, uint64_t physical, uint64_t offset) {
  um_lock_take(&text.lock);
  bool done = false;
  uint32_t place = place_of(owner, true);
  int64_t old = place < OWNERS ? current(place, physical) : -1;
  if (place < OWNERS && text.count < COPIES && text.owners[place].count < OWNER_COPIES) {
    uint32_t new = text.count;
    // The page may change under our hands: the copy is made of what was read once.
    memcpy(original_at(new), old < 0 ? um.memory + physical : original_at((uint32_t)old), MACHINE_PAGE_SIZE);
    memcpy(copy_at(new), old < 0 ? original_at(new) : copy_at((uint32_t)old), MACHINE_PAGE_SIZE);
    done = um_patch_page(original_at(new), copy_at(new), (uint32_t)offset);
    if (done) {
      if (old >= 0) text.physical[old] = 1;
      text.physical[new] = physical;
      text.owner[new] = (uint8_t)place;
      text.owners[place].count++;
      text.next[new] = text.newest[bucket(physical)];
      text.newest[bucket(physical)] = text.count = new + 1;
      um.sites_replaced++;
    }
  }
  um_lock_release(&text.lock);
  // What was worth it once is worth the next replacement sooner.
  if (done) cpu->hot_pages[cpu->hot_place].limit = HITS / 4;
  // Another program may have had it replaced already: then all that is missing is the mapping.
  return done || old >= 0;
}
