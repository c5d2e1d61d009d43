// A life of the system-call fuzzer: a process with its files and descriptors, its workers in threads and processes, and their calls.
#ifndef LIFE_H
#define LIFE_H

#include "arguments.h"
#include "calls.h"
#include "supervisor.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static struct {
  uint64_t seed, rounds, first, seconds, calls, workers;
  int root, user;
  const char *directory;
} options = {.seed = 1, .rounds = 1, .calls = 4000, .workers = 2, .root = 1, .user = 1, .directory = "/tmp"};

static struct shared {
  struct worker workers[WORKERS];
} *shared;

static bool killed_here[8];  // lives of which the supervisor killed a process

// ---- a worker ----

// Pages of a worker, as arguments.h describes them.
static void make_arena(uint64_t arena) {
  const uint64_t any = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  plain_call(SYS_munmap, arena, ARENA_PAGES * PAGE, 0, 0, 0, 0);
  plain_call(SYS_mmap, arena, 16 * PAGE, PROT_READ | PROT_WRITE, any, -1, 0);
  plain_call(SYS_mmap, arena + 32 * PAGE, 4 * PAGE, PROT_READ, any, -1, 0);
  plain_call(SYS_mmap, arena + 40 * PAGE, 4 * PAGE, PROT_NONE, any, -1, 0);
  plain_call(SYS_mmap, arena + 48 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, 3, 0);
  plain_call(SYS_mmap, arena + 56 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void on_kick(int number) { (void)number; }

// A fault of the worker itself, when a call has taken its pages away.
static __thread sigjmp_buf back;
static void on_fault(int number) { (void)number; siglongjmp(back, 1); }

static void set_handlers(void) {
  struct sigaction kick = {.sa_handler = on_kick}, fault = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
  sigaction(SIGUSR1, &kick, NULL);
  sigaction(SIGSEGV, &fault, NULL);
  sigaction(SIGBUS, &fault, NULL);
  for (int i = 1; i < 65; i++)
    if (i != SIGSEGV && i != SIGBUS) sigaction(i, &kick, NULL);
}

// Takes away what would end the fuzzer by design.
static bool bend(struct state *s, long number, uint64_t a[6]) {
  switch (number) {
    case SYS_kill:
      // A user's life has a user identifier of its own, so that -1 means its own processes; root's means everything.
      if ((int)a[0] < 0 && s->is_root) return false;
      if ((int)a[0] == 0 && (int)a[1] != 0) return false;
      [[fallthrough]];
    case SYS_tkill: case SYS_rt_sigqueueinfo: case SYS_sched_setaffinity: case SYS_prlimit64: case SYS_setpriority: case SYS_process_vm_writev:
    case SYS_migrate_pages: case SYS_move_pages: case SYS_sched_setscheduler: case SYS_sched_setattr: case SYS_sched_setparam: {
      uint32_t target = number == SYS_setpriority ? a[1] : a[0];
      return !s->is_root || (target > 3 && target != (uint32_t)supervisor && target != (uint32_t)innocent_process) || target == 0;
    }
    case SYS_pidfd_send_signal: case SYS_pidfd_getfd: return !s->is_root;
    case SYS_tgkill: case SYS_rt_tgsigqueueinfo: return a[0] == s->pids[0];
    case SYS_rt_sigaction: return a[0] != SIGSEGV && a[0] != SIGBUS && a[0] != SIGUSR1;
    case SYS_mmap: if (a[3] & MAP_FIXED && a[0] - s->arena >= ARENA_PAGES * PAGE) a[3] &= ~(uint64_t)MAP_FIXED; return true;
    // A large block of memory that is locked or filled ends all others by the lack of memory.
    case SYS_mlockall: return one_in(&s->g, 20);
    case SYS_prctl: if (a[0] == PR_SET_PDEATHSIG && a[1] > 64) a[1] = 0; return true;
    case SYS_syslog: a[0] = a[0] == 2 ? 3 : a[0]; return true;
    default: return true;
  }
}

static long makes_child(struct state *s, long number, uint64_t flags) {
  if (number != SYS_clone && number != SYS_clone3 && number != SYS_fork && number != SYS_vfork) return 0;
  // A child that waits, but not when the parent waits for it.
  return (number == SYS_fork || (number == SYS_clone && !(flags & CLONE_VFORK))) && one_in(&s->g, 4) ? 2 : 1;
}

// A table of the calls in proportion to their weights.
static uint16_t lottery[4096];
static unsigned tickets;
static void print_tickets(void) {
  for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
    for (unsigned k = 0; k < calls[i].weight && tickets < 4096; k++) lottery[tickets++] = i;
}

static uint64_t thread_base(void) {
  uint64_t base;
  __asm__ volatile("rdfsbase %0" : "=r"(base));
  return base;
}

// Reads or writes pages of a range, at most 600.
static void touch(const uint64_t a[3]) {
  uint64_t pages = a[1] / PAGE < 600 ? a[1] / PAGE : 600;
  for (uint64_t i = 0; i < pages; i++) {
    volatile uint64_t *word = (volatile uint64_t *)((a[0] & ~7ull) + i * PAGE);
    if (a[2] & 1) *word = i; else (void)*word;
  }
}

static void one_call(struct state *s, struct worker *w, uint64_t base);

// A child with a copy of everything goes on for some calls; its record is its own.
static long branch(struct state *s, uint64_t base) {
  long child = syscall(SYS_fork);
  if (child != 0) return child;
  static struct worker own;
  struct state copy = *s;
  struct state *volatile kept = &copy;
  volatile uint64_t calls = 100;
  copy.g = derive(next_random(&s->g), 1, 1);
  copy.pids[0] = syscall(SYS_getpid);
  sigsetjmp(back, 0);
  for (; calls > 0; calls--) {
    one_call(kept, &own, base);
    own.calls++;
  }
  _exit(0);
}

static void one_call(struct state *s, struct worker *w, uint64_t base) {
  struct record r = {0};
  if (one_in(&s->g, 300)) {
    // A number of no system call, or of one that the kernel lacks.
    r.number = below(&s->g, 3) ? below(&s->g, 512) : odd_number(&s->g);
    if (r.number == SYS_exit || r.number == SYS_exit_group || r.number == SYS_rt_sigreturn || r.number == SYS_reboot || r.number == SYS_pivot_root ||
        r.number == SYS_vfork || r.number == SYS_fork || r.number == SYS_clone || r.number == SYS_clone3) return;
    for (int i = 0; i < 6; i++) r.arguments[i] = argument(s, STRUCT);
    if (!bend(s, r.number, r.arguments)) return;
  } else {
    unsigned entry = lottery[below(&s->g, tickets)];
    r.number = calls[entry].number;
    for (int i = 0; i < 6; i++) r.arguments[i] = argument(s, calls[entry].types[i]);
    if (!bend(s, r.number, r.arguments)) return;
  }
  long child = makes_child(s, r.number, r.arguments[0]);
  struct record *place = &w->ring[w->calls % RING];
  *place = r;
  switch (r.number) {
    case TOUCH: touch(r.arguments); break;
    case BRANCH: child = 1, r.result = w->process ? branch(s, base) : 0; break;
    default: r.result = raw_call(r.number, r.arguments, child);
  }
  if (r.number == SYS_arch_prctl) {
    uint64_t a[6] = {0x1002, base};
    raw_call(SYS_arch_prctl, a, 0);
  }
  place->result = r.result;
  place->done = 1;
  if (r.result <= 0 && r.result > -4096) return;
  // What came back becomes an argument.
  if (child) s->pids[1 + below(&s->g, 3)] = r.result;
  if (r.number == SYS_mmap || r.number == SYS_mremap) s->made[s->made_count < 8 ? s->made_count++ : below(&s->g, 8)] = r.result;
}

static uint64_t round_number;
static int life_number, life_is_root;

static void work(int index) {
  struct worker *w = &shared->workers[life_number * 8 + index];
  struct state state = {.g = derive(options.seed, round_number * 64 + life_number, index), .is_root = life_is_root, .arena = ARENA + index * ARENA_STRIDE};
  struct state *volatile s = &state;
  uint64_t volatile base = thread_base();
  s->pids[0] = syscall(SYS_getpid), s->pids[4] = innocent_process, s->pids[5] = s->pids[0];
  w->life = round_number;
  w->calls = 0;
  make_arena(s->arena);
  w->process = s->pids[0];
  w->thread = syscall(SYS_gettid);
  sigsetjmp(back, 0);
  while (w->calls < options.calls) {
    if (w->calls % 256 == 0) make_arena(s->arena);
    one_call(s, w, base);
    w->calls++;
  }
  w->thread = 0;
}

static char stacks[8][65536] __attribute__((aligned(64)));
static void *thread_main(void *argument) {
  work((int)(intptr_t)argument);
  return NULL;
}

// Not pthread_join: a worker may have changed the word that it waits for (set_tid_address).
static void work_in_threads(int first, int count) {
  for (int i = 1; i < count; i++) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stacks[first + i], sizeof stacks[0]);
    shared->workers[life_number * 8 + first + i].thread = 1;
    if (pthread_create(&thread, &attributes, thread_main, (void *)(intptr_t)(first + i)) != 0)
      shared->workers[life_number * 8 + first + i].thread = 0;
  }
  work(first);
  for (int i = first; i < first + count; i++)
    while (shared->workers[life_number * 8 + i].thread != 0) plain_call(SYS_nanosleep, (uint64_t)&(struct timespec){0, 1000000}, 0, 0, 0, 0, 0);
}

// ---- a life ----

static void life_directory(char *text, int life) { snprintf(text, 256, "%s/fuzz-%d", options.directory, life); }

// The files and descriptors that every life begins with.
static void stock(void) {
  int ends[2];
  mkdir("a", 0777);
  mkdir("d", 0777);
  mkdir("d/e", 0777);
  symlink("a", "link");
  symlink("nowhere", "dangling");
  symlink("loop", "loop");
  mknod("fifo", S_IFIFO | 0666, 0);
  int big = open("big", O_RDWR | O_CREAT, 0666);          // 3: the arena has a mapping of it
  ftruncate(big, 70000);
  pwrite(big, "some text", 9, 4090);
  open("a", O_RDONLY | O_DIRECTORY);
  open(".", O_RDONLY | O_DIRECTORY);
  pipe2(ends, O_NONBLOCK);
  pipe(ends);
  syscall(SYS_eventfd2, 3, O_NONBLOCK);
  syscall(SYS_timerfd_create, 1, O_NONBLOCK);
  syscall(SYS_signalfd4, -1, &(uint64_t){0x7ffffffe00000000}, 8, O_NONBLOCK);
  syscall(SYS_epoll_create1, 0);
  syscall(SYS_inotify_init1, O_NONBLOCK);
  syscall(SYS_socketpair, 1, 1 | O_NONBLOCK, 0, ends);
  syscall(SYS_socketpair, 1, 2 | O_NONBLOCK, 0, ends);
  syscall(SYS_memfd_create, "m", 2);
  open("/dev/zero", O_RDWR);
  open("/proc/self/maps", O_RDONLY);
  open("/proc/self", O_RDONLY | O_DIRECTORY);
  open("/etc/passwd", O_RDONLY);
  int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  ioctl(terminal, 0x40045431, &(int){0});
  ioctl(terminal, 0x5441, O_RDWR | O_NOCTTY | O_NONBLOCK);
  syscall(SYS_pidfd_open, getpid(), 0);
  open("d", O_PATH);
  open(".", O_TMPFILE | O_RDWR, 0600);
}

static void live(void) {
  generator g = derive(options.seed, round_number * 64 + life_number, 99);
  char directory[256];
  setsid();
  life_directory(directory, life_number);
  if (chdir(directory) < 0) _exit(97);
  syscall(SYS_close_range, 0, ~0u, 0);
  for (int i = 0; i < 3; i++) open("/dev/null", O_RDWR);
  struct { uint64_t soft, hard; } few = {64, 256}, space = {1ull << 31, 1ull << 31}, file = {1 << 20, 1 << 20}, none = {0, 0}, some = {60, 60};
  syscall(SYS_prlimit64, 0, 7, &few, 0);
  syscall(SYS_prlimit64, 0, 9, &space, 0);
  syscall(SYS_prlimit64, 0, 1, &file, 0);
  syscall(SYS_prlimit64, 0, 4, &none, 0);
  if (!life_is_root) {
    syscall(SYS_prlimit64, 0, 6, &some, 0);
    uid_t id = 1000 + life_number;
    syscall(SYS_setgroups, 0, 0);
    syscall(SYS_setresgid, id, id, id);
    syscall(SYS_setresuid, id, id, id);
  }
  prctl(PR_SET_DUMPABLE, 1);
  int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
  write(adjust, "900", 3);
  close(adjust);
  stock();
  set_handlers();
  int first = 0, left = options.workers;
  if (left > 1 && one_in(&g, 2)) {
    int other = 1 + below(&g, left - 1);
    if (fork() == 0) {
      work_in_threads(left - other, other);
      _exit(0);
    }
    left -= other;
  }
  work_in_threads(first, left);
  _exit(0);
}

#endif
