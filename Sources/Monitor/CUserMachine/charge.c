// What the mappings of user processes cost the host, and the bound on it.
//
// The host's kernel keeps page tables and a description of each area for every user process. A program can make it keep
// much more of that than it has memory: one page shown at a thousand places, tables of the kernel that a hundred
// children share. All of it is a cache of the kernel's page tables, so it is bounded like one: each command that maps
// something is charged with what it can cost at most, and when all together cost more than the limit, the process with
// the largest charge loses all its mappings and starts from nothing. A process below SPACE_MINIMUM is left alone: what one
// instruction needs must fit.
//
// A charge is an upper bound: unmapping takes nothing off.

#include "internal.h"

#define AREA_COST 256           // bytes of a vm_area_struct with its place in the tree
#define TABLE_COST 4096
#define TABLE_SHIFT 21          // a last-level table describes 2 MiB
#define DIRECTORY_SHIFT 30
#define SPACE_MINIMUM 0x80000   // bytes
#define MANY_TABLES 64

void um_charge_start(void) {
  um.mapping_limit = um.config.mapping_limit ? um.config.mapping_limit : um.config.memory_size / 8 + UM_MAPPING_BASE;
}

// Whether the table of a region is known to have been charged; it is from now on.
static bool is_known(struct um_space *space, uint64_t region, uint64_t shift) {
  uint64_t key = (region << 8 | shift) * 0x9e3779b97f4a7c15u >> 32;
  uint32_t *place = &space->charged_tables[key % UM_CHARGED_TABLES];
  if (*place == (uint32_t)key) return true;
  *place = (uint32_t)key;
  return false;
}

static uint64_t cost(struct um_space *space, uint64_t address, uint64_t length) {
  uint64_t first = address >> TABLE_SHIFT, last = (address + length - 1) >> TABLE_SHIFT, sum = AREA_COST;
  if (last - first >= MANY_TABLES) return sum + (last - first + 3) * TABLE_COST;
  for (uint64_t region = first; region <= last; region++) {
    if (is_known(space, region, TABLE_SHIFT)) continue;
    sum += TABLE_COST;
    // A table of a new directory: that, and perhaps the one above.
    if (!is_known(space, region >> (DIRECTORY_SHIFT - TABLE_SHIFT), DIRECTORY_SHIFT)) sum += 2 * TABLE_COST;
  }
  return sum;
}

void um_charge_forget(struct um_space *space) {
  atomic_fetch_sub(&um.mapping_cost, atomic_exchange(&space->mapping_cost, 0));
  __builtin_memset(space->charged_tables, 0, sizeof space->charged_tables);
}

// Takes all mappings away. Under the space lock.
static void drop(struct um_space *space) {
  struct um_entry entry = {SYS_munmap, {UM_USER_START, UM_LIMIT - UM_USER_START}, 0};
  um_charge_forget(space);
  um_ring_change((uint32_t)(space - um.spaces), &entry);
  um.spaces_dropped++;
}

// The space is about to be given a mapping. Under its lock.
void um_charge(struct um_space *space, uint64_t address, uint64_t length) {
  uint64_t more = cost(space, address, length);
  atomic_fetch_add(&space->mapping_cost, more);
  if (atomic_fetch_add(&um.mapping_cost, more) + more <= um.mapping_limit) return;
  struct um_space *largest = space;
  uint32_t limit = atomic_load(&um.space_limit);
  for (uint32_t i = 0; i < limit; i++)
    if (atomic_load(&um.spaces[i].mapping_cost) > atomic_load(&largest->mapping_cost)) largest = &um.spaces[i];
  if (atomic_load(&largest->mapping_cost) <= SPACE_MINIMUM) return;
  if (largest != space && um_lock_try(&largest->lock)) {
    // It may have been destroyed meanwhile: then there is nothing to take.
    if (atomic_load(&largest->state) == UM_SPACE_USED && !atomic_load(&largest->dead)) {
      drop(largest);
      // No thread waits for this work, which may take many milliseconds: the watch has to know of it.
      atomic_store(&largest->dropped, __builtin_ia32_rdtsc());
      atomic_store(&largest->touched, 1);
      um_ring_publish((uint32_t)(largest - um.spaces));
    }
    um_lock_release(&largest->lock);
    return;
  }
  // The other one is at work, and will be looked at again; this one gives its share meanwhile.
  if (atomic_load(&space->mapping_cost) > SPACE_MINIMUM) drop(space);
}
