// Making and ending the host threads of user threads. Making one waits for the mapper, so it is done under `answering` and the space lock.
//
// The host thread of a user thread that has ended stays asleep in the stub and serves the next one of its space. Each
// holds a thread of the host and a report, so only IDLE_LIMIT of them are kept in the whole machine; the others end.
// A slot counts as a thread, and is not used again, until the host says that its thread is gone: a thread which does
// something else than to end is charged for as long as it lives.
//
// The first thread of a space is never ended: the process needs it for the next address space (recycle.c).

#include "internal.h"

#include <linux/falloc.h>
#include <sched.h>
#include <sys/mman.h>

#define IDLE_LIMIT 64

// The command that puts a report into, or out of, the reach of its process.
void um_report_protect(uint32_t index, uint32_t slot, uint64_t protection) {
  struct um_entry entry = {SYS_mprotect, {um_report_address(slot), UM_REPORT_SIZE, protection}, 0};
  um_ring_add(index, &entry);
}

// MARK: Making

static int64_t make(uint32_t index, uint32_t slot) {
  struct um_space *space = &um.spaces[index];
  if (um_ring_is_crowded(space)) um_ring_settle(index);
  um_report_protect(index, slot, PROT_READ | PROT_WRITE);
  um_thread_parameters(index, slot)->frame = UM_FRAME_END;  // until its first run: should the program wake it before
  struct um_entry entry = {
      UM_COMMAND_THREAD,
      {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM},
      um_parameters_address(slot)};
  um_ring_add(index, &entry);
  // Other CPUs go on queuing mappings between the two answers: the mapper keeps the result of a clone until the next one.
  int64_t low = um_ring_acknowledge(index, UM_COMMAND_REPORT_LOW);
  if (low < 0) return low;
  int64_t high = um_ring_acknowledge(index, UM_COMMAND_REPORT_HIGH);
  if (high < 0) return high;
  int64_t id = ((int64_t)((uint64_t)(low | high << 12) << 40)) >> 40;  // a signed number of 24 bits
  if (id < 0) return id;
  struct um_thread *thread = um_thread_at(index, slot);
  thread->host_cpu = -1;
  atomic_store(&thread->sequence, 0);
  thread->frame = 0;
  thread->in_gate = 0;
  atomic_store(&thread->id, (int32_t)id);
  um_ask_for_slices((int32_t)id, UM_USER_SLICE);
  atomic_store(&thread->state, UM_THREAD_IDLE);
  if (slot >= space->thread_limit) space->thread_limit = slot + 1;
  um.threads_made++;
  return 0;
}

// Has the mapper make the host thread of a slot. Under both locks.
int64_t um_thread_make(uint32_t index, uint32_t slot) {
  struct um_space *space = &um.spaces[index];
  if (atomic_fetch_add(&um.thread_count, 1) >= um.config.maximum_threads && um.config.maximum_threads) {
    atomic_fetch_sub(&um.thread_count, 1);
    return -EAGAIN;
  }
  space->thread_count++;
  int64_t result = make(index, slot);
  if (result < 0) {
    um_report_protect(index, slot, PROT_NONE);
    um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE);  // the result reports the error
    atomic_fetch_sub(&um.thread_count, 1);
    space->thread_count--;
  }
  return result;
}

// MARK: Ending

#define END_GRANT 1000  // microseconds of the host's time that a thread may use to end (watch.c)

// Wakes a thread in the stub, for its end.
static void wake_to_end(uint32_t index, uint32_t slot) {
  struct um_thread *thread = um_thread_at(index, slot);
  struct um_report *report = um_thread_report(index, slot);
  thread->granted += END_GRANT * um.ticks_per_microsecond;
  // Notice of a preemption that came late would send it to sleep again.
  atomic_store(&report->deferred, 0);
  atomic_store(&report->resume, atomic_fetch_add(&thread->sequence, 1) + 1);
  atomic_store(&report->awake, 1);
  um_futex_wake(&report->awake, 1);
}

static bool is_gone(uint32_t index, uint32_t slot) {
  int32_t process = atomic_load(&um.spaces[index].process), id = atomic_load(&um_thread_at(index, slot)->id);
  return um_call3(SYS_tgkill, process, id, 0) == -ESRCH;
}

// The user thread of a slot has ended. Under the space lock.
void um_thread_retire(uint32_t index, uint32_t slot) {
  struct um_space *space = &um.spaces[index];
  struct um_thread *thread = um_thread_at(index, slot);
  // Should the program wake it, it ends.
  um_thread_parameters(index, slot)->frame = UM_FRAME_END;
  if (slot != 0 && atomic_load(&um.idle_threads) >= IDLE_LIMIT) {
    atomic_store(&thread->state, UM_THREAD_ENDING);
    space->ending++;
    wake_to_end(index, slot);
    return;
  }
  if (slot != 0) {
    atomic_fetch_add(&um.idle_threads, 1);
    space->idle++;
  }
  atomic_store(&thread->state, UM_THREAD_IDLE);
}

// An idle thread is about to get the next user thread. Under the space lock.
void um_thread_employ(uint32_t index, uint32_t slot) {
  if (slot == 0) return;
  atomic_fetch_sub(&um.idle_threads, 1);
  um.spaces[index].idle--;
}

// Frees the slots of threads that have ended meanwhile. Under both locks.
void um_threads_collect(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  uint32_t gone = 0;
  for (uint32_t slot = 1; space->ending > gone && slot < space->thread_limit; slot++) {
    struct um_thread *thread = um_thread_at(index, slot);
    if (atomic_load(&thread->state) != UM_THREAD_ENDING) continue;
    if (is_gone(index, slot)) {
      if (um_ring_is_crowded(space)) um_ring_settle(index);
      atomic_store(&thread->state, UM_THREAD_ENDED);
      um_report_protect(index, slot, PROT_NONE);
      gone++;
    } else {
      wake_to_end(index, slot);
    }
  }
  // Once they are out of reach the memory of the reports goes back: a write after that would bring it into being again.
  if (!gone || um_ring_acknowledge(index, UM_COMMAND_ACKNOWLEDGE) < 0) return;
  for (uint32_t slot = 1; slot < space->thread_limit; slot++) {
    struct um_thread *thread = um_thread_at(index, slot);
    if (atomic_load(&thread->state) != UM_THREAD_ENDED) continue;
    um_call4(SYS_fallocate, um.control_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
             (uint64_t)((uint8_t *)um_thread_report(index, slot) - um.control), UM_REPORT_SIZE);
    atomic_store(&thread->id, 0);
    atomic_store(&thread->state, UM_THREAD_NONE);
  }
  atomic_fetch_sub(&um.thread_count, gone);
  space->thread_count -= gone;
  space->ending -= gone;
}

// All threads of a space are gone with their process. Under table_lock.
void um_threads_forget(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  atomic_fetch_sub(&um.idle_threads, space->idle);
  atomic_fetch_sub(&um.thread_count, space->thread_count);
  space->idle = space->ending = space->thread_count = 0;
}
