// User threads: handing the CPU to guest code, and reading what brought it back.
//
// A user thread is always in one of two places: running guest code, or asleep in the stub behind a signal of the host,
// whose frame holds its registers. user_run writes the registers into the frame (rt_sigreturn loads them), counts
// `resume` up and sleeps until the thread has written the same number into `event`. When commands for the mapper wait in
// the ring, the mapper does the resuming, behind them.
//
// A system call may also come through the gate (text.c), without a signal: the stub saves the registers in the report and
// the extended state behind it. When the kernel changes nothing but the result, the thread returns as it came, by a jump;
// otherwise from a frame that is built around the saved state.
//
// The report and the frame are memory that the guest's threads can change. All of it is copied once and then checked;
// what is wrong in it harms only the guest process itself.

#include "internal.h"

#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#define USER_CS 0x33
#define USER_SS 0x2b
// Arithmetic flags, DF, TF, RF, AC, NT, ID; IF is always set.
#define USER_FLAGS 0x254dd5ull

#define SIGNAL_SYSTEM_SECCOMP 1   // SYS_SECCOMP
#define SIGNAL_CODE_KERNEL 0x80   // SI_KERNEL

extern const uint8_t um_stub_start[], um_gate_trapped[], um_stub_publish[];

// MARK: Creation

int64_t um_user_create(int64_t handle) {
  struct um_space *space = um_space_take_to_wait(handle);
  if (!space) return -EBADF;
  uint32_t index = (uint32_t)(space - um.spaces);
  int64_t result = -EAGAIN;
  uint32_t slot = 0;
  if (space->ending) um_threads_collect(index);
  while (slot < space->thread_limit && atomic_load(&um_thread_at(index, slot)->state) != UM_THREAD_IDLE) slot++;
  if (slot < space->thread_limit) {
    um_thread_employ(index, slot);
    result = 0;
  } else {
    slot = 0;
    while (slot < space->thread_limit && atomic_load(&um_thread_at(index, slot)->state) != UM_THREAD_NONE) slot++;
    if (slot < UM_MAX_THREADS_PER_SPACE) result = um_thread_make(index, slot);
  }
  if (result == 0) {
    struct um_thread *thread = um_thread_at(index, slot);
    thread->frame = 0;
    thread->in_gate = 0;
    thread->polling = 0;
    atomic_store(&thread->state, UM_THREAD_USED);
    result = (handle << 10) | slot;
  }
  um_space_release_waited(space);
  return result;
}

// The host thread stays asleep in the stub and serves the next thread of this space, or ends.
void um_user_destroy(int64_t user) {
  struct um_space *space = um_space_take(user >> 10);
  if (!space) return;
  uint32_t index, slot;
  struct um_thread *thread = um_thread_find(user, &index, &slot);
  if (thread) um_thread_retire(index, slot);
  um_lock_release(&space->lock);
}

int32_t um_user_thread(int64_t user) {
  uint32_t index, slot;
  struct um_thread *thread = um_thread_find(user, &index, &slot);
  return thread ? atomic_load(&thread->id) : 0;
}

// MARK: Registers

static inline struct um_frame *frame_at(uint32_t index, uint32_t slot, uint64_t address) {
  return (struct um_frame *)((uint8_t *)um_thread_report(index, slot) + (address - um_report_address(slot)));
}

// Whether a thread in the gate may return as it came: nothing has changed but the result and what SYSCALL destroys.
static bool returns_through_gate(struct um_thread *thread, const struct machine_registers *registers) {
  if (!thread->in_gate) return false;
  struct machine_registers given = thread->given;
  given.rax = registers->rax;
  given.orig_rax = registers->orig_rax;
  given.rcx = registers->rcx;
  given.r11 = registers->r11;
  return memcmp(&given, registers, sizeof given) == 0;
}

// All that rt_sigreturn loads, but the extended state: where that lies is the frame's affair.
static void write_context(struct um_context *context, uint64_t report, const struct machine_registers *registers, uint64_t mask) {
  context->flags = 7;  // UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
  context->stack_base = report + UM_REPORT_STACK;
  context->stack_flags = 0;
  context->stack_size = UM_REPORT_SIZE - UM_REPORT_STACK;
  context->mask = mask;
  context->r8 = registers->r8;
  context->r9 = registers->r9;
  context->r10 = registers->r10;
  context->r11 = registers->r11;
  context->r12 = registers->r12;
  context->r13 = registers->r13;
  context->r14 = registers->r14;
  context->r15 = registers->r15;
  context->rdi = registers->rdi;
  context->rsi = registers->rsi;
  context->rbp = registers->rbp;
  context->rbx = registers->rbx;
  context->rdx = registers->rdx;
  context->rax = registers->rax;
  context->rcx = registers->rcx;
  context->rsp = registers->rsp;
  context->rip = registers->rip;
  context->eflags = (registers->eflags & USER_FLAGS) | 0x202;
  context->cs = USER_CS;
  context->ss = USER_SS;
  context->gs = context->fs = 0;
}

void um_thread_rest_frame(uint32_t index) {
  struct um_context *context = &frame_at(index, 0, um_report_address(0) + UM_BUILT_FRAME)->context;
  struct machine_registers registers = {
      .rip = UM_CODE + (uint64_t)(um_stub_publish - um_stub_start),
      .rbx = um_report_address(0),
      .r12 = um_parameters_address(0),
      .rsp = um_report_address(0) + UM_REPORT_SIZE - 64,
  };
  context->extended = 0;  // the initial state
  write_context(context, um_report_address(0), &registers, UINT64_MAX);
}

// Writes `registers` into the frame from which the thread continues; a thread without one gets one of our making, whose
// extended state is the processor's initial one.
static void load(struct um_thread *thread, uint32_t index, uint32_t slot, const struct machine_registers *registers,
                 bool polling) {
  uint64_t report = um_report_address(slot);
  struct um_parameters *parameters = um_thread_parameters(index, slot);
  parameters->spin = polling ? um.config.user_spin : 0;
  if (returns_through_gate(thread, registers)) {
    parameters->frame = 0;
    parameters->result = registers->rax;
    return;
  }
  if (thread->in_gate) um_xstate_seal(thread, index, slot);
  thread->in_gate = 0;
  if (thread->frame == 0) {
    thread->frame = report + UM_BUILT_FRAME;
    frame_at(index, slot, thread->frame)->context.extended = 0;
  }
  write_context(&frame_at(index, slot, thread->frame)->context, report, registers, 0);
  parameters->fs_base = registers->fs_base;
  // A program that does not use GS lends it to the gate.
  parameters->gs_base = registers->gs_base || !um.gate ? registers->gs_base : report;
  parameters->frame = thread->frame;
}

static void store(const struct um_context *context, struct machine_registers *registers) {
  registers->r8 = context->r8;
  registers->r9 = context->r9;
  registers->r10 = context->r10;
  registers->r11 = context->r11;
  registers->r12 = context->r12;
  registers->r13 = context->r13;
  registers->r14 = context->r14;
  registers->r15 = context->r15;
  registers->rdi = context->rdi;
  registers->rsi = context->rsi;
  registers->rbp = context->rbp;
  registers->rbx = context->rbx;
  registers->rdx = context->rdx;
  registers->rax = context->rax;
  registers->rcx = context->rcx;
  registers->rsp = context->rsp;
  registers->rip = context->rip;
  registers->eflags = (context->eflags & USER_FLAGS) | 0x202;
  registers->orig_rax = UINT64_MAX;
  registers->cs = USER_CS;
  registers->ss = USER_SS;
  registers->ds = registers->es = registers->fs = registers->gs = 0;
}

static void store_saved(const struct um_saved *saved, struct machine_registers *registers) {
  registers->rax = registers->orig_rax = saved->rax;
  registers->rbx = saved->rbx;
  registers->rdx = saved->rdx;
  registers->rsi = saved->rsi;
  registers->rdi = saved->rdi;
  registers->rbp = saved->rbp;
  registers->rsp = saved->rsp;
  registers->r8 = saved->r8;
  registers->r9 = saved->r9;
  registers->r10 = saved->r10;
  registers->r12 = saved->r12;
  registers->r13 = saved->r13;
  registers->r14 = saved->r14;
  registers->r15 = saved->r15;
  registers->rip = registers->rcx = saved->rip;
  registers->eflags = registers->r11 = (saved->eflags & USER_FLAGS) | 0x202;
  registers->cs = USER_CS;
  registers->ss = USER_SS;
  registers->ds = registers->es = registers->fs = registers->gs = 0;
}

// MARK: What happened

static void decode_system_call(const struct um_frame *frame, struct machine_registers *registers,
                               struct machine_event *event) {
  uint32_t number = (uint32_t)frame->information.call;
  event->kind = MACHINE_EVENT_FOREIGN;
  if (frame->information.architecture != AUDIT_ARCH_X86_64) {
    event->vector = UM_FOREIGN_INT80;
  } else if (number & 0x40000000) {
    event->vector = UM_FOREIGN_X32;
  } else if (frame->information.call_address >= 0xffffffffff600000) {
    event->vector = UM_FOREIGN_VSYSCALL;
  } else {
    event->kind = MACHINE_EVENT_SYSCALL;
    registers->rcx = registers->rip;
    registers->r11 = registers->eflags;
  }
  registers->orig_rax = registers->rax;
}

static void decode(uint32_t number, const struct um_frame *frame, struct machine_registers *registers,
                   struct machine_event *event) {
  const struct um_context *context = &frame->context;
  store(context, registers);
  switch (number) {
    case UM_PREEMPT_SIGNAL: event->kind = MACHINE_EVENT_INTERRUPT; return;
    case SIGSYS: decode_system_call(frame, registers, event); return;
    case SIGILL:
      // The host answers the numbers 335 and 336 (its own trampolines for uprobes, exempt from filters since Linux 6.14)
      // with SIGILL when they come from elsewhere. To Linux programs of the guest they are unassigned numbers.
      if (frame->information.code == SIGNAL_CODE_KERNEL) {
        event->kind = MACHINE_EVENT_SYSCALL;
        registers->rax = registers->orig_rax = 335;
        return;
      }
      break;
    case SIGTRAP:
      // The gate's own breakpoint: a system call that wants a signal frame.
      if (context->rip == UM_CODE + (uint64_t)(um_gate_trapped - um_stub_start)) {
        event->kind = MACHINE_EVENT_SYSCALL;
        registers->orig_rax = registers->rax;
        registers->rip = registers->rcx;
        return;
      }
      break;
    case SIGSEGV:
    case SIGBUS:
      if (context->trap == 14 && frame->information.code != SIGNAL_CODE_KERNEL) {
        event->kind = MACHINE_EVENT_FAULT;
        event->address = context->cr2;
        event->error_code = (uint32_t)context->error;
        event->access = context->error & 16  ? MACHINE_ACCESS_EXECUTE
                        : context->error & 2 ? MACHINE_ACCESS_WRITE
                                             : MACHINE_ACCESS_READ;
        return;
      }
      break;
    default: break;
  }
  event->kind = MACHINE_EVENT_TRAP;
  event->error_code = (uint32_t)context->error;
  event->vector = context->trap < 32 && context->trap != 14 ? (uint32_t)context->trap : 13;
}

// A system call through the gate: the registers are copied once, and become the kernel's as they are.
static void take_call(struct um_thread *thread, uint32_t index, uint32_t slot, struct machine_registers *registers) {
  struct um_saved copy;
  memcpy(&copy, &um_thread_report(index, slot)->saved, sizeof copy);
  store_saved(&copy, registers);
  thread->frame = um_report_address(slot) + UM_BUILT_FRAME;
  frame_at(index, slot, thread->frame)->context.extended = um_report_address(slot) + UM_BUILT_EXTENDED;
  thread->in_gate = 1;
  thread->given = *registers;
}

// A signal of the host; false when the frame is not where a frame can be.
static bool take_frame(struct um_thread *thread, uint32_t index, uint32_t slot, uint32_t number,
                       struct machine_registers *registers, struct machine_event *event) {
  uint64_t frame = *(volatile uint64_t *)&um_thread_report(index, slot)->frame, start = um_report_address(slot);
  if (frame & 7 || frame < start + UM_REPORT_STACK || frame > start + UM_REPORT_SIZE - sizeof(struct um_frame)) return false;
  thread->frame = frame;
  thread->in_gate = 0;
  struct um_frame copy;
  memcpy(&copy, frame_at(index, slot, frame), sizeof copy);
  decode(number, &copy, registers, event);
  return true;
}

// MARK: Waiting

static bool polls(struct um_cpu *cpu, struct um_thread *thread) {
  if (um.config.hand_over == UM_HAND_OVER_POLLING) return true;
  return cpu->poller == thread && thread->polling;
}

// Returns when the thread has reported `sequence`, or its process is dead. The CPU's timer and kicks preempt it (cpu.c), and the
// watch sees to it that it obeys, and that no wake-up is lost on the way (watch.c).
//
// The result is the TSC, to within a microsecond of polling, which is not worth a second reading.
static uint64_t await_event(struct um_cpu *cpu, struct um_space *space, struct um_report *report,
                            struct um_parameters *parameters, uint32_t sequence, bool polling, uint64_t begun) {
  if (polling) {
    uint64_t now = begun;
    do {
      for (int i = 0; i < 64; i++) {
        if (atomic_load_explicit(&report->event, memory_order_acquire) == sequence) return now;
        __builtin_ia32_pause();
      }
      now = __builtin_ia32_rdtsc();
    } while (now < begun + um.config.kernel_spin);
    cpu->misses += UM_MISS;
  }
  atomic_store(&parameters->asleep, 1);
  for (;;) {
    uint32_t seen = atomic_load(&report->event);
    if (seen == sequence || atomic_load(&space->dead) || atomic_load(&cpu->abandoned)) break;
    um_futex_wait(&report->event, seen, UINT64_MAX);
  }
  atomic_store_explicit(&parameters->asleep, 0, memory_order_relaxed);
  return __builtin_ia32_rdtsc();
}

// Resumes the thread behind all queued commands that are not known to be done, when there are any: the mapper wakes it then. Each
// thread needs a resumption of its own: another's, published a moment ago by another CPU, tells that its commands will be done, not
// that they are.
static bool resume_through_mapper(struct um_thread *thread, struct um_space *space, uint32_t index, uint32_t slot, uint32_t sequence,
                                  bool polling) {
  for (;;) {
    bool crowded = um_ring_is_crowded(space);
    if (space->queued == space->done && !crowded) return false;
    if (polling || crowded) {
      // We are about to poll on the mapper's CPU: it has to be done before. Or it is for us to make room in the ring.
      um_lock_take(&space->answering);
      um_lock_take(&space->lock);
      um_ring_settle(index);
      um_space_release_waited(space);
      return false;
    }
    um_lock_take(&space->lock);
    if (!um_ring_is_crowded(space)) break;
    um_lock_release(&space->lock);
  }
  struct um_entry resume = {UM_COMMAND_RESUME, {um_report_address(slot), sequence}, 0};
  um_ring_add(index, &resume);
  um_ring_publish(index);
  thread->behind = space->queued;
  um_lock_release(&space->lock);
  return true;
}

void um_user_run(int64_t user, struct machine_registers *registers, struct machine_event *event, uint64_t deadline) {
  memset(event, 0, sizeof *event);
  struct um_cpu *cpu = um_this_cpu;
  uint32_t index, slot;
  struct um_thread *thread = um_thread_find(user, &index, &slot);
  struct um_space *space = thread ? &um.spaces[index] : NULL;
  event->kind = MACHINE_EVENT_DEAD;
  if (!cpu || !thread) return;
  if (atomic_load(&space->dead)) {
    event->address = atomic_exchange(&space->ungranted, 0);
    return;
  }

  struct um_report *report = um_thread_report(index, slot);
  // A kicker makes the interrupt pending and then looks at the state; we set the state and then look for interrupts.
  cpu->runs++;
  atomic_store_explicit(&cpu->running, thread, memory_order_relaxed);
  atomic_store_explicit(&cpu->running_process, atomic_load(&space->process), memory_order_relaxed);
  // Notice of preemption that came too late for the last run; from the next line but one on it is for this one.
  atomic_store_explicit(&report->deferred, 0, memory_order_relaxed);
  atomic_store_explicit(&cpu->deadline, deadline, memory_order_relaxed);
  atomic_store_explicit(&cpu->handed, UM_HANDED_NOT_YET, memory_order_relaxed);
  atomic_store(&cpu->state, UM_CPU_USER);
  if (atomic_load_explicit(&um.watch_sleeps, memory_order_relaxed)) um_watch_ring();
  if (atomic_load(&cpu->pending)) {
    atomic_store(&cpu->state, UM_CPU_KERNEL);
    event->kind = MACHINE_EVENT_INTERRUPT;
    return;
  }
  um_arm(cpu);
  bool polling = polls(cpu, thread);
  um_place(&thread->host_cpu, atomic_load(&thread->id), polling ? cpu->user_cpu : cpu->host_cpu);
  uint64_t bit = polling ? cpu->user_bit : cpu->host_bit;
  if (space->barriers & bit) {
    um_barrier(cpu, thread->host_cpu);
    __atomic_fetch_and(&space->barriers, ~bit, __ATOMIC_RELAXED);
  }
  load(thread, index, slot, registers, polling);
  // The reaper marks the space as dead and then answers for the thread's last number; we count and then look.
  uint32_t sequence = atomic_fetch_add(&thread->sequence, 1) + 1;
  uint64_t begun = __builtin_ia32_rdtsc();
  atomic_store_explicit(&cpu->begun, begun, memory_order_relaxed);
  atomic_store_explicit(&space->touched, 1, memory_order_relaxed);
  bool mapped = resume_through_mapper(thread, space, index, slot, sequence, polling);
  if (!mapped) {
    atomic_store(&report->resume, sequence);
    if (atomic_exchange(&report->awake, 1) == 0) {
      um_futex_wake(&report->awake, 1);
      if (polling) cpu->misses += UM_MISS;  // the expensive cross-CPU wake-up
    }
  }
  atomic_store_explicit(&cpu->handed, mapped ? UM_HANDED_TO_MAPPER : UM_HANDED_DIRECTLY, memory_order_release);
  uint64_t ended = await_event(cpu, space, report, um_thread_parameters(index, slot), sequence, polling, begun);
  thread->granted += ended - begun + um.run_credit;
  // A thread that polls for its next resumption does so between its runs.
  if (polling) thread->granted += begun - thread->ended < um.config.user_spin ? begun - thread->ended : um.config.user_spin;
  thread->ended = ended;
  atomic_store_explicit(&cpu->begun, 0, memory_order_relaxed);
  atomic_store(&cpu->state, UM_CPU_KERNEL);

  if (atomic_load_explicit(&report->event, memory_order_acquire) != sequence || atomic_load(&space->dead)) {
    event->address = atomic_exchange(&space->ungranted, 0);
    return;
  }
  if (mapped) um_space_note_done(space, thread->behind);  // it has come back from a resumption by the mapper
  uint32_t number = *(volatile uint32_t *)&report->signal;
  if (number == UM_REPORT_AGAIN) {
    event->kind = MACHINE_EVENT_INTERRUPT;
  } else {
    registers->fs_base = *(volatile uint64_t *)&report->fs_base;
    registers->gs_base = *(volatile uint64_t *)&report->gs_base;
    if (registers->gs_base == um_report_address(slot)) registers->gs_base = 0;
    if (number == UM_REPORT_CALL) {
      take_call(thread, index, slot, registers);
      event->kind = MACHINE_EVENT_SYSCALL;
      cpu->gate_calls++;
    } else if (!take_frame(thread, index, slot, number, registers, event)) {
      event->kind = MACHINE_EVENT_DEAD;
      um_condemn(index, atomic_load(&space->process), UM_REASON_FORGED);
      return;
    } else if (event->kind == MACHINE_EVENT_SYSCALL && um.gate && um_text_is_hot(cpu, user >> 10, registers->rip)) {
      event->vector = 1;
    }
  }
  if (um.config.hand_over == UM_HAND_OVER_ADAPTIVE)
    um_adapt(cpu, thread, polling, event->kind == MACHINE_EVENT_SYSCALL && !mapped, begun, ended);
  if (event->kind == MACHINE_EVENT_SYSCALL) cpu->syscalls++;
  else if (event->kind == MACHINE_EVENT_FAULT) cpu->faults++;
  else if (event->kind == MACHINE_EVENT_INTERRUPT) cpu->interrupts++;
}
