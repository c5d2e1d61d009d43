// Where exec puts things: the flexible and the legacy layout of mappings, the stack's limit, random addresses
// (personality(2), getrlimit(2), proc(5) randomize_va_space).
#include "../conformance.h"

#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define SPACE (1ull << 47)

struct probe {
  uintptr_t first, second, stack, heap;
};

static const char *self;

static void *map_one(void) {
  return mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// Runs this program again under `persona` and a stack limit, and has it say where its things are.
static struct probe ask(unsigned long persona, rlim_t stack) {
  int ends[2];
  MUST(pipe(ends));
  pid_t child = CHILD({
    struct rlimit limit = {stack, RLIM_INFINITY};
    if (stack && setrlimit(RLIMIT_STACK, &limit) < 0) _exit(3);
    if (personality(persona) < 0) _exit(4);
    dup2(ends[1], 3);
    execl(self, self, "probe", NULL);
    _exit(5);
  });
  close(ends[1]);
  struct probe result = {0};
  if (read(ends[0], &result, sizeof result) != sizeof result) line("FATAL no answer from the probe");
  close(ends[0]);
  EQUAL(outcome(child), 0);
  return result;
}

int main(int count, char **arguments) {
  if (count > 1) {
    struct probe result;
    result.first = (uintptr_t)map_one();
    result.second = (uintptr_t)map_one();
    result.stack = (uintptr_t)&result;
    result.heap = (uintptr_t)sbrk(0);
    return write(3, &result, sizeof result) == sizeof result ? 0 : 1;
  }
  self = arguments[0];

  section("flexible layout");
  struct probe a = ask(0, 8 * MIB), b = ask(0, 8 * MIB);
  CHECK(a.second < a.first);
  CHECK(a.stack > a.first && a.stack - a.first >= 128 * MIB - MIB * 2);
  CHECK(a.stack != b.stack && a.first != b.first);

  section("without random addresses");
  a = ask(ADDR_NO_RANDOMIZE, 8 * MIB), b = ask(ADDR_NO_RANDOMIZE, 8 * MIB);
  CHECK(a.stack == b.stack && a.first == b.first && a.heap == b.heap);
  CHECK(a.second < a.first);

  section("the stack's limit");
  struct probe small = ask(ADDR_NO_RANDOMIZE, 64 * MIB), large = ask(ADDR_NO_RANDOMIZE, 4 * GIB);
  CHECK(small.stack - small.first >= 128 * MIB - 2 * MIB && small.stack - small.first < 160 * MIB);
  CHECK(large.stack - large.first >= 4 * GIB && large.stack - large.first < 4 * GIB + 64 * MIB);
  a = ask(0, RLIM_INFINITY);
  CHECK(a.second < a.first);
  // Five sixths of the space are the stack's.
  CHECK(a.first < SPACE / 6 + GIB && a.first > SPACE / 6 - (1ull << 41));

  section("legacy layout");
  a = ask(ADDR_COMPAT_LAYOUT | ADDR_NO_RANDOMIZE, 8 * MIB);
  CHECK(a.second > a.first);
  CHECK(a.first >= SPACE / 3 - GIB && a.first < SPACE / 3 + GIB);
  a = ask(ADDR_COMPAT_LAYOUT, 8 * MIB), b = ask(ADDR_COMPAT_LAYOUT, 8 * MIB);
  CHECK(a.second > a.first && b.second > b.first);
  CHECK(a.first != b.first);

  section("parameters of the kernel");
  APUS_ONLY("randomize_va_space", {
    int fd = MUST(open("/proc/sys/kernel/randomize_va_space", O_RDWR));
    EQUAL(pwrite(fd, "0", 1, 0), 1);
    a = ask(0, 8 * MIB), b = ask(0, 8 * MIB);
    CHECK(a.stack == b.stack && a.first == b.first && a.heap == b.heap);
    FAILS(pwrite(fd, "3", 1, 0), EINVAL);
    EQUAL(pwrite(fd, "2", 1, 0), 1);
    close(fd);
  });
  APUS_ONLY("legacy_va_layout", {
    int fd = MUST(open("/proc/sys/vm/legacy_va_layout", O_RDWR));
    EQUAL(pwrite(fd, "1", 1, 0), 1);
    a = ask(0, 8 * MIB);
    CHECK(a.second > a.first);
    EQUAL(pwrite(fd, "0", 1, 0), 1);
    a = ask(0, 8 * MIB);
    CHECK(a.second < a.first);
    close(fd);
  });
  return conformance_end();
}
