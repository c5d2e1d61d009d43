// Measures fork(2) of a process with much memory, natively and as a guest (static).
//   bench-fork call MIB N     minimum of N fork calls of a process that has touched MIB of private memory, and minimum
//                             from fork to the end of wait, in microseconds; each child writes one page
//   bench-fork areas AREAS N  the same for a process with 256 MiB in so many areas
//   bench-fork faults MIB N   in Apus: faults, and calls of the host's mmap for them, for a thousand pages: of MIB of
//                             anonymous memory touched for the first time, and of as much written after a fork. N is 1
//   bench-fork tables KIND MIB N  PageTables of /proc/meminfo in KiB above the start: with one process that has touched MIB
//                             of memory, and with N that have read all of it. KIND is private (the others are forked from
//                             the first), shared (the same), or file: each has mapped a memory file for itself
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double microseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static char *map(size_t size, int kind) {
  char *memory = mmap(NULL, size + (2 << 20), PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) perror("mmap"), exit(1);
  return memory;
}

static void touch(char *memory, size_t size, char value) {
  for (size_t i = 0; i < size; i += 4096) memory[i] = value;
}

static int measure_call(size_t size, int areas, int forks) {
  char *memory = map(size, MAP_PRIVATE);
  touch(memory, size, 1);
  // One page less between each two: they cannot become one area.
  for (int i = 1; i < areas; i++) munmap(memory + size / areas * i, 4096);
  double call = 1e12, whole = 1e12;
  for (int i = 0; i < forks; i++) {
    double begin = microseconds();
    pid_t child = fork();
    if (child == 0) {
      memory[size / 2 + 4096] = 2;
      _exit(0);
    }
    if (child < 0) return perror("fork"), 1;
    double called = microseconds() - begin;
    waitpid(child, NULL, 0);
    double took = microseconds() - begin;
    if (called < call) call = called;
    if (took < whole) whole = took;
  }
  printf("%.1f %.1f\n", call, whole);
  return 0;
}

static long counter(const char *name) {
  char line[200];
  long value, result = -1;
  size_t length = strlen(name);
  FILE *file = fopen("/proc/apus/counters", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, name, length) && sscanf(line + length, " %ld", &value) == 1) result = value;
  if (file) fclose(file);
  return result;
}

static void count_faults(char *memory, size_t size, char value) {
  long faults = counter("faults"), maps = counter("machine_maps");
  touch(memory, size, value);
  double pages = size / 4096;
  printf("%.1f %.1f ", (counter("faults") - faults) / pages * 1000, (counter("machine_maps") - maps) / pages * 1000);
}

static int measure_faults(size_t size) {
  char *memory = map(size, MAP_PRIVATE);
  count_faults(memory, size, 1);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) pause();
  count_faults(memory, size, 2);
  kill(child, SIGKILL);
  puts("");
  return 0;
}

static long page_tables(void) {
  char line[200];
  long result = -1;
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && fgets(line, sizeof line, file)) sscanf(line, "PageTables: %ld", &result);
  if (file) fclose(file);
  return result;
}

static long read_all(const char *memory, size_t size) {
  long sum = 0;
  for (size_t i = 0; i < size; i += 4096) sum += ((volatile const char *)memory)[i];
  return sum;
}

// What the others do: read all, say so, wait for the end.
static void be_reader(const char *memory, size_t size, int ready, int go) {
  char byte = read_all(memory, size) == (long)(size / 4096);
  if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1) _exit(1);
  _exit(0);
}

static char *map_file(size_t size, int file) {
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) perror("mmap"), exit(1);
  return memory;
}

static int measure_tables(char **arguments, const char *kind, size_t size, int processes) {
  // Where text, heap and stack lie decides how many tables they need: the same place each time.
  if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
    personality(ADDR_NO_RANDOMIZE);
    execv("/proc/self/exe", arguments);
  }
  int file = strcmp(kind, "file") ? -1 : memfd_create("tables", 0);
  int ready[2], go[2];
  if (pipe(ready) || pipe(go) || (file >= 0 && ftruncate(file, size))) return perror(kind), 1;
  long start = page_tables();
  char *memory = file >= 0 ? map_file(size, file) : map(size, strcmp(kind, "private") ? MAP_SHARED : MAP_PRIVATE);
  touch(memory, size, 1);
  long one = page_tables() - start;
  for (int i = 1; i < processes; i++) {
    if (fork()) continue;
    if (file < 0) be_reader(memory, size, ready[1], go[0]);
    char arguments[4][20];
    int numbers[] = {(int)(size >> 20), file, ready[1], go[0]};
    for (int j = 0; j < 4; j++) snprintf(arguments[j], sizeof arguments[j], "%d", numbers[j]);
    execl("/proc/self/exe", "bench-fork", "reader", arguments[0], arguments[1], arguments[2], arguments[3], NULL);
    _exit(1);
  }
  for (int i = 1; i < processes; i++) {
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1 || !byte) return fprintf(stderr, "a process saw other memory\n"), 1;
  }
  printf("%ld %ld\n", one, page_tables() - start);
  for (int i = 1; i < processes; i++)
    if (write(go[1], "x", 1) != 1) return 1;
  while (wait(NULL) > 0) {}
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4) {
    size_t size = (size_t)atol(argv[2]) << 20;
    if (!strcmp(argv[1], "call")) return measure_call(size, 1, atoi(argv[3]));
    if (!strcmp(argv[1], "areas")) return measure_call(256 << 20, atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(argv[1], "faults")) return measure_faults(size);
  }
  if (argc == 5 && !strcmp(argv[1], "tables"))
    return measure_tables(argv, argv[2], (size_t)atol(argv[3]) << 20, atoi(argv[4]));
  if (argc == 6 && !strcmp(argv[1], "reader")) {
    size_t size = (size_t)atol(argv[2]) << 20;
    be_reader(map_file(size, atoi(argv[3])), size, atoi(argv[4]), atoi(argv[5]));
  }
  fprintf(stderr, "usage: bench-fork call MIB N | areas AREAS N | faults MIB 1 | tables KIND MIB N\n");
  return 2;
}
