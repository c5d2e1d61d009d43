// Strict accounting of promised memory: /proc/sys/vm/overcommit_memory and its neighbours, CommitLimit and Committed_AS
// (proc(5)). A native run must not change the host's parameters, so most of it is for Apus alone.
#include "../conformance.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define MIB (1l << 20)

static long number_in(const char *path, const char *key) {
  char text[8192];
  int fd = MUST(open(path, O_RDONLY));
  ssize_t n = MUST(read(fd, text, sizeof text - 1));
  close(fd);
  text[n] = 0;
  if (!key) return atol(text);
  char *at = strstr(text, key);
  return at ? atol(at + strlen(key)) : -1;
}

static long parameter(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  return number_in(path, NULL);
}

static int set_parameter(const char *name, long value) {
  char path[128], text[32];
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  int fd = MUST(open(path, O_WRONLY)), length = snprintf(text, sizeof text, "%ld\n", value);
  int result = write(fd, text, length) == length ? 0 : -1, error = errno;
  close(fd);
  errno = error;
  return result;
}

static long committed(void) { return number_in("/proc/meminfo", "Committed_AS:"); }
static long commit_limit(void) { return number_in("/proc/meminfo", "CommitLimit:"); }

static void *map(long bytes, int protection, int flags) {
  return mmap(NULL, bytes, protection, MAP_ANONYMOUS | flags, -1, 0);
}

#define RW (PROT_READ | PROT_WRITE)
#define FAILED MAP_FAILED

// How many KiB a step promises, less what the machine does besides.
#define PROMISES(step, kib)                            \
  ({                                                   \
    long before_ = committed();                        \
    step;                                              \
    long change_ = committed() - before_;              \
    CHECK(labs(change_ - (kib)) <= 256);               \
  })

static void what_is_promised(void) {
  void *p, *q;
  PROMISES(p = map(64 * MIB, RW, MAP_PRIVATE), 65536);
  PROMISES(mprotect(p, 64 * MIB, PROT_READ), 0);
  PROMISES(munmap(p, 32 * MIB), -32768);
  PROMISES(munmap(p + 32 * MIB, 32 * MIB), -32768);
  PROMISES(p = map(64 * MIB, PROT_READ, MAP_PRIVATE), 0);
  PROMISES(mprotect(p, 16 * MIB, RW), 16384);
  PROMISES(munmap(p, 64 * MIB), -16384);
  PROMISES(p = map(64 * MIB, RW, MAP_SHARED), 65536);
  PROMISES(munmap(p, 64 * MIB), -65536);
  PROMISES(p = map(16 * MIB, RW, MAP_PRIVATE), 16384);
  PROMISES(p = mremap(p, 16 * MIB, 48 * MIB, MREMAP_MAYMOVE), 32768);
  pid_t child;
  int ends[2];
  MUST(pipe(ends));
  long before = committed();
  child = CHILD({
    char byte;
    close(ends[1]);
    read(ends[0], &byte, 1);
  });
  CHECK(committed() - before >= 49152);
  close(ends[0]);
  close(ends[1]);
  EQUAL(outcome(child), 0);
  munmap(p, 48 * MIB);
  q = sbrk(0);
  PROMISES(CHECK(brk(q + 8 * MIB) == 0), 8192);
  PROMISES(CHECK(brk(q) == 0), -8192);
  // Files in memory are promised page by page.
  int fd = MUST(memfd_create("promise", 0));
  PROMISES(MUST(ftruncate(fd, 32 * MIB)), 0);
  char *m = mmap(NULL, 8 * MIB, RW, MAP_SHARED, fd, 0);
  PROMISES(memset(m, 1, 8 * MIB), 8192);
  PROMISES(MUST(ftruncate(fd, 0)), -8192);
  munmap(m, 8 * MIB);
  close(fd);
}

static void strict(void) {
  OK(set_parameter("overcommit_memory", 2));
  EQUAL(parameter("overcommit_memory"), 2);
  long total = number_in("/proc/meminfo", "MemTotal:");
  OK(set_parameter("overcommit_ratio", 50));
  EQUAL(parameter("overcommit_kbytes"), 0);
  CHECK(labs(commit_limit() - total / 2 - number_in("/proc/meminfo", "SwapTotal:")) <= 8);
  OK(set_parameter("overcommit_kbytes", 262144));
  EQUAL(parameter("overcommit_ratio"), 0);
  EQUAL(commit_limit(), 262144 + number_in("/proc/meminfo", "SwapTotal:"));
  OK(set_parameter("user_reserve_kbytes", 0));
  OK(set_parameter("admin_reserve_kbytes", 65536));

  // The administrator may use all of it, to the page.
  long left = (commit_limit() - committed()) * 1024;
  CHECK(map(left + MIB, RW, MAP_PRIVATE) == FAILED && errno == ENOMEM);
  void *p = map(left - MIB, RW, MAP_PRIVATE);
  CHECK(p != FAILED);
  CHECK(map(2 * MIB, RW, MAP_PRIVATE) == FAILED && errno == ENOMEM);
  // Neither MAP_NORESERVE nor a page-table trick goes round it.
  CHECK(map(2 * MIB, RW, MAP_PRIVATE | MAP_NORESERVE) == FAILED && errno == ENOMEM);
  CHECK(map(2 * MIB, RW, MAP_SHARED) == FAILED && errno == ENOMEM);
  void *read_only = map(2 * MIB, PROT_READ, MAP_PRIVATE);
  CHECK(read_only != FAILED);
  FAILS(mprotect(read_only, 2 * MIB, RW), ENOMEM);
  CHECK(mremap(p, left - MIB, left + MIB, MREMAP_MAYMOVE) == FAILED && errno == ENOMEM);
  errno = 0;
  CHECK(sbrk(4 * MIB) == (void *)-1 && errno == ENOMEM);
  errno = 0;
  CHECK(fork() == -1 && errno == ENOMEM);
  MUST(munmap(p, left - MIB));
  CHECK((p = map(2 * MIB, RW, MAP_PRIVATE)) != FAILED);
  munmap(p, 2 * MIB);

  // Others leave the administrator's share.
  EQUAL(outcome(CHILD({
          long left = (commit_limit() - committed()) * 1024;
          if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) _exit(9);
          CHECK(map(left - 32 * MIB, RW, MAP_PRIVATE) == FAILED && errno == ENOMEM);
          CHECK(map(left - 72 * MIB, RW, MAP_PRIVATE) != FAILED);
          _exit(checks_failed);
        })), 0);

  // A file in memory for which there is no promise left: SIGBUS on access, ENOSPC for write.
  left = (commit_limit() - committed()) * 1024;
  p = map(left - MIB, RW, MAP_PRIVATE);
  CHECK(p != FAILED);
  int fd = MUST(memfd_create("unpromised", 0));
  MUST(ftruncate(fd, 8 * MIB));
  char *block = mmap(NULL, 8 * MIB, RW, MAP_SHARED, fd, 0);
  CHECK(block != FAILED);
  ssize_t written = 0;
  long sum = 0;
  while ((written = pwrite(fd, "x", 1, sum)) == 1) sum += 4096;
  CHECK(written == -1 && errno == ENOSPC && sum <= 2 * MIB);
  MUST(munmap(p, left - MIB));
  close(fd);
}

int main(void) {
  section("parameters");
  CHECK(parameter("overcommit_memory") >= 0 && parameter("overcommit_memory") <= 2);
  CHECK(parameter("overcommit_ratio") >= 0 && parameter("overcommit_kbytes") >= 0);
  CHECK(parameter("admin_reserve_kbytes") >= 0 && parameter("user_reserve_kbytes") >= 0);
  CHECK(commit_limit() > 0 && committed() > 0);
  section("heuristic");
  APUS_ONLY("more than all memory is refused", {
    long total = (number_in("/proc/meminfo", "MemTotal:") + number_in("/proc/meminfo", "SwapTotal:")) * 1024;
    CHECK(map(total + 64 * MIB, RW, MAP_PRIVATE) == FAILED && errno == ENOMEM);
    void *p = map(total + 64 * MIB, RW, MAP_PRIVATE | MAP_NORESERVE);
    CHECK(p != FAILED);
    OK(munmap(p, total + 64 * MIB));
    FAILS(set_parameter("overcommit_memory", 3), EINVAL);
    OK(set_parameter("overcommit_memory", 1));
    CHECK((p = map(total + 64 * MIB, RW, MAP_PRIVATE)) != FAILED);
    OK(munmap(p, total + 64 * MIB));
  });
  section("strict");
  APUS_ONLY("what is promised", what_is_promised());
  APUS_ONLY("the limit holds", strict());
  return conformance_end();
}
