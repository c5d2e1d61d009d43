// Does a thread that the kernel believes asleep keep a view of frames that were given back? A thread of an ordinary user forges the report of
// a waiting system call and goes on by itself, without a call, reading an area without end, while another thread of its process gives
// the area back in some way (unmapping, discarding, cutting a file short, a copy after fork). Root then writes a secret into fresh memory.
// The thread must never see it. The control is that it really runs on for a while: it counts its looks.
//
// run: --cpus 2 --user 0 -- @ dontneed
// run: --cpus 2 --user 0 -- @ munmap
// run: --cpus 4 --user 0 -- @ mremap
// run: --cpus 2 --user 0 -- @ truncate
// run: --cpus 1 --user 0 -- @ mmap
// run: --cpus 2 --user 0 -- @ cow
// run: --cpus 2 --user 0 -- @ fork
#include "attack.h"

#define SECRET 0x5ec2e75ec2e75ec2ull
enum { PAGES = 64, SIZE = PAGES * 4096, ROUNDS = 12, FRESH = 4 << 20 };

static struct results { volatile uint64_t looks, found, rogue, released; } *results;
static char *volatile area;
static volatile int ready;
static char stack[65536] __attribute__((aligned(64)));

// Runs after the forged event: makes no call; a fault ends it, because the handler of the stub waits for a resumption.
__attribute__((noinline)) static void look(void) {
  for (;;) {
    results->looks++;
    for (int i = 0; i < PAGES; i++)
      if (*(volatile uint64_t *)(area + 4096 * i + 8) == SECRET) results->found++;
  }
}

static void *rogue(void *unused) {
  (void)unused;
  for (int i = 0; i < 3; i++) sched_yield();
  uint64_t report = own_report();
  if (report < UM_REPORTS || report >= UM_REPORTS + UM_REPORTS_SIZE) {
    ready = 2;
    return NULL;
  }
  uint64_t frame = frame_of_fault(report);
  forge_call(report, SYS_pause, 0, 0, 0);
  U64(frame + CONTEXT_FLAGS) = 7;
  U64(frame + CONTEXT_MASK) = ~0ull & ~(1ull << (UM_PREEMPT_SIGNAL - 1)) & ~(1ull << (SIGSEGV - 1));
  U64(frame + UM_CONTEXT_RIP) = (uint64_t)look;
  U64(frame + CONTEXT_RSP) = (uint64_t)stack + 65000;
  U64(frame + CONTEXT_EFLAGS) = 0x202;
  results->rogue++;
  ready = 1;
  publish_and_continue(report);
}

static void release(const char *how, int file) {
  pid_t child;
  if (!strcmp(how, "dontneed")) MUST(madvise(area, SIZE, MADV_DONTNEED));
  else if (!strcmp(how, "munmap")) MUST(munmap(area, SIZE));
  else if (!strcmp(how, "mremap")) {
    char *moved = MUST(mremap(area, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)0x200000000000));
    MUST(munmap(moved, SIZE));
  } else if (!strcmp(how, "truncate")) MUST(ftruncate(file, 0));
  else if (!strcmp(how, "mmap")) MUST(mmap(area, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  else {
    // Copies on write: of the parent while the child lives, and the originals after it has ended.
    child = MUST(fork());
    if (child == 0) {
      sleep_ms(5);
      _exit(0);
    }
    if (!strcmp(how, "cow")) memset(area, 8, SIZE);
    outcome(child);
    if (!strcmp(how, "fork")) memset(area, 9, SIZE);
  }
}

static void attacker(const char *how) {
  become_user(1000);
  int file = MUST(memfd_create("area", 0));
  MUST(ftruncate(file, SIZE));
  area = !strcmp(how, "truncate") ? mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                                  : mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(area, 7, SIZE);
  pthread_t thread;
  uint64_t before = results->looks;
  pthread_create(&thread, NULL, rogue, NULL);
  UNTIL(ready != 0);
  // It has looked, or the kernel has ended it: either may come first.
  for (int i = 0; i < 200 && results->looks == before; i++) sleep_ms(1);
  release(how, file);
  results->released++;
  sleep_ms(60);
  _exit(0);
}

int main(int count, char **words) {
  const char *how = count > 1 ? words[1] : "munmap";
  results = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t released = results->released;
    pid_t child = MUST(fork());
    if (child == 0) attacker(how);
    // Until the area has been given back, or the attacker's process was ended for what it does.
    siginfo_t ended = {0};
    UNTIL(results->released != released || (waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == child));
    for (int i = 0; i < 6; i++) {
      uint64_t *fresh = MUST(mmap(NULL, FRESH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      for (size_t k = 0; k < FRESH / 8; k++) fresh[k] = SECRET;
      sleep_ms(2);
      MUST(munmap(fresh, FRESH));
    }
    outcome(child);
  }
  check(results->rogue > 0, "control: the thread goes on by itself (%lu times, %lu looks)", results->rogue, results->looks);
  check(results->found == 0, "%s: no look at what root wrote into the frames (%lu)", how, results->found);
  return attack_end();
}
