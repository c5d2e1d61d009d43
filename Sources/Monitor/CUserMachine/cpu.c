// The CPUs: threads of the monitor that run the kernel, their interrupts, and the clocks.

#include "internal.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

_Thread_local struct um_cpu *um_this_cpu;

#define SIGNAL_STACK_SIZE 0x10000

uint64_t um_now(void) { return um_clock_monotonic(); }

uint64_t um_clock_monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t um_clock_realtime(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// MARK: The deadline of user code
//
// The next deadline is most often the one of the last time or a later one: so a timer of the host that stays armed
// across system calls costs nothing for most of them, where a time limit of each wait costs a microsecond.

#define TIMER_SIGNAL (SIGRTMIN + 4)
#define REPEAT 20000000ull  // nanoseconds until a preemption that was not obeyed is asked for again; see watch.c

void um_preempt(struct um_cpu *cpu) {
  // The thread may have stopped, or even ended, meanwhile: then it gets one interrupt for nothing.
  struct um_thread *thread = atomic_load_explicit(&cpu->running, memory_order_relaxed);
  int32_t process = atomic_load_explicit(&cpu->running_process, memory_order_relaxed);
  int32_t id = thread ? atomic_load(&thread->id) : 0;
  if (id > 0 && process > 0) um_call3(SYS_tgkill, process, id, UM_PREEMPT_SIGNAL);
}

static void set_timer(struct um_cpu *cpu, uint64_t deadline) {
  struct { int64_t interval[2], value[2]; } when = {{0, 0}, {(int64_t)(deadline / 1000000000), (int64_t)(deadline % 1000000000)}};
  atomic_store_explicit(&cpu->armed, deadline, memory_order_relaxed);
  um_call4(SYS_timer_settime, cpu->timer, TIMER_ABSTIME, &when, 0);
}

void um_arm(struct um_cpu *cpu) {
  uint64_t deadline = atomic_load_explicit(&cpu->deadline, memory_order_relaxed);
  if (deadline < atomic_load_explicit(&cpu->armed, memory_order_relaxed)) set_timer(cpu, deadline == 0 ? 1 : deadline);
}

// On the CPU's own thread, between any two of its instructions.
static void timer_rings(int number) {
  (void)number;
  struct um_cpu *cpu = um_this_cpu;
  if (!cpu) return;
  atomic_store_explicit(&cpu->armed, UINT64_MAX, memory_order_relaxed);
  if (atomic_load(&cpu->state) != UM_CPU_USER) return;  // the next run arms it again
  uint64_t deadline = atomic_load_explicit(&cpu->deadline, memory_order_relaxed), now = um_now();
  if (deadline > now && atomic_load(&cpu->pending) == 0) {
    if (deadline != UINT64_MAX) set_timer(cpu, deadline);
    return;
  }
  um_preempt(cpu);
  set_timer(cpu, now + REPEAT);
}

static int64_t make_timer(struct um_cpu *cpu) {
  struct sigaction action = {.sa_handler = timer_rings, .sa_flags = SA_ONSTACK | SA_RESTART};
  sigfillset(&action.sa_mask);
  sigaction(TIMER_SIGNAL, &action, NULL);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TIMER_SIGNAL};
  event._sigev_un._tid = gettid();
  atomic_store(&cpu->armed, UINT64_MAX);
  return um_call3(SYS_timer_create, CLOCK_MONOTONIC, &event, &cpu->timer);
}

// MARK: Threads

static void *signal_stack(void) {
  void *stack = mmap(NULL, SIGNAL_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return stack == MAP_FAILED ? NULL : stack;
}

// The host's scheduler (EEVDF, since Linux 6.12) lets a thread that asks for short slices in before one that is in the
// middle of a long one: without it, a CPU whose deadline has passed waits for its user thread's slice to end, 3 ms.
// Mappers ask for shorter ones still: a mapper that interrupts the CPU which wakes it has done its work before the CPU or
// the user thread looks for it, and neither has to sleep and be woken.
// User threads get longer ones, because only who asks for less than the running thread interrupts it when woken; but
// shorter ones than other processes of a busy host, which would delay their answer to the preemption signal.
void um_ask_for_slices(int32_t thread, uint64_t nanoseconds) {
  struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; }
      attributes = {.size = 48, .runtime = nanoseconds};
  um_call3(SYS_sched_setattr, thread, &attributes, 0);  // older hosts ignore it
}

int64_t um_cpu_attach(uint64_t index) {
  if (index >= um.config.cpu_count) return -EINVAL;
  if (um_this_cpu) return -EBUSY;
  struct um_cpu *cpu = &um.cpus[index];
  if (!cpu->signal_stack) cpu->signal_stack = signal_stack();
  if (!cpu->emergency_stack) cpu->emergency_stack = signal_stack();
  if (!cpu->scratch) cpu->scratch = aligned_alloc(64, (um.xstate_size + 63) & ~63ull);
  if (!cpu->signal_stack || !cpu->emergency_stack || !cpu->scratch) return -ENOMEM;
  stack_t stack = {.ss_sp = cpu->signal_stack, .ss_size = SIGNAL_STACK_SIZE};
  if (sigaltstack(&stack, NULL) != 0) return -errno;
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);  // the host's default lets timers be 50 us late
  // The thread may come from a library that blocks signals.
  sigset_t needed;
  sigemptyset(&needed);
  sigaddset(&needed, TIMER_SIGNAL);
  const int exceptions[] = {SIGILL, SIGSEGV, SIGFPE, SIGBUS, SIGSYS};
  for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++) sigaddset(&needed, exceptions[i]);
  pthread_sigmask(SIG_UNBLOCK, &needed, &cpu->old_mask);
  int64_t error = make_timer(cpu);
  if (error < 0) return error;
  um_ask_for_slices(0, UM_CPU_SLICE);
  int32_t placed = -1;
  um_place(&placed, (int32_t)gettid(), cpu->host_cpu);
  atomic_store(&cpu->state, UM_CPU_KERNEL);
  atomic_store(&cpu->abandoned, 0);
  um_this_cpu = cpu;
  return 0;
}

void um_cpu_detach(void) {
  if (!um_this_cpu) return;
  um_call1(SYS_timer_delete, um_this_cpu->timer);
  pthread_sigmask(SIG_SETMASK, &um_this_cpu->old_mask, NULL);
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int i = 0; i < um.host_cpu_count; i++) CPU_SET(um.host_cpus[i], &all);
  sched_setaffinity(0, sizeof all, &all);
  um_this_cpu = NULL;
}

int64_t um_cpu_index(void) { return um_this_cpu ? (int64_t)um_this_cpu->index : -1; }

static void *cpu_thread(void *argument) {
  struct um_cpu *cpu = argument;
  char name[16] = "apus-cpu-";
  name[9] = (char)('0' + cpu->index / 10);
  name[10] = (char)('0' + cpu->index % 10);
  pthread_setname_np(pthread_self(), name);
  if (um_cpu_attach(cpu->index) == 0) {
    um.config.cpu_main(cpu->index);
    um_cpu_detach();
  }
  return NULL;
}

int64_t um_cpu_start(uint64_t index) {
  if (index >= um.config.cpu_count || !um.config.cpu_main) return -EINVAL;
  struct um_cpu *cpu = &um.cpus[index];
  if (cpu->started) return -EEXIST;
  cpu->started = 1;
  int error = pthread_create(&cpu->thread, NULL, cpu_thread, cpu);
  if (error) cpu->started = 0;
  return -error;
}

void um_cpu_join(void) {
  for (uint32_t i = 0; i < um.config.cpu_count; i++)
    if (um.cpus[i].started) {
      pthread_join(um.cpus[i].thread, NULL);
      um.cpus[i].started = 0;
    }
}

// MARK: Interrupts

void um_raise_interrupt(uint64_t index, uint32_t bit) {
  if (index >= um.config.cpu_count || bit > 63) return;
  struct um_cpu *cpu = &um.cpus[index];
  atomic_fetch_or(&cpu->pending, 1ull << bit);
  uint32_t state = atomic_load(&cpu->state);
  if (state == UM_CPU_IDLE) {
    if (atomic_compare_exchange_strong(&cpu->state, &state, UM_CPU_KERNEL)) um_futex_wake(&cpu->state, 1);
  } else if (state == UM_CPU_USER) {
    um_preempt(cpu);
  }
}

void um_cpu_kick(uint64_t index) {
  um.kicks++;
  um_raise_interrupt(index, 0);
}

uint64_t um_interrupts_pending(void) {
  if (!um_this_cpu || atomic_load_explicit(&um_this_cpu->pending, memory_order_relaxed) == 0) return 0;
  return atomic_exchange(&um_this_cpu->pending, 0);
}

void um_idle(uint64_t deadline) {
  struct um_cpu *cpu = um_this_cpu;
  if (!cpu) return;
  for (;;) {
    // Threads of processes that gave up their program come to rest while we sleep; we look at them once a millisecond.
    uint64_t until = deadline;
    if (atomic_load_explicit(&um.unproved, memory_order_relaxed)) {
      uint64_t soon = um_now() + 1000000;
      if (soon < until) until = soon;
    }
    int64_t result = 0;
    atomic_store(&cpu->state, UM_CPU_IDLE);
    while (atomic_load(&cpu->pending) == 0 && atomic_load(&cpu->state) == UM_CPU_IDLE && result != -ETIMEDOUT)
      result = um_futex_wait(&cpu->state, UM_CPU_IDLE, until);
    atomic_store(&cpu->state, UM_CPU_KERNEL);
    if (until == deadline || result != -ETIMEDOUT) return;
    um_parked_check();
  }
}

// A CPU whose host CPU is shared spins for someone who cannot run: after a while it gives the host CPU away.
void um_pause(uint64_t spins) {
  __builtin_ia32_pause();
  if ((spins & 511) == 511) sched_yield();
}

void um_random(void *buffer, uint64_t count) {
  uint8_t *at = buffer;
  while (count) {
    int64_t got = um_call3(SYS_getrandom, at, count, 0);
    if (got == -EINTR) continue;
    if (got <= 0) abort();  // not possible with valid memory on any supported host
    at += got;
    count -= (uint64_t)got;
  }
}
