// /proc/PID/pagemap: what is in memory, whose it is, who shares it.
#include "../conformance.h"
#include <sys/mman.h>

enum { PAGE = 4096 };
static int map = -1;
static int map_of_child = -1;

static uint64_t word_in(int file, const char *address) {
  uint64_t word = 0;
  EQUAL(pread(file, &word, sizeof word, (uintptr_t)address / PAGE * sizeof word), sizeof word);
  return word;
}
static uint64_t frame(uint64_t word) { return word & ((1ULL << 55) - 1); }

// What the bits say, without where the page is.
static const char *kind_in(int file, const char *address) {
  static char text[60];
  uint64_t word = word_in(file, address);
  snprintf(text, sizeof text, "%s%s%s%s", word >> 63 & 1 ? "present" : "absent", word >> 62 & 1 ? " swapped" : "",
           word >> 61 & 1 ? " object" : "", word >> 56 & 1 ? " exclusive" : "");
  return text;
}
#define KIND(address, expected)                                      \
  do {                                                               \
    const char *kind_ = kind_in(map, address);                       \
    if (!check_true(!strcmp(kind_, expected), #address " is " expected, __LINE__)) line("  %s", kind_); \
  } while (0)

static char *pages(int count, int flags, int file) {
  char *memory = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
  if (memory == MAP_FAILED) line("FATAL mmap"), _exit(98);
  madvise(memory, count * PAGE, MADV_NOHUGEPAGE);
  return memory;
}

int main(void) {
  enter_work_directory();
  map = MUST(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));

  section("pages of a process");
  // Not next to each other: a kernel may bring in neighbours.
  char *touched = pages(1, MAP_PRIVATE | MAP_ANONYMOUS, -1), *untouched = pages(1, MAP_SHARED | MAP_ANONYMOUS, -1);
  char *read_only = pages(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  touched[5] = 1;
  char zero = *(volatile char *)read_only;
  EQUAL(zero, 0);
  KIND(touched, "present exclusive");
  KIND(read_only, "present");
  KIND(untouched, "absent");
  munmap(touched, PAGE);
  KIND(touched, "absent");
  int file = MUST(open("file", O_RDWR | O_CREAT, 0600));
  OK(ftruncate(file, PAGE));
  char *private = pages(1, MAP_PRIVATE, file);
  zero = *(volatile char *)private;
  CHECK(!strncmp(kind_in(map, private), "present object", 14));
  private[9] = 1;
  KIND(private, "present exclusive");
  char *shared = pages(1, MAP_SHARED, file);
  shared[0] = 1;
  CHECK(!strncmp(kind_in(map, shared), "present object", 14));
  char *memory = pages(1, MAP_SHARED | MAP_ANONYMOUS, -1);
  memory[0] = 1;
  CHECK(!strncmp(kind_in(map, memory), "present object", 14));

  section("after fork");
  // More than a kernel might think worth copying at once.
  enum { MANY = 600 };
  char *common = pages(MANY, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (int i = 0; i < MANY; i++) common[i * PAGE] = 1;
  KIND(common, "present exclusive");
  int go[2], done[2];
  char byte = 0;
  MUST(pipe(go)), MUST(pipe(done));
  pid_t child = CHILD({
    read(go[0], &byte, 1);
    common[0] = 2;
    write(done[1], "x", 1);
    read(go[0], &byte, 1);
  });
  char name[40];
  snprintf(name, sizeof name, "/proc/%d/pagemap", child);
  map_of_child = MUST(open(name, O_RDONLY | O_CLOEXEC));
  KIND(common, "present");
  uint64_t mine = frame(word_in(map, common));
  CHECK(frame(word_in(map_of_child, common)) == mine);
  write(go[1], "x", 1);
  read(done[0], &byte, 1);
  // Who may not see frames (capabilities(7), CAP_SYS_ADMIN) sees zeros.
  CHECK(mine == 0 || frame(word_in(map_of_child, common)) != mine);
  CHECK(frame(word_in(map_of_child, common + PAGE)) == frame(word_in(map, common + PAGE)));
  CHECK(!strcmp(kind_in(map_of_child, common), "present exclusive"));
  KIND(common + PAGE, "present");
  write(go[1], "x", 1);
  EQUAL(outcome(child), 0);
  EQUAL(pread(map_of_child, &mine, sizeof mine, 0), 0);
  common[0] = 3;
  KIND(common, "present exclusive");

  section("reading");
  uint64_t words[1000];
  EQUAL(pread(map, words, sizeof words, (uintptr_t)common / PAGE * 8), sizeof words);
  CHECK(words[0] >> 63 && words[1] >> 63);
  FAILS(pread(map, words, 7, 0), EINVAL);
  FAILS(pread(map, words, 8, 4), EINVAL);
  FAILS(pread(map, words, 0, 4), EINVAL);
  EQUAL(pread(map, words, 0, 8), 0);
  EQUAL(pread(map, words, 8, 1LL << 50), 0);
  FAILS(pread(map, (void *)8, 8, 0), EFAULT);
  EQUAL(lseek(map, (uintptr_t)common / PAGE * 8, SEEK_SET), (uintptr_t)common / PAGE * 8);
  EQUAL(read(map, words, 16), 16);
  CHECK(words[0] >> 63 && words[1] >> 63);
  EQUAL(read(map, words, 8), 8);
  FAILS(lseek(map, 0, SEEK_END), EINVAL);
  return conformance_end();
}
