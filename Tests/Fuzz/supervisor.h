// The supervisor of a fuzzer: the innocent process beside it, the end of all others, what must come back at rest, and time.
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include "fuzz.h"

static pid_t supervisor, innocent_process;
static int proc;  // the directory /proc, also when a process of the fuzzer has mounted something over it
static struct watch { volatile uint64_t looks; volatile uint32_t end; } *watch;

// What only a hang reaches.
enum { HANG_MS = 240000 };

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((noreturn)) static void fault(const char *what);

// Looks after its memory, a register and a file in a directory, until `finish`.
static void innocent(const char *directory) {
  mlockall(MCL_CURRENT);
  enum { SIZE = 64 * PAGE };
  static uint64_t words[SIZE / 8];
  char name[256];
  snprintf(name, sizeof name, "%s/innocent", directory);
  int file = MUST(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
  MUST(unlink(name));
  for (unsigned i = 0; i < SIZE / 8; i++) words[i] = i * 0x9e3779b97f4a7c15;
  MUST(write(file, words, SIZE));
  uint64_t shadow[512], high = 0x1234567890abcdef, check;
  for (uint64_t look = 0; !watch->end; look++) {
    __asm__ volatile("movq %0, %%xmm9" ::"r"(high + look) : "xmm9");
    syscall(SYS_getppid);
    __asm__ volatile("movq %%xmm9, %0" : "=r"(check)::"xmm9");
    const char *differs = check == high + look ? NULL : "a register";
    for (unsigned i = 0; i < SIZE / 8; i++)
      if (words[i] != i * 0x9e3779b97f4a7c15) differs = "its memory";
    unsigned page = look % 64;
    ssize_t got = pread(file, shadow, PAGE, page * PAGE);
    if (got != PAGE) say("FAULT: the innocent process reads %ld bytes (%s)", (long)got, got < 0 ? strerrorname_np(errno) : "no error"), differs = "a read";
    else if (memcmp(shadow, words + page * 512, PAGE)) differs = "its file";
    // Write again what is there, so that pages are copied, swapped and written back.
    words[page * 512 + look % 512] = (page * 512 + look % 512) * 0x9e3779b97f4a7c15;
    if (differs) {
      say("FAULT: the innocent process sees other contents than its own in %s (look %lu)", differs, look);
      _exit(1);
    }
    watch->looks++;
    usleep(2000);
  }
  _exit(0);
}

// Calls `each` for every process but the supervisor, the innocent one and those before them; the number of them.
static int others(void (*each)(pid_t)) {
  int count = 0;
  lseek(proc, 0, SEEK_SET);
  char buffer[4096];
  long n;
  while ((n = syscall(SYS_getdents64, proc, buffer, sizeof buffer)) > 0)
    for (long at = 0; at < n;) {
      struct { uint64_t node, offset; uint16_t length; uint8_t type; char name[]; } *entry = (void *)(buffer + at);
      pid_t process = atoi(entry->name);
      at += entry->length;
      if (process <= supervisor || process == innocent_process) continue;
      count++;
      each(process);
    }
  return count;
}
static void end_process(pid_t process) { kill(process, SIGKILL); }

static void end_others(void) {
  for (int64_t since = now_ms(); others(end_process) > 0; usleep(1000)) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    if (now_ms() - since > HANG_MS) fault("a process does not end by SIGKILL");
  }
}

__attribute__((noreturn)) static void innocent_ended(int status) {
  say("the innocent process ended by %s %d", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  fault("the innocent process has ended");
}

static void begin_supervision(const char *directory) {
  supervisor = getpid();
  proc = MUST(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
  write(adjust, "-1000", 5);
  close(adjust);
  watch = mmap(NULL, sizeof *watch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (watch == MAP_FAILED) _exit(98);
  // Where the workers fill all memory, a fault of this process could not be served.
  mlockall(MCL_CURRENT | MCL_FUTURE);
  innocent_process = MUST(fork());
  if (innocent_process == 0) innocent(directory);
  // Later processes have no part in it: a call of theirs that writes over its place would end the innocent process.
  MUST(madvise(watch, sizeof *watch, MADV_DONTFORK));
  for (int64_t since = now_ms(); watch->looks == 0; usleep(1000)) {
    int status;
    if (waitpid(innocent_process, &status, WNOHANG) > 0) innocent_ended(status);
    if (now_ms() - since > HANG_MS) fault("the innocent process does not start");
  }
}

// The innocent process has looked since it had made so many looks.
static void await_innocent(uint64_t looks) {
  for (int64_t since = now_ms(); watch->looks == looks; usleep(1000)) {
    int status;
    if (waitpid(innocent_process, &status, WNOHANG) > 0) innocent_ended(status);
    if (now_ms() - since > HANG_MS) fault("the innocent process makes no progress");
  }
}

static void end_supervision(void) {
  watch->end = 1;
  int status;
  if (waitpid(innocent_process, &status, 0) == innocent_process && status != 0) innocent_ended(status);
  say("no fault");
}

// What must come back: free memory, and objects in use of each slab.
enum { CACHES = 64 };
struct counts { long free, caches; struct { char name[32]; long objects; } cache[CACHES]; };
static void read_file(const char *name, char *text, size_t size) {
  int file = openat(proc, name, O_RDONLY);
  size_t n = 0;
  ssize_t more;
  while (n < size - 1 && (more = read(file, text + n, size - 1 - n)) > 0) n += more;
  close(file);
  text[n] = 0;
}
static struct counts at_rest(void) {
  static char text[32768];
  struct counts c = {0};
  int drop = openat(proc, "sys/vm/drop_caches", O_WRONLY);
  write(drop, "3", 1);
  close(drop);
  read_file("meminfo", text, sizeof text);
  char *at = strstr(text, "MemFree:");
  if (at) c.free = atol(at + 8);
  read_file("slabinfo", text, sizeof text);
  for (char *line = strtok(text, "\n"); line && c.caches < CACHES; line = strtok(NULL, "\n"))
    if (sscanf(line, "%31s %ld", c.cache[c.caches].name, &c.cache[c.caches].objects) == 2) c.caches++;
  return c;
}
// Whether something did not come back: more than memory that lists of CPUs keep, and objects in proportion to the rounds.
static bool compare(struct counts *before, struct counts *after, uint64_t rounds) {
  bool lost = before->free - after->free > 2048;
  say("at rest: free %ld kB, after %lu rounds %ld", before->free, rounds, after->free);
  for (int i = 0; i < before->caches; i++)
    for (int k = 0; k < after->caches; k++)
      if (!strcmp(before->cache[i].name, after->cache[k].name)) {
        long more = after->cache[k].objects - before->cache[i].objects;
        if (more > 100) say("%s: %ld objects more than %ld", before->cache[i].name, more, before->cache[i].objects);
        if (rounds > 50 && more > (long)rounds * 4 + 1000) lost = true;
      }
  return lost;
}

#endif
