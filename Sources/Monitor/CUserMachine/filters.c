// The seccomp filters of the zygote, of mappers and of user threads.
//
// They lie as data in the constants of every user process. The zygote installs its own before it reads its
// first command, because the kernel process writes those commands. A mapper, which inherits the zygote's, adds its own as
// the last step of its start, and every user thread, which inherits both, adds its own before it runs anything else. All
// answer with RET_TRAP: in a user thread that is the SIGSYS which we want to see; in a zygote or mapper, whose signals are
// blocked, it ends the process.

#include "internal.h"
#include "filter.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

extern const uint8_t um_stub_start[], um_stub_site_wake[], um_stub_site_wait[], um_stub_site_return[], um_stub_site_exit[];

// MARK: The filter of user threads

// The word of a futex call lies in the reports: what others wait for, the mapper's ring above all, is out of reach. A guest thread that
// waited there would be woken in the mapper's place.
static void require_report(struct program *p) {
  load(p, argument(0) + 4);
  require(p, (uint32_t)(UM_REPORTS >> 32));
  load(p, argument(0));
  statement(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)(UM_REPORTS_SIZE - 1));
  require(p, (uint32_t)UM_REPORTS);
}

// A system call that a guest program makes traps even where the stub's own would pass: what counts is the place. At
// these places a guest with registers of its choice can wait for words of its own reports, without a time limit, wake who waits there,
// load a context, or end its own thread: all its own affair.
static void user_filter(struct program *p) {
  uint64_t wake = UM_CODE + (uint64_t)(um_stub_site_wake - um_stub_start);
  uint64_t wait = UM_CODE + (uint64_t)(um_stub_site_wait - um_stub_start);
  uint64_t back = UM_CODE + (uint64_t)(um_stub_site_return - um_stub_start);
  uint64_t end = UM_CODE + (uint64_t)(um_stub_site_exit - um_stub_start);
  size_t place = offsetof(struct seccomp_data, instruction_pointer);
  begin(p);
  open_block(p, SYS_futex);
  load(p, place + 4);
  require(p, (uint32_t)(UM_CODE >> 32));
  require_report(p);
  load(p, place);
  jump(p, BPF_JEQ, (uint32_t)wake, 0, 4);
  load(p, argument(1));
  require(p, FUTEX_WAKE);
  allow(p);
  require(p, (uint32_t)wait);
  load(p, argument(1));
  require(p, FUTEX_WAIT);
  require_argument(p, 3, 0);
  close_block(p);
  open_block(p, SYS_rt_sigreturn);
  load(p, place + 4);
  require(p, (uint32_t)(UM_CODE >> 32));
  load(p, place);
  require(p, (uint32_t)back);
  close_block(p);
  open_block(p, SYS_exit);
  load(p, place + 4);
  require(p, (uint32_t)(UM_CODE >> 32));
  load(p, place);
  require(p, (uint32_t)end);
  close_block(p);
  trap(p);
}

// MARK: The filters of mappers and of the zygote

// They also apply to the user threads, which inherit them: so the stub's own calls come first and pass.
static void stub_rules(struct program *p) {
  open_block(p, SYS_futex);
  load(p, argument(1));
  jump(p, BPF_JGT, FUTEX_WAKE, 0, 1);
  trap(p);
  close_block(p);
  allow_number(p, SYS_rt_sigreturn);
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

// One report comes into reach, or goes.
static void match_report(struct program *p, uint32_t protection) {
  open_case(p, SYS_mprotect);
  load(p, argument(0) + 4);
  jump(p, BPF_JEQ, (uint32_t)(UM_REPORTS >> 32), 0, 0);
  miss(p);
  load(p, argument(0));
  statement(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)(UM_REPORTS_SIZE - 1));
  jump(p, BPF_JEQ, (uint32_t)UM_REPORTS, 0, 0);
  miss(p);
  match(p, 1, UM_REPORT_SIZE);
  match_word(p, 2, protection);
  close_case(p);
}

static void mapper_rules(struct program *p) {
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
  match_report(p, PROT_READ | PROT_WRITE);
  match_report(p, PROT_NONE);
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
}

static void mapper_filter(struct program *p) {
  begin(p);
  stub_rules(p);
  mapper_rules(p);
  trap(p);
}

// One part of the control memory, at its place in the reserved region. What can be written is never the ring of the
// zygote, which comes before the slots.
static void match_control(struct program *p, uint64_t address, uint64_t length, uint64_t protection) {
  open_case(p, SYS_mmap);
  match(p, 0, address);
  match(p, 1, length);
  match(p, 2, protection);
  match(p, 3, MAP_SHARED | MAP_FIXED);
  match_word(p, 4, UM_FD_CONTROL);
  load(p, argument(5) + 4);
  jump(p, BPF_JGT, 0, 2, 0);
  load(p, argument(5));
  jump(p, BPF_JGE, UM_CONTROL_SLOTS, 0, 0);
  miss(p);
  close_case(p);
}

// The making of a user process: its shared pages, the clone, and the clone's first steps until it installs the filter of
// mappers. Every argument is fixed but the offset of the slot, so that a kernel process which writes commands of its own
// gets nothing from the host by them.
static void zygote_filter(struct program *p) {
  bool open = um.config.test_switches & UM_TEST_WRITABLE_PARAMETERS;
  begin(p);
  stub_rules(p);
  match_control(p, UM_RING, 2 * UM_PART, PROT_READ | (open ? PROT_WRITE : 0));
  match_control(p, UM_REPORTS, UM_REPORTS_SIZE, PROT_NONE);
  open_case(p, SYS_clone);
  for (int i = 0; i < 5; i++) match(p, i, i == 0 ? CLONE_PARENT : 0);
  close_case(p);
  open_case(p, SYS_prctl);
  match_word(p, 0, PR_SET_PDEATHSIG);
  match(p, 1, SIGKILL);
  close_case(p);
  open_case(p, SYS_munmap);
  match(p, 0, UM_ZYGOTE_RING);
  match(p, 1, UM_PART);
  close_case(p);
  open_case(p, SYS_close);
  match_word(p, 0, UM_FD_CONTROL);
  close_case(p);
  open_case(p, SYS_seccomp);
  match_word(p, 0, SECCOMP_SET_MODE_FILTER);
  match_word(p, 1, 0);
  match(p, 2, UM_MAPPER_FILTER);
  close_case(p);
  allow_number(p, SYS_getppid);
  mapper_rules(p);
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
  zygote_filter(&program);
  put(constants, UM_ZYGOTE_FILTER, &program);
}
