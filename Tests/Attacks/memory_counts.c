// Counts of pages in memory. A large program shares its page tables with its children; a child that reads fills those tables for its
// parent too. Then the parent unmaps them, forks once more, and the grandchild ends: no count may be below what the tables hold,
// and none may end the kernel. The calling process asks for the counts (getrusage, /proc) at the points at which they once were wrong.
//
// run: --cpus 1 --user 1000 -- @ sandbox
// expect: ok control: the child filled tables that its parent has
// run: --cpus 2 --user 1000 -- @ sandbox
// expect: ok control: the child filled tables that its parent has
// native: @
#include "attack.h"
#include <sys/resource.h>

#define MIB (1ul << 20)
#define FILE_SIZE (64 * MIB)
#define PAGES (FILE_SIZE / 4096)

static int file;
static char *const large = (char *)0x2000000000, *const region = (char *)0x1000000000;

// A line of /proc/self/status, in pages.
static long status_pages(const char *name) {
  char line[256];
  long kibibytes = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (!strncmp(line, name, strlen(name))) kibibytes = strtol(line + strlen(name) + 1, NULL, 10);
  if (status) fclose(status);
  return kibibytes / 4;
}

static long peak_pages(int who) {
  struct rusage usage;
  MUST(getrusage(who, &usage));
  return usage.ru_maxrss / 4;
}

static bool counts_are_sane(void) {
  long resident = status_pages("VmRSS"), peak = status_pages("VmHWM"), size = status_pages("VmSize");
  return resident > 0 && resident <= peak && resident <= size && peak < 1 << 20 && peak_pages(RUSAGE_SELF) < 1 << 20;
}

static int map_region(int flags) {
  char *at = mmap(region, FILE_SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0);
  if (at != region) return -1;
  // One page of each table, so that all tables are there when the child comes.
  for (size_t i = 0; i < FILE_SIZE; i += 2 * MIB) region[i] = 1;
  return 0;
}

static long read_all(void) {
  long sum = 0;
  for (size_t i = 0; i < FILE_SIZE; i += 4096) sum += ((volatile char *)region)[i];
  return sum;
}

// How the parent gives up what the child has filled.
static void give_up(int way) {
  switch (way) {
    case 0: MUST(munmap(region, FILE_SIZE)); break;
    case 1: for (size_t i = 0; i < FILE_SIZE; i += 2 * MIB) MUST(munmap(region + i, 2 * MIB)); break;
    case 2: MUST(madvise(region, FILE_SIZE, MADV_DONTNEED)); break;
    case 3: MUST(mmap(region, FILE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == region ? 0 : -1); break;
    case 4: MUST(mremap(region, FILE_SIZE, 4096, 0) == region ? 0 : -1); break;
    case 5: MUST(ftruncate(file, 0)); MUST(ftruncate(file, FILE_SIZE)); break;
    case 6: MUST(mprotect(region + MIB, 4096, PROT_READ)); MUST(munmap(region, FILE_SIZE)); break;
  }
}
#define WAYS 7

static void end_at_once(void) { _exit(0); }

int main(int argc, char **argv) {
  bool in_sandbox = argc > 1;
  // A large program: small ones are copied.
  MUST(mmap(large, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == large ? 0 : -1);
  memset(large, 1, 16 * MIB);
  for (int kind = 0; kind < 2; kind++)
    for (int way = 0; way < WAYS; way++) {
      file = MUST(memfd_create("counts", 0));
      MUST(ftruncate(file, FILE_SIZE));
      MUST(map_region(kind == 0 ? MAP_PRIVATE : MAP_SHARED));
      int filled[2], release[2];
      char byte;
      MUST(pipe(filled));
      MUST(pipe(release));
      long before = status_pages("VmRSS");
      pid_t reader = MUST(fork());
      if (reader == 0) {
        read_all();
        bool sane = counts_are_sane() && status_pages("VmRSS") >= (long)PAGES;
        MUST(write(filled[1], sane ? "y" : "n", 1));
        MUST(read(release[0], &byte, 1));
        _exit(counts_are_sane() ? 0 : 1);
      }
      MUST(read(filled[0], &byte, 1));
      check(byte == 'y', "kind %d, way %d: counts of the child that filled the tables", kind, way);
      if (in_sandbox && kind == 0 && way == 0)
        check(status_pages("VmRSS") - before > (long)PAGES / 2, "control: the child filled tables that its parent has");
      // In every second round nothing asks for the parent's counts, which would correct them.
      if (way % 2) check(counts_are_sane(), "kind %d, way %d: counts before the end of the mapping", kind, way);
      give_up(way);
      check(outcome(in_child(end_at_once)) == 0, "kind %d, way %d: a child of what is left ends", kind, way);
      check(counts_are_sane(), "kind %d, way %d: counts of what is left", kind, way);
      MUST(write(release[1], "x", 1));
      check(outcome(reader) == 0, "kind %d, way %d: the reader ends", kind, way);
      long peak = peak_pages(RUSAGE_CHILDREN);
      check(peak >= (long)PAGES && peak < 1 << 20, "kind %d, way %d: the children's peak", kind, way);
      munmap(region, FILE_SIZE);
      close(file), close(filled[0]), close(filled[1]), close(release[0]), close(release[1]);
    }
  return attack_end();
}
