// Address spaces: commands to the mapper of a user process.
//
// The mappings of a user process are a TLB over the kernel's page tables, so dropping one is always allowed and a map
// need not be acknowledged: the user thread that waits for it is woken by the mapper itself, behind the map in the same
// ring. Unmaps and protects are certain only when um_space_commit has seen the acknowledgement. Neighbouring commands
// are merged while they wait in the ring.
//
// Queuing a command never waits: the kernel does it with spin locks held. A command that finds the ring full is forgotten, and the range
// that it speaks of is lost: an unmap of all that is lost follows as soon as there is room. Those who may wait make room: a commit, and
// the resumption of a thread when the ring is half full. They let go of the space lock while they wait, and hold `answering` instead.

#include "internal.h"

#include <sys/mman.h>

#define COMMAND_RESERVE 16  // entries kept free for what cannot be lost: questions, wake-ups, threads
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

// Publishes everything with `command`, one of the UM_COMMANDs that answer, behind it, and waits for the answer. The caller holds
// `answering` and the space lock; the latter is let go while it waits, so that others can go on queuing.
int64_t um_ring_acknowledge(uint32_t index, uint32_t command) {
  struct um_space *space = &um.spaces[index];
  uint32_t number = waiter();
  struct um_entry entry = {command, {UM_FD_EVENTS + number}, 0};
  put(space, um_space_ring(index), &entry);
  uint32_t place = space->queued;
  // The watch sees to it that the wait ends: it has no limit of its own (watch.c).
  uint64_t asked = __builtin_ia32_rdtsc();
  space->questions++;
  atomic_store_explicit(&space->asked, asked, memory_order_relaxed);
  atomic_store_explicit(&space->touched, 1, memory_order_relaxed);
  atomic_store(&space->waiting, number + 1);
  if (atomic_load_explicit(&um.watch_sleeps, memory_order_relaxed)) um_watch_ring();
  um_ring_publish(index);
  um_lock_release(&space->lock);
  int64_t result = um_await(&space->dead, um_this_cpu ? um_this_cpu->eventfd : um.maker_eventfd);
  um_lock_take(&space->lock);
  atomic_store(&space->waiting, 0);
  space->granted += __builtin_ia32_rdtsc() - asked + um.run_credit;
  atomic_store_explicit(&space->asked, 0, memory_order_relaxed);
  space->acknowledged = place;
  um_space_note_done(space, place);
  um.acknowledgements++;
  return result;
}

void um_ring_add(uint32_t index, const struct um_entry *entry) { put(&um.spaces[index], um_space_ring(index), entry); }

static uint32_t unanswered(struct um_space *space) { return space->queued - space->acknowledged; }

// Whether who may wait is to make room. Also without the space lock, for a guess.
bool um_ring_is_crowded(struct um_space *space) {
  return unanswered(space) >= UM_RING_CAPACITY / 2 || atomic_load_explicit(&space->lost_end, memory_order_relaxed) != 0;
}

// Whether a command on guest mappings can be queued. What was lost comes first.
static bool has_room(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  if (unanswered(space) >= UM_RING_CAPACITY - COMMAND_RESERVE) return false;
  uint64_t end = atomic_load_explicit(&space->lost_end, memory_order_relaxed);
  if (end == 0) return true;
  struct um_entry entry = {SYS_munmap, {space->lost_start, end - space->lost_start}, 0};
  atomic_store_explicit(&space->lost_end, 0, memory_order_relaxed);
  put(space, um_space_ring(index), &entry);
  space->invalidated = space->queued;
  return unanswered(space) < UM_RING_CAPACITY - COMMAND_RESERVE;
}

// Queues a map, unmap or protect of guest memory, or loses what is mapped there.
void um_ring_change(uint32_t index, const struct um_entry *entry) {
  struct um_space *space = &um.spaces[index];
  if (has_room(index)) {
    put(space, um_space_ring(index), entry);
    return;
  }
  uint64_t start = entry->arguments[0], stop = start + entry->arguments[1];
  uint64_t end = atomic_load_explicit(&space->lost_end, memory_order_relaxed);
  if (end == 0 || start < space->lost_start) space->lost_start = start;
  if (stop > end) atomic_store_explicit(&space->lost_end, stop, memory_order_relaxed);
  um.commands_lost++;
}

// Waits until all commands so far are done, and what was lost is unmapped. Under both locks. The next commit tells of an error.
void um_ring_settle(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  for (;;) {
    int64_t result = um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE);
    if (result > 0) space->error = -(int32_t)result;
    if (atomic_load_explicit(&space->lost_end, memory_order_relaxed) == 0) return;
    has_room(index);  // queues the unmap of what was lost, unless others have filled the ring again
  }
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

// The same for operations that may wait for the mapper.
struct um_space *um_space_take_to_wait(int64_t handle) {
  struct um_space *found = um_space_find(handle);
  if (!found) return NULL;
  um_lock_take(&found->answering);
  if (um_space_take(handle) == found) return found;
  um_lock_release(&found->answering);
  return NULL;
}

void um_space_release_waited(struct um_space *space) {
  um_lock_release(&space->lock);
  um_lock_release(&space->answering);
}

static uint32_t index_of(struct um_space *space) { return (uint32_t)(space - um.spaces); }

// The last command, when it has not been published and may still grow.
static struct um_entry *last(struct um_space *space, uint64_t number) {
  if (space->queued == space->published || atomic_load_explicit(&space->lost_end, memory_order_relaxed) != 0) return NULL;
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
  struct um_space *space = um_space_take_to_wait(handle);
  if (!space) return;
  uint32_t index = index_of(space);
  struct um_entry entry = {SYS_munmap, {UM_USER_START, UM_LIMIT - UM_USER_START}, 0};
  atomic_store_explicit(&space->lost_end, 0, memory_order_relaxed);
  um_ring_add(index, &entry);
  // From now on nobody finds the space: no command of another CPU comes behind this one.
  space->generation++;
  int64_t result = um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE);
  um.spaces_destroyed++;
  um_charge_forget(space);
  if (result != 0 || !um_process_park(index)) um_process_kill(index);
  um_space_release_waited(space);
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
    um_ring_change(index_of(space), &entry);
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
      um_ring_change(index_of(space), &entry);
    }
    space->invalidated = space->queued;
  }
  um_lock_release(&space->lock);
}

void um_space_unmap(int64_t handle, uint64_t address, uint64_t length) {
  invalidate(handle, SYS_munmap, address, length, 0);
}

void um_space_protect(int64_t handle, uint64_t address, uint64_t length, uint64_t protection) {
  invalidate(handle, SYS_mprotect, address, length, protection);
}

// Whether a commit has to wait: for an unmap or protect, or for room. Under the space lock.
static bool is_unsettled(struct um_space *space) {
  return (int32_t)(space->invalidated - space->acknowledged) > 0 || um_ring_is_crowded(space);
}

int64_t um_space_commit(int64_t handle) {
  struct um_space *space = um_space_take(handle);
  if (!space) return -EBADF;
  bool waits = is_unsettled(space);
  if (waits) {
    um_lock_release(&space->lock);
    space = um_space_take_to_wait(handle);
    if (!space) return -EBADF;
    // Another CPU may have waited for the same meanwhile.
    if (is_unsettled(space)) um_ring_settle(index_of(space));
  }
  // A dead process maps nothing: what was asked for is in force. user_run tells of the death.
  int64_t result = atomic_load(&space->dead) ? 0 : space->error;
  space->error = 0;
  um_lock_release(&space->lock);
  if (waits) um_lock_release(&space->answering);
  return result;
}

int32_t um_space_process(int64_t handle) {
  struct um_space *space = um_space_find(handle);
  return space ? atomic_load(&space->process) : 0;
}
