// What the files of the user machine share: the state of spaces, threads and CPUs in the kernel process, the layout of
// shared pages as structures, system calls without errno, and a futex lock.
//
// Lock order: space lock → zygote lock → table lock. None is held while user code runs.

#ifndef UM_INTERNAL_H
#define UM_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "layout.h"
#include "user_machine.h"

// MARK: System calls without errno

static inline int64_t um_call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = e;
  register uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#define um_call1(n, a) um_call6(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define um_call2(n, a, b) um_call6(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define um_call3(n, a, b, c) um_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define um_call4(n, a, b, c, d) um_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)

// Waits while *word is `value`, until the monotonic clock reaches `deadline` (UINT64_MAX: no deadline). 0, -EAGAIN,
// -EINTR or -ETIMEDOUT. Not the private kind: most of our words are shared with user processes.
static inline int64_t um_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline) {
  struct { int64_t seconds, nanoseconds; } until = {(int64_t)(deadline / 1000000000), (int64_t)(deadline % 1000000000)};
  return um_call6(SYS_futex, (uint64_t)word, FUTEX_WAIT_BITSET, value, deadline == UINT64_MAX ? 0 : (uint64_t)&until, 0,
                  FUTEX_BITSET_MATCH_ANY);
}
static inline void um_futex_wake(_Atomic uint32_t *word, uint32_t count) {
  um_call3(SYS_futex, word, FUTEX_WAKE, count);
}

// MARK: A lock: 0 free, 1 held, 2 held and wanted

typedef _Atomic uint32_t um_lock;
static inline void um_lock_take(um_lock *lock) {
  uint32_t expected = 0;
  if (atomic_compare_exchange_strong_explicit(lock, &expected, 1, memory_order_acquire, memory_order_relaxed)) return;
  while (atomic_exchange_explicit(lock, 2, memory_order_acquire) != 0) um_futex_wait(lock, 2, UINT64_MAX);
}
static inline bool um_lock_try(um_lock *lock) {
  uint32_t expected = 0;
  return atomic_compare_exchange_strong_explicit(lock, &expected, 1, memory_order_acquire, memory_order_relaxed);
}
static inline void um_lock_release(um_lock *lock) {
  if (atomic_exchange_explicit(lock, 0, memory_order_release) == 2) um_futex_wake(lock, 1);
}

#define UM_LARGE_PAGE 0x200000ull

// MARK: Shared pages

struct um_entry {
  uint64_t number, arguments[6], operand;
};

struct um_ring {
  _Atomic uint32_t published;
  // In the zygote's ring: 1 when it has moved the host's vDSO, and when it has mapped the table of the gate.
  // And the namespaces that it has left.
  _Atomic uint32_t clock_kept, gate_kept, namespaces;
  uint8_t unused[UM_RING_ENTRIES - 16];
  struct um_entry entries[UM_RING_CAPACITY];
};

struct um_parameters {
  _Atomic uint32_t asleep;
  uint32_t padding;
  uint64_t spin, fs_base, gs_base, frame, result, unused[2];
};

// Everything in it may be changed by guest code at any time: read each word once, then check it.
struct um_report {
  _Atomic uint32_t event;
  uint32_t signal;
  uint64_t frame, fs_base, gs_base;
  _Atomic uint32_t awake, resume, deferred;
  uint32_t padding;
  uint64_t unused[2];
  struct um_saved { uint64_t rax, rbx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r12, r13, r14, r15, rip, eflags; } saved;
};
_Static_assert(offsetof(struct um_report, saved) == UM_REPORT_SAVED && sizeof(struct um_report) <= UM_BUILT_FRAME,
               "report");

// The host's signal frame: struct ucontext of the kernel with its sigcontext (arch/x86/include/uapi/asm/sigcontext.h
// tells the layout), followed by the siginfo.
struct um_context {
  uint64_t flags, link;
  uint64_t stack_base;
  uint32_t stack_flags, stack_padding;
  uint64_t stack_size;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t error, trap, old_mask, cr2;
  uint64_t extended;
  uint64_t reserved[8];
  uint64_t mask;
};
struct um_signal_information {
  int32_t number, error, code, padding;
  union {
    uint64_t address;
    struct { uint64_t call_address; int32_t call; uint32_t architecture; };
  };
  uint8_t unused[128 - 32];
};
struct um_frame {
  struct um_context context;
  struct um_signal_information information;
};
_Static_assert(UM_BUILT_FRAME + sizeof(struct um_frame) <= UM_BUILT_EXTENDED, "frame of the kernel process");
_Static_assert(sizeof(struct um_context) == 304 && sizeof(struct um_frame) == 432, "the host's signal frame");

// MARK: The kernel process

enum um_space_state { UM_SPACE_FREE, UM_SPACE_MAKING, UM_SPACE_READY, UM_SPACE_USED, UM_SPACE_PARKED, UM_SPACE_DYING, UM_SPACE_STATES };
enum um_thread_state { UM_THREAD_NONE, UM_THREAD_IDLE, UM_THREAD_USED, UM_THREAD_ENDING, UM_THREAD_ENDED };

// The thread of a process that waits for the next address space: whether it is at rest in the stub, and whether it has passed through a
// frame of ours since (recycle.c).
enum um_rest { UM_REST_UNKNOWN, UM_REST_PASSING, UM_REST_PROVED };

// A user thread's host thread. Belongs to the CPU that runs it; creation and destruction are under the space lock.
struct um_thread {
  _Atomic int32_t id;       // host thread; 0: none yet
  _Atomic uint32_t state;
  int32_t host_cpu;         // to which it is pinned; -1: none
  _Atomic uint32_t sequence;  // resumptions so far
  uint64_t frame;           // address (in the user process) of the frame to continue with; 0: starts afresh
  uint32_t behind;          // the space's `queued` when it was last to be resumed by the mapper
  uint64_t granted;         // TSC ticks for which it might use a host CPU
  uint64_t ended;           // the TSC when its last run ended
  uint32_t polling;         // 1: it is the polling thread of a CPU, when that CPU's `poller` says so too
  uint32_t in_gate;         // 1: it sleeps in the gate, and its registers there are `given`
  struct machine_registers given;
};

// A user process: a guest address space, or an empty one in the pool.
struct um_space {
  um_lock answering;              // held while a thread waits for the mapper's answer; taken before `lock`
  um_lock lock;                   // of the ring and the threads; no thread waits for the mapper with it
  _Atomic uint32_t state;
  uint32_t next, previous;        // in the list of its state, as 1 + a slot; 0: none. Under table_lock
  uint32_t listed;                // 1: it is in one
  _Atomic int32_t process;        // also the id of the mapper; 0: none
  _Atomic uint32_t dead;          // the host process is gone (or was killed for cause)
  _Atomic uint32_t waiting;       // 1 + the eventfd's number on which someone waits for an acknowledgement
  int32_t mapper_cpu;
  _Atomic uint32_t queued;        // commands written to the ring
  uint32_t published;             // ring->published, as we know it
  uint32_t acknowledged;          // the last answered command: all before was done
  uint32_t questions;             // answers asked for
  uint32_t cleaned;               // `queued` when the ring was last cleaned
  // `queued` when all before was done: the mapper answered, or a thread that it resumed behind them came back. Guest code can pretend
  // the latter, and sees its own old mappings for it; so nothing but the way of a resumption depends on it.
  _Atomic uint32_t done;
  uint32_t thread_limit;          // slots above it were never used
  uint32_t thread_count, idle, ending;  // host threads of slots; those in state IDLE but the first, those in state ENDING
  uint64_t text_owner;            // of pages of code for which this owner has copies, it gets those; 0: none
  // What its mappings cost the host at most, in bytes, and for which tables it was charged (charge.c).
  _Atomic uint64_t mapping_cost;
#define UM_CHARGED_TABLES 128
  uint32_t charged_tables[UM_CHARGED_TABLES];
  uint32_t invalidated;           // `queued` behind the last unmap or protect
  // Mappings that are lost: commands found no room in the ring, which an unmap of this range stands for as soon as there is some.
  // Empty while lost_end is 0.
  uint64_t lost_start;
  _Atomic uint64_t lost_end;
  int32_t error;                  // of commands that no thread waited for; the next commit tells it
  // What the watch (watch.c) compares with the time that the process has used.
  _Atomic uint32_t touched;       // 1: a thread was resumed, or the mapper asked, since the last look
  _Atomic uint64_t asked;         // the TSC when someone began to wait for the mapper; 0: nobody does
  uint64_t granted;               // TSC ticks of such waits
  _Atomic uint64_t dropped;       // the TSC since when the mapper unmaps everything, and no thread waits for it; 0: it does not
  uint32_t generation;            // address spaces that this slot has held: stale handles name another
  // The user for whom its program acts, or acted last; the host CPUs (as in um_cpu's bits) where a branch-predictor barrier is due
  // before it runs; and 1 where one would be due and the host grants none.
  uint64_t user, barriers;
  uint32_t mixed;
  int32_t condemned;              // the process that was; under table_lock
  _Atomic uint64_t ungranted;     // nanoseconds for which it was condemned, until user_run reports them
  // Of a process that has held an address space and waits for the next (recycle.c).
  enum um_rest rest;              // what is known of its thread
  uint32_t looks;                 // at it, since it was parked
  uint64_t parked_time;           // nanoseconds of host CPUs that it had used at the second
  int32_t call_file, status_file; // the host's /proc/…/syscall and stat of its first thread; 0: not open
};

#define UM_HOT_PAGES 256

struct um_cpu {
  _Atomic uint64_t pending;       // interrupts
  _Atomic uint32_t state;         // futex: enum um_cpu_state
  _Atomic(struct um_thread *) running;
  _Atomic int32_t running_process;
  uint64_t index;
  // The timer that ends user code at its deadline. It is armed seldom: when it fires too early it is set again.
  _Atomic uint64_t deadline;      // of the user code now running
  _Atomic uint64_t armed;         // when the timer rings; UINT64_MAX: not armed
  int32_t timer;                  // the host's timer
  _Atomic uint64_t begun;         // the TSC when the present run began; 0: none
  _Atomic uint32_t handed;        // enum um_handed: how the thread was resumed for it
  _Atomic uint32_t abandoned;     // tests only: a thread that does not answer is left alone
  int32_t host_cpu, user_cpu;     // host CPUs of this thread and mappers, and of user threads
  uint64_t host_bit, user_bit;    // the two as bits, by their places in um.host_cpus
  int32_t eventfd;
  pthread_t thread;
  uint32_t started;               // by um_cpu_start: to be joined
  sigset_t old_mask;              // of the thread before it became a CPU
  void *signal_stack, *emergency_stack;
  uint8_t *scratch;               // of xstate_size bytes
  // Adaptive hand-over: the last thread, and how many of its calls were quick; the one that polls, and how it does.
  struct um_thread *last, *poller;
  uint32_t quick, misses;
  uint64_t retreat, not_before;   // ticks to wait until polling is tried again, and the TSC then
  // Pages of code whose calls trap (text.c), and the address behind the SYSCALL that is to be replaced now.
  struct { uint64_t key; uint32_t count, limit; } hot_pages[UM_HOT_PAGES];
  uint64_t hot_site;
  uint32_t hot_place;             // of its page in the table
  uint64_t gate_calls;
  uint64_t runs, syscalls, faults, interrupts, polled_runs, polling_begun, polling_ended;
};
enum um_handed { UM_HANDED_NOT_YET, UM_HANDED_DIRECTLY, UM_HANDED_TO_MAPPER };
enum um_cpu_state { UM_CPU_KERNEL, UM_CPU_USER, UM_CPU_IDLE };

struct um_machine {
  struct um_config config;
  bool ready;
  int memory_fd, control_fd, stub_fd;
  uint8_t *memory, *control;
  uint8_t *stacks;                // where kernel stacks are mapped (memory.c)
  _Atomic uint8_t *enlarged;      // for each large page of guest memory: 1 when the host has been asked to make it one
  uint64_t control_size;
  struct um_space *spaces;
  struct um_thread *threads;      // UM_MAX_THREADS_PER_SPACE for each space
  _Atomic uint32_t space_limit;   // slots above it were never used
  struct um_cpu cpus[MACHINE_MAX_CPUS];
  int host_cpus[MACHINE_MAX_CPUS];
  int host_cpu_count;
  // The zygote and its pool.
  um_lock zygote_lock, table_lock;
  _Atomic int32_t zygote;
  int32_t process;                // the kernel process
  _Atomic uint32_t zygote_dead;
  _Atomic bool lacks_files;       // it died for want of descriptors
  int maker_eventfd;
  int32_t zygote_cpu;             // where it is pinned; -1: nowhere
  uint32_t zygote_published;
  _Atomic uint32_t pool, pool_wanted;  // ready processes; the second is the maker's futex
  _Atomic uint64_t mapping_cost;  // of all spaces
  uint64_t mapping_limit, spaces_dropped;
  _Atomic uint32_t thread_count, idle_threads;  // of all spaces
  uint32_t first_in_state[UM_SPACE_STATES];  // lists of the slots in the states that are searched for
  _Atomic uint32_t parked, unproved;   // processes in state PARKED, and those of them that are not proved
  uint32_t files_open;                 // call files of processes
  int32_t orphan;                 // the process in the making, if it was reaped before it was entered in the table
  _Atomic uint32_t stopping;
  pthread_t reaper, maker;
  _Atomic uint32_t reaper_started;
  _Atomic uint32_t sealed;        // no memory becomes executable any more (um_confine_text)
  int64_t zygote_error;
  // The watch (watch.c).
  int processes_fd;               // the host's /proc
  pthread_t watch;
  uint32_t watch_started;
  _Atomic uint32_t watch_sleeps, watch_bell;  // the second is its futex
  uint64_t run_credit;            // TSC ticks that a run may go on for behind its event: until the thread sleeps
  uint64_t condemned[UM_REASON_COUNT], condemned_since, condemned_told;
  uint64_t wakeups_repeated, processes_discarded;
  bool has_barrier;               // the host grants branch-predictor barriers, or its processor needs none
  bool needs_barrier;
  uint64_t barriers;
  // The host's vDSO (host_clock.c): its areas in the monitor, and where in them the routine is; 0: not found.
  struct { uint64_t start, end; } clock_areas[4];
  uint32_t clock_area_count;
  uint64_t clock_offset;
  bool gate;                      // the table at UM_GATE is in place
  uint64_t sites_replaced;
  uint64_t ticks_per_microsecond;
  uint64_t xstate_size, xstate_features;
  uint32_t mxcsr_mask;
  uint32_t xstate_offset[64], xstate_length[64];
  uint64_t spaces_created, spaces_destroyed, processes_made, processes_reaped, processes_reused, threads_made, kicks, commands,
      acknowledgements, commands_lost;
};
extern struct um_machine um;
extern _Thread_local struct um_cpu *um_this_cpu;

static inline uint8_t *um_slot(uint32_t index) { return um.control + UM_CONTROL_SLOTS + (uint64_t)index * UM_SLOT_SIZE; }
static inline struct um_ring *um_space_ring(uint32_t index) { return (struct um_ring *)(um_slot(index) + UM_SLOT_RING); }
static inline struct um_parameters *um_thread_parameters(uint32_t index, uint32_t thread) {
  return (struct um_parameters *)(um_slot(index) + UM_SLOT_PARAMETERS) + thread;
}
static inline struct um_report *um_thread_report(uint32_t index, uint32_t thread) {
  return (struct um_report *)(um_slot(index) + UM_SLOT_REPORTS + (uint64_t)thread * UM_REPORT_SIZE);
}
// Addresses in the user process.
static inline uint64_t um_parameters_address(uint32_t thread) {
  return UM_PARAMETERS + ((uint64_t)thread << UM_PARAMETER_SHIFT);
}
static inline uint64_t um_report_address(uint32_t thread) {
  return UM_REPORTS + ((uint64_t)thread << UM_REPORT_SHIFT);
}
static inline struct um_thread *um_thread_at(uint32_t index, uint32_t thread) {
  return um.threads + (uint64_t)index * UM_MAX_THREADS_PER_SPACE + thread;
}

// Handles. Of a space: generation, 16 bits of slot number plus 1. Of a user thread: its space's, 10 bits of slot number.
static inline int64_t um_space_handle(uint32_t index) {
  return (int64_t)((uint64_t)um.spaces[index].generation << 16 | (index + 1));
}
// The space's slot, when the handle names the space that is in it now; else NULL.
static inline struct um_space *um_space_find(int64_t handle) {
  uint64_t index = ((uint64_t)handle & 0xffff) - 1;
  if (index >= um.config.maximum_spaces) return NULL;
  struct um_space *space = &um.spaces[index];
  if (atomic_load_explicit(&space->state, memory_order_relaxed) != UM_SPACE_USED) return NULL;
  return um_space_handle((uint32_t)index) == handle ? space : NULL;
}
struct um_space *um_space_take(int64_t handle);
struct um_space *um_space_take_to_wait(int64_t handle);
void um_space_release_waited(struct um_space *space);
static inline struct um_thread *um_thread_find(int64_t user, uint32_t *index, uint32_t *slot) {
  struct um_space *space = um_space_find(user >> 10);
  if (!space) return NULL;
  *index = (uint32_t)(space - um.spaces);
  *slot = (uint32_t)user & (UM_MAX_THREADS_PER_SPACE - 1);
  struct um_thread *thread = um_thread_at(*index, *slot);
  return atomic_load_explicit(&thread->state, memory_order_relaxed) == UM_THREAD_USED ? thread : NULL;
}

// filters.c
void um_write_filters(uint8_t *constants);
// trap.c: the kernel image's first byte of code; 0 before um_set_kernel
extern uint64_t um_image_base;
// zygote.c: both run for the life of the machine
int64_t um_zygote_start(void);
void um_zygote_stop(void);
int64_t um_process_take(uint64_t user);           // the slot of an empty process, or a negative error number
void um_process_kill(uint32_t index);
// recycle.c
bool um_process_park(uint32_t index);             // keeps an emptied process for the next address space, if it may be
// The slot of a parked process that is proved and cleaned, or -EAGAIN. `waits`: a little for one that is about to be.
int64_t um_process_reuse(uint64_t user, bool waits);
void um_space_set_state(uint32_t index, enum um_space_state state);  // under table_lock
void um_parked_check(void);                       // proves, or kills, what waits for it
void um_process_forget(uint32_t index);           // closes the files of a process that is gone; under table_lock
// Waits for an acknowledgement on `event`, the eventfd number `waiter`; its value, or -EIO when the process died.
int64_t um_await(_Atomic uint32_t *dead, int event);
// watch.c
int64_t um_watch_start(void);
void um_watch_stop(void);
void um_watch_ring(void);                         // a CPU is going to run user code, and the watch sleeps
// Kills the process in a slot, if it still is `process`; counts it, and writes the reason to the log.
void um_condemn(uint32_t index, int32_t process, enum um_reason reason);
uint64_t um_process_time(uint32_t index);         // nanoseconds of host CPUs that it has used
void um_read_call(const char *text, uint64_t value[9]);  // proc(5), /proc/pid/syscall of a sleeping thread
// barrier.c
void um_barrier_probe(void);
void um_barrier(struct um_cpu *cpu, int32_t host_cpu);  // clears the branch predictors of a host CPU
// space.c
void um_ring_add(uint32_t index, const struct um_entry *entry);  // into the reserve, if need be
void um_ring_change(uint32_t index, const struct um_entry *entry);
bool um_ring_is_crowded(struct um_space *space);
void um_ring_publish(uint32_t index);
int64_t um_ring_acknowledge(uint32_t index, uint32_t command);
void um_ring_settle(uint32_t index);
// All commands before `place` were done.
static inline void um_space_note_done(struct um_space *space, uint32_t place) {
  uint32_t done = space->done;
  while ((int32_t)(place - done) > 0 && !atomic_compare_exchange_weak(&space->done, &done, place)) {
  }
}
void um_place(int32_t *placed, int32_t thread, int32_t host_cpu);
// charge.c
#define UM_MAPPING_BASE 0x2000000ull
void um_charge_start(void);
void um_charge(struct um_space *space, uint64_t address, uint64_t length);
void um_charge_forget(struct um_space *space);    // it has no mappings
// memory.c
bool um_stacks_reserve(void);
// How much address space the stacks may take.
uint64_t um_stacks_size(uint64_t memory_size);
void um_stacks_release(void);
// host_threads.c: under the space lock, but for the last
int64_t um_thread_make(uint32_t index, uint32_t thread);
void um_report_protect(uint32_t index, uint32_t slot, uint64_t protection);
void um_thread_retire(uint32_t index, uint32_t slot);   // its user thread has ended
void um_thread_employ(uint32_t index, uint32_t slot);   // an idle one gets the next
void um_threads_collect(uint32_t index);
void um_threads_forget(uint32_t index);
// thread.c
void um_thread_rest_frame(uint32_t index);        // writes a frame that leads the first thread to the stub's report and sleep
// adapt.c
#define UM_MISS 8  // what polling in vain weighs against a call that came in time
// A run is over, which lasted from `begun` to `ended` by the TSC; `call`: it ended in a system call, without the mapper.
void um_adapt(struct um_cpu *cpu, struct um_thread *thread, bool polling, bool call, uint64_t begun, uint64_t ended);
// patch.c, text.c: code in which SYSCALL instructions have been replaced
bool um_gate_serves(uint32_t number);             // whether calls with this number may come through the gate
bool um_text_is_hot(struct um_cpu *cpu, int64_t space, uint64_t address);  // counts a trap
#define UM_TEXT_SIZE 0x800000ull                  // behind guest memory, in its file
bool um_text_start(void);
void um_text_stop(void);
// Where the owner's copy of a page lies in the memory file; or `physical`.
uint64_t um_text_find(uint64_t owner, uint64_t physical);
// Makes a copy with the site at `offset` replaced; whether there is a copy, this or an older one.
bool um_text_patch(struct um_cpu *cpu, uint64_t owner, uint64_t physical, uint64_t offset);
// host_clock.c
void um_host_clock_find(void);                    // in the monitor, before the zygote is forked
bool um_host_clock_move(void);                    // in the zygote: system calls only
// trap.c
void um_traps_install(void);
// xstate.c
void um_xstate_discover(void);
void um_xstate_seal(struct um_thread *thread, uint32_t index, uint32_t slot);  // what the gate has saved, for a frame
// cpu.c
uint64_t um_now(void);
// Lets the CPU's timer ring at its deadline, or before. To be called when the state is USER.
void um_arm(struct um_cpu *cpu);
void um_preempt(struct um_cpu *cpu);              // sends the preemption signal to the thread that it runs
#define UM_MAPPER_SLICE 100000  // the least that the host grants
#define UM_CPU_SLICE 200000
#define UM_USER_SLICE 400000
void um_ask_for_slices(int32_t thread, uint64_t nanoseconds);

#endif
