// Address spaces: commands to the mapper of a user process.
//
// The mappings of a user process are a TLB over the kernel's page tables, so dropping one is always allowed and a map
// need not be acknowledged: the user thread that waits for it is woken by the mapper itself, behind the map in the same
// ring. Unmaps and protects are certain only when um_space_commit has seen the acknowledgement. Neighbouring commands
// are merged while they wait in the ring.

#include "internal.h"

#include <sys/mman.h>

#define COMMAND_RESERVE 4  // entries kept free for acknowledgements and wake-ups
// Writable mappings up to this size, and larger ones that are going to be written to, have the host's page-table entries filled at
// once, which saves a fault of the host for each page: 1.4 us, against 0.3. Read faults the host answers for 16 pages at a time,
// cheaper than it fills.
#define POPULATE_LIMIT 0x10000ull

static uint32_t waiter(void) { return um_this_cpu ? (uint32_t)um_this_cpu->index : um.config.cpu_count; }

// Pins the host thread `thread` to `host_cpu`. A hand-over between two host CPUs costs ten times one that stays.
void um_place(int32_t *placed, int32_t thread, int32_t host_cpu) {
  if (*placed == host_cpu || host_cpu < 0) return;
  uint64_t mask[16] = {0};
  if (host_cpu >= 1024) return;
  mask[host_cpu / 64] = 1ull << (host_cpu % 64);
  um_call3(SYS_sched_setaffinity, thread, sizeof mask, mask);
  *placed = host_cpu;
}

// MARK: The ring. Under the space lock.

void um_ring_publish(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  struct um_ring *ring = um_space_ring(index);
  if (um_this_cpu)
    um_place(&space->mapper_cpu, atomic_load_explicit(&space->process, memory_order_relaxed), um_this_cpu->host_cpu);
  um.commands += space->queued - space->published;
  space->published = space->queued;
  atomic_store(&ring->published, space->queued);
  um_futex_wake(&ring->published, 1);
}

static void put(struct um_space *space, struct um_ring *ring, const struct um_entry *entry) {
  ring->entries[space->queued % UM_RING_CAPACITY] = *entry;
  space->queued++;
}

// Publishes everything with `command`, one of the UM_COMMANDs that answer, behind it, and waits for the answer.
int64_t um_ring_acknowledge(uint32_t index, uint32_t command) {
  struct um_space *space = &um.spaces[index];
  uint32_t number = waiter();
  struct um_entry entry = {command, {UM_FD_EVENTS + number}, 0};
  put(space, um_space_ring(index), &entry);
  // The watch sees to it that the wait ends: it has no limit of its own (watch.c).
  uint64_t asked = __builtin_ia32_rdtsc();
  atomic_store_explicit(&space->asked, asked, memory_order_relaxed);
  atomic_store_explicit(&space->touched, 1, memory_order_relaxed);
  atomic_store(&space->waiting, number + 1);
  if (atomic_load_explicit(&um.watch_sleeps, memory_order_relaxed)) um_watch_ring();
  um_ring_publish(index);
  int64_t result = um_await(&space->dead, um_this_cpu ? um_this_cpu->eventfd : um.maker_eventfd);
  atomic_store(&space->waiting, 0);
  space->granted += __builtin_ia32_rdtsc() - asked + um.run_credit;
  atomic_store_explicit(&space->asked, 0, memory_order_relaxed);
  space->acknowledged = space->done = space->queued;
  um.acknowledgements++;
  return result;
}

int64_t um_ring_add(uint32_t index, const struct um_entry *entry) {
  struct um_space *space = &um.spaces[index];
  int64_t result = 0;
  if (space->queued - space->acknowledged >= UM_RING_CAPACITY - COMMAND_RESERVE) {
    result = um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE);
    if (result > 0) space->error = -(int32_t)result;
    space->uncertain = 0;
  }
  put(space, um_space_ring(index), entry);
  return result < 0 ? result : 0;
}

// MARK: Operations

// The space with its lock, or NULL when there is none any more. Reclaim on another CPU may name a space that is just being
// destroyed: what it asks for must not reach the ring of the process, which serves another space by then.
struct um_space *um_space_take(int64_t handle) {
  struct um_space *found = um_space_find(handle);
  if (!found) return NULL;
  um_lock_take(&found->lock);
  if (um_space_find(handle) == found) return found;
  um_lock_release(&found->lock);
  return NULL;
}

static uint32_t index_of(struct um_space *space) { return (uint32_t)(space - um.spaces); }

// The last command, when it has not been published and may still grow.
static struct um_entry *last(struct um_space *space, uint64_t number) {
  if (space->queued == space->published) return NULL;
  struct um_entry *entry = &um_space_ring(index_of(space))->entries[(space->queued - 1) % UM_RING_CAPACITY];
  return entry->number == number ? entry : NULL;
}

static bool outside(uint64_t address, uint64_t length, uint64_t limit) {
  return ((address | length) & (MACHINE_PAGE_SIZE - 1)) || length == 0 || length > limit || address > limit - length;
}

// Under the space lock, or before anyone else knows of the space.
static void change_user(struct um_space *space, uint64_t user) {
  if (space->user == user) return;
  space->user = user;
  space->barriers = um.has_barrier ? UINT64_MAX : 0;
  space->mixed |= !um.has_barrier;
}

int64_t um_space_create(uint64_t user) {
  int64_t index = um_process_take(user);
  if (index < 0) return index;
  um.spaces_created++;
  um.spaces[index].text_owner = 0;
  change_user(&um.spaces[index], user);
  return um_space_handle((uint32_t)index);
}

void um_space_user(int64_t handle, uint64_t user) {
  struct um_space *space = um_space_take(handle);
  if (!space) return;
  change_user(space, user);
  um_lock_release(&space->lock);
}

// When it returns no thread of the process can reach guest memory any more, whatever it does: the mapper has dropped
// all of it. The process itself waits for the next address space, or dies on its own time.
void um_space_destroy(int64_t handle) {
  struct um_space *space = um_space_take(handle);
  if (!space) return;
  uint32_t index = index_of(space);
  struct um_entry entry = {SYS_munmap, {UM_USER_START, UM_LIMIT - UM_USER_START}, 0};
  um_ring_add(index, &entry);
  int64_t result = um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE);
  um.spaces_destroyed++;
  um_charge_forget(space);
  space->generation++;
  if (result != 0 || !um_process_park(index)) um_process_kill(index);
  um_lock_release(&space->lock);
}

// One command, or the growth of the last one. `physical` is an offset in the memory file, `protection` as in the interface.
static void map(struct um_space *space, uint64_t address, uint64_t physical, uint64_t length, uint64_t protection) {
  bool fill = protection & MACHINE_MAP_FILL, writes = protection & MACHINE_ACCESS_WRITE;
  uint64_t populate = writes && (fill || length <= POPULATE_LIMIT) ? MAP_POPULATE : 0;
  protection &= 7;
  // What is dropped for its cost is dropped before this.
  um_charge(space, address, length);
  struct um_entry *before = last(space, SYS_mmap);
  if (before && before->arguments[0] + before->arguments[1] == address && before->arguments[2] == protection &&
      before->arguments[5] + before->arguments[1] == physical) {
    before->arguments[1] += length;
    if (before->arguments[1] > POPULATE_LIMIT && !fill) before->arguments[3] &= ~(uint64_t)MAP_POPULATE;
  } else {
    struct um_entry entry = {
        SYS_mmap, {address, length, protection, MAP_SHARED | MAP_FIXED | populate, UM_FD_MEMORY, physical}, 0};
    um_ring_add(index_of(space), &entry);
  }
}

void um_space_map(int64_t handle, uint64_t address, uint64_t physical, uint64_t length, uint64_t protection) {
  struct um_space *space = um_space_take(handle);
  if (!space) return;
  uint64_t rights = protection & 7;
  bool text = protection & MACHINE_MAP_TEXT && !(rights & MACHINE_ACCESS_WRITE) && um.gate;
  if (outside(address, length, UM_LIMIT) || address < UM_USER_START || outside(physical, length, um.config.memory_size) ||
      protection & ~31ull) {
    space->error = -EINVAL;
  } else if (text && space->text_owner) {
    // Each copy among its neighbours costs two commands more: too much for a program that hardly makes a call.
    for (uint64_t at = 0; at < length; at += MACHINE_PAGE_SIZE)
      map(space, address + at, um_text_find(space->text_owner, physical + at), MACHINE_PAGE_SIZE, rights);
  } else {
    map(space, address, physical, length, protection);
  }
  um_lock_release(&space->lock);
}

void um_text_replace(int64_t handle, uint64_t address, uint64_t physical, uint64_t owner) {
  struct um_space *space = um_space_take(handle);
  if (!space) return;
  uint64_t site = um_this_cpu ? um_this_cpu->hot_site - 2 : 0;
  if (outside(address, MACHINE_PAGE_SIZE, UM_LIMIT) || address < UM_USER_START ||
      outside(physical, MACHINE_PAGE_SIZE, um.config.memory_size) || owner == 0) {
    space->error = -EINVAL;
  } else if (um.gate && site - address < MACHINE_PAGE_SIZE) {
    space->text_owner = owner;
    if (um_text_patch(um_this_cpu, owner, physical, site - address))
      map(space, address, um_text_find(owner, physical), MACHINE_PAGE_SIZE, MACHINE_ACCESS_READ | MACHINE_ACCESS_EXECUTE);
  }
  um_lock_release(&space->lock);
}

static void invalidate(int64_t handle, uint64_t number, uint64_t address, uint64_t length, uint64_t protection) {
  struct um_space *space = um_space_take(handle);
  if (!space) return;
  // Copies of code are shared by all spaces: none becomes writable in place.
  if (protection & MACHINE_ACCESS_WRITE && um.sites_replaced) number = SYS_munmap;
  if (number == SYS_munmap) protection = 0;
  if (outside(address, length, UM_LIMIT) || address < UM_USER_START || protection & ~7ull) {
    space->error = -EINVAL;
  } else {
    struct um_entry *before = last(space, number);
    if (before && before->arguments[2] == protection && before->arguments[0] + before->arguments[1] == address) {
      before->arguments[1] += length;
    } else {
      struct um_entry entry = {number, {address, length, protection}, 0};
      um_ring_add(index_of(space), &entry);
    }
    space->uncertain = 1;
  }
  um_lock_release(&space->lock);
}

void um_space_unmap(int64_t handle, uint64_t address, uint64_t length) {
  invalidate(handle, SYS_munmap, address, length, 0);
}

void um_space_protect(int64_t handle, uint64_t address, uint64_t length, uint64_t protection) {
  invalidate(handle, SYS_mprotect, address, length, protection);
}

int64_t um_space_commit(int64_t handle) {
  struct um_space *space = um_space_take(handle);
  if (!space) return -EBADF;
  int64_t result = 0;
  if (space->uncertain) {
    result = -um_ring_acknowledge(index_of(space), UM_COMMAND_ACKNOWLEDGE);
    // A dead process maps nothing: what was asked for is in force. user_run tells of the death.
    if (atomic_load(&space->dead)) result = 0;
    space->uncertain = 0;
  }
  if (space->error) {
    result = space->error;
    space->error = 0;
  }
  um_lock_release(&space->lock);
  return result;
}

int32_t um_space_process(int64_t handle) {
  struct um_space *space = um_space_find(handle);
  return space ? atomic_load(&space->process) : 0;
}
