// Making and burying user processes.
//
// The zygote is a fork of the monitor which has thrown away everything except the reserved region (layout.h); a user
// process is a clone of it, so it costs a few areas and no more. CLONE_PARENT makes the monitor the parent.
// Two threads of the monitor serve here: the reaper, which is the parent in the host's eyes (PDEATHSIG goes by thread),
// waits for processes to die and wakes the threads that wait for them; and the maker, which keeps the pool of empty processes full.

#include "internal.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern const uint8_t um_stub_start[], um_stub_end[], um_stub_boot[], um_stub_handler[];
// glibc 2.35's place of the rseq area, relative to the thread pointer.
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

struct host_action {
  uint64_t handler, flags, restorer, mask;
};
#define HOST_SA_RESTORER 0x04000000ull

// MARK: The zygote's first steps

// Leaves what of the host's namespaces it may, and all capabilities. The user namespace comes first: it gives the privilege to
// leave others. Returns those that are left.
static uint32_t leave_namespaces(void) {
  uint32_t left = 0;
  static const uint32_t order[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS};
  for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
    if (um.config.zygote_namespaces & order[i] && um_call1(SYS_unshare, order[i]) == 0) left |= order[i];
  struct { uint32_t version; int32_t process; } header = {0x20080522, 0};  // capset(2), version 3
  uint32_t none[6] = {0};
  um_call2(SYS_capset, &header, none);
  // The kernel process looks at user processes through /proc. They have its identity, which the host may have changed, and
  // then nobody may look.
  um_call2(SYS_prctl, PR_SET_DUMPABLE, 1);
  return left;
}

// The zygote's descriptor `i` as it is called in this process.
static int zygote_file(int i) {
  int stub = UM_FD_EVENTS + (int)um.config.cpu_count + 1;
  return i == 0 ? um.memory_fd : i == 1 ? um.control_fd : i == stub ? um.stub_fd
         : i == stub - 1 ? um.maker_eventfd : um.cpus[i - UM_FD_EVENTS].eventfd;
}

int um_zygote_files(int *base) {
  int count = UM_FD_EVENTS + (int)um.config.cpu_count + 2;
  *base = count;
  for (int i = 0; i < count; i++)
    if (*base <= zygote_file(i)) *base = zygote_file(i) + 1;
  return count;
}

// The zygote's exit status when it may not have as many descriptors as it needs.
#define EXIT_FILES 3

// Runs in the forked child, whose memory is a copy of a process with other threads and their locks: raw system calls
// only. Ends in the stub's code.
__attribute__((noreturn, noinline)) static void become_zygote(uint64_t thread_pointer) {
  um_call2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (um_call1(SYS_getppid, 0) != um.process) um_call1(SYS_exit_group, 2);
  um_call1(SYS_setsid, 0);  // no signals from the terminal
  // The areas in our memory that the host would write to, or follow when a thread ends.
  if (&__rseq_offset && &__rseq_size && __rseq_size)
    um_call4(SYS_rseq, thread_pointer + (uint64_t)__rseq_offset, __rseq_size < 32 ? 32 : __rseq_size, 1, 0x53053053);
  um_call2(SYS_set_robust_list, 0, 24);
  um_call1(SYS_set_tid_address, 0);
  uint64_t all = ~0ull;
  um_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
  uint64_t handler = UM_CODE + (uint64_t)(um_stub_handler - um_stub_start);
  for (int number = 1; number <= 64; number++) {
    struct host_action action = {(uint64_t)SIG_IGN, HOST_SA_RESTORER, handler, all};
    if (number == SIGSYS || number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE ||
        number == SIGTRAP || number == UM_PREEMPT_SIGNAL) {
      action.handler = handler;
      action.flags |= SA_SIGINFO | SA_ONSTACK;
    }
    um_call4(SYS_rt_sigaction, number, &action, 0, 8);
  }
  uint64_t none[2] = {0, 0};
  um_call4(SYS_prlimit64, 0, RLIMIT_CORE, none, 0);
  um_call3(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0);
  struct um_ring *ring = (struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING);
  atomic_store(&ring->namespaces, leave_namespaces());
  // Descriptors: first all above any number that is in use or wanted, then down to their places.
  int base, stub, count = um_zygote_files(&base);
  stub = count - 1;
  for (int i = 0; i < count; i++)
    if (um_call3(SYS_dup3, zygote_file(i), base + i, 0) < 0) um_call1(SYS_exit_group, EXIT_FILES);
  for (int i = 0; i < count; i++) um_call3(SYS_dup3, base + i, i, 0);
  um_call3(SYS_close_range, count, ~0u, 0);
  // A place for the code while everything else goes: none of the reserved region, where our stack may be.
  for (uint64_t place = 0x100000000000; place < 0x700000000000; place += 0x080000000000) {
    uint64_t got = (uint64_t)um_call6(SYS_mmap, place, UM_PART, PROT_READ | PROT_EXEC,
                                      MAP_PRIVATE | MAP_FIXED_NOREPLACE, stub, UM_STUB_CODE);
    if (got == place) {
      bool keep = um_host_clock_move();
      atomic_store(&ring->clock_kept, keep);
      // A host that keeps this page free has no gate, and every call traps.
      uint64_t gate = (uint64_t)um_call6(SYS_mmap, UM_GATE, UM_GATE_SIZE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, stub,
                                         UM_STUB_CONSTANTS + (UM_GATE_TABLE - UM_CONSTANTS));
      atomic_store(&ring->gate_kept, gate == UM_GATE);
      ((void (*)(uint64_t, uint64_t, uint64_t))(place + (uint64_t)(um_stub_boot - um_stub_start)))(
          keep, gate == UM_GATE ? UM_GATE + UM_GATE_SIZE : 0, (uint64_t)stub);
    }
  }
  um_call1(SYS_exit_group, 4);
  __builtin_unreachable();
}

static uint64_t thread_pointer(void) {
  uint64_t value;
  __asm__("mov %%fs:0, %0" : "=r"(value));
  return value;
}

// MARK: Waiting for user processes

int64_t um_await(_Atomic uint32_t *dead, int event) {
  for (;;) {
    if (atomic_load(dead)) {
      // A process that died may have answered before.
      struct pollfd one = {.fd = event, .events = POLLIN};
      struct timespec limit = {0, 0};
      int64_t ready = um_call6(SYS_ppoll, (uint64_t)&one, 1, (uint64_t)&limit, 0, 8, 0);
      if (ready == 0) return -EIO;
      if (ready == -EINTR) continue;
    }
    uint64_t value = 0;
    int64_t got = um_call3(SYS_read, event, &value, 8);
    if (got == -EINTR) continue;
    if (got != 8) return -EIO;
    value &= 0xffffffff;  // the upper half is the reaper's knock
    if (value != 0) return (int64_t)value - 1;
  }
}

static void knock(int event) {
  uint64_t value = 1ull << 32;
  um_call3(SYS_write, event, &value, 8);
}

// MARK: The reaper

// Marks the process of slot `index` as dead and wakes everyone who waits for it.
static void bury(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  atomic_store(&space->dead, 1);
  uint32_t waiting = atomic_load(&space->waiting);
  if (waiting) knock(waiting - 1 < um.config.cpu_count ? um.cpus[waiting - 1].eventfd : um.maker_eventfd);
  // user_run counts the resumption up and then looks at `dead`; we set `dead` and then look at the resumption.
  for (uint32_t i = 0; i < space->thread_limit; i++) {
    struct um_report *report = um_thread_report(index, i);
    atomic_store(&report->event, um_thread_at(index, i)->sequence);
    um_futex_wake(&report->event, INT_MAX);
  }
}

// Slots that are free, ready or parked are in lists: nobody searches the table for them. The one that came last is first, its
// process's pages are still in the host's caches.
void um_space_set_state(uint32_t index, enum um_space_state state) {
  struct um_space *space = &um.spaces[index];
  if (space->listed) {
    if (space->previous) um.spaces[space->previous - 1].next = space->next;
    else um.first_in_state[atomic_load(&space->state)] = space->next;
    if (space->next) um.spaces[space->next - 1].previous = space->previous;
  }
  space->listed = state == UM_SPACE_FREE || state == UM_SPACE_READY || state == UM_SPACE_PARKED;
  if (space->listed) {
    space->previous = 0;
    space->next = um.first_in_state[state];
    if (space->next) um.spaces[space->next - 1].previous = index + 1;
    um.first_in_state[state] = index + 1;
  }
  atomic_store(&space->state, state);
}

// A slot whose process is gone and which nobody holds becomes free: its shared pages read as zero again. Under table_lock.
static void free_slot(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  fallocate(um.control_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)(UM_CONTROL_SLOTS + (uint64_t)index * UM_SLOT_SIZE), UM_SLOT_SIZE);
  memset(um.threads + (uint64_t)index * UM_MAX_THREADS_PER_SPACE, 0, space->thread_limit * sizeof(struct um_thread));
  space->queued = space->published = space->acknowledged = space->done = space->invalidated = space->cleaned = 0;
  space->thread_limit = 0;
  atomic_store(&space->lost_end, 0);
  um_threads_forget(index);
  um_charge_forget(space);
  space->error = 0;
  space->mixed = 0;
  space->condemned = 0;
  space->barriers = 0;
  atomic_store(&space->ungranted, 0);
  space->mapper_cpu = -1;
  um_process_forget(index);
  atomic_store(&space->process, 0);
  atomic_store(&space->waiting, 0);
  atomic_store(&space->dead, 0);
  um_space_set_state(index, UM_SPACE_FREE);
}

static void *reaper(void *unused) {
  (void)unused;
  pthread_setname_np(pthread_self(), "apus-reaper");
  uint64_t pointer = thread_pointer();
  int64_t child = um_call6(SYS_clone, 0, 0, 0, 0, 0, 0);  // a fork without a signal on exit
  if (child == 0) become_zygote(pointer);
  if (child < 0) um.zygote_error = child;
  else atomic_store(&um.zygote, (int32_t)child);
  atomic_store(&um.reaper_started, 1);
  um_futex_wake(&um.reaper_started, 1);
  for (;;) {
    int status = 0;
    // __WCLONE: only children without SIGCHLD, that is, ours and not those of other parts of the monitor.
    int64_t process = um_call4(SYS_wait4, -1, &status, __WCLONE, 0);
    if (process == -EINTR) continue;
    if (process < 0) return NULL;
    um_confine_thread(UM_THREAD_REAPER);
    if (process == um.zygote) {
      if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FILES) atomic_store(&um.lacks_files, true);
      atomic_store(&um.zygote_dead, 1);
      knock(um.maker_eventfd);
      continue;
    }
    um_lock_take(&um.table_lock);
    um.processes_reaped++;
    uint32_t limit = atomic_load(&um.space_limit), index = 0;
    while (index < limit && atomic_load(&um.spaces[index].process) != process) index++;
    if (index == limit) {
      um.orphan = (int32_t)process;
    } else {
      bury(index);
      if (atomic_load(&um.spaces[index].state) == UM_SPACE_READY) atomic_fetch_sub(&um.pool, 1);
      uint32_t state = atomic_load(&um.spaces[index].state);
      if (state == UM_SPACE_PARKED) {
        atomic_fetch_sub(&um.parked, 1);
        if (um.spaces[index].rest != UM_REST_PROVED) atomic_fetch_sub(&um.unproved, 1);
      }
      if (state == UM_SPACE_DYING || state == UM_SPACE_READY || state == UM_SPACE_PARKED) free_slot(index);
    }
    um_lock_release(&um.table_lock);
  }
}

// MARK: Making a process

static void zygote_add(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                       uint64_t operand) {
  struct um_ring *ring = (struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING);
  ring->entries[um.zygote_published % UM_RING_CAPACITY] = (struct um_entry){number, {a, b, c, d, e, f}, operand};
  um.zygote_published++;
}

static int64_t zygote_result(uint64_t command) {
  struct um_ring *ring = (struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING);
  zygote_add(command, UM_FD_EVENTS + um.config.cpu_count, 0, 0, 0, 0, 0, 0);
  atomic_store(&ring->published, um.zygote_published);
  um_futex_wake(&ring->published, 1);
  return um_await(&um.zygote_dead, um.maker_eventfd);
}

// Decodes the result of a command that the mapper reported in two parts of 12 bits.
static int64_t joined(int64_t low, int64_t high) {
  if (low < 0) return low;
  if (high < 0) return high;
  return ((int64_t)((uint64_t)(low | high << 12) << 40)) >> 40;
}

static int64_t claim_slot(void) {
  um_lock_take(&um.table_lock);
  uint32_t limit = atomic_load(&um.space_limit);
  int64_t found = (int64_t)um.first_in_state[UM_SPACE_FREE] - 1;
  if (found < 0 && limit < um.config.maximum_spaces) {
    found = limit;
    um.spaces[limit].mapper_cpu = -1;
    atomic_store(&um.space_limit, limit + 1);
  }
  if (found >= 0) um_space_set_state((uint32_t)found, UM_SPACE_MAKING);
  else found = -EAGAIN;
  um_lock_release(&um.table_lock);
  return found;
}

// A new empty process with one thread, in state MAKING; its slot.
static int64_t make_process(void) {
  int64_t slot = claim_slot();
  if (slot < 0) return slot;
  uint32_t index = (uint32_t)slot;
  struct um_space *space = &um.spaces[index];
  // The child's first steps wait in its ring.
  bool open = um.config.test_switches & UM_TEST_WRITABLE_PARAMETERS;
  struct um_entry first[] = {
      // The signal of a parent's death, and for the case that it died before we asked for it, a look.
      {SYS_prctl, {PR_SET_PDEATHSIG, SIGKILL}, 0},
      {UM_COMMAND_PARENT, {(uint64_t)um.process}, 0},
      {SYS_munmap, {UM_ZYGOTE_RING, UM_PART}, 0},
      {SYS_close, {UM_FD_CONTROL}, 0},
      {SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 0, UM_MAPPER_FILTER}, 0},
  };
  size_t steps = sizeof first / sizeof first[0];
  if (um.config.test_switches & UM_TEST_NO_FILTERS) steps--;
  for (size_t i = 0; i < steps; i++) um_ring_add(index, &first[i]);
  atomic_store(&um_space_ring(index)->published, space->queued);
  space->published = space->queued;

  um_lock_take(&um.zygote_lock);
  // The zygote and its child work where we are: half a dozen hand-overs follow.
  um_place(&um.zygote_cpu, atomic_load(&um.zygote), sched_getcpu());
  space->mapper_cpu = um.zygote_cpu;
  uint64_t offset = UM_CONTROL_SLOTS + (uint64_t)index * UM_SLOT_SIZE;
  zygote_add(SYS_mmap, UM_RING, 2 * UM_PART, PROT_READ | (open ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED, UM_FD_CONTROL,
             offset, 0);
  zygote_add(SYS_mmap, UM_REPORTS, UM_REPORTS_SIZE, PROT_NONE, MAP_SHARED | MAP_FIXED, UM_FD_CONTROL,
             offset + UM_SLOT_REPORTS, 0);
  zygote_add(UM_COMMAND_PROCESS, CLONE_PARENT, 0, 0, 0, 0, 0, UM_RING);
  int64_t low = zygote_result(UM_COMMAND_REPORT_LOW);
  int64_t process = low < 0 ? low : joined(low, zygote_result(UM_COMMAND_REPORT_HIGH));
  // Clears the loop's memory of an error, which the result has already told.
  if (process < 0 && low >= 0) zygote_result(UM_COMMAND_ACKNOWLEDGE);
  if (process < 0) {
    um_lock_take(&um.table_lock);
    free_slot(index);
    um_lock_release(&um.table_lock);
    um_lock_release(&um.zygote_lock);
    return process;
  }
  um_lock_take(&um.table_lock);
  um.processes_made++;
  atomic_store(&space->process, (int32_t)process);
  if (um.orphan == process) atomic_store(&space->dead, 1);
  um.orphan = 0;
  um_lock_release(&um.table_lock);
  um_ask_for_slices((int32_t)process, UM_MAPPER_SLICE);
  // Its first thread, and with the answer the certainty that the first steps are done.
  um_lock_take(&space->answering);
  um_lock_take(&space->lock);
  int64_t result = um_thread_make(index, 0);
  um_space_release_waited(space);
  um_lock_release(&um.zygote_lock);
  if (result < 0) {
    um_process_kill(index);
    return result;
  }
  return index;
}

void um_process_kill(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  um_lock_take(&um.table_lock);
  int32_t process = atomic_load(&space->process);
  uint32_t gone = atomic_load(&space->dead);
  um_space_set_state(index, UM_SPACE_DYING);
  // Under the table lock the reaper cannot have taken the number away.
  if (process && !gone) um_call2(SYS_kill, process, SIGKILL);
  else free_slot(index);
  um_lock_release(&um.table_lock);
}

// MARK: The pool

static void pool_add(uint32_t index) {
  um_lock_take(&um.table_lock);
  if (atomic_load(&um.spaces[index].dead)) {
    free_slot(index);
  } else {
    um_space_set_state(index, UM_SPACE_READY);
    atomic_fetch_add(&um.pool, 1);
  }
  um_lock_release(&um.table_lock);
}

static void *maker(void *unused) {
  (void)unused;
  pthread_setname_np(pthread_self(), "apus-maker");
  while (!atomic_load(&um.stopping)) {
    uint32_t wanted = atomic_load(&um.pool_wanted);
    um_confine_thread(UM_THREAD_MAKER);
    while (atomic_load(&um.pool) < um.config.pool_size && !atomic_load(&um.stopping)) {
      int64_t index = make_process();
      if (index < 0) break;  // a limit of the host: the next caller that needs a process tries again, and gets the error
      pool_add((uint32_t)index);
    }
    if (!atomic_load(&um.stopping)) um_futex_wait(&um.pool_wanted, wanted, UINT64_MAX);
  }
  return NULL;
}

int64_t um_process_take(uint64_t user) {
  // With empty processes at hand there is nothing to wait for: a program that forks in a loop soon has two that take turns.
  int64_t result = um_process_reuse(user, atomic_load(&um.pool) == 0);
  if (result >= 0) return result;
  um_lock_take(&um.table_lock);
  for (uint32_t i = um.first_in_state[UM_SPACE_READY]; i && result < 0; i = um.spaces[i - 1].next)
    if (!atomic_load(&um.spaces[i - 1].dead)) result = i - 1;
  if (result >= 0) {
    um.spaces[result].user = user;
    um_space_set_state((uint32_t)result, UM_SPACE_USED);
    atomic_fetch_sub(&um.pool, 1);
  }
  um_lock_release(&um.table_lock);
  if (result < 0) {
    result = make_process();
    if (result >= 0) {
      um.spaces[result].user = user;
      atomic_store(&um.spaces[result].state, UM_SPACE_USED);
    }
  }
  if (atomic_load(&um.pool) + atomic_load(&um.parked) <= um.config.pool_size / 2) {
    atomic_fetch_add(&um.pool_wanted, 1);
    um_futex_wake(&um.pool_wanted, 1);
  }
  return result;
}

// MARK: Start and end

int64_t um_zygote_start(void) {
  um.zygote_error = 0;
  um.process = getpid();
  atomic_store(&um.reaper_started, 0);
  atomic_store(&um.zygote_dead, 0);
  um.zygote_cpu = -1;
  atomic_store(&um.stopping, 0);
  um_host_clock_find();
  int error = pthread_create(&um.reaper, NULL, reaper, NULL);
  if (error) return -error;
  while (!atomic_load(&um.reaper_started)) um_futex_wait(&um.reaper_started, 0, UINT64_MAX);
  if (um.zygote_error == 0) {
    um_lock_take(&um.zygote_lock);
    int64_t answer = zygote_result(UM_COMMAND_ACKNOWLEDGE);  // shows that the zygote lives
    um.zygote_error = answer > 0 ? -answer : answer;
    um.gate = atomic_load(&((struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING))->gate_kept) &&
              !(um.config.test_switches & UM_TEST_NO_GATE);
    um_lock_release(&um.zygote_lock);
  }
  if (um.zygote_error == 0) {
    int64_t first = make_process();
    if (first < 0) um.zygote_error = first;
    else {
      pool_add((uint32_t)first);
      um.zygote_error = -pthread_create(&um.maker, NULL, maker, NULL);
    }
  }
  if (um.zygote_error) {
    int64_t result = atomic_load(&um.lacks_files) ? -EMFILE : um.zygote_error;
    if (atomic_load(&um.zygote)) um_zygote_stop();
    return result;
  }
  return 0;
}

uint32_t um_zygote_namespaces(void) {
  return atomic_load(&((struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING))->namespaces);
}

void um_zygote_stop(void) {
  atomic_store(&um.stopping, 1);
  if (um.maker) {
    atomic_fetch_add(&um.pool_wanted, 1);
    um_futex_wake(&um.pool_wanted, 1);
    pthread_join(um.maker, NULL);
    um.maker = 0;
  }
  um_lock_take(&um.table_lock);
  for (uint32_t i = 0; i < atomic_load(&um.space_limit); i++) {
    int32_t process = atomic_load(&um.spaces[i].process);
    if (process && !atomic_load(&um.spaces[i].dead)) um_call2(SYS_kill, process, SIGKILL);
  }
  if (!atomic_load(&um.zygote_dead)) um_call2(SYS_kill, atomic_load(&um.zygote), SIGKILL);
  um_lock_release(&um.table_lock);
  pthread_join(um.reaper, NULL);  // ends when there is no child left
  atomic_store(&um.zygote, 0);
}
