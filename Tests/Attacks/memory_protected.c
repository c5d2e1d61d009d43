// A program that is exempt from the out-of-memory policy (oom_score_adj -1000) and has locked its memory (mlockall) goes on while
// root's other programs take all memory again and again, in pages that cannot be swapped: locked ones and files in memory. It
// forks, so that its page tables and pages are shared and each write needs frames, and takes signals on its stack.
// Where the one that is killed is slow to die, because others have the CPU, the exempt program waits for it.
// The control: programs of the same kind that are not exempt are killed meanwhile.
//
// run: --cpus 2 --user 0 --memory 32M -- @ 40
// expect: ok the exempt program .*
// expect: ok control: .* were killed
// run: --cpus 1 --user 0 --memory 64M -- @ 40
// expect: ok the exempt program .*
// run: --cpus 2 --user 0 --memory 32M -- @ all
// expect: ok the locked program .*
// run: --cpus 1 --user 0 --memory 24M -- @ all
// expect: ok the locked program .*
// run: --cpus 1 --user 0 --memory 32M -- @ slow
// expect: ok the exempt program waits .*
#include "attack.h"
#include "sandbox_only.h"

#include <sys/mount.h>
#include <sys/resource.h>

enum { SIZE = 1 << 20 };
static struct { volatile long rounds, signals, wrong, asked; volatile int stop; } *shared;

static void adjust(int value) {
  char text[16];
  int file = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
  int n = snprintf(text, sizeof text, "%d", value);
  MUST(write(file, text, n));
  close(file);
}

static long free_pages(void) {
  char text[4096] = "";
  int file = MUST(open("/proc/meminfo", O_RDONLY));
  MUST(read(file, text, sizeof text - 1));
  close(file);
  return atol(strstr(text, "MemFree:") + 8) / 4;
}

static void count_signal(int number) { shared->signals++; }

// Writes to all of its memory, on the heap and on the stack, each time after a fork.
static void exempt(void) {
  adjust(-1000);
  char *memory = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  volatile char stack[65536];
  memset(memory, 1, SIZE);
  memset((char *)stack, 1, sizeof stack);
  MUST(mlockall(MCL_CURRENT | MCL_FUTURE));
  signal(SIGUSR1, count_signal);
  for (unsigned char round = 1; !shared->stop; round++) {
    pid_t child = fork();
    if (child == 0) {
      // Shares the pages until the parent has written to all of them.
      adjust(0);
      pause();
    }
    for (int i = 0; i < SIZE; i += 4096) {
      if (memory[i] != (char)(shared->rounds ? round - 1 : 1)) shared->wrong++;
      memory[i] = (char)round;
      if (i % 65536 == 0) raise(SIGUSR1);
    }
    for (size_t i = 0; i < sizeof stack; i += 4096) stack[i] = (char)round;
    if (child > 0) kill(child, SIGKILL), waitpid(child, NULL, 0);
    shared->rounds++;
  }
}

// Takes memory until it is killed, or until there is none for it.
static void hog(int kind) {
  static char piece[65536];
  memset(piece, 1, sizeof piece);
  setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
  int file = kind % 2 ? memfd_create("hog", 0) : -1;
  for (int failures = 0; failures < 20;) {
    if (file >= 0) failures += write(file, piece, sizeof piece) != sizeof piece;
    else failures += mmap(NULL, sizeof piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0) == MAP_FAILED;
  }
}

// Reads what the linker has put together, code that is never called included: pages of the program's file.
static long read_file_pages(void) {
  extern const char __executable_start, etext;
  long sum = 0;
  for (const volatile char *at = &__executable_start; at < &etext; at += 4096) sum += *at;
  return sum;
}

// What is locked is there: after that a program that is exempt needs nothing from an allocator that has nothing, and nobody to kill.
static char data[SIZE] = {1}, zeros[SIZE];
static void locked(void) {
  volatile char stack[65536];
  char *heap = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char *shared_memory = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  signal(SIGUSR1, count_signal);
  memset((char *)stack, 1, sizeof stack);
  MUST(mlockall(MCL_CURRENT | MCL_FUTURE));
  char *late = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  shared->rounds = 1;
  for (long round = 2; !shared->stop; round++) {
    // Without a call that could want memory.
    while (shared->asked < round && !shared->stop) sched_yield();
    for (int i = 0; i < SIZE; i += 4096) data[i] = zeros[i] = heap[i] = shared_memory[i] = late[i] = (char)round;
    for (size_t i = 0; i < sizeof stack; i += 4096) stack[i] = (char)round;
    for (int i = 0; i < 100; i++) raise(SIGUSR1);
    read_file_pages();
    shared->rounds = round;
  }
}

static int all_memory(void) {
  int status;
  adjust(-1000);
  memset(zeros, 1, sizeof zeros);
  pid_t program = MUST(fork());
  if (program == 0) {
    locked();
    _exit(0);
  }
  UNTIL(shared->rounds == 1);
  MUST(mkdir("/dev/shm/all", 0700));
  MUST(mount("all", "/dev/shm/all", "tmpfs", 0, "size=100%"));
  int file = MUST(open("/dev/shm/all/file", O_CREAT | O_RDWR, 0600));
  long filled = 0;
  bool lives = true;
  for (long round = 2; round <= 20 && lives; round++) {
    ssize_t n;
    while ((n = write(file, zeros, sizeof zeros)) > 0 || (n = write(file, zeros, 4096)) > 0) filled += n;
    shared->asked = round;
    while (shared->rounds < round && lives) lives = waitpid(program, &status, WNOHANG) == 0;
  }
  close(file);
  MUST(umount2("/dev/shm/all", MNT_DETACH));
  shared->stop = 1;
  if (lives) waitpid(program, &status, 0);
  check(status == 0 && shared->rounds >= 20, "the locked program goes on beside %ld MiB in files (%ld rounds, %ld signals, status %d)", filled >> 20,
        shared->rounds, shared->signals, status);
  return attack_end();
}

// The OOM victim dies slowly, because it gets almost no time on the only CPU. The exempt program waits for it.
static int slow_end(void) {
  adjust(-1000);
  MUST(setpriority(PRIO_PROCESS, 0, -20));
  volatile char *memory = MUST(mmap(NULL, 4 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  pid_t spinners[2], holder, victim, program;
  for (int i = 0; i < 2; i++)
    if ((spinners[i] = MUST(fork())) == 0) {
      while (!shared->stop) sleep_ms(1);
      for (;;) {}
    }
  if ((program = MUST(fork())) == 0) {
    memset((char *)memory, 1, 4 * SIZE);
    MUST(mlockall(MCL_CURRENT | MCL_FUTURE));
    if ((holder = MUST(fork())) == 0)
      for (;;) pause();
    shared->rounds = 1;
    while (!shared->stop) sleep_ms(1);
    for (int i = 0; i < 4 * SIZE; i += 4096) memory[i]++;
    _exit(kill(holder, SIGKILL));
  }
  UNTIL(shared->rounds == 1);
  if ((victim = MUST(fork())) == 0) {
    adjust(1000);
    MUST(setpriority(PRIO_PROCESS, 0, 10));
    // The last pages are for the others to miss.
    while (mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) != MAP_FAILED) {
      shared->asked++;
      if (free_pages() < 900) shared->stop = 1;
    }
    for (;;) pause();
  }
  int end = outcome(program);
  for (int i = 0; i < 2; i++) kill(spinners[i], SIGKILL);
  check(end == 0, "the exempt program waits for the end of a slow one (%d)", end);
  check(outcome(victim) == SIGNALLED(SIGKILL), "control: which was killed");
  return attack_end();
}

int main(int count, char **words) {
  int rounds = atoi(words[1]), hogs = count > 2 ? atoi(words[2]) : 6, killed = 0, kind = 0;
  shared = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (strcmp(words[1], "all") == 0) return all_memory();
  if (strcmp(words[1], "slow") == 0) return slow_end();
  pid_t program = MUST(fork());
  if (program == 0) {
    exempt();
    _exit(0);
  }
  UNTIL(shared->rounds > 0);
  int running = 0, status;
  long before = shared->rounds;
  bool lives = true;
  for (int ended = 0; ended < rounds && lives;) {
    while (running < hogs) {
      pid_t child = fork();
      if (child < 0) break;
      if (child == 0) {
        hog(kind);
        _exit(0);
      }
      kind++, running++;
    }
    pid_t child = waitpid(-1, &status, 0);
    if (child == program) lives = false;
    else if (child > 0) running--, ended++, killed += WIFSIGNALED(status);
  }
  shared->stop = 1;
  if (lives) {
    pid_t child;
    while ((child = waitpid(-1, &status, 0)) > 0)
      if (child == program) lives = WIFEXITED(status);
  }
  check(lives && shared->wrong == 0, "the exempt program goes on (%ld rounds, %ld signals, %ld pages wrong)", shared->rounds - before,
        shared->signals, shared->wrong);
  check(killed > 0, "control: %d of %d others were killed", killed, rounds);
  return attack_end();
}
