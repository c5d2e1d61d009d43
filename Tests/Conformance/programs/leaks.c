// A thousand times fork, exec, wait, with files, pipes and shared memory: afterwards nothing is left behind. What is
// counted is in /proc/apus/counters; natively, where there is no such file, the same lines are printed unchecked.
#include "../conformance.h"
#include <sys/mman.h>

static char counters[8192];

static void read_counters(void) {
  int fd = open("/proc/apus/counters", O_RDONLY | O_CLOEXEC);
  counters[0] = 0;
  if (fd < 0) return;
  ssize_t n, total = 0;
  while ((n = read(fd, counters + total, sizeof counters - 1 - total)) > 0) total += n;
  counters[total] = 0;
  close(fd);
}

static long counter(const char *name) {
  size_t length = strlen(name);
  for (char *p = counters; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
    if (!strncmp(p, name, length) && p[length] == ' ') return atol(p + length + 1);
  return 0;
}

static char self[PATH_MAX];
static char *environment[] = {"LEAK=0", NULL};

static void execute(const char *mode) {
  char *argv[] = {"leaks", (char *)mode, NULL};
  execve(self, argv, environment);
  _exit(99);
}

static int once(int i) {
  int p[2];
  MUST(pipe2(p, O_CLOEXEC));
  pid_t child = i % 3 == 0 ? vfork() : fork();
  if (child == 0) execute(i % 5 == 0 ? "map" : "plain");
  close(p[0]), close(p[1]);
  return outcome(child);
}

static const char *const exact[] = {"processes", "threads", "identifiers", "address_spaces", "areas"};
enum { EXACT = sizeof exact / sizeof *exact };

static bool all_are(const long *expected) {
  read_counters();
  for (int k = 0; k < EXACT; k++)
    if (counter(exact[k]) != expected[k]) return false;
  return true;
}

int main(int argc, char **argv) {
  if (argc == 2) {
    if (strcmp(argv[1], "map")) return 0;
    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, 1 << 20);
    // A grandchild that outlives its parent is nobody's zombie.
    if (fork() == 0) _exit(memory[4096] - 1);
    return 0;
  }
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  section("a thousand processes");
  int wrong = 0;
  // The first ones fill caches: the file's pages, slabs, stacks of threads.
  for (int i = 0; i < 50; i++) wrong += once(i) != 0;
  sleep_ms(500);
  long before[EXACT], frames, objects;
  read_counters();
  for (int k = 0; k < EXACT; k++) before[k] = counter(exact[k]);
  frames = counter("frames_free"), objects = counter("memory_objects");
  for (int i = 0; i < 1000; i++) wrong += once(i) != 0;
  EQUAL(wrong, 0);
  // The last ones may be about to leave.
  UNTIL(all_are(before));
  for (int k = 0; k < EXACT; k++) {
    long after = counter(exact[k]);
    if (!check_equal(after - before[k], 0, exact[k], "0", __LINE__)) line("%s: %ld, then %ld", exact[k], before[k], after);
  }
  EQUAL(counter("memory_objects") - objects, 0);
  // Caches and slabs may have grown by a few pages, not by one for each process.
  long lost = frames - counter("frames_free");
  if (!CHECK(lost < 200)) line("%ld frames are gone", lost);
  FAILS(wait(NULL), ECHILD);
  return conformance_end();
}
