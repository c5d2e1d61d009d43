// What the kernel maps into every program: the vDSO and its data page. An ordinary user tries each way to change memory on them, as
// the program itself and as a debugger. What the user gets is an error or a copy of its own: the other programs find the
// bytes as they were, and their clocks go on.
//
// run: --cpus 2 --user 0 -- @
// expect: ok code of the vDSO: .*
// expect: ok data of the vDSO: .*
// run: --cpus 1 --user 1000 -- @
#include "attack.h"
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <linux/futex.h>

#define SIZE 4096

static char *target;

static void store(char *at) { TRAPPED(*(volatile char *)at = 'X'); }

static void by_store(void) { store(target); }

static void by_mprotect(void) {
  const int rights[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC, PROT_WRITE};
  for (int i = 0; i < 3; i++) {
    mprotect(target, SIZE, rights[i]);
    store(target);
  }
}

static void by_pkey(void) {
  syscall(SYS_pkey_mprotect, target, SIZE, PROT_READ | PROT_WRITE, -1);
  store(target);
}

// To another place, where the rights are asked for once more; and a second mapping of the same object.
static void by_mremap(void) {
  char *place = mmap(NULL, 3 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *second = mremap(target, 0, SIZE, MREMAP_MAYMOVE);
  if (second != MAP_FAILED) {
    mprotect(second, SIZE, PROT_READ | PROT_WRITE);
    store(second);
  }
  char *moved = mremap(target, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
  if (moved == MAP_FAILED) return;
  mprotect(moved, SIZE, PROT_READ | PROT_WRITE);
  store(moved);
}

static void by_remap_pages(void) {
  syscall(SYS_remap_file_pages, target, SIZE, 0, 1, 0);
  store(target);
}

static void by_memory_file(void) {
  int memory = open("/proc/self/mem", O_RDWR);
  if (memory >= 0) pwrite(memory, "X", 1, (off_t)target);
}

static void by_vector(void) {
  char byte = 'X';
  struct iovec from = {&byte, 1}, to = {target, 1};
  process_vm_writev(getpid(), &from, 1, &to, 1, 0);
}

static void by_kernel(void) {
  int ends[2];
  MUST(pipe(ends));
  MUST(write(ends[1], "X", 1));
  read(ends[0], target, 1);
  syscall(SYS_getrandom, target, 1, 0);
  syscall(SYS_get_robust_list, 0, target, target + 8);
  uint32_t own = 0;
  syscall(SYS_futex, &own, FUTEX_WAKE_OP, 1, 1, target, FUTEX_OP(FUTEX_OP_SET, 0x58, FUTEX_OP_CMP_EQ, 0));
}

static void by_direct_read(void) {
  char name[] = "/tmp/vdso-XXXXXX";
  int file = mkstemp(name);
  if (file < 0) return;
  unlink(name);
  char *page = aligned_alloc(4096, 4096);
  memset(page, 'X', 4096);
  MUST(write(file, page, 4096));
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  int direct = open(link, O_RDONLY | O_DIRECT);
  if (direct >= 0) read(direct, target, 4096);
}

static void by_advice(void) {
  const int advice[] = {MADV_REMOVE, MADV_DONTNEED, MADV_FREE, 23 /* POPULATE_WRITE */, 21 /* PAGEOUT */, 25 /* COLLAPSE */, MADV_WIPEONFORK};
  for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++) madvise(target, SIZE, advice[i]);
  outcome(in_child(by_store));
  store(target);
}

static void by_splice(void) {
  int ends[2];
  MUST(pipe(ends));
  struct iovec page = {target, SIZE};
  vmsplice(ends[1], &page, 1, 0);
}

static void by_debugger(void) {
  pid_t child = MUST(fork());
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  MUST(waitpid(child, &status, WUNTRACED));
  ptrace(PTRACE_POKEDATA, child, target, 0x5858585858585858);
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/mem", child);
  int memory = open(name, O_RDWR);
  if (memory >= 0) pwrite(memory, "X", 1, (off_t)target);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

static void (*const ways[])(void) = {
  by_store, by_mprotect, by_pkey, by_mremap, by_remap_pages, by_memory_file, by_vector, by_kernel, by_direct_read, by_advice,
  by_splice, by_debugger,
};
#define WAYS (int)(sizeof ways / sizeof *ways)

static int way;
static void attempt(void) {
  if (getuid() == 0) become_user(1000);
  catch_faults();
  ways[way]();
}

// How many of the ways change what this process sees of the page.
static int changes(char *page, int from, int to) {
  char before[SIZE];
  int count = 0;
  target = page;
  for (way = 0; way < WAYS; way++) {
    memcpy(before, page, SIZE);
    outcome(in_child(attempt));
    if (memcmp(before + from, page + from, to - from)) {
      count++;
      say("way %d changes the page", way);
      if (to == SIZE && page[0] == 'X') page[0] = 0;  // the control's page: ready for the next way
    }
  }
  return count;
}

int main(void) {
  char *code = (char *)getauxval(AT_SYSINFO_EHDR);
  if (code == NULL) {
    say("FATAL no vDSO");
    return 98;
  }
  char *shared = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  say("control:");
  int control = changes(shared, 0, SIZE);
  check(control >= 6, "control: %d ways change a page that is shared", control);
  check(changes(code, 0, SIZE) == 0, "code of the vDSO: no way changes it for others");
  // Nothing but the first bytes of the data page changes, when a clock is set.
  check(changes(code - SIZE, 64, SIZE - 1) == 0, "data of the vDSO: no way changes it for others");
  check(changes(code - SIZE, 0, 64) == 0, "clocks of the vDSO: no way changes them for others");
  int64_t first = now_ns(CLOCK_MONOTONIC), second = now_ns(CLOCK_MONOTONIC);
  struct timespec by_call;
  MUST(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_call));
  check(first > 0 && first <= second && second <= by_call.tv_sec * 1000000000LL + by_call.tv_nsec, "clocks go on");
  return attack_end();
}
