// The seccomp filters of the kernel process: one for all its threads (um_confine), one more that forbids executable memory once
// the kernel's text is sealed (um_confine_text), and one for each kind of thread that does a single job
// (um_confine_thread).
//
// The lists allow; any other call ends the monitor with a message (trap.c). Documentation/security.md gives the reason for
// each call.

#include "internal.h"
#include "filter.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

// Most calls are allowed whatever their arguments: the host answers those from a bitmap of numbers and does not run the
// filter (seccomp's action cache). The rest is asked for what it does.

// What the machine itself and the C library's threads and allocator need.
static const uint16_t kernel_calls[] = {
    // Hand-over to and from user processes, waiting, deadlines, other CPUs.
    SYS_futex, SYS_read, SYS_write, SYS_ppoll, SYS_rt_sigreturn, SYS_timer_create, SYS_timer_settime, SYS_timer_delete,
    SYS_sched_setaffinity, SYS_sched_getaffinity, SYS_sched_setattr, SYS_sched_yield, SYS_getcpu,
    // The end of user processes, and of guest memory's pages.
    SYS_wait4, SYS_fallocate, SYS_lseek,
    // The proof that a user process is at rest, from its /proc files (recycle.c); opening them follows below.
    SYS_pread64,
    // Memory of the monitor and of kernel stacks. mmap and mprotect follow below.
    SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk,
    // Threads: their start and their end, signal masks, signal stacks. clone follows below.
    SYS_rseq, SYS_set_robust_list, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_sigaltstack, SYS_getpid, SYS_gettid,
    SYS_exit, SYS_exit_group,
    // Clocks where the vDSO cannot answer, and the time limit; the last continues a sleep after SIGSTOP and SIGCONT.
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_restart_syscall,
    SYS_getrandom, SYS_close,
    SYS_writev,  // the C library's last words
};

// The flags of pthread_create. Nothing else may be cloned: no process, no namespace.
#define THREAD_FLAGS \
  (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | \
   CLONE_CHILD_CLEARTID)

// Allows `number` when argument `n` is `value`, a C int; goes on otherwise.
static void allow_word(struct program *p, uint32_t number, int n, uint32_t value) {
  open_case(p, number);
  match_word(p, n, value);
  close_case(p);
}

static void kernel_rules(struct program *p) {
  open_block(p, SYS_clone);
  require_argument(p, 0, THREAD_FLAGS);
  close_block(p);
  // Its flags lie in memory, where a filter cannot look; the C library falls back to clone.
  jump(p, BPF_JEQ, SYS_clone3, 0, 1);
  statement(p, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  // No memory becomes executable, except the kernel's code, which does so as it becomes unwritable (text_seal).
  open_block(p, SYS_mmap);
  load(p, argument(2));
  jump(p, BPF_JSET, PROT_EXEC, 0, 1);
  trap(p);
  close_block(p);
  open_block(p, SYS_mprotect);
  load(p, argument(2));
  jump(p, BPF_JSET, PROT_EXEC, 1, 0);
  allow(p);
  require(p, PROT_READ | PROT_EXEC);
  require_argument(p, 0, um_image_base);
  close_block(p);
  // User processes are killed one by one: never a group, never everything.
  open_block(p, SYS_kill);
  load(p, argument(0));
  jump(p, BPF_JGT, INT32_MAX, 0, 1);
  trap(p);
  jump(p, BPF_JEQ, 0, 0, 1);
  trap(p);
  require_word(p, 1, SIGKILL);
  close_block(p);
  // Preemption of a user thread; otherwise only what we do to ourselves (abort, a terminal's signal passed on).
  allow_word(p, SYS_tgkill, 2, UM_PREEMPT_SIGNAL);
  allow_word(p, SYS_tgkill, 2, 0);  // whether a thread has ended
  allow_word(p, SYS_tgkill, 0, (uint32_t)getpid());
  // More filters, which can only take away (um_confine_text, um_confine_thread).
  for (uint32_t flags = 0; flags <= SECCOMP_FILTER_FLAG_TSYNC; flags++) {
    open_case(p, SYS_seccomp);
    match_word(p, 0, SECCOMP_SET_MODE_FILTER);
    match_word(p, 1, flags);
    close_case(p);
  }
  // The host's /proc, where user processes are looked at from outside.
  allow_word(p, SYS_openat, 0, (uint32_t)um.processes_fd);
  allow_word(p, SYS_prctl, 0, PR_SET_SPECULATION_CTRL);  // barrier.c
  allow_word(p, SYS_prctl, 0, PR_SET_TIMERSLACK);
  allow_word(p, SYS_prctl, 0, PR_SET_NAME);
}

static int64_t install(const struct program *p, uint32_t flags) {
  if (p->count == sizeof p->code / sizeof p->code[0]) return -E2BIG;
  struct sock_fprog program = {.len = p->count, .filter = (struct sock_filter *)p->code};
  int64_t result = um_call3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  return result > 0 ? -ESRCH : result;
}

int64_t um_confine(const struct um_permission *extra, size_t count) {
  if (um.config.test_switches & UM_TEST_UNCONFINED) return 0;
  struct program p;
  begin(&p);
  for (size_t i = 0; i < sizeof kernel_calls / sizeof kernel_calls[0]; i++) allow_number(&p, kernel_calls[i]);
  for (size_t i = 0; i < count; i++) {
    if (extra[i].argument < 0) allow_number(&p, extra[i].number);
    else allow_word(&p, extra[i].number, extra[i].argument, extra[i].value);
  }
  kernel_rules(&p);
  trap(&p);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
  return install(&p, SECCOMP_FILTER_FLAG_TSYNC);
}

// The kernel's text is executable and unwritable from here on, and nothing else becomes executable. A thread with a filter of
// its own could not take over one for all threads: so those come later.
int64_t um_confine_text(void) {
  if (um.config.test_switches & UM_TEST_UNCONFINED) return 0;
  struct program p;
  begin(&p);
  open_block(&p, SYS_mprotect);
  load(&p, argument(2));
  jump(&p, BPF_JSET, PROT_EXEC, 0, 1);
  trap(&p);
  close_block(&p);
  allow(&p);
  int64_t result = install(&p, SECCOMP_FILTER_FLAG_TSYNC);
  if (result == 0) atomic_store(&um.sealed, 1);
  return result;
}

// MARK: The filters of single threads

// What the C library does in every thread: locks, memory, signals, the end. Arguments are the other filters' affair.
static const uint16_t thread_calls[] = {
    SYS_futex, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_brk,
    SYS_sigaltstack, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_sched_yield, SYS_clock_gettime, SYS_clock_nanosleep,
    SYS_restart_syscall, SYS_getrandom, SYS_write, SYS_exit, SYS_exit_group,
};
// Deaths of user processes: waits for them, frees their pages, wakes those who wait for the dead.
static const uint16_t reaper_calls[] = {SYS_wait4, SYS_fallocate, SYS_close};
// The pool of user processes: commands to the zygote, their answers, the place where both run.
static const uint16_t maker_calls[] = {SYS_ppoll, SYS_read, SYS_getcpu, SYS_sched_setaffinity, SYS_sched_setattr, SYS_kill,
                                       SYS_fallocate, SYS_close};
// The watch: what the host says of user processes, and the end of those that fail.
static const uint16_t watch_calls[] = {SYS_openat, SYS_read, SYS_pread64, SYS_lseek, SYS_fallocate, SYS_kill, SYS_close};
// The console's waiting thread: readiness, the terminal's window and modes.
static const uint16_t stream_calls[] = {SYS_poll, SYS_read, SYS_ioctl, SYS_getpgrp};
// Disks: what has to wait for the host's disk, on descriptors that are open.
static const uint16_t disk_calls[] = {SYS_preadv2, SYS_pwritev2, SYS_fdatasync, SYS_fallocate};

#define LIST(calls) {calls, sizeof calls / sizeof calls[0]}
static const struct { const uint16_t *calls; size_t count; } lists[] = {
    [UM_THREAD_REAPER] = LIST(reaper_calls), [UM_THREAD_MAKER] = LIST(maker_calls),
    [UM_THREAD_WATCH] = LIST(watch_calls),
    [UM_THREAD_STREAMS] = LIST(stream_calls), [UM_THREAD_DISK] = LIST(disk_calls),
};

void um_confine_thread(enum um_thread_kind kind) {
  static _Thread_local bool done;
  if (done || !atomic_load_explicit(&um.sealed, memory_order_relaxed)) return;
  struct program p;
  begin(&p);
  for (size_t i = 0; i < sizeof thread_calls / sizeof thread_calls[0]; i++) allow_number(&p, thread_calls[i]);
  for (size_t i = 0; i < lists[kind].count; i++) allow_number(&p, lists[kind].calls[i]);
  trap(&p);
  if (install(&p, 0) != 0) abort();
  done = true;
}
