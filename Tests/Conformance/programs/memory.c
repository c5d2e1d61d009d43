// Address spaces: mmap, munmap, mprotect, mremap, brk, madvise, msync, copy-on-write, stack growth, faults.
#include "../conformance.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define PAGE 4096UL
static sigjmp_buf escape;
static volatile int fault_signal, fault_code;
static void *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context) {
  fault_signal = number;
  fault_code = info->si_code;
  fault_address = info->si_addr;
  siglongjmp(escape, 1);
}

// 0, or the signal which reading (or writing) a byte raises.
static int touch(volatile char *p, bool write) {
  fault_signal = fault_code = 0;
  if (!sigsetjmp(escape, 1)) {
    if (write) *p = 1; else (void)*p;
  }
  return fault_signal;
}

static char *map(size_t size, int protection, int flags) { return mmap(NULL, size, protection, flags, -1, 0); }
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static void anonymous(void) {
  section("anonymous memory");
  char *p = map(4 * PAGE, RW, PRIVATE);
  CHECK(p != MAP_FAILED);
  EQUAL(p[0] | p[4 * PAGE - 1], 0);
  memset(p, 7, 4 * PAGE);
  OK(munmap(p + PAGE, PAGE));
  EQUAL(touch(p + PAGE, false), SIGSEGV);
  EQUAL(fault_code, SEGV_MAPERR);
  CHECK(fault_address == p + PAGE);
  EQUAL(touch(p + 2 * PAGE, true), 0);
  OK(mprotect(p, PAGE, PROT_READ));
  EQUAL(touch(p, false), 0);
  EQUAL(touch(p, true), SIGSEGV);
  EQUAL(fault_code, SEGV_ACCERR);
  OK(mprotect(p, PAGE, PROT_NONE));
  EQUAL(touch(p, false), SIGSEGV);
  EQUAL(fault_code, SEGV_ACCERR);
  OK(mprotect(p, PAGE, RW));
  EQUAL(p[0], 7);
  FAILS(mprotect(p, 2 * PAGE, RW), ENOMEM);
  FAILS(mprotect(p + 1, PAGE, RW), EINVAL);
  FAILS(mprotect(p, PAGE, 0x40), EINVAL);
  OK(munmap(p, 4 * PAGE));
  OK(munmap(p, 4 * PAGE));
  FAILS(munmap(p + 1, PAGE), EINVAL);
  FAILS(munmap(p, 0), EINVAL);
  FAILS(mmap(NULL, 0, RW, PRIVATE, -1, 0) == MAP_FAILED ? -1 : 0, EINVAL);
  FAILS(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0, EINVAL);
  FAILS(mmap(NULL, PAGE, RW, MAP_PRIVATE, 999, 0) == MAP_FAILED ? -1 : 0, EBADF);
  FAILS(mmap((void *)1, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0, EINVAL);
  FAILS(mmap(NULL, 1UL << 60, RW, PRIVATE, -1, 0) == MAP_FAILED ? -1 : 0, ENOMEM);
  p = map(3 * PAGE, RW, PRIVATE);
  memset(p, 1, 3 * PAGE);
  CHECK(mmap(p + PAGE, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) == p + PAGE);
  EQUAL(p[PAGE], 0);
  EQUAL(p[0] + p[2 * PAGE], 2);
  FAILS(mmap(p, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED ? -1 : 0, EEXIST);
  munmap(p + PAGE, PAGE);
  CHECK(mmap(p + PAGE, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) == p + PAGE);
  munmap(p, 3 * PAGE);
  // A hint is taken when the place is free.
  CHECK(mmap(p, PAGE, RW, PRIVATE, -1, 0) == p);
  munmap(p, PAGE);
  p = map(PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE);
  EQUAL(touch(p, false), SIGSEGV);
  munmap(p, PAGE);
  p = map(16 * PAGE, RW, PRIVATE | MAP_POPULATE);
  EQUAL(p[15 * PAGE], 0);
  munmap(p, 16 * PAGE);
  // Code: write, then run it.
  p = map(PAGE, RW, PRIVATE);
  memcpy(p, "\xb8\x2a\0\0\0\xc3", 6);
  OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
  EQUAL(((int (*)(void))p)(), 42);
  OK(mprotect(p, PAGE, PROT_READ));
  fault_signal = 0;
  if (!sigsetjmp(escape, 1)) ((int (*)(void))p)();
  EQUAL(fault_signal, SIGSEGV);
  munmap(p, PAGE);
  EQUAL(touch(NULL, true), SIGSEGV);
  EQUAL(touch((char *)0xffff800000000000, false), SIGSEGV);
  // A large sparse area, touched here and there.
  p = map(1UL << 30, RW, PRIVATE | MAP_NORESERVE);
  CHECK(p != MAP_FAILED);
  long sum = 0;
  for (size_t i = 0; i < 1UL << 30; i += 37UL << 20) p[i] = i >> 20 & 63;
  for (size_t i = 0; i < 1UL << 30; i += 37UL << 20) sum += p[i];
  EQUAL(sum, 866);
  munmap(p, 1UL << 30);
}

static void copies(void) {
  section("fork and copy-on-write");
  char *a = map(64 * PAGE, RW, PRIVATE), *s = map(PAGE, RW, SHARED);
  memset(a, 3, 64 * PAGE);
  pid_t child = CHILD({
    int wrong = 0;
    for (int i = 0; i < 64; i++) wrong += a[i * PAGE] != 3;
    for (int i = 0; i < 64; i += 2) a[i * PAGE] = 4;
    for (int i = 0; i < 64; i++) wrong += a[i * PAGE] != (i % 2 ? 3 : 4);
    s[0] = 9;
    _exit(wrong);
  });
  a[PAGE] = 5;
  EQUAL(outcome(child), 0);
  int wrong = 0;
  for (int i = 0; i < 64; i++) wrong += a[i * PAGE] != (i == 1 ? 5 : 3);
  EQUAL(wrong, 0);
  EQUAL(s[0], 9);
  // Three generations, each with its own value.
  child = CHILD({
    a[0] = 10;
    pid_t g = CHILD({ a[0] = 11; _exit(a[0]); });
    int r = outcome(g);
    _exit(r == 11 && a[0] == 10 ? 10 : 1);
  });
  EQUAL(outcome(child), 10);
  EQUAL(a[0], 3);
  // The kernel writes into a page shared after fork: the other side must not see it.
  int p[2];
  MUST(pipe(p));
  write(p[1], "kernel", 6);
  child = CHILD({ read(p[0], a, 6); _exit(a[0] == 'k' ? 0 : 1); });
  EQUAL(outcome(child), 0);
  EQUAL(a[0], 3);
  close(p[0]), close(p[1]);
  OK(madvise(a, PAGE, MADV_DONTFORK));
  child = CHILD({ _exit(touch(a, false)); });
  EQUAL(outcome(child), SIGSEGV);
  OK(madvise(a, PAGE, MADV_DOFORK));
  OK(madvise(a, PAGE, MADV_WIPEONFORK));
  child = CHILD({ _exit(a[0]); });
  EQUAL(outcome(child), 0);
  munmap(a, 64 * PAGE), munmap(s, PAGE);
}

static void files(void) {
  section("file mappings");
  int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char b[64] = {0};
  for (int i = 0; i < 3; i++) {
    memset(b, 'a' + i, 10);
    pwrite(fd, b, 10, i * PAGE);
  }
  char *s = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0), *p = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE, fd, 0);
  CHECK(s != MAP_FAILED && p != MAP_FAILED);
  EQUAL(s[0] + p[PAGE], 'a' + 'b');
  s[1] = 'S';
  EQUAL(pread(fd, b, 3, 0), 3);
  EQUAL(b[1], 'S');
  EQUAL(p[1], 'S');
  p[2] = 'P';
  EQUAL(pread(fd, b, 3, 0), 3);
  EQUAL(b[2], 'a');
  EQUAL(s[2], 'a');
  pwrite(fd, "W", 1, PAGE + 3);
  EQUAL(s[PAGE + 3], 'W');
  EQUAL(p[PAGE + 3], 'W');
  // Behind the end of the file: zeroes to the end of its last page, then SIGBUS.
  EQUAL(s[2 * PAGE + 100], 0);
  OK(ftruncate(fd, PAGE));
  EQUAL(touch(s + 2 * PAGE, false), SIGBUS);
  EQUAL(fault_code, BUS_ADRERR);
  EQUAL(touch(s + PAGE, true), SIGBUS);
  OK(ftruncate(fd, 3 * PAGE));
  EQUAL(s[PAGE], 0);
  OK(msync(s, PAGE, MS_SYNC));
  OK(msync(s, PAGE, MS_ASYNC));
  // Truncation takes private copies along, those of a child too, with which tables are shared; a hole leaves them.
  char *copies = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  memset(copies, 7, 3 * PAGE);
  int changed[2];
  MUST(pipe(changed));
  pid_t sharer = CHILD({
    read(changed[0], b, 1);
    _exit(copies[0] == 7 && copies[PAGE] == 0 && copies[2 * PAGE] == 0);
  });
  OK(ftruncate(fd, PAGE));
  EQUAL(touch(copies + PAGE, true), SIGBUS);
  OK(ftruncate(fd, 3 * PAGE));
  CHECK(copies[0] == 7 && copies[PAGE] == 0 && copies[2 * PAGE] == 0);
  write(changed[1], "x", 1);
  EQUAL(outcome(sharer), 1);
  close(changed[0]), close(changed[1]);
  munmap(copies, 3 * PAGE);
  int memory = MUST(memfd_create("hole", 0));
  OK(ftruncate(memory, 2 * PAGE));
  copies = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, memory, 0);
  memset(copies, 7, 2 * PAGE);
  OK(fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
  CHECK(copies[PAGE] == 7);
  munmap(copies, 2 * PAGE);
  close(memory);
  FAILS(msync(s, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
  FAILS(msync(s + 1, PAGE, MS_SYNC), EINVAL);
  OK(munmap(s, PAGE));
  FAILS(msync(s, PAGE, MS_SYNC), ENOMEM);
  EQUAL(pread(fd, b, 2, 0), 2);
  EQUAL(b[1], 'S');
  munmap(s + PAGE, 2 * PAGE), munmap(p, 3 * PAGE);
  FAILS(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 1) == MAP_FAILED ? -1 : 0, EINVAL);
  close(fd);
  fd = MUST(open("f", O_RDONLY));
  FAILS(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
  s = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
  FAILS(mprotect(s, PAGE, RW), EACCES);
  munmap(s, PAGE);
  close(fd);
  fd = MUST(open("f", O_WRONLY));
  FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
  close(fd);
  fd = MUST(open(".", O_RDONLY));
  FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0, ENODEV);
  close(fd);
  // A shared mapping seen by two processes; the file may be closed and unlinked.
  fd = MUST(open("g", O_RDWR | O_CREAT, 0600));
  MUST(ftruncate(fd, PAGE));
  s = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  close(fd), unlink("g");
  pid_t child = CHILD(s[10] = 'C');
  EQUAL(outcome(child), 0);
  EQUAL(s[10], 'C');
  munmap(s, PAGE);
  fd = memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(fd >= 0);
  OK(ftruncate(fd, PAGE));
  s = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  strcpy(s, "memfd");
  EQUAL(pread(fd, b, 6, 0), 6);
  CHECK(!strcmp(b, "memfd"));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
  EQUAL(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK);
  FAILS(ftruncate(fd, 2 * PAGE), EPERM);
  FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  munmap(s, PAGE), close(fd);
}

static void moving(void) {
  section("mremap");
  char *p = map(4 * PAGE, RW, PRIVATE);
  for (int i = 0; i < 4; i++) p[i * PAGE] = i + 1;
  CHECK(mremap(p, 4 * PAGE, 2 * PAGE, 0) == p);
  EQUAL(touch(p + 2 * PAGE, false), SIGSEGV);
  CHECK(mremap(p, 2 * PAGE, 3 * PAGE, 0) == p);
  EQUAL(p[2 * PAGE], 0);
  char *wall = mmap(p + 3 * PAGE, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0);
  FAILS(mremap(p, 3 * PAGE, 4 * PAGE, 0) == MAP_FAILED ? -1 : 0, ENOMEM);
  char *q = mremap(p, 3 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
  CHECK(q != MAP_FAILED && q != p && q[0] == 1 && q[PAGE] == 2 && q[99 * PAGE] == 0);
  EQUAL(touch(p, false), SIGSEGV);
  char *to = map(8 * PAGE, RW, PRIVATE);
  CHECK(mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE);
  EQUAL(to[2 * PAGE], 2);
  EQUAL(touch(q, false), SIGSEGV);
  FAILS(mremap(to, PAGE, 0, 0) == MAP_FAILED ? -1 : 0, EINVAL);
  FAILS(mremap(p, PAGE, 2 * PAGE, 0) == MAP_FAILED ? -1 : 0, EFAULT);
  FAILS(mremap(to + 1, PAGE, PAGE, 0) == MAP_FAILED ? -1 : 0, EINVAL);
  munmap(to, 8 * PAGE), munmap(q + 2 * PAGE, 98 * PAGE), munmap(wall, PAGE);

  section("brk");
  char *start = sbrk(0);
  CHECK(sbrk(10000) == start);
  memset(start, 5, 10000);
  CHECK(sbrk(-10000) == start + 10000);
  CHECK(sbrk(0) == start);
  CHECK(sbrk(3 * PAGE) == start && start[2 * PAGE] == 0);
  CHECK((long)syscall(SYS_brk, 1) == (long)sbrk(0));
  sbrk(-3 * (long)PAGE);
  pid_t child = CHILD({
    struct rlimit r = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_DATA, &r);
    FAILS(brk((char *)sbrk(0) + (64 << 20)), ENOMEM);
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);

  section("madvise and locks");
  p = map(4 * PAGE, RW, PRIVATE);
  memset(p, 6, 4 * PAGE);
  OK(madvise(p, 2 * PAGE, MADV_DONTNEED));
  EQUAL(p[0] + p[2 * PAGE], 6);
  OK(madvise(p, PAGE, MADV_WILLNEED));
  OK(madvise(p, PAGE, MADV_FREE));
  FAILS(madvise(p + 1, PAGE, MADV_NORMAL), EINVAL);
  FAILS(madvise(p, PAGE, 9999), EINVAL);
  OK(munmap(p + 3 * PAGE, PAGE));
  FAILS(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM);
  unsigned char resident[3] = {0};
  p[0] = 1;
  OK(mincore(p, 3 * PAGE, resident));
  EQUAL(resident[0] & 1, 1);
  OK(madvise(p, 2 * PAGE, MADV_COLD));
  OK(madvise(p, 2 * PAGE, MADV_PAGEOUT));
  EQUAL(p[0] + p[2 * PAGE], 1);
  FAILS(madvise(p, 4 * PAGE, MADV_COLD), ENOMEM);
  FAILS(madvise(p, 4 * PAGE, MADV_PAGEOUT), ENOMEM);
  OK(mlock(p, PAGE));
  FAILS(madvise(p, 2 * PAGE, MADV_COLD), EINVAL);
  FAILS(madvise(p, 2 * PAGE, MADV_PAGEOUT), EINVAL);
  OK(mlock2(p, PAGE, MLOCK_ONFAULT));
  OK(munlock(p, PAGE));
  OK(mlockall(MCL_CURRENT));
  OK(munlockall());
  munmap(p, 3 * PAGE);
}

// Each level takes a page of stack.
static int deep(int level) {
  volatile char page[PAGE];
  page[0] = level;
  return level == 0 ? 0 : deep(level - 1) + (page[0] != (char)level);
}

static void stacks(void) {
  section("stack growth");
  pid_t child = CHILD(_exit(deep(1000)));
  EQUAL(outcome(child), 0);
  child = CHILD({
    signal(SIGSEGV, SIG_DFL);
    struct rlimit r = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &r);
    _exit(deep(2000));
  });
  EQUAL(outcome(child), SIGNALLED(SIGSEGV));
  char *p = map(64 * PAGE, RW, PRIVATE);
  munmap(p, 63 * PAGE);
  char *g = mmap(p + 62 * PAGE, PAGE, RW, PRIVATE | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
  CHECK(g == p + 62 * PAGE);
  EQUAL(touch(g, true), 0);
  munmap(g, 2 * PAGE);

  section("bad pointers in calls");
  char *edge = map(2 * PAGE, RW, PRIVATE);
  munmap(edge + PAGE, PAGE);
  int fd = open("/dev/zero", O_RDONLY);
  EQUAL(read(fd, edge + PAGE - 10, 100), 10);
  FAILS(read(fd, edge + PAGE, 1), EFAULT);
  close(fd);
  struct stat s;
  strcpy(edge + PAGE - 2, "/");
  OK(stat(edge + PAGE - 2, &s));
  edge[PAGE - 1] = 'x';
  FAILS(stat(edge + PAGE - 2, &s), EFAULT);
  FAILS(stat("/", (struct stat *)(edge + PAGE - 8)), EFAULT);
  FAILS(stat("/", (struct stat *)0xffffffff80000000), EFAULT);
  OK(mprotect(edge, PAGE, PROT_READ));
  FAILS(stat("/", (struct stat *)edge), EFAULT);
  munmap(edge, PAGE);

  section("process_vm_readv and writev");
  static char secret[16] = "secret";
  char copy[16] = {0};
  child = CHILD({ strcpy(secret, "child's"); for (;;) pause(); });
  UNTIL(at_rest(child));
  struct iovec l = {copy, 8}, r = {secret, 8};
  EQUAL(process_vm_readv(child, &l, 1, &r, 1, 0), 8);
  CHECK(!strcmp(copy, "child's"));
  EQUAL(process_vm_writev(child, &l, 1, &r, 1, 0), 8);
  FAILS(process_vm_readv(child, &l, 1, &r, 1, 1), EINVAL);
  kill(child, SIGKILL);
  outcome(child);
  FAILS(process_vm_readv(child, &l, 1, &r, 1, 0), ESRCH);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

// Large pages by order, and advice about the memory of others.
static void advice(void) {
  section("madvise with large pages");
  const size_t block = 2 << 20;
  char *room = map(6 * block, RW, PRIVATE);
  char *p = (char *)(((uintptr_t)room + block - 1) & ~(block - 1));
  for (size_t i = 0; i < 2 * block; i += 9 * PAGE) p[i] = (char)(i / PAGE % 100);
  OK(madvise(p, 2 * block, MADV_COLLAPSE));
  OK(madvise(p, 2 * block, MADV_COLLAPSE));
  int wrong = 0;
  for (size_t i = 0; i < 2 * block; i += PAGE) wrong += p[i] != (i % (9 * PAGE) ? 0 : (char)(i / PAGE % 100));
  EQUAL(wrong, 0);
  pid_t child = CHILD({
    p[PAGE] = 1;
    OK(madvise(p, block, MADV_COLLAPSE));
    EQUAL(p[PAGE] + p[9 * PAGE], 10);
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);
  EQUAL(p[PAGE], 0);
  FAILS(madvise(p + 3 * block, block, MADV_COLLAPSE), EINVAL);
  FAILS(madvise(p + PAGE, 8 * PAGE, MADV_COLLAPSE), EINVAL);
  OK(madvise(p + PAGE, block, MADV_COLLAPSE));
  FAILS(madvise(p + 1, block, MADV_COLLAPSE), EINVAL);
  OK(madvise(p, block, MADV_NOHUGEPAGE));
  FAILS(madvise(p, block, MADV_COLLAPSE), EINVAL);
  OK(munmap(p + 2 * block, PAGE));
  FAILS(madvise(p + block, block + PAGE, MADV_COLLAPSE), ENOMEM);

  section("populating");
  char *q = map(6 * PAGE, PROT_READ, PRIVATE);
  OK(madvise(q, PAGE, MADV_POPULATE_READ));
  FAILS(madvise(q, PAGE, MADV_POPULATE_WRITE), EINVAL);
  mprotect(q + PAGE, PAGE, PROT_NONE), mprotect(q + 2 * PAGE, PAGE, PROT_WRITE), mprotect(q + 3 * PAGE, PAGE, PROT_EXEC);
  FAILS(madvise(q + PAGE, PAGE, MADV_POPULATE_READ), EINVAL);
  FAILS(madvise(q + PAGE, PAGE, MADV_POPULATE_WRITE), EINVAL);
  FAILS(madvise(q + 2 * PAGE, PAGE, MADV_POPULATE_READ), EINVAL);
  OK(madvise(q + 2 * PAGE, PAGE, MADV_POPULATE_WRITE));
  FAILS(madvise(q + 3 * PAGE, PAGE, MADV_POPULATE_READ), EINVAL);
  munmap(q + 5 * PAGE, PAGE);
  FAILS(madvise(q + 4 * PAGE, 2 * PAGE, MADV_POPULATE_READ), ENOMEM);
  FAILS(madvise(q + 4 * PAGE, 2 * PAGE, MADV_POPULATE_WRITE), EINVAL);
  munmap(q, 5 * PAGE);
  int short_file = MUST(memfd_create("short", 0));
  q = mmap(NULL, PAGE, RW, MAP_SHARED, short_file, 0);
  FAILS(madvise(q, PAGE, MADV_POPULATE_READ), EFAULT);
  FAILS(madvise(q, PAGE, MADV_POPULATE_WRITE), EFAULT);
  munmap(q, PAGE), close(short_file);

  section("process_madvise");
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  int other = (int)syscall(SYS_pidfd_open, child, 0);
  struct iovec ranges[] = {{p, 3 * PAGE}, {p + block, 2 * PAGE}, {p + 2 * block, PAGE}};
  EQUAL(syscall(SYS_process_madvise, self, ranges, 2ul, MADV_COLD, 0), (long)(5 * PAGE));
  EQUAL(syscall(SYS_process_madvise, other, ranges, 2ul, MADV_PAGEOUT, 0), (long)(5 * PAGE));
  EQUAL(syscall(SYS_process_madvise, other, ranges, 3ul, MADV_WILLNEED, 0), (long)(5 * PAGE));
  FAILS(syscall(SYS_process_madvise, other, ranges + 2, 1ul, MADV_COLD, 0), ENOMEM);
  FAILS(syscall(SYS_process_madvise, other, ranges, 1ul, MADV_DONTNEED, 0), EINVAL);
  FAILS(syscall(SYS_process_madvise, other, ranges, 1ul, MADV_COLD, 1), EINVAL);
  FAILS(syscall(SYS_process_madvise, 0, ranges, 1ul, MADV_COLD, 0), EBADF);
  FAILS(syscall(SYS_process_madvise, other, (void *)8, 1ul, MADV_COLD, 0), EFAULT);
  kill(child, SIGKILL);
  EQUAL(waitpid(child, NULL, 0), child);
  FAILS(syscall(SYS_process_madvise, other, ranges, 1ul, MADV_COLD, 0), ESRCH);
  EQUAL(p[9 * PAGE], 9);
  close(self);
  close(other);
  munmap(room, 6 * block);
}

// Lengths that overflow when they are rounded up to pages, and offsets beyond the largest file.
static void overflowing_lengths(void) {
  section("lengths and offsets that overflow");
  char *page = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  OK(msync(page, ~0ul, MS_SYNC));
  OK(mlock(page, ~0ul));
  OK(munlock(page, ~0ul));
  int file = MUST(memfd_create("file", 0));
  FAILS(mmap(NULL, 8192, PROT_READ, MAP_SHARED, file, INT64_MAX & ~4095L) == MAP_FAILED ? -1 : 0, EOVERFLOW);
  FAILS(sendfile(file, file, NULL, (size_t)-1), EINVAL);
  FAILS(fcntl(file, F_SETOWN, INT_MIN), EINVAL);
  close(file);
  munmap(page, 4096);
}

int main(void) {
  enter_work_directory();
  struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&alternate, NULL);
  sigaction(SIGSEGV, &a, NULL);
  sigaction(SIGBUS, &a, NULL);
  anonymous();
  copies();
  files();
  moving();
  stacks();
  advice();
  overflowing_lengths();
  return conformance_end();
}
