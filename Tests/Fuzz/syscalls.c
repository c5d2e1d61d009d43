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
#include "sandbox_only.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/mount.h>

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

static uint64_t total_calls, kicks, kills;
static uint64_t endings[128];  // of lives: by exit status, or 64 + signal

// The record lies where calls of the fuzzer may write.
static uint64_t calls_of(struct worker *w) {
  uint64_t calls = *(volatile uint64_t *)&w->calls;
  return calls > options.calls ? 0 : calls;
}

// Signals that a call has asked for on a descriptor that all lives have in common would end every life at once.
static void calm_streams(void) {
  for (int file = 0; file < 3; file++) {
    fcntl(file, F_SETFL, fcntl(file, F_GETFL) & ~O_ASYNC);
    fcntl(file, F_SETOWN, 0);
    fcntl(file, F_SETSIG, 0);
  }
}

// Interrupts workers that made no call between two looks, and kills those that do not react.
static void look_after(uint64_t seen[WORKERS], int stuck[WORKERS]) {
  for (int i = 0; i < WORKERS; i++) {
    struct worker *w = &shared->workers[i];
    int32_t thread = w->thread, process = w->process;
    if (thread == 0) continue;
    if (w->calls != seen[i]) {
      seen[i] = w->calls, stuck[i] = 0;
      continue;
    }
    stuck[i]++;
    if (process <= supervisor || process == innocent_process) {
      // None of theirs: a call has written over the record.
      if (stuck[i] > 400) w->thread = 0;
      continue;
    }
    if (stuck[i] > 400) {
      kills++;
      killed_here[i / 8] = true;
      kill(process, SIGKILL);
      total_calls += calls_of(w);
      w->thread = 0;
      stuck[i] = 0;
    } else if (stuck[i] % 2 == 0) {
      kicks++;
      if (syscall(SYS_tgkill, process, thread, SIGUSR1) < 0 && errno == ESRCH) {
        total_calls += calls_of(w);
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
  calm_streams();
  for (life_number = 0; life_number < lives; life_number++) {
    char directory[256];
    life_is_root = root && life_number == 0;
    life_directory(directory, life_number);
    mkdir(directory, 0777);
    // Every second round on a file system of its own, which goes with the round.
    // Small: what lies there no end of a process frees.
    if (round_number % 2) mount("tmpfs", directory, "tmpfs", 0, "size=6%");
    chmod(directory, 0777);
    pid_t child = fork();
    if (child == 0) live();
    leaders[life_number] = child;
    if (child < 0) left--;
  }
  int64_t quiet = now_ms();
  uint64_t looks = watch->looks, sum = 0;
  while (left > 0) {
    int status;
    pid_t ended;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
      if (ended == innocent_process) innocent_ended(status);
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
  end_others();
  await_innocent(looks);
  for (int i = 0; i < WORKERS; i++) total_calls += calls_of(&shared->workers[i]);
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
  umask(0);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 98;
  begin_supervision(options.directory);

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
  end_supervision();
  return 0;
}
