// The watch: a thread of the monitor that looks at user processes from outside, every few milliseconds while CPUs run them.
//
// What a user process says of itself may be forged, and a CPU that waits for it may wait for several reasons. What the host says is
// true: how long each process and thread has run, and where a thread sleeps. The watch asks the host for three things:
//
//   1. CPUs that wait. A thread that does not answer the preemption signal has either not been given a host CPU, however long that
//      takes, or has blocked the signal. It has PATIENCE of the host's time, not of the clock on the wall. A thread that sleeps in the
//      host while it should run is woken again, and does not come back from that when it sleeps in a place of its own choice.
//   2. Mappers that owe an answer. The same: as long as the mapper works, or waits for a host CPU, it has all the time in the world.
//   3. Time that no CPU granted. Each run of a user thread grants its process as much of the host's time as it lasted, and so does the
//      kernel's work that its mapper does. What a process used beyond that, it used by threads which run although the kernel believes
//      them asleep.
//
// A process that fails is condemned: killed, counted, and named in the log with the reason. Nothing is condemned for one sight: time
// that a hypervisor or an interrupt takes may be charged to the thread that was running.

#include "internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT 4000000ull          // nanoseconds between two looks
#define IDLE_BEATS 25            // looks without anything to see until the watch sleeps
#define LATE 1000000ull          // past its deadline by so much, a thread is overdue
#define PATIENCE 12000000ull     // nanoseconds of a host CPU that a thread has to answer the preemption signal
#define SIGHTS 3                 // how often something must be seen
#define CREDIT 20                // microseconds that a thread may need from its event until it sleeps
#define BLIND_BEATS 2500         // patience with a process at which the host lets us not look

extern const uint8_t um_stub_start[], um_stub_site_wait[];

// What the watch remembers of the run of each CPU, and of each process.
static struct view {
  uint64_t run;                  // cpu->runs; 0: none
  uint64_t used;                 // by the process, at the last look
  uint64_t thread_base, thread_used;
  uint32_t looks, running, asleep;
  uint32_t mapper;               // commands that it had done, at the last look
} views[MACHINE_MAX_CPUS];

static struct ledger {
  int32_t process;
  uint32_t generation;
  uint64_t used, granted;        // when the window began
  uint64_t dropped;              // TSC ticks for which the mapper was dropping mappings
  uint32_t beats, quiet;         // looks since; looks at which nothing had changed
  uint64_t excess;               // nanoseconds, in these windows:
  uint32_t excesses;             // windows in a row in which it used more than it was granted
  uint32_t owing;                // looks at which the mapper owed the same answer
  uint32_t asked;
  uint32_t mapper;               // commands that it had done, at the last look
} *ledgers;

// MARK: What the host says

// Nanoseconds of host CPUs that the process has used, all its threads together; 0 when it is gone.
static uint64_t process_time(int32_t process) {
  struct { int64_t seconds, nanoseconds; } time = {0, 0};
  int64_t clock = (int64_t)(int32_t)((~(uint32_t)process << 3) | 2);  // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
  if (process <= 0 || um_call2(SYS_clock_gettime, clock, &time) < 0) return 0;
  return (uint64_t)time.seconds * 1000000000 + (uint64_t)time.nanoseconds;
}

uint64_t um_process_time(uint32_t index) { return process_time(atomic_load(&um.spaces[index].process)); }

static bool read_thread(int32_t process, int32_t thread, const char *name, char *text, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "%d/task/%d/%s", process, thread, name);
  int64_t file = um_call4(SYS_openat, um.processes_fd, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return false;
  int64_t count = um_call3(SYS_read, file, text, size - 1);
  um_call1(SYS_close, file);
  text[count > 0 ? count : 0] = 0;
  return count > 0;
}

// proc(5), /proc/pid/schedstat: nanoseconds on a CPU, nanoseconds waiting for one.
static uint64_t thread_time(int32_t process, int32_t thread) {
  char text[96];
  return read_thread(process, thread, "schedstat", text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

// proc(5), /proc/pid/status: whether the thread blocks the preemption signal. One that does not, and does not answer either, is at
// work in the host's kernel (a fault that waits for others, memory that is hard to find), and answers when it comes back from there.
static bool blocks_preemption(int32_t process, int32_t thread) {
  char text[4096];
  if (!read_thread(process, thread, "status", text, sizeof text)) return false;
  const char *mask = strstr(text, "\nSigBlk:");
  return mask && strtoull(mask + 8, NULL, 16) >> (UM_PREEMPT_SIGNAL - 1) & 1;
}

void um_read_call(const char *text, uint64_t value[9]) {
  char *at;
  value[0] = strtoull(text, &at, 10);
  for (int i = 1; i < 9; i++) value[i] = strtoull(at, &at, 16);
}

enum place { UNKNOWN, RUNNING, BLOCKED, ASLEEP };

// proc(5), /proc/pid/syscall. `value`: the number, six arguments, stack pointer and program counter of a sleeping thread.
static enum place look_at(int32_t process, int32_t thread, uint64_t value[9]) {
  char text[256];
  if (!read_thread(process, thread, "syscall", text, sizeof text)) return UNKNOWN;
  if (text[0] == 'r') return RUNNING;
  if (text[0] == '-') return BLOCKED;  // in a fault of the host
  um_read_call(text, value);
  return ASLEEP;
}

// Whether the mapper sleeps although there are commands that it has not seen: the host shows how many it has done. It is woken again.
// `seen`: the number of commands that it had done; a mapper that gets on has not overslept.
enum mapper { BUSY, DONE, OVERSLEPT };
static enum mapper look_at_mapper(uint32_t index, int32_t process, uint32_t *seen) {
  uint64_t value[9];
  if (look_at(process, process, value) != ASLEEP || value[0] != SYS_futex || value[1] != UM_RING) return BUSY;
  struct um_ring *ring = um_space_ring(index);
  if ((uint32_t)value[3] == atomic_load(&ring->published)) return DONE;
  um.wakeups_repeated++;
  um_futex_wake(&ring->published, INT_MAX);
  bool moved = *seen != (uint32_t)value[3];
  *seen = (uint32_t)value[3];
  return moved ? BUSY : OVERSLEPT;
}

// MARK: Condemning

static const char *const reasons[UM_REASON_COUNT] = {
    [UM_REASON_UNRESPONSIVE] = "does not answer the preemption signal",
    [UM_REASON_ASLEEP] = "sleeps where it should run",
    [UM_REASON_UNGRANTED] = "runs threads that should sleep",
    [UM_REASON_MAPPER] = "does not carry out commands",
    [UM_REASON_FORGED] = "has forged its signal frame",
};

void um_condemn(uint32_t index, int32_t process, enum um_reason reason) {
  struct um_space *space = &um.spaces[index];
  um_lock_take(&um.table_lock);
  bool alive = process > 0 && atomic_load(&space->process) == process && !atomic_load(&space->dead);
  // Once is enough: a process takes its time to die.
  alive = alive && space->condemned != process;
  uint64_t now = um_now();
  bool tell = false;
  if (alive) {
    um_call2(SYS_kill, process, SIGKILL);
    um.condemned[reason]++;
    space->condemned = process;
    // A program may have its processes condemned as fast as it can make them: ten lines a second are enough.
    if (now - um.condemned_since > 1000000000) um.condemned_since = now, um.condemned_told = 0;
    tell = um.condemned_told++ < 10;
  }
  um_lock_release(&um.table_lock);
  if (!tell) return;
  char line[160];
  int length = snprintf(line, sizeof line, "apus: a user process was ended: it %s (host process %d)\n", reasons[reason], process);
  um_call3(SYS_write, 2, line, length);
}

// MARK: CPUs that wait

// A thread that should run is asleep in the host. Where it waits for its resumption, the wake-up was lost or swallowed: wake it again.
static void wake_again(struct um_report *report, uint32_t slot, const uint64_t value[9], uint32_t sequence) {
  bool waits = value[0] == SYS_futex && value[1] == um_report_address(slot) + UM_REPORT_AWAKE && (uint32_t)value[6] + 1 == sequence &&
               value[8] == UM_CODE + (uint64_t)(um_stub_site_wait - um_stub_start);
  if (waits) um.wakeups_repeated++;
  atomic_store(&report->awake, 1);
  um_futex_wake(&report->awake, INT_MAX);
}

// A CPU has been in the same run for at least one beat.
static void examine(struct um_cpu *cpu, struct view *view) {
  struct um_thread *thread = atomic_load(&cpu->running);
  uint64_t place = (uint64_t)(thread - um.threads);
  uint32_t index = (uint32_t)(place / UM_MAX_THREADS_PER_SPACE), slot = (uint32_t)(place % UM_MAX_THREADS_PER_SPACE);
  int32_t process = atomic_load(&cpu->running_process), id = atomic_load(&thread->id);
  struct um_report *report = um_thread_report(index, slot);
  uint32_t sequence = atomic_load(&thread->sequence);
  if (atomic_load(&report->event) == sequence || atomic_load(&um.spaces[index].dead)) {
    um_futex_wake(&report->event, INT_MAX);  // it has answered; the wake-up for the CPU went astray
    return;
  }
  uint64_t used = process_time(process);
  uint64_t deadline = atomic_load(&cpu->deadline);
  bool works = used > view->used, overdue = deadline < um_now() - LATE || atomic_load(&cpu->pending) != 0;
  view->used = used;
  if (!overdue && (works || view->looks == 0)) {
    view->looks = 1;
    view->asleep = 0;
    return;
  }
  view->looks++;
  if (overdue) um_preempt(cpu);
  // On a busy host the CPU itself may not have come to resuming the thread.
  uint32_t handed = atomic_load(&cpu->handed);
  if (handed == UM_HANDED_NOT_YET) return;
  enum mapper mapper = handed == UM_HANDED_TO_MAPPER ? look_at_mapper(index, process, &view->mapper) : DONE;
  if (mapper == BUSY) return;
  uint64_t value[9];
  enum um_reason reason = UM_REASON_ASLEEP;
  if (mapper == OVERSLEPT) {
    reason = UM_REASON_MAPPER;
    view->asleep++;
  } else {
    switch (look_at(process, id, value)) {
      case ASLEEP:
        view->asleep++;
        wake_again(report, slot, value, sequence);
        break;
      case RUNNING: {
        view->asleep = 0;
        if (!overdue) return;
        uint64_t time = thread_time(process, id);
        if (time == 0) return;
        if (view->thread_base == 0) view->thread_base = view->thread_used = time;
        if (time - view->thread_used > PATIENCE / 16) view->running++;
        view->thread_used = time;
        if (view->running < SIGHTS || time - view->thread_base < PATIENCE) return;
        if (!blocks_preemption(process, id)) {
          view->running = 0;
          view->thread_base = 0;
          return;
        }
        reason = UM_REASON_UNRESPONSIVE;
        break;
      }
      case UNKNOWN:
        reason = UM_REASON_UNRESPONSIVE;
        // A thread can end itself (filters.c), and does not answer any more.
        if (um_call3(SYS_tgkill, process, id, 0) == -ESRCH) break;
        // The host shows nothing: then only what lasts very long counts.
        um_futex_wake(&report->awake, INT_MAX);
        if (view->looks < BLIND_BEATS) return;
        break;
      case BLOCKED: view->asleep = 0; return;
    }
  }
  if (reason != UM_REASON_UNRESPONSIVE && view->asleep <= SIGHTS) return;
  // Still the same run, and still no answer.
  if (cpu->runs != view->run || atomic_load(&cpu->state) != UM_CPU_USER || atomic_load(&report->event) == sequence) return;
  if (um.config.test_switches & UM_TEST_NO_EXECUTION_LIMIT) {
    atomic_store(&cpu->abandoned, 1);
    atomic_store(&report->event, ~sequence);  // so that the wait does not go on
    um_futex_wake(&report->event, INT_MAX);
  } else {
    um_condemn(index, process, reason);
  }
  *view = (struct view){0};
}

static bool watch_cpus(void) {
  bool busy = false;
  for (uint32_t i = 0; i < um.config.cpu_count; i++) {
    struct um_cpu *cpu = &um.cpus[i];
    struct view *view = &views[i];
    uint64_t run = *(volatile uint64_t *)&cpu->runs;
    if (atomic_load(&cpu->state) != UM_CPU_USER) {
      view->run = 0;
      continue;
    }
    busy = true;
    if (view->run == run) examine(cpu, view);
    else *view = (struct view){.run = run};
  }
  return busy;
}

// MARK: Mappers, and time that was not granted

// Nanoseconds in which the process might use host CPUs: all runs of its threads, and all waits for its mapper.
static uint64_t granted_time(uint32_t index) {
  struct um_space *space = &um.spaces[index];
  uint64_t now = __builtin_ia32_rdtsc(), ticks = 0;
  for (uint32_t i = 0; i < um.config.cpu_count; i++) {
    uint64_t begun = atomic_load(&um.cpus[i].begun);
    struct um_thread *thread = atomic_load(&um.cpus[i].running);
    if (begun && thread && (uint64_t)(thread - um.threads) / UM_MAX_THREADS_PER_SPACE == index && now > begun) ticks += now - begun;
  }
  uint64_t asked = atomic_load(&space->asked);
  if (asked && now > asked) ticks += now - asked;
  ticks += *(volatile uint64_t *)&space->granted + ledgers[index].dropped;
  for (uint32_t i = 0; i < space->thread_limit; i++) ticks += *(volatile uint64_t *)&um_thread_at(index, i)->granted;
  return ticks / um.ticks_per_microsecond * 1000;
}

// A window is over when the process has used WINDOW, or after WINDOW_BEATS.
#define WINDOW 2000000ull
#define WINDOW_BEATS 16
#define EXCESS 1000000ull

static bool watch_process(uint32_t index, struct um_space *space, struct ledger *ledger) {
  int32_t process = atomic_load(&space->process);
  uint64_t since = atomic_exchange(&space->dropped, 0);
  if (since) {
    uint64_t now = __builtin_ia32_rdtsc(), none = 0;
    ledger->dropped += now - since;
    // Until it sleeps with nothing left to do. Another drop may have begun meanwhile.
    if (look_at_mapper(index, process, &ledger->mapper) != DONE) atomic_compare_exchange_strong(&space->dropped, &none, now);
  }
  // A thread waits for the mapper, and waited for the same answer at the last look.
  if (atomic_load(&space->waiting)) {
    if (ledger->owing == 0 || ledger->asked != space->questions) ledger->asked = space->questions, ledger->owing = 1;
    else {
      ledger->owing = look_at_mapper(index, process, &ledger->mapper) == OVERSLEPT ? ledger->owing + 1 : 1;
      if (ledger->owing > 2 * SIGHTS) um_condemn(index, process, UM_REASON_MAPPER);
    }
  } else {
    ledger->owing = 0;
  }
  if (atomic_load(&space->state) != UM_SPACE_USED) return ledger->owing > 0;
  // A thread can only begin to run for a resumption: what has not run for a while needs no looking at.
  if (atomic_exchange(&space->touched, 0)) ledger->quiet = 0;
  else if (ledger->quiet >= SIGHTS) return ledger->owing > 0;
  uint64_t used = process_time(process), granted = granted_time(index);
  if (ledger->process != process || ledger->generation != space->generation) {
    *ledger = (struct ledger){
        .process = process, .generation = space->generation, .used = used, .granted = granted, .dropped = ledger->dropped};
    return true;
  }
  ledger->beats++;
  if (used - ledger->used < WINDOW && ledger->beats < WINDOW_BEATS) return true;
  if (used - ledger->used < EXCESS) ledger->quiet++;
  uint64_t grant = granted - ledger->granted, use = used - ledger->used;
  if (use > grant + EXCESS) ledger->excesses++, ledger->excess += use - grant;
  else ledger->excesses = 0, ledger->excess = 0;
  ledger->used = used;
  ledger->granted = granted;
  ledger->beats = 0;
  if (ledger->excesses >= SIGHTS) {
    atomic_store(&space->ungranted, ledger->excess);
    um_condemn(index, process, UM_REASON_UNGRANTED);
    ledger->excesses = 0, ledger->excess = 0;
  }
  return true;
}

static bool watch_processes(void) {
  bool busy = false;
  uint32_t limit = atomic_load(&um.space_limit);
  for (uint32_t i = 0; i < limit; i++) {
    struct um_space *space = &um.spaces[i];
    uint32_t state = atomic_load_explicit(&space->state, memory_order_relaxed);
    if (state == UM_SPACE_USED || state == UM_SPACE_MAKING) busy |= watch_process(i, space, &ledgers[i]);
  }
  return busy;
}

// MARK: The thread

static void *watch(void *unused) {
  (void)unused;
  pthread_setname_np(pthread_self(), "apus-watch");
  um_ask_for_slices(0, UM_MAPPER_SLICE);
  uint32_t idle = 0;
  while (!atomic_load(&um.stopping)) {
    um_confine_thread(UM_THREAD_WATCH);
    uint32_t bell = atomic_load(&um.watch_bell);
    bool busy = watch_cpus();
    busy |= watch_processes();
    if (atomic_load(&um.unproved)) um_parked_check(), busy = true;
    idle = busy ? 0 : idle + 1;
    // A CPU sets its state and then looks whether we sleep; we say that we sleep and then look at the CPUs.
    bool sleeps = idle > IDLE_BEATS;
    atomic_store(&um.watch_sleeps, sleeps);
    if (sleeps && watch_cpus()) sleeps = false;
    um_futex_wait(&um.watch_bell, bell, sleeps ? UINT64_MAX : um_now() + BEAT);
  }
  return NULL;
}

void um_watch_ring(void) {
  if (!atomic_exchange(&um.watch_sleeps, 0)) return;
  atomic_fetch_add(&um.watch_bell, 1);
  um_futex_wake(&um.watch_bell, 1);
}

int64_t um_watch_start(void) {
  um.run_credit = CREDIT * um.ticks_per_microsecond;
  ledgers = calloc(um.config.maximum_spaces, sizeof *ledgers);
  if (!ledgers) return -ENOMEM;
  memset(views, 0, sizeof views);
  int error = pthread_create(&um.watch, NULL, watch, NULL);
  if (error == 0) um.watch_started = 1;
  return -error;
}

void um_watch_stop(void) {
  if (um.watch_started) {
    atomic_store(&um.stopping, 1);
    atomic_store(&um.watch_sleeps, 1);
    um_watch_ring();
    pthread_join(um.watch, NULL);
    um.watch_started = 0;
  }
  free(ledgers);
  ledgers = NULL;
}
