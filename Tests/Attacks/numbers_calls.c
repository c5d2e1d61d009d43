// Arithmetic on numbers that a program passes. Every system call is made many times with arguments from the edges of the number
// ranges (around 0, 2^31, 2^32, 2^47, 2^63, 2^64), descriptors of every kind, and structures that hold such numbers: sums and
// products overflow wherever a handler does not expect it. The kernel answers each call; none ends its process.
// The control: calls that succeed and calls that fail are both plenty, and nearly all calls are tried to the end. A fault of the
// kernel ends the process by SIGKILL, which the program sees and the runner finds in the log.
//
// run: --cpus 2 --user 1000 -- @ 300
// expect: ok no call ended its process .*
// expect: ok calls succeed and fail .*
// run: --cpus 2 --user 0 -- @ 300
// expect: ok no call ended its process .*
// expect: ok calls succeed and fail .*
#include "attack.h"
#include "sandbox_only.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

struct counts { long good, bad, done; };
static struct counts *counts;
static const uint64_t edges[] = {
    0, 1, 2, 3, 7, 8, 63, 64, 511, 512, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20, 1 << 21, (1u << 31) - 1, 1u << 31,
    UINT32_MAX, 1ull << 32, 1ull << 40, (1ull << 47) - 4096, 1ull << 47, 1ull << 48, 1ull << 52, (1ull << 62), (1ull << 63) - 4096,
    (1ull << 63) - 2, (1ull << 63) - 1, 1ull << 63, (1ull << 63) + 1, -1ull, -2ull, -3ull, -4ull, -4095ull, -4096ull, -8192ull,
    -(1ull << 31), -(1ull << 32), 1000000000, 999999999, 18446744073ull, 9223372036ull, 9223372037ull,
};
enum { EDGES = sizeof edges / sizeof edges[0] };

static int files[64], fileCount;
static char *memory; // valid memory, filled with edges: arrays, structures and paths are read from it
enum { MEMORY = 1 << 16 };

static void add(int file) {
  if (file >= 0 && fileCount < 64) files[fileCount++] = file;
}

static void openAll(void) {
  int pair[2];
  char name[64];
  fileCount = 0;
  const char *paths[] = {"/dev/null", "/dev/zero", "/dev/shm", "/proc/self/maps", "/proc/self/mem", "/proc/self/pagemap", "/etc/passwd", "/proc",
                         "/proc/self/status", "/dev/urandom", "/dev/full", "/dev/ptmx", "/proc/self/fd"};
  for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    int file = open(paths[i], O_RDWR);
    add(file < 0 ? open(paths[i], O_RDONLY) : file);
  }
  const char *places[] = {"/dev/shm", "/tmp"};
  for (int i = 0; i < 2; i++) {
    snprintf(name, sizeof name, "%s/numbers.%d", places[i], getpid());
    int file = open(name, O_RDWR | O_CREAT, 0600);
    if (file >= 0 && write(file, memory, 8192) < 0) exit(2);
    add(file);
    unlink(name);
  }
  int large = memfd_create("large", MFD_ALLOW_SEALING);
  if (ftruncate(large, INT64_MAX)) {} // where the file system allows it, offsets near 2^63 are within the file
  add(large);
  add(memfd_create("small", 0));
  if (!pipe2(pair, O_NONBLOCK)) add(pair[0]), add(pair[1]);
  if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) add(pair[0]), add(pair[1]);
  if (!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair)) add(pair[0]), add(pair[1]);
  add(eventfd(0, EFD_NONBLOCK));
  add(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  add(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  add(epoll_create1(0));
  add(inotify_init1(IN_NONBLOCK));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  add(syscall(SYS_signalfd4, -1, &set, 8, O_NONBLOCK));
  add(syscall(SYS_pidfd_open, getpid(), 0));
}

static void fill(void) {
  uint64_t *words = (uint64_t *)memory;
  for (unsigned i = 0; i < MEMORY / 8; i++) {
    uint64_t kind = random_u64() % 8;
    words[i] = kind < 5 ? edges[random_u64() % EDGES] : kind == 5 ? (uint64_t)(memory + random_u64() % MEMORY) : kind == 6 ? (uint64_t)files[random_u64() % fileCount]
                                                                                                              : random_u64();
  }
  strcpy(memory + MEMORY - 64, "/dev/shm/numbers");
  strcpy(memory + MEMORY - 32, "user.numbers");
}

static uint64_t argument(int call, int index) {
  uint64_t kind = random_u64() % 16;
  if (kind < 7) return edges[random_u64() % EDGES];
  if (kind < 8) return random_u64();
  if (kind < 12) return (uint64_t)(memory + random_u64() % (MEMORY - 4096) / 8 * 8);
  if (kind == 12) return (uint64_t)(memory + MEMORY - 64);
  if (kind == 13) return random_u64() % 64;
  if (index == 0 || kind == 14) return files[random_u64() % fileCount];
  return 1ull << random_u64() % 64;
}

// Calls that end, replace, stop or wait for the caller by design, or take its surroundings away.
static int isExcluded(int call) {
  switch (call) {
  case SYS_exit: case SYS_exit_group: case SYS_fork: case SYS_vfork: case SYS_clone: case 435 /* clone3 */: case SYS_execve: case 322 /* execveat */:
  case SYS_rt_sigreturn: case SYS_pause: case SYS_reboot: case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo:
  case SYS_rt_tgsigqueueinfo: case 424 /* pidfd_send_signal */: case SYS_rt_sigsuspend: case SYS_chroot: case SYS_pivot_root: case SYS_setuid: case SYS_setgid:
  case SYS_setreuid: case SYS_setregid: case SYS_setresuid: case SYS_setresgid: case SYS_capset: case SYS_rt_sigprocmask: case SYS_rt_sigaction:
  case SYS_setitimer: case SYS_arch_prctl: case SYS_close: case 436 /* close_range */: case SYS_dup2: case SYS_dup3: case SYS_umount2: case SYS_setrlimit: case SYS_prlimit64:
  case SYS_swapoff: case SYS_swapon: case SYS_sethostname: case SYS_setdomainname: case SYS_restart_syscall: case SYS_sync: case SYS_unlink:
  case SYS_rmdir: case SYS_unlinkat: case SYS_chdir: case SYS_fchdir: case SYS_mount: case SYS_setgroups: case SYS_alarm: case 334 /* rseq */:
    return 1;
  }
  return 0;
}

// Calls that may take the program's own memory away get addresses of a region of their own.
static int changesMemory(int call) {
  switch (call) {
  case SYS_mmap: case SYS_mprotect: case SYS_munmap: case SYS_mremap: case SYS_madvise: case SYS_brk: case 329 /* pkey_mprotect */: case SYS_mbind:
  case SYS_mlockall: case SYS_mlock: case 325 /* mlock2 */: case SYS_shmat: case SYS_remap_file_pages:
    return 1;
  }
  return 0;
}

static void ignore(int signal) { (void)signal; }

static void attack(int call, int rounds) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  random_state = call * 1000003ull + rounds;
  // Calls write beyond what they are given here: nothing lies near.
  memory = mmap(0, 1ull << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  memory += 1u << 31;
  mprotect(memory, MEMORY, PROT_READ | PROT_WRITE);
  char *region = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  openAll();
  fill();
  // What waits is interrupted, again and again.
  struct sigaction action = {.sa_handler = ignore};
  sigaction(SIGALRM, &action, 0);
  struct itimerval often = {{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &often, 0);
  for (int round = 0; round < rounds; round++) {
    if (round % 16 == 15) fill();
    uint64_t a[6];
    for (int i = 0; i < 6; i++) a[i] = argument(call, i);
    if (changesMemory(call)) {
      a[0] = random_u64() % 4 ? (uint64_t)region + random_u64() % (64 << 20) / 4096 * 4096 : edges[random_u64() % 10];
      if (call == SYS_mmap) a[3] &= ~(uint64_t)(MAP_FIXED | MAP_POPULATE | MAP_LOCKED);
      if (call != SYS_mmap && a[1] > 32 << 20 && a[1] < 1ull << 48) a[1] = random_u64() % (32 << 20);
      if (call == SYS_mremap) a[3] &= ~2ull, a[2] = random_u64() % 2 ? a[2] : random_u64() % (8 << 20);
    }
    long result = syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result == -1) counts->bad++; else counts->good++;
    // What a call made is not kept: memory and descriptors would run out.
    if (call == SYS_mmap && result != -1) munmap((void *)result, a[1]);
    for (int file = files[fileCount - 1] + 1; file < files[fileCount - 1] + 8; file++) close(file);
  }
  counts->done++;
  _exit(0);
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 300, ended = 0, tried = 0;
  counts = MUST(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  struct rlimit size = {6ull << 30, 6ull << 30};
  MUST(setrlimit(RLIMIT_AS, &size));
  for (int call = 0; call < 463; call++) {
    if (isExcluded(call)) continue;
    tried++;
    pid_t child = MUST(fork());
    if (child == 0) attack(call, rounds);
    // Signals besides SIGKILL come from the attack's own arguments.
    if (outcome(child) == SIGNALLED(SIGKILL)) {
      say("call %d ended its process", call);
      ended++;
    }
  }
  say("");  // calls have written to standard output: the results begin on lines of their own
  check(ended == 0, "no call ended its process (%d calls, %d times each)", tried, rounds);
  check(counts->good > tried * rounds / 50 && counts->bad > tried * rounds / 4 && counts->done > tried * 9 / 10,
        "calls succeed and fail (%ld, %ld, %ld of %d to the end)", counts->good, counts->bad, counts->done, tried);
  return attack_end();
}
