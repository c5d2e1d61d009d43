// Fuzzes the system calls of the kernel that it runs on, by the types of their arguments.
//
//   syscalls [--seed N] [--rounds N] [--first N] [--seconds N] [--calls N] [--workers N] [--user 0|1000|both] [--directory DIR]
//
// A round starts a few processes ("lives"), as root and as ordinary users. Each has several workers, threads and processes, and each
// worker makes `--calls` system calls. Round, life and worker give the seed of a worker, so that `--first R --rounds 1` repeats a
// round. The first process of the fuzzer, the supervisor, interrupts workers that wait, kills what does not come back, and starts the next
// round when every process has ended. Besides, an innocent process looks after its memory, registers and file.
//
// Faults that end the run with status 1: a process that SIGKILL does not end, an innocent process that sees other contents or makes
// no progress, memory or kernel objects that do not return. A bug of the kernel ends processes and is in its log.
#include "life.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/mount.h>

// ---- the innocent process ----

static void innocent(void) {
  enum { SIZE = 64 * PAGE };
  static uint64_t words[SIZE / 8];
  char name[256];
  snprintf(name, sizeof name, "%s/innocent", options.directory);
  int file = MUST(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
  MUST(unlink(name));
  for (unsigned i = 0; i < SIZE / 8; i++) words[i] = i * 0x9e3779b97f4a7c15;
  MUST(write(file, words, SIZE));
  uint64_t shadow[512], high = 0x1234567890abcdef, check;
  for (uint64_t look = 0; !shared->end; look++) {
    __asm__ volatile("movq %0, %%xmm9" ::"r"(high + look) : "xmm9");
    syscall(SYS_getppid);
    __asm__ volatile("movq %%xmm9, %0" : "=r"(check)::"xmm9");
    bool same = check == high + look;
    for (unsigned i = 0; i < SIZE / 8; i++) same = same && words[i] == i * 0x9e3779b97f4a7c15;
    unsigned page = look % 64;
    same = same && pread(file, shadow, PAGE, page * PAGE) == PAGE && memcmp(shadow, words + page * 512, PAGE) == 0;
    // Write again what is there, so that pages are copied, swapped and written back.
    words[page * 512 + look % 512] = (page * 512 + look % 512) * 0x9e3779b97f4a7c15;
    if (!same) {
      say("FAULT: the innocent process sees other contents than its own (look %lu)", look);
      _exit(1);
    }
    shared->innocent_looks++;
    usleep(2000);
  }
  _exit(0);
}

// ---- the supervisor ----

static void show(struct worker *w) {
  say("  worker %ld of round %lu, after %lu calls; its last:", (long)(w - shared->workers), w->life, w->calls);
  for (int i = 1; i <= RING; i++) {
    struct record *r = &w->ring[(w->calls + i) % RING];
    say("    %u(%lx, %lx, %lx, %lx, %lx, %lx) = %s%ld", r->number, r->arguments[0], r->arguments[1], r->arguments[2], r->arguments[3],
        r->arguments[4], r->arguments[5], r->done ? "" : "unfinished ", r->result);
  }
}

__attribute__((noreturn)) static void fault(const char *what) {
  say("FAULT: %s (seed %lu, round %lu)", what, options.seed, round_number);
  for (int i = 0; i < WORKERS; i++)
    if (shared->workers[i].thread) show(&shared->workers[i]);
  _exit(1);
}

static int proc;
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

// Removes what root may have made immutable, too.
static void remove_tree(int directory, const char *name, int depth) {
  if (unlinkat(directory, name, 0) == 0 || depth > 40) return;
  int here = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
  if (here < 0) {
    int file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    ioctl(file, FS_IOC_SETFLAGS, &(long){0});
    close(file);
    unlinkat(directory, name, 0);
    return;
  }
  ioctl(here, FS_IOC_SETFLAGS, &(long){0});
  DIR *list = fdopendir(here);
  struct dirent *entry;
  while (list && (entry = readdir(list)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove_tree(here, entry->d_name, depth + 1);
  if (list) closedir(list);
  unlinkat(directory, name, AT_REMOVEDIR);
}

// Takes away the mounts below the directories of lives, the last first.
static void unmount_all(void) {
  for (int tries = 0; tries < 200; tries++) {
    char text[65536], last[256] = "";
    int file = openat(proc, "self/mounts", O_RDONLY);
    if (file < 0) return;
    long n = read(file, text, sizeof text - 1);
    close(file);
    text[n > 0 ? n : 0] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
      char place[256];
      if (sscanf(line, "%*s %255s", place) == 1 && strstr(place, "/fuzz-")) strcpy(last, place);
    }
    if (!last[0] || umount2(last, MNT_DETACH) < 0) return;
  }
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

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// What only a hang reaches.
enum { HANG_MS = 240000 };

static uint64_t total_calls, kicks, kills;
static uint64_t endings[128];  // of lives: by exit status, or 64 + signal

// Interrupts workers that made no call between two looks, and kills those that do not react.
static void look_after(uint64_t seen[WORKERS], int stuck[WORKERS]) {
  for (int i = 0; i < WORKERS; i++) {
    struct worker *w = &shared->workers[i];
    uint32_t thread = w->thread, process = w->process;
    if (thread == 0) continue;
    if (w->calls != seen[i]) {
      seen[i] = w->calls, stuck[i] = 0;
      continue;
    }
    stuck[i]++;
    if (process <= (uint32_t)supervisor || process == (uint32_t)innocent_process) continue;
    if (stuck[i] > 400) {
      kills++;
      killed_here[i / 8] = true;
      kill(process, SIGKILL);
      total_calls += w->calls;
      w->thread = 0;
      stuck[i] = 0;
    } else if (stuck[i] % 2 == 0) {
      kicks++;
      if (syscall(SYS_tgkill, process, thread, SIGUSR1) < 0 && errno == ESRCH) {
        total_calls += w->calls;
        w->thread = 0;
      }
    }
  }
}

static void run_round(int lives, bool root) {
  pid_t leaders[8];
  uint64_t seen[WORKERS] = {0};
  int stuck[WORKERS] = {0}, idle[8] = {0}, left = lives;
  memset(killed_here, 0, sizeof killed_here);
  memset(shared->workers, 0, sizeof shared->workers);
  for (life_number = 0; life_number < lives; life_number++) {
    char directory[256];
    life_is_root = root && life_number == 0;
    life_directory(directory, life_number);
    mkdir(directory, 0777);
    // Every second round on a file system of its own, which goes with the round.
    if (round_number % 2) mount("tmpfs", directory, "tmpfs", 0, "size=8m");
    chmod(directory, 0777);
    pid_t child = fork();
    if (child == 0) live();
    leaders[life_number] = child;
    if (child < 0) left--;
  }
  int64_t quiet = now_ms();
  uint64_t looks = shared->innocent_looks, sum = 0;
  while (left > 0) {
    int status;
    pid_t ended;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
      if (ended == innocent_process) fault("the innocent process has ended");
      for (int i = 0; i < lives; i++)
        if (leaders[i] == ended) {
          left--;
          leaders[i] = 0;
          endings[(WIFSIGNALED(status) ? 64 + WTERMSIG(status) : WEXITSTATUS(status)) & 127]++;
          if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !killed_here[i])
            for (int k = 0; k < 8; k++)
              if (shared->workers[i * 8 + k].thread) show(&shared->workers[i * 8 + k]);
        }
    }
    usleep(2000);
    look_after(seen, stuck);
    for (int i = 0; i < lives; i++) {
      bool at_work = false;
      for (int k = 0; k < 8; k++) at_work = at_work || shared->workers[i * 8 + k].thread;
      // Its workers are done: it may have been stopped.
      if (at_work) idle[i] = 0;
      else if (leaders[i] > 0 && ++idle[i] > 2000) kill(leaders[i], SIGKILL);
    }
    uint64_t now = kicks + kills;
    for (int i = 0; i < WORKERS; i++) now += shared->workers[i].calls;
    if (now != sum) sum = now, quiet = now_ms();
    if (now_ms() - quiet > HANG_MS) fault("no process makes progress");
  }
  for (int64_t since = now_ms(); others(end_process) > 0; usleep(1000)) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    if (now_ms() - since > HANG_MS) fault("a process does not end by SIGKILL");
  }
  for (int64_t since = now_ms(); shared->innocent_looks == looks; usleep(1000))
    if (now_ms() - since > HANG_MS) fault("the innocent process makes no progress");
  for (int i = 0; i < WORKERS; i++) total_calls += shared->workers[i].calls;
  unmount_all();
  for (int i = 0; i < lives; i++) {
    char directory[256];
    life_directory(directory, i);
    remove_tree(AT_FDCWD, directory, 0);
  }
}

static void read_options(int count, char **words) {
  for (int i = 1; i + 1 < count; i += 2) {
    const char *value = words[i + 1], *name = words[i];
    if (!strcmp(name, "--user")) options.root = strcmp(value, "1000") != 0, options.user = strcmp(value, "0") != 0;
    else if (!strcmp(name, "--directory")) options.directory = value;
    else {
      static const char *const names[] = {"--seed", "--rounds", "--first", "--seconds", "--calls", "--workers"};
      uint64_t *const places[] = {&options.seed, &options.rounds, &options.first, &options.seconds, &options.calls, &options.workers};
      for (int k = 0; k < 6; k++)
        if (!strcmp(name, names[k])) *places[k] = strtoull(value, NULL, 0);
    }
  }
  if (options.workers > 8) options.workers = 8;
  if (options.workers < 1) options.workers = 1;
}

int main(int count, char **words) {
  read_options(count, words);
  print_tickets();
  supervisor = getpid();
  umask(0);
  proc = MUST(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
  write(adjust, "-1000", 5);
  close(adjust);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 98;
  innocent_process = MUST(fork());
  if (innocent_process == 0) innocent();
  for (int64_t since = now_ms(); shared->innocent_looks == 0; usleep(1000))
    if (now_ms() - since > HANG_MS) fault("the innocent process does not start");

  int lives = options.root + 2 * options.user;
  int64_t begin = now_ms();
  struct counts before = {0}, after = {0};
  uint64_t warm = 0, last = options.first + options.rounds;
  for (round_number = options.first; options.seconds ? now_ms() - begin < (int64_t)options.seconds * 1000 : round_number < last; round_number++) {
    if (round_number % 8 == 0 || options.rounds < 8) say("round %lu, %lu calls, %ld ms", round_number, total_calls, now_ms() - begin);
    run_round(lives, options.root);
    // What stays for good after the first rounds, such as per-CPU lists, does not count.
    if (++warm == 4) before = at_rest();
  }
  after = at_rest();
  say("%lu calls in %lu rounds, %lu interruptions, %lu processes killed", total_calls, warm, kicks, kills);
  for (int i = 1; i < 128; i++)
    if (endings[i]) say("%lu lives ended early, by %s %d", endings[i], i < 64 ? "exit" : "signal", i & 63);
  if (warm > 8) {
    if (compare(&before, &after, warm - 4)) fault("memory does not return");
  }
  shared->end = 1;
  waitpid(innocent_process, NULL, 0);
  say("no fault");
  return 0;
}
