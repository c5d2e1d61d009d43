// Huge pages: MAP_HUGETLB, hugetlbfs, memfd_create with MFD_HUGETLB, the pool's counts (mmap(2), memfd_create(2), proc(5),
// mount(2)). A host usually has none, and its pool is not ours to change: what needs a page is for Apus alone.
#include "../conformance.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define HUGE (2l << 20)
#define RW (PROT_READ | PROT_WRITE)
#define HUGE_SIZE(logarithm) ((unsigned)(logarithm) << 26)
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4
#endif

static void *map(long bytes, int protection, int flags) {
  return mmap(NULL, bytes, protection, MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
}

static long meminfo(const char *key) {
  char text[8192];
  int fd = MUST(open("/proc/meminfo", O_RDONLY));
  ssize_t n = MUST(read(fd, text, sizeof text - 1));
  close(fd);
  text[n] = 0;
  char *at = strstr(text, key);
  return at ? atol(at + strlen(key)) : -1;
}

#define POOL(t, f, r, s)                                                                                      \
  do {                                                                                                        \
    EQUAL(meminfo("HugePages_Total:"), t);                                                                    \
    EQUAL(meminfo("HugePages_Free:"), f);                                                                     \
    EQUAL(meminfo("HugePages_Rsvd:"), r);                                                                     \
    EQUAL(meminfo("HugePages_Surp:"), s);                                                                     \
  } while (0)

static void set_parameter(const char *name, long value) {
  char path[128], text[32];
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  int fd = MUST(open(path, O_WRONLY)), length = snprintf(text, sizeof text, "%ld\n", value);
  MUST(write(fd, text, length));
  close(fd);
}

static long parameter(const char *name) {
  char path[128], text[32] = "";
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  int fd = MUST(open(path, O_RDONLY));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  return atol(text);
}

// The number behind `key` in the entry of /proc/self/smaps that contains `address`, or in /proc/self/status.
static long entry_of(const void *address, const char *key) {
  FILE *file = fopen(address ? "/proc/self/smaps" : "/proc/self/status", "r");
  char text[512];
  bool inside = !address;
  long value = -1;
  while (fgets(text, sizeof text, file)) {
    unsigned long start, end;
    if (address && sscanf(text, "%lx-%lx ", &start, &end) == 2)
      inside = start <= (unsigned long)address && (unsigned long)address < end;
    if (inside && !strncmp(text, key, strlen(key))) {
      value = atol(text + strlen(key) + 1);
      if (!strcmp(key, "VmFlags")) value = strstr(text, " ht") != NULL;
    }
  }
  fclose(file);
  return value;
}

static void without_pages(void) {
  section("arguments");
  CHECK(map(HUGE, RW, MAP_PRIVATE | HUGE_SIZE(22)) == MAP_FAILED && errno == EINVAL);
  CHECK(map(0, RW, MAP_PRIVATE) == MAP_FAILED && errno == EINVAL);
  // A promise that cannot be kept is not made; without one, touching is SIGBUS.
  CHECK(map(1l << 40, RW, MAP_PRIVATE) == MAP_FAILED && errno == ENOMEM);
  CHECK(map(1l << 40, RW, MAP_SHARED) == MAP_FAILED && errno == ENOMEM);
  char *p = map(3 * HUGE, RW, MAP_PRIVATE | MAP_NORESERVE | HUGE_SIZE(21));
  CHECK(p != MAP_FAILED && (uintptr_t)p % HUGE == 0);
  EQUAL(entry_of(p, "KernelPageSize:"), 2048);
  EQUAL(entry_of(p, "MMUPageSize:"), 2048);
  EQUAL(entry_of(p, "VmFlags"), 1);
  FAILS(munmap(p, 4096), EINVAL);
  FAILS(munmap(p + 4096, HUGE), EINVAL);
  FAILS(mprotect(p, 4096, PROT_READ), EINVAL);
  FAILS(mprotect(p + 4096, HUGE - 4096, PROT_READ), EINVAL);
  OK(mprotect(p, HUGE, PROT_READ));
  OK(mprotect(p, HUGE, RW));
  FAILS(madvise(p + 4096, HUGE, MADV_DONTNEED), EINVAL);
  OK(madvise(p, HUGE, MADV_DONTNEED));
  FAILS(madvise(p, HUGE, MADV_FREE), EINVAL);
  FAILS(madvise(p, HUGE, MADV_WIPEONFORK), EINVAL);
  OK(madvise(p, HUGE, MADV_DONTFORK));
  OK(madvise(p, HUGE, MADV_DOFORK));
  CHECK(mremap(p, HUGE, 2 * HUGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
  CHECK(mremap(p + 4096, HUGE, HUGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
  CHECK(mmap(p + 4096, HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
            MAP_FAILED && errno == EINVAL);
  OK(munmap(p + HUGE, HUGE));
  OK(munmap(p, 3 * HUGE));
  // The length is rounded up, in mmap only.
  p = map(4096, RW, MAP_PRIVATE | MAP_NORESERVE);
  FAILS(munmap(p, 4096), EINVAL);
  OK(munmap(p, HUGE));

  section("files of huge pages");
  FAILS(memfd_create("huge", MFD_HUGETLB | HUGE_SIZE(22)), ENODEV);
  FAILS(memfd_create("plain", HUGE_SIZE(21)), EINVAL);
  int fd = MUST(memfd_create("huge", MFD_HUGETLB | HUGE_SIZE(21) | MFD_ALLOW_SEALING));
  struct stat status;
  struct statfs fs;
  OK(fstatfs(fd, &fs));
  EQUAL(fs.f_type, 0x958458f6);
  EQUAL(fs.f_bsize, HUGE);
  FAILS(ftruncate(fd, 4096), EINVAL);
  OK(ftruncate(fd, 2 * HUGE));
  OK(fstat(fd, &status));
  EQUAL(status.st_size, 2 * HUGE);
  EQUAL(status.st_blksize, HUGE);
  EQUAL(status.st_blocks, 0);
  char bytes[16];
  memset(bytes, 1, 16);
  FAILS(write(fd, bytes, 16), EINVAL);
  EQUAL(pread(fd, bytes, 16, 2 * HUGE - 8), 8);
  CHECK(!memcmp(bytes, "\0\0\0\0\0\0\0\0", 8));
  CHECK(mmap(NULL, HUGE, RW, MAP_SHARED, fd, 4096) == MAP_FAILED && errno == EINVAL);
  p = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, HUGE);
  CHECK(p != MAP_FAILED && (uintptr_t)p % HUGE == 0);
  OK(munmap(p, HUGE));
  // A writable mapping beyond the end makes the file longer.
  p = mmap(NULL, HUGE, RW, MAP_SHARED | MAP_NORESERVE, fd, 3 * HUGE);
  CHECK(p != MAP_FAILED);
  OK(fstat(fd, &status));
  EQUAL(status.st_size, 4 * HUGE);
  OK(munmap(p, HUGE));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  FAILS(ftruncate(fd, HUGE), EPERM);
  FAILS(ftruncate(fd, 8 * HUGE), EPERM);
  FAILS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, HUGE), EOPNOTSUPP);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HUGE));
  close(fd);
  int plain = MUST(memfd_create("plain", 0));
  MUST(ftruncate(plain, HUGE));
  CHECK(mmap(NULL, HUGE, RW, MAP_SHARED | MAP_HUGETLB, plain, 0) == MAP_FAILED && errno == EINVAL);
  close(plain);
}

// With the pool empty, who was promised the pages writes to them all the same, and his child loses those.
static void promise_kept(void) {
  char *p = map(4 * HUGE, RW, MAP_PRIVATE);
  CHECK(p != MAP_FAILED);
  for (int i = 0; i < 4; i++) p[i * HUGE] = i + 1;
  POOL(4, 0, 0, 0);
  int go[2], byte = 0;
  MUST(pipe(go));
  pid_t child = CHILD({
    CHECK(p[0] == 1 && p[HUGE] == 2);
    EQUAL(read(go[0], &byte, 1), 1);
    CHECK(p[HUGE] == 2 && p[3 * HUGE] == 4);
    if (checks_failed) _exit(1);
    byte = p[0];
  });
  p[0] = 42;
  CHECK(p[0] == 42);
  EQUAL(write(go[1], &byte, 1), 1);
  EQUAL(outcome(child), SIGNALLED(SIGBUS));
  CHECK(p[0] == 42 && p[HUGE] == 2);
  POOL(4, 0, 0, 0);
  close(go[0]);
  close(go[1]);
  OK(munmap(p, 4 * HUGE));
  POOL(4, 4, 0, 0);
}

static void pool(void) {
  POOL(0, 0, 0, 0);
  CHECK(map(HUGE, RW, MAP_PRIVATE) == MAP_FAILED && errno == ENOMEM);
  set_parameter("nr_hugepages", 8);
  EQUAL(parameter("nr_hugepages"), 8);
  POOL(8, 8, 0, 0);
  EQUAL(meminfo("Hugepagesize:"), 2048);
  EQUAL(meminfo("Hugetlb:"), 8 * 2048);
  set_parameter("nr_hugepages", 4);
  POOL(4, 4, 0, 0);

  char *p = map(3 * HUGE, RW, MAP_PRIVATE);
  CHECK(p != MAP_FAILED);
  POOL(4, 4, 3, 0);
  CHECK(map(2 * HUGE, RW, MAP_PRIVATE) == MAP_FAILED && errno == ENOMEM);
  // What is promised cannot be taken out of the pool.
  set_parameter("nr_hugepages", 1);
  EQUAL(parameter("nr_hugepages"), 1);
  POOL(3, 3, 3, 2);
  set_parameter("nr_hugepages", 4);
  POOL(4, 4, 3, 0);

  // They are the pool's promise, and nobody else's.
  long promised = meminfo("Committed_AS:");
  OK(mprotect(p, HUGE, PROT_READ));
  OK(mprotect(p, HUGE, RW));
  CHECK(labs(meminfo("Committed_AS:") - promised) < 1024);
  POOL(4, 4, 3, 0);

  long resident = entry_of(NULL, "VmRSS:");
  for (long i = 0; i < 2 * HUGE; i += 4096) {
    CHECK(*(long *)(p + i) == 0);
    *(long *)(p + i) = i;
  }
  POOL(4, 2, 1, 0);
  EQUAL(entry_of(NULL, "HugetlbPages:"), 4096);
  CHECK(labs(entry_of(NULL, "VmRSS:") - resident) < 512);
  EQUAL(entry_of(p, "Private_Hugetlb:"), 4096);
  EQUAL(entry_of(p, "Rss:"), 0);
  for (long i = 0; i < 2 * HUGE; i += 4096) CHECK(*(long *)(p + i) == i);

  // One page is free and nobody's: a child may copy one, and no more.
  EQUAL(outcome(CHILD({
          *(long *)p = 7;
          CHECK(*(long *)p == 7 && *(long *)(p + 4096) == 4096);
          POOL(4, 1, 1, 0);
          *(long *)(p + HUGE) = 7;
        })), SIGNALLED(SIGBUS));
  CHECK(*(long *)p == 0);
  // The promise for the third page was kept for us.
  p[2 * HUGE] = 1;
  POOL(4, 1, 0, 0);
  OK(madvise(p + HUGE, HUGE, MADV_DONTNEED));
  POOL(4, 2, 1, 0);
  CHECK(p[HUGE + 100] == 0);
  POOL(4, 1, 0, 0);

  char *q = mremap(p + 2 * HUGE, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 64 * HUGE);
  CHECK(q == p + 64 * HUGE && q[0] == 1);
  OK(munmap(q, HUGE));
  OK(munmap(p, 2 * HUGE));
  POOL(4, 4, 0, 0);
  promise_kept();
  set_parameter("nr_overcommit_hugepages", 2);
  p = map(6 * HUGE, RW, MAP_SHARED);
  CHECK(p != MAP_FAILED);
  POOL(6, 6, 6, 2);
  EQUAL(outcome(CHILD(p[5 * HUGE] = 42)), 0);
  CHECK(p[5 * HUGE] == 42);
  POOL(6, 5, 5, 2);
  OK(munmap(p, 6 * HUGE));
  POOL(4, 4, 0, 0);
  set_parameter("nr_overcommit_hugepages", 0);
}

static void code(void) {
  // mov $42, %eax; ret
  static const unsigned char answer[] = {0xb8, 42, 0, 0, 0, 0xc3};
  unsigned char *p = map(HUGE, RW | PROT_EXEC, MAP_PRIVATE);
  CHECK(p != MAP_FAILED);
  memcpy(p + HUGE - sizeof answer, answer, sizeof answer);
  EQUAL(((int (*)(void))(p + HUGE - sizeof answer))(), 42);
  OK(mprotect(p, HUGE, PROT_READ | PROT_EXEC));
  EQUAL(((int (*)(void))(p + HUGE - sizeof answer))(), 42);
  OK(munmap(p, HUGE));
  p = map(HUGE, RW, MAP_PRIVATE | MAP_POPULATE);
  POOL(4, 3, 0, 0);
  // System calls read and write them.
  int fd = MUST(open("/proc/self/exe", O_RDONLY));
  EQUAL(read(fd, p + 100000, 300000) > 0, 1);
  CHECK(!memcmp(p + 100000, "\177ELF", 4));
  close(fd);
  OK(munmap(p, HUGE));
  POOL(4, 4, 0, 0);
}

static void file_system(void) {
  char place[] = "/tmp/huge.XXXXXX", path[64];
  CHECK(mkdtemp(place) != NULL);
  FAILS(mount("none", place, "hugetlbfs", 0, "pagesize=4M"), EINVAL);
  FAILS(mount("none", place, "hugetlbfs", 0, "size=2M,min_size=4M"), EINVAL);
  FAILS(mount("none", place, "hugetlbfs", 0, "nonsense=1"), EINVAL);
  MUST(mount("none", place, "hugetlbfs", 0, "size=6M,min_size=2M,nr_inodes=4,mode=750,uid=3,gid=4"));
  POOL(4, 4, 1, 0);
  struct statfs fs;
  struct stat status;
  OK(statfs(place, &fs));
  EQUAL(fs.f_type, 0x958458f6);
  EQUAL(fs.f_blocks, 3);
  EQUAL(fs.f_bfree, 3);
  OK(stat(place, &status));
  EQUAL(status.st_mode & 07777, 0750);
  EQUAL(status.st_uid * 10 + status.st_gid, 34);
  snprintf(path, sizeof path, "%s/file", place);
  int fd = MUST(open(path, O_RDWR | O_CREAT, 0600));
  // Four would exceed size=.
  CHECK(mmap(NULL, 4 * HUGE, RW, MAP_SHARED, fd, 0) == MAP_FAILED && errno == ENOMEM);
  char *p = mmap(NULL, 2 * HUGE, RW, MAP_SHARED, fd, 0);
  CHECK(p != MAP_FAILED);
  POOL(4, 4, 2, 0);
  strcpy(p + HUGE - 3, "across");
  POOL(4, 2, 0, 0);
  char text[8] = "";
  EQUAL(pread(fd, text, 7, HUGE - 3), 7);
  CHECK(!strcmp(text, "across"));
  OK(fstat(fd, &status));
  EQUAL(status.st_size, 2 * HUGE);
  EQUAL(status.st_blocks, 2 * HUGE / 512);
  OK(statfs(place, &fs));
  EQUAL(fs.f_bfree, 1);
  // A private mapping sees the file, and keeps its own copy.
  char *own = mmap(NULL, 2 * HUGE, RW, MAP_PRIVATE, fd, 0);
  CHECK(own != MAP_FAILED && !strcmp(own + HUGE - 3, "across"));
  own[HUGE - 3] = 'A';
  CHECK(p[HUGE - 3] == 'a' && own[HUGE - 3] == 'A' && !strcmp(own + HUGE, "oss"));
  OK(munmap(own, 2 * HUGE));
  // A shorter file: SIGBUS beyond its end, and the page is free again.
  OK(ftruncate(fd, HUGE));
  EQUAL(outcome(CHILD(p[HUGE] = 1)), SIGNALLED(SIGBUS));
  OK(fstat(fd, &status));
  EQUAL(status.st_blocks, HUGE / 512);
  OK(fallocate(fd, 0, 0, 3 * HUGE));
  OK(fstat(fd, &status));
  EQUAL(status.st_blocks, 3 * HUGE / 512);
  FAILS(fallocate(fd, 0, 0, 4 * HUGE), ENOSPC);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE / 2, 2 * HUGE));
  OK(fstat(fd, &status));
  EQUAL(status.st_blocks, 2 * HUGE / 512);
  CHECK(p[HUGE - 3] == 0);
  OK(munmap(p, 2 * HUGE));
  close(fd);
  // The file lives on without mapping or descriptor.
  POOL(4, 2, 0, 0);
  OK(unlink(path));
  POOL(4, 4, 1, 0);
  char link[64];
  snprintf(link, sizeof link, "%s/link", place);
  OK(symlink("target", link));
  OK(mkdir(path, 0700));
  OK(umount(place));
  POOL(4, 4, 0, 0);
  rmdir(place);
}

int main(void) {
  without_pages();
  section("with pages");
  APUS_ONLY("the pool", pool());
  APUS_ONLY("code and system calls", code());
  APUS_ONLY("hugetlbfs", file_system());
  APUS_ONLY("all pages come back", {
    set_parameter("nr_hugepages", 0);
    POOL(0, 0, 0, 0);
  });
  return conformance_end();
}
