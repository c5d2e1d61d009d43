// Using a user process again for the next address space: a fifth of the cost of killing it and making another.
//
// A process may be used again when it is certain that nothing of the old program can act in it. The proof:
//
//   1. Memory. The mapper has dropped everything below the limit and said so through an eventfd. What is above the limit
//      cannot be written by the process, except the one report: the kernel process puts zeros there, and also over the
//      ring and the parameters, which the next program could read.
//   2. Code. The only threads are the mapper, which runs the ring's commands and nothing else, and one user thread (a
//      process that ever had more is killed: one thread could wake another between two looks). The host's
//      /proc/…/syscall shows the user thread asleep in a system call, with its arguments and program counter: futex
//      wait, without a limit, behind the stub's own instruction, on the word `awake` of the thread's own report, and with
//      r9 equal to the number of its last resumption. Nobody but the kernel process and the mapper can wake it: no other
//      thread exists, the word is shared with nobody else, and
//   3. Signals. /proc/…/stat shows that it blocks them all, so no handler runs on an alternate stack of its choice.
//      (A thread that jumped to that place from guest code does not block them, and is found out.)
//   4. State. What it does when woken depends on memory that the kernel process has just written, on rdi and r9, which were
//      seen, and on its flags, which the host does not show: it compares `resume` with r9, loads null selectors, FS and GS base,
//      and calls rt_sigreturn. So it is woken once before anyone else's program is there, and passes through a frame that the
//      kernel process has made: all registers, the flags, the extended state with PKRU (the initial one), the signal mask and the
//      alternate stack. The frame leads to the stub's own code, which reports the resumption. A thread with the trap flag, or with
//      anything else that hinders it, dies on the way or does not report, and its process is killed; one that reports has nothing
//      left of what the old program put into registers. The report is no forgery, because by 1 to 3 nothing else is left that
//      could write it.
//
// What else the host keeps for a thread cannot be set under its filter: robust list, rseq, clear_child_tid, timers,
// LDT, personality, speculation controls, memory policy. A preemption signal may be pending: the next program sees one
// interrupt more.
//
// The processor's branch predictors are state, too, and not in any frame. A process goes to a program of another user only where the
// host lets us have a barrier (barrier.c), which is due on each host CPU before the new program first runs there.
//
// Most often the thread has not gone to sleep yet when its space is destroyed, because the CPU that destroys it runs
// where the thread would: so the proof is made when the next process is wanted, when the CPU is idle, or by the watch. A thread that
// has had a host CPU and is not at rest gets its process killed.

#include "internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const uint8_t um_stub_start[], um_stub_site_wait[];

#define PARKED_LIMIT 16           // processes that wait for the next address space
#define FILES_LIMIT 128           // processes whose files are kept open
#define REST_LIMIT 10000000ull    // nanoseconds of a host CPU in which a thread has to come to rest
#define REPORT_LIMIT 100000ull     // nanoseconds to wait for a report
// Signals 1 to 31, as far as they can be blocked: all but SIGKILL and SIGSTOP.
#define ALL_BLOCKED (0x7fffffffull & ~(1ull << 8) & ~(1ull << 18))

enum proof { AT_REST, NOT_YET, NEVER };

// MARK: The host's files

static int32_t open_file(int32_t process, int32_t thread, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "%d/task/%d/%s", process, thread, name);
  return (int32_t)um_call4(SYS_openat, um.processes_fd, path, O_RDONLY | O_CLOEXEC, 0);
}

static bool open_files(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  if (space->call_file) return true;
  if (__atomic_load_n(&um.files_open, __ATOMIC_RELAXED) >= FILES_LIMIT) return false;
  int32_t process = atomic_load(&space->process), thread = atomic_load(&um_thread_at(index, 0)->id);
  int32_t call = open_file(process, thread, "syscall"), status = open_file(process, thread, "stat");
  if (call <= 0 || status <= 0) {
    if (call >= 0) close(call);
    if (status >= 0) close(status);
    return false;
  }
  space->call_file = call;
  space->status_file = status;
  __atomic_fetch_add(&um.files_open, 1, __ATOMIC_RELAXED);
  return true;
}

void um_process_forget(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  if (!space->call_file) return;
  um_call1(SYS_close, space->call_file);
  um_call1(SYS_close, space->status_file);
  space->call_file = space->status_file = 0;
  __atomic_fetch_sub(&um.files_open, 1, __ATOMIC_RELAXED);
}

static bool read_file(int32_t file, char *text, size_t size) {
  int64_t count = um_call4(SYS_pread64, file, text, size - 1, 0);
  if (count <= 0) return false;
  text[count] = 0;
  return true;
}

// MARK: The proof

// proc(5), /proc/pid/syscall: "running", or the number of the system call (-1: none), and in hexadecimal its six
// arguments, the stack pointer and the program counter.
static enum proof asleep_in_stub(uint32_t index) {
  char text[256];
  if (!read_file(um.spaces[index].call_file, text, sizeof text)) return NEVER;
  if (text[0] == 'r' || text[0] == '-') return NOT_YET;
  uint64_t value[9];
  um_read_call(text, value);
  bool same = value[0] == SYS_futex && value[1] == um_report_address(0) + UM_REPORT_AWAKE && value[2] == FUTEX_WAIT &&
              value[3] == 0 && value[4] == 0 &&  // the word's value; no time limit
              value[6] == atomic_load(&um_thread_at(index, 0)->sequence) &&
              value[8] == UM_CODE + (uint64_t)(um_stub_site_wait - um_stub_start);
  return same ? AT_REST : NEVER;
}

// proc(5), /proc/pid/stat: field 32 is the mask of blocked signals. The second field, in parentheses, may hold anything.
static bool blocks_all_signals(uint32_t index) {
  char text[1024];
  if (!read_file(um.spaces[index].status_file, text, sizeof text)) return false;
  char *at = strrchr(text, ')');
  for (int field = 2; at && field < 32; field++) at = strchr(at + 1, ' ');
  return at && strtoull(at, NULL, 10) == ALL_BLOCKED;
}

// MARK: Cleaning

// Of a thread that is asleep in the stub. Afterwards nothing of the old program is left in the shared pages.
static void clean(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  struct um_thread *thread = um_thread_at(index, 0);
  struct um_report *report = um_thread_report(index, 0);
  uint32_t sequence = atomic_load(&thread->sequence);
  // First the word that keeps the thread asleep should the host wake it for no reason.
  atomic_store(&report->resume, sequence);
  atomic_store(&report->event, sequence);
  memset(&report->signal, 0, UM_REPORT_AWAKE - UM_REPORT_SIGNAL);
  memset((uint8_t *)report + UM_REPORT_RESUME + 4, 0, UM_REPORT_SIZE - UM_REPORT_RESUME - 4);
  atomic_store(&report->awake, 0);
  memset(um_thread_parameters(index, 0), 0, sizeof(struct um_parameters));
  uint32_t used = space->queued - space->cleaned;
  if (used > UM_RING_CAPACITY) used = UM_RING_CAPACITY;
  for (uint32_t i = 1; i <= used; i++)
    memset(&um_space_ring(index)->entries[(space->queued - i) % UM_RING_CAPACITY], 0, sizeof(struct um_entry));
  space->cleaned = space->queued;
  space->error = 0;
}

// MARK: The proof

// Lets the thread pass through a frame of our making, into the stub, where it reports and sleeps again.
static void pass(uint32_t index) {
  struct um_thread *thread = um_thread_at(index, 0);
  struct um_report *report = um_thread_report(index, 0);
  struct um_parameters *parameters = um_thread_parameters(index, 0);
  um_thread_rest_frame(index);
  parameters->frame = um_report_address(0) + UM_BUILT_FRAME;
  thread->frame = 0;
  thread->in_gate = 0;
  atomic_store(&report->resume, atomic_fetch_add(&thread->sequence, 1) + 1);
  atomic_store(&report->awake, 1);
  um_futex_wake(&report->awake, 1);
}

// Gives the thread a moment to report, which it needs a host CPU for.
static void await_report(uint32_t index) {
  struct um_report *report = um_thread_report(index, 0);
  struct um_parameters *parameters = um_thread_parameters(index, 0);
  uint32_t sequence = atomic_load(&um_thread_at(index, 0)->sequence);
  uint64_t limit = um_now() + REPORT_LIMIT;
  atomic_store(&parameters->asleep, 1);
  uint32_t seen;
  while ((seen = atomic_load(&report->event)) != sequence && !atomic_load(&um.spaces[index].dead))
    if (um_futex_wait(&report->event, seen, limit) == -ETIMEDOUT) break;
  atomic_store(&parameters->asleep, 0);
}

// `waits`: the process is wanted at once, which is worth waiting for it a little.
static enum proof prove(uint32_t index, bool waits) {
  struct um_space *space = &um.spaces[index];
  struct um_thread *thread = um_thread_at(index, 0);
  if (atomic_load(&space->dead)) return NEVER;
  bool trusting = um.config.test_switches & UM_TEST_NO_PROOF;
  if (space->rest == UM_REST_UNKNOWN) {
    enum proof asleep = trusting ? AT_REST : asleep_in_stub(index);
    if (asleep == AT_REST && !trusting && !blocks_all_signals(index)) asleep = NEVER;
    if (asleep == NEVER) return NEVER;
    if (asleep == AT_REST) {
      clean(index);
      if (trusting) atomic_store(&thread->state, UM_THREAD_IDLE), thread->frame = 0, thread->in_gate = 0;
      else pass(index);
      space->rest = trusting ? UM_REST_PROVED : UM_REST_PASSING;
    }
  }
  if (space->rest == UM_REST_PASSING && waits) await_report(index);
  if (space->rest == UM_REST_PASSING && atomic_load(&um_thread_report(index, 0)->event) == atomic_load(&thread->sequence)) {
    // The reaper answers for a dead thread, but marks the process as dead before.
    if (atomic_load(&space->dead)) return NEVER;
    atomic_store(&thread->state, UM_THREAD_IDLE);
    space->rest = UM_REST_PROVED;
  }
  if (space->rest == UM_REST_PROVED) return AT_REST;
  // It may wait for a host CPU as long as it must. With one it needs microseconds. The time is taken at the second look: at the first
  // it has hardly had a chance, and reading it is a call of the host.
  if (space->looks++ == 0) return NOT_YET;
  uint64_t time = um_process_time(index);
  if (space->looks == 2) space->parked_time = time;
  return time - space->parked_time > REST_LIMIT ? NEVER : NOT_YET;
}

// MARK: Parking and taking

static void put_back(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  um_lock_take(&um.table_lock);
  // A process that died meanwhile is found by the next who looks; the reaper has left it to us.
  um_space_set_state(index, UM_SPACE_PARKED);
  atomic_fetch_add(&um.parked, 1);
  if (space->rest != UM_REST_PROVED) atomic_fetch_add(&um.unproved, 1);
  um_lock_release(&um.table_lock);
}

bool um_process_park(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  if (space->thread_limit != 1 || space->mixed || atomic_load(&space->dead) || atomic_load(&um.parked) >= PARKED_LIMIT) return false;
  if (!open_files(index)) return false;
  space->rest = UM_REST_UNKNOWN;
  space->looks = 0;
  put_back(index);
  return true;
}

// Takes the parked process of the lowest slot from `from` on out of everyone's reach, of programs of `user` if that is given; -1 when
// there is none.
static int64_t claim(uint32_t from, bool unproved_only, const uint64_t *user) {
  int64_t result = -1;
  um_lock_take(&um.table_lock);
  for (uint32_t i = um.first_in_state[UM_SPACE_PARKED]; i; i = um.spaces[i - 1].next) {
    struct um_space *space = &um.spaces[i - 1];
    if (i - 1 < from || (result >= 0 && i - 1 > result) || (unproved_only && space->rest == UM_REST_PROVED) ||
        (user && space->user != *user))
      continue;
    result = i - 1;
  }
  if (result >= 0) {
    if (um.spaces[result].rest != UM_REST_PROVED) atomic_fetch_sub(&um.unproved, 1);
    um_space_set_state((uint32_t)result, UM_SPACE_MAKING);
    atomic_fetch_sub(&um.parked, 1);
  }
  um_lock_release(&um.table_lock);
  return result;
}

static void discard(uint32_t index) {
  um.processes_discarded++;
  um_process_kill(index);
}

// The next parked process that can be used, of programs of `user` if that is given.
static int64_t reuse(const uint64_t *user, bool waits) {
  for (int64_t i = claim(0, false, user); i >= 0; i = claim((uint32_t)i + 1, false, user)) {
    uint32_t index = (uint32_t)i;
    switch (prove(index, waits)) {
      case AT_REST:
        um.processes_reused++;
        atomic_store(&um.spaces[index].state, UM_SPACE_USED);
        return i;
      case NOT_YET:
        waits = false;  // on a busy host, once is enough
        put_back(index);
        break;
      case NEVER: discard(index); break;
    }
  }
  return -EAGAIN;
}

// Looks at the next process that is not proved, from slot `from` on; -1 when there is none.
static int64_t check_next(uint32_t from) {
  int64_t i = claim(from, true, NULL);
  if (i < 0) return -1;
  if (prove((uint32_t)i, false) == NEVER) discard((uint32_t)i);
  else put_back((uint32_t)i);
  return i;
}

int64_t um_process_reuse(uint64_t user, bool waits) {
  if (atomic_load_explicit(&um.parked, memory_order_relaxed) == 0) return -EAGAIN;
  int64_t result = reuse(&user, waits);
  if (result < 0 && um.has_barrier) result = reuse(NULL, waits);
  // The one after this is on its way to its proof while the new program runs.
  if (result >= 0 && atomic_load_explicit(&um.unproved, memory_order_relaxed)) check_next(0);
  return result;
}

void um_parked_check(void) {
  for (int64_t i = check_next(0); i >= 0; i = check_next((uint32_t)i + 1)) {}
}
