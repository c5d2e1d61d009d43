// The seccomp filters: of user threads, of mappers, and of the kernel process itself.
//
// The first two lie as data in the constants of every user process; the mapper installs its own as the last step of its
// start, and every user thread, which inherits the mapper's, adds its own before it runs anything else. Both answer with
// RET_TRAP: in a user thread that is the SIGSYS which we want to see; in a mapper, whose signals are blocked, it ends
// the process.
// The list of the kernel process is an allow-list: what is not in it ends the monitor with a message.

#include "internal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

extern const uint8_t um_stub_start[], um_stub_site_wake[], um_stub_site_wait[], um_stub_site_return[];

// MARK: A small assembler of filters
//
// A filter begins with `begin`, goes on with blocks for single system calls and ends with `end`. Within a block every
// condition that does not hold ends in RET_TRAP, and the end of the block allows the call.

struct program {
  struct sock_filter code[384];
  uint16_t count;
  uint16_t block;  // place of the jump over the open block
};

static void emit(struct program *p, struct sock_filter instruction) {
  if (p->count < sizeof p->code / sizeof p->code[0]) p->code[p->count++] = instruction;
}
static void statement(struct program *p, uint16_t code, uint32_t operand) {
  emit(p, (struct sock_filter)BPF_STMT(code, operand));
}
static void jump(struct program *p, uint16_t condition, uint32_t operand, uint8_t taken, uint8_t other) {
  emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | condition | BPF_K, operand, taken, other));
}
static void load(struct program *p, size_t offset) { statement(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset); }
static void trap(struct program *p) { statement(p, BPF_RET | BPF_K, SECCOMP_RET_TRAP); }
static void allow(struct program *p) { statement(p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }

// Goes on when the word just loaded equals `value`.
static void require(struct program *p, uint32_t value) {
  jump(p, BPF_JEQ, value, 1, 0);
  trap(p);
}
static size_t argument(int n) { return offsetof(struct seccomp_data, args) + (size_t)n * 8; }
static void require_argument(struct program *p, int n, uint64_t value) {
  load(p, argument(n));
  require(p, (uint32_t)value);
  load(p, argument(n) + 4);
  require(p, (uint32_t)(value >> 32));
}
// The C type of the argument is int: the upper half does not count.
static void require_word(struct program *p, int n, uint32_t value) {
  load(p, argument(n));
  require(p, value);
}
static void require_below_limit(struct program *p, int n) {
  load(p, argument(n) + 4);
  jump(p, BPF_JGT, (uint32_t)(UM_LIMIT >> 32), 0, 1);
  trap(p);
  jump(p, BPF_JEQ, (uint32_t)(UM_LIMIT >> 32), 0, 3);
  load(p, argument(n));
  jump(p, BPF_JGT, (uint32_t)UM_LIMIT, 0, 1);
  trap(p);
}

// Architecture first: numbers mean something else elsewhere. x32 numbers have bit 30 set and equal none of ours.
static void begin(struct program *p) {
  p->count = 0;
  load(p, offsetof(struct seccomp_data, arch));
  require(p, AUDIT_ARCH_X86_64);
  load(p, offsetof(struct seccomp_data, nr));
}
static void open_block(struct program *p, uint32_t number) {
  p->block = p->count;
  jump(p, BPF_JEQ, number, 0, 0);
}
static void close_block(struct program *p) {
  allow(p);
  p->code[p->block].jf = (uint8_t)(p->count - p->block - 1);
}
static void allow_number(struct program *p, uint32_t number) {
  open_block(p, number);
  close_block(p);
}

// MARK: The filter of user threads

// A system call that a guest program makes traps even where the stub's own would pass: what counts is the place. At
// these places a guest with registers of its choice can wait, wake, or load a context: all its own affair.
static void user_filter(struct program *p) {
  uint64_t wake = UM_CODE + (uint64_t)(um_stub_site_wake - um_stub_start);
  uint64_t wait = UM_CODE + (uint64_t)(um_stub_site_wait - um_stub_start);
  uint64_t back = UM_CODE + (uint64_t)(um_stub_site_return - um_stub_start);
  size_t place = offsetof(struct seccomp_data, instruction_pointer);
  begin(p);
  open_block(p, SYS_futex);
  load(p, place + 4);
  require(p, (uint32_t)(UM_CODE >> 32));
  load(p, place);
  jump(p, BPF_JEQ, (uint32_t)wake, 0, 4);
  load(p, argument(1));
  require(p, FUTEX_WAKE);
  allow(p);
  require(p, (uint32_t)wait);
  load(p, argument(1));
  require(p, FUTEX_WAIT);
  close_block(p);
  open_block(p, SYS_rt_sigreturn);
  load(p, place + 4);
  require(p, (uint32_t)(UM_CODE >> 32));
  load(p, place);
  require(p, (uint32_t)back);
  close_block(p);
  trap(p);
}

// MARK: The filter of mappers

// It also applies to the user threads, which inherit it: so the stub's own calls come first and pass.
static void mapper_filter(struct program *p) {
  begin(p);
  open_block(p, SYS_futex);
  load(p, argument(1));
  jump(p, BPF_JGT, FUTEX_WAKE, 0, 1);
  trap(p);
  close_block(p);
  allow_number(p, SYS_rt_sigreturn);
  open_block(p, SYS_mmap);
  require_word(p, 4, UM_FD_MEMORY);
  load(p, argument(3));
  statement(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)MAP_POPULATE);
  require(p, MAP_SHARED | MAP_FIXED);
  require_below_limit(p, 0);
  require_below_limit(p, 1);
  close_block(p);
  open_block(p, SYS_munmap);
  require_below_limit(p, 0);
  require_below_limit(p, 1);
  close_block(p);
  open_block(p, SYS_mprotect);
  require_below_limit(p, 0);
  require_below_limit(p, 1);
  close_block(p);
  open_block(p, SYS_write);  // to the eventfds, out of the constants
  load(p, argument(0));
  jump(p, BPF_JGE, UM_FD_EVENTS, 1, 0);
  trap(p);
  load(p, argument(1) + 4);
  require(p, (uint32_t)(UM_CONSTANTS >> 32));
  load(p, argument(1));
  statement(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)(UM_ACKNOWLEDGEMENT_COUNT * 8 - 1));
  require(p, (uint32_t)UM_ACKNOWLEDGEMENTS);
  require_argument(p, 2, 8);
  close_block(p);
  open_block(p, SYS_clone);
  require_argument(p, 0, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM);
  close_block(p);
  open_block(p, SYS_seccomp);
  require_word(p, 0, SECCOMP_SET_MODE_FILTER);
  require_argument(p, 2, UM_USER_FILTER);
  close_block(p);
  allow_number(p, SYS_exit);
  allow_number(p, SYS_exit_group);
  trap(p);
}

static void put(uint8_t *constants, uint64_t address, const struct program *program) {
  uint8_t *at = constants + (address - UM_CONSTANTS);
  struct sock_fprog header = {.len = program->count, .filter = (struct sock_filter *)(address + 0x100)};
  memcpy(at, &header, sizeof header);
  memcpy(at + 0x100, program->code, program->count * sizeof program->code[0]);
}

void um_write_filters(uint8_t *constants) {
  struct program program;
  user_filter(&program);
  put(constants, UM_USER_FILTER, &program);
  mapper_filter(&program);
  put(constants, UM_MAPPER_FILTER, &program);
}

// MARK: The filter of the kernel process

// Most calls are allowed whatever their arguments: the host answers those from a bitmap of numbers and does not run the
// filter (seccomp's action cache). The rest is asked for what it does.

// What the machine itself and the C library's threads and allocator need.
static const uint16_t kernel_calls[] = {
    // Hand-over to and from user processes, waiting, deadlines, other CPUs.
    SYS_futex, SYS_read, SYS_write, SYS_ppoll, SYS_rt_sigreturn, SYS_timer_create, SYS_timer_settime, SYS_timer_delete,
    SYS_sched_setaffinity, SYS_sched_getaffinity, SYS_sched_setattr, SYS_sched_yield, SYS_getcpu,
    // The end of user processes, and of guest memory's pages.
    SYS_wait4, SYS_fallocate, SYS_lseek,
    // The proof that a user process is at rest, from its /proc files (recycle.c; opening them is the extras' affair).
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

// Allows `number` when argument `n` is `value`, a C int; goes on to the next block otherwise.
static void allow_word(struct program *p, uint32_t number, int n, uint32_t value) {
  jump(p, BPF_JEQ, number, 0, 4);
  load(p, argument(n));
  jump(p, BPF_JEQ, value, 0, 1);
  allow(p);
  load(p, offsetof(struct seccomp_data, nr));
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
  allow_word(p, SYS_tgkill, 0, (uint32_t)getpid());
  allow_word(p, SYS_prctl, 0, PR_SET_TIMERSLACK);
  allow_word(p, SYS_prctl, 0, PR_SET_NAME);
}

int64_t um_confine(const struct um_permission *extra, size_t count) {
  if (um.config.test_switches & UM_TEST_UNCONFINED) return 0;
  struct program p;
  begin(&p);
  for (size_t i = 0; i < sizeof kernel_calls / sizeof kernel_calls[0]; i++) allow_number(&p, kernel_calls[i]);
  // User processes whose /proc files are not open yet are then not used twice: recycle.c.
  um.no_more_files = true;
  for (size_t i = 0; i < count; i++) {
    if (extra[i].argument < 0) allow_number(&p, extra[i].number);
    else allow_word(&p, extra[i].number, extra[i].argument, extra[i].value);
    if (extra[i].number == SYS_openat && extra[i].argument < 0) um.no_more_files = false;
  }
  kernel_rules(&p);
  trap(&p);
  if (p.count == sizeof p.code / sizeof p.code[0]) return -E2BIG;
  struct sock_fprog program = {.len = p.count, .filter = p.code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
  int64_t result = um_call3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  return result > 0 ? -ESRCH : result;
}
