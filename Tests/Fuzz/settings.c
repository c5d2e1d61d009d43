// Fuzzes what the kernel parses and formats: files of /proc and /sys, settings, swap headers on a disk, options of mounts.
//
//   settings [--seed N] [--rounds N] [--seconds N] [--first N]
//
// A round reads and writes files of /proc and /sys at random places, in random pieces and with random text, as root and as an ordinary
// user, while processes come and go; puts every setting back; writes swap headers with random fields to /dev/vda (where there is one) and
// tries to swap to it.
#include "supervisor.h"
#include "sandbox_only.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

enum { NAMES = 1024, CALLS = 1500, WORKERS_EACH = 2 };
static struct { uint64_t seed, rounds, first, seconds; } options = {.seed = 1, .rounds = 1};

static generator g;
static char *names[NAMES];
static int name_count;

// What ends the machine, changes the log's reader, or waits for news for ever; and what keeps memory free, for with it a
// pool of huge pages leaves none to anybody.
static bool is_left_out(const char *name) {
  return strstr(name, "sysrq-trigger") || strstr(name, "kmsg") || strstr(name, "min_free_kbytes") || !strcmp(name, "/proc/sys/kernel/panic");
}

static void collect(const char *directory, int depth) {
  DIR *list = opendir(directory);
  struct dirent *entry;
  while (list && (entry = readdir(list)) && name_count < NAMES) {
    char name[512];
    snprintf(name, sizeof name, "%s/%s", directory, entry->d_name);
    // Of processes only /proc/self, /proc/1 and thread-self: numbers change between runs.
    bool is_process = !strncmp(name, "/proc/", 6) && name[6] >= '0' && name[6] <= '9';
    if (entry->d_name[0] == '.' || (is_process && strcmp(entry->d_name, "1") && depth == 0) || is_left_out(name)) continue;
    struct stat status;
    if (lstat(name, &status) < 0) continue;
    if (S_ISDIR(status.st_mode) && depth < 6) collect(name, depth + 1);
    else if (S_ISREG(status.st_mode)) names[name_count++] = strdup(name);
  }
  if (list) closedir(list);
}

static uint64_t some_text(char *text) {
  static const char *const words[] = {
    "0", "1", "-1", "2", "100", "3", "18446744073709551615", "18446744073709551616", "-9223372036854775808", "9223372036854775808", "4294967296", "0x10", "010",
    " 5", "5 ", "5\n", "\n", "", "1 2 3", "1,2", "max", "all", "name", "-", "+1", "1e3", "99999999999999999999999999999999", "\t7\t", "1\0002", "always", "madvise",
  };
  switch (below(&g, 5)) {
    case 0: {
      uint64_t size = below(&g, one_in(&g, 4) ? 5000 : 100);
      for (uint64_t i = 0; i < size; i++) text[i] = next_random(&g);
      return size;
    }
    case 1: return sprintf(text, "%ld", (long)odd_number(&g));
    case 2: return sprintf(text, "%lu %lu\t%ld\n", odd_number(&g), below(&g, 100), (long)odd_number(&g));
    default: {
      const char *word = PICK(&g, words);
      strcpy(text, word);
      return strlen(word) + one_in(&g, 8);
    }
  }
}

static void one_call(const char *name) {
  static char text[70000];
  int file = open(name, PICK(&g, ((const int[]){O_RDONLY, O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND})) | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return;
  for (uint64_t n = 1 + below(&g, 4); n > 0; n--)
    switch (below(&g, 8)) {
      case 0: case 1: read(file, text, one_in(&g, 3) ? below(&g, 20) : below(&g, sizeof text)); break;
      case 2: pread(file, text, below(&g, 4096), one_in(&g, 3) ? odd_number(&g) : below(&g, 5000)); break;
      case 3: case 4: case 5: write(file, text, some_text(text)); break;
      case 6: lseek(file, one_in(&g, 3) ? odd_number(&g) : below(&g, 5000), below(&g, 5)); break;
      default: pwrite(file, text, some_text(text), one_in(&g, 3) ? odd_number(&g) : below(&g, 100));
    }
  close(file);
}

static void worker(uint64_t round, int number) {
  g = derive(options.seed, round, number);
  int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
  write(adjust, "900", 3);
  close(adjust);
  if (number % 2) {
    MUST(syscall(SYS_setresgid, 1000, 1000, 1000));
    MUST(syscall(SYS_setresuid, 1000, 1000, 1000));
  }
  for (int i = 0; i < CALLS; i++) {
    one_call(names[below(&g, name_count)]);
    if (i % 50 == 0 && fork() == 0) _exit(0);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
  }
  _exit(0);
}

// A swap header (mkswap(8)) with some fields changed, then an attempt to use it.
static void try_swap(uint64_t round) {
  static uint8_t page[PAGE];
  g = derive(options.seed, round, 77);
  int disk = open("/dev/vda", O_RDWR | O_CLOEXEC);
  if (disk < 0) return;
  uint64_t size = lseek(disk, 0, SEEK_END);
  for (int i = 0; i < 40; i++) {
    memset(page, 0, sizeof page);
    uint32_t *fields = (uint32_t *)(page + 1024);  // version, last page, number of bad pages; the bad pages from 1536 on
    fields[0] = 1, fields[1] = size / PAGE - 1;
    memcpy(page + PAGE - 10, "SWAPSPACE2", 10);
    for (uint64_t n = below(&g, 4); n > 0; n--)
      switch (below(&g, 6)) {
        case 0: fields[0] = odd_number(&g); break;
        case 1: fields[1] = odd_number(&g); break;
        case 2: fields[2] = one_in(&g, 2) ? odd_number(&g) : below(&g, 700); break;
        case 3: for (int k = 0; k < 20; k++) ((uint32_t *)(page + 1536))[below(&g, 640)] = one_in(&g, 2) ? odd_number(&g) : below(&g, size / PAGE + 2); break;
        case 4: page[PAGE - 1 - below(&g, 10)] = next_random(&g); break;
        default: page[below(&g, PAGE)] = next_random(&g);
      }
    pwrite(disk, page, sizeof page, 0);
    if (swapon("/dev/vda", one_in(&g, 4) ? (int)odd_number(&g) : 0) == 0) swapoff("/dev/vda");
  }
  close(disk);
}

// Mounts with random options.
static void try_mounts(uint64_t round) {
  static const char *const types[] = {"tmpfs", "proc", "sysfs", "devpts", "overlay", "virtiofs", "devtmpfs", "none", ""};
  static const char *const keys[] = {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "lowerdir", "upperdir", "workdir", "ptmxmode", "newinstance", "huge", "mpol",
    "hidepid", "x", "ro", "cache", ""};
  char options_text[1024], *place = "/tmp/settings";
  g = derive(options.seed, round, 78);
  // Always the same name: absent ones are remembered.
  if (mkdir(place, 0700) < 0) return;
  for (int i = 0; i < 60; i++) {
    int length = 0;
    for (uint64_t n = below(&g, 4); n > 0; n--) {
      char value[5100];
      uint64_t size = some_text(value);
      value[size < 60 ? size : 60] = 0;
      length += snprintf(options_text + length, 200, "%s%s=%s", length ? "," : "", PICK(&g, keys), one_in(&g, 3) ? place : value);
    }
    options_text[length] = 0;
    if (mount("none", place, PICK(&g, types), one_in(&g, 4) ? below(&g, 1 << 21) & ~(uint64_t)MS_REMOUNT : 0, options_text) == 0) umount2(place, MNT_DETACH);
  }
  rmdir(place);
}

__attribute__((noreturn)) static void fault(const char *what) {
  say("FAULT: %s (seed %lu)", what, options.seed);
  _exit(1);
}

// Settings are kept, and put back when the round is over.
static char *kept[NAMES];
static void keep_settings(void) {
  for (int i = 0; i < name_count; i++) {
    char text[256];
    if (strncmp(names[i], "/proc/sys/", 10)) continue;
    int file = open(names[i], O_RDONLY | O_CLOEXEC);
    ssize_t n = read(file, text, sizeof text - 1);
    close(file);
    if (n > 0) text[n] = 0, kept[i] = strdup(text);
  }
}
static void restore_settings(void) {
  for (int i = 0; i < name_count; i++)
    if (kept[i]) {
      int file = open(names[i], O_WRONLY | O_CLOEXEC);
      write(file, kept[i], strlen(kept[i]));
      close(file);
    }
}

static void run_round(uint64_t round) {
  uint64_t looks = watch->looks;
  pid_t children[2 * WORKERS_EACH];
  int left = 0;
  for (int i = 0; i < 2 * WORKERS_EACH; i++) {
    children[i] = fork();
    if (children[i] == 0) worker(round, i);
    left += children[i] > 0;
  }
  try_mounts(round);
  try_swap(round);
  for (int64_t since = now_ms(); left > 0;) {
    int status;
    pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended == innocent_process) innocent_ended(status);
    for (int i = 0; i < 2 * WORKERS_EACH; i++)
      if (ended > 0 && children[i] == ended) left--, since = now_ms();
    if (ended <= 0) usleep(1000);
    if (now_ms() - since > HANG_MS) fault("no process makes progress");
  }
  restore_settings();
  end_others();
  await_innocent(looks);
}

int main(int count, char **words) {
  static const char *const option_names[] = {"--seed", "--rounds", "--first", "--seconds"};
  uint64_t *const places[] = {&options.seed, &options.rounds, &options.first, &options.seconds};
  for (int i = 1; i + 1 < count; i += 2)
    for (int k = 0; k < 4; k++)
      if (!strcmp(words[i], option_names[k])) *places[k] = strtoull(words[i + 1], NULL, 0);
  begin_supervision("/tmp");
  collect("/proc", 0);
  collect("/proc/self", 1);
  collect("/proc/thread-self", 2);
  collect("/sys", 0);
  keep_settings();
  int64_t begin = now_ms();
  struct counts before = {0}, after = {0};
  uint64_t rounds = 0, round = options.first;
  for (; options.seconds ? now_ms() - begin < (int64_t)options.seconds * 1000 : rounds < options.rounds; round++) {
    if (rounds % 8 == 0 || options.rounds < 8) say("round %lu, %d files, %ld ms", round, name_count, now_ms() - begin);
    run_round(round);
    if (++rounds == 2) before = at_rest();
  }
  after = at_rest();
  say("%lu attempts in %lu rounds on %d files", rounds * 2 * WORKERS_EACH * CALLS, rounds, name_count);
  if (rounds > 4 && compare(&before, &after, rounds - 2)) fault("memory does not return");
  end_supervision();
  return 0;
}
