// O_DIRECT, and pages that a device fills while their process forks. Without an argument on a file of /tmp, whatever file
// system that is; `direct_io FILE` on one whose file system passes the cache, and `direct_io DEVICE` on a disk of 4 MiB at least,
// whose contents are lost. Then it also checks the rules of alignment and, in Apus, that the kernel copies nothing.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { SIZE = 4 << 20, PAGE = 4096 };
static const char *path = "file";
static bool is_device;

static uint8_t pattern(size_t at) { return (uint8_t)(at / 512 * 37 + at % 512 + 1); }

static uint8_t *pages(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) _exit(97);
  return memory;
}

static bool is_pattern(const uint8_t *memory, size_t from, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (memory[i] != pattern(from + i)) return false;
  return true;
}

static int open_direct(int flags) {
  int fd = open(path, flags | O_DIRECT | O_CLOEXEC);
  return fd >= 0 ? fd : MUST(open(path, flags | O_CLOEXEC));
}

static void transfers(void) {
  section("transfers");
  int fd = open_direct(O_RDWR);
  uint8_t *out = pages(SIZE), *in = pages(SIZE);
  for (size_t i = 0; i < SIZE; i++) out[i] = pattern(i);
  EQUAL(pwrite(fd, out, SIZE, 0), SIZE);
  EQUAL(pread(fd, in, SIZE, 0), SIZE);
  CHECK(is_pattern(in, 0, SIZE));
  // Pieces of memory here and there, which are whole blocks of 4 KiB.
  struct iovec vectors[3] = {{in + 40 * PAGE, PAGE}, {in + 3 * PAGE, 5 * PAGE}, {in + 100 * PAGE, 2 * PAGE}};
  memset(in, 0, SIZE);
  EQUAL(preadv(fd, vectors, 3, 16 * PAGE), 8 * PAGE);
  CHECK(is_pattern(in + 40 * PAGE, 16 * PAGE, PAGE));
  CHECK(is_pattern(in + 3 * PAGE, 17 * PAGE, 5 * PAGE));
  CHECK(is_pattern(in + 100 * PAGE, 22 * PAGE, 2 * PAGE));
  CHECK(in[0] == 0 && in[8 * PAGE] == 0 && in[102 * PAGE] == 0);
  // What one way writes the other reads.
  int cached = MUST(open(path, O_RDWR | O_CLOEXEC));
  memset(in, 0x55, PAGE);
  EQUAL(pread(cached, in + PAGE, PAGE, 8 * PAGE), PAGE);
  EQUAL(pwrite(fd, in, PAGE, 8 * PAGE), PAGE);
  EQUAL(pread(cached, in + PAGE, PAGE, 8 * PAGE), PAGE);
  CHECK(memcmp(in, in + PAGE, PAGE) == 0);
  EQUAL(pwrite(cached, out + 8 * PAGE, 100, 8 * PAGE), 100);
  EQUAL(pread(fd, in, PAGE, 8 * PAGE), PAGE);
  CHECK(is_pattern(in, 8 * PAGE, 100) && in[100] == 0x55);
  EQUAL(pwrite(fd, out + 8 * PAGE, PAGE, 8 * PAGE), PAGE);
  // Changes through a mapping, and mappings after a write past the cache.
  uint8_t *view = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, cached, 8 * PAGE);
  CHECK(view != MAP_FAILED && is_pattern(view, 8 * PAGE, 4 * PAGE));
  memset(view + PAGE, 0x66, PAGE);
  EQUAL(pread(fd, in, 2 * PAGE, 8 * PAGE), 2 * PAGE);
  CHECK(is_pattern(in, 8 * PAGE, PAGE) && in[PAGE] == 0x66 && in[2 * PAGE - 1] == 0x66);
  EQUAL(pwrite(fd, out + 8 * PAGE, 4 * PAGE, 8 * PAGE), 4 * PAGE);
  CHECK(is_pattern(view, 8 * PAGE, 4 * PAGE));
  // Memory of the same file's mapping.
  EQUAL(pwrite(fd, view, PAGE, 20 * PAGE), PAGE);
  EQUAL(pread(cached, in, PAGE, 20 * PAGE), PAGE);
  CHECK(is_pattern(in, 8 * PAGE, PAGE));
  EQUAL(pread(fd, view + 2 * PAGE, PAGE, 30 * PAGE), PAGE);
  CHECK(is_pattern(view + 2 * PAGE, 30 * PAGE, PAGE));
  EQUAL(pwrite(fd, out + 8 * PAGE, 24 * PAGE, 8 * PAGE), 24 * PAGE);
  munmap(view, 4 * PAGE);
  // Memory that is not there.
  FAILS(pread(fd, (void *)0x1000, PAGE, 0), EFAULT);
  uint8_t *read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FAILS(pread(fd, read_only, PAGE, 0), EFAULT);
  EQUAL(pwrite(fd, read_only, PAGE, 0), PAGE);
  EQUAL(pread(fd, in, PAGE, 0), PAGE);
  CHECK(in[0] == 0 && memcmp(in, in + 1, PAGE - 1) == 0);
  EQUAL(pwrite(fd, out, PAGE, 0), PAGE);
  close(cached);
  close(fd);
  munmap(out, SIZE);
  munmap(in, SIZE);
}

// What holds for files, whatever their file system.
static void file_ends(void) {
  section("the end of a file");
  char name[4096];
  snprintf(name, sizeof name, "%s.short", path);
  int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600));
  uint8_t *memory = pages(64 * PAGE);
  for (size_t i = 0; i < 64 * PAGE; i++) memory[i] = pattern(i);
  EQUAL(pread(fd, memory, PAGE, 0), 0);
  EQUAL(pwrite(fd, memory, 2 * PAGE, 0), 2 * PAGE);
  EQUAL(pwrite(fd, memory, 512, 2 * PAGE), 512);
  EQUAL(lseek(fd, 0, SEEK_END), 2 * PAGE + 512);
  memset(memory, 0x55, 4 * PAGE);
  EQUAL(pread(fd, memory, 4 * PAGE, 0), 2 * PAGE + 512);
  CHECK(is_pattern(memory, 0, 2 * PAGE) && is_pattern(memory + 2 * PAGE, 0, 512));
  OK(ftruncate(fd, 1000));
  EQUAL(pread(fd, memory, PAGE, 0), 1000);
  EQUAL(pread(fd, memory, 512, 512), 488);
  EQUAL(pread(fd, memory, 512, 1000), 0);
  EQUAL(pread(fd, memory, 512, 1024), 0);
  EQUAL(pread(fd, memory, 511, 1001), 0);
  // Behind a gap, which reads as zeros.
  memset(memory + 20 * PAGE, 0x55, PAGE);
  EQUAL(pwrite(fd, memory + 20 * PAGE, PAGE, 10 * PAGE), PAGE);
  EQUAL(pread(fd, memory, 16 * PAGE, 0), 11 * PAGE);
  CHECK(memory[999] != 0 && memory[1000] == 0 && memcmp(memory + 1000, memory + 1001, 10 * PAGE - 1001) == 0);
  CHECK(memory[10 * PAGE] == 0x55);
  // Where the next write goes.
  EQUAL(lseek(fd, 10 * PAGE, SEEK_SET), 10 * PAGE);
  EQUAL(write(fd, memory, PAGE), PAGE);
  EQUAL(write(fd, memory, PAGE), PAGE);
  EQUAL(read(fd, memory, PAGE), 0);
  EQUAL(lseek(fd, 0, SEEK_CUR), 12 * PAGE);
  OK(fcntl(fd, F_SETFL, O_APPEND | O_DIRECT));
  EQUAL(pwrite(fd, memory, 512, 0), 512);
  EQUAL(lseek(fd, 0, SEEK_END), 12 * PAGE + 512);
  // Without the flag, anything goes.
  OK(fcntl(fd, F_SETFL, 0));
  EQUAL(pwrite(fd, "abc", 3, 12 * PAGE + 512), 3);
  OK(fcntl(fd, F_SETFL, O_DIRECT));
  EQUAL(pread(fd, memory, PAGE, 12 * PAGE), 515);
  CHECK(memcmp(memory + 512, "abc", 3) == 0);
  close(fd);
  munmap(memory, 64 * PAGE);
}

// MARK: Fork

struct reader {
  int fd;
  uint8_t *memory;
  size_t length;
  _Atomic int stop;
  int failures;
};

// Reads half of each page from the disk, again and again: the other half is the main thread's.
static void *read_halves(void *argument) {
  struct reader *reader = argument;
  for (unsigned round = 0; !reader->stop; round++) {
    size_t place = (round * 7 % 64) * PAGE;
    struct iovec vectors[32];
    for (int i = 0; i < 32; i++) vectors[i] = (struct iovec){reader->memory + i * PAGE, 512};
    for (int i = 0; i < 32; i++) memset(reader->memory + i * PAGE, 0, 512);
    if (preadv(reader->fd, vectors, 32, place) != 32 * 512) reader->failures++;
    for (int i = 0; i < 32; i++)
      if (!is_pattern(reader->memory + i * PAGE, place + i * 512, 512)) reader->failures++;
  }
  return NULL;
}

// A page that a device fills stays with the process that asked, whoever forks and writes meanwhile.
static void fork_under_io(bool spares_children) {
  section(spares_children ? "pages that are not forked" : "pages that are forked");
  struct reader reader = {.fd = open_direct(O_RDONLY), .memory = pages(32 * PAGE), .length = 32 * PAGE};
  for (int i = 0; i < 32; i++) reader.memory[i * PAGE] = 1;
  if (spares_children) OK(madvise(reader.memory, 32 * PAGE, MADV_DONTFORK));
  pthread_t thread;
  MUST(-pthread_create(&thread, NULL, read_halves, &reader));
  int lost = 0, wrong_children = 0;
  for (int round = 0; round < 100; round++) {
    for (int i = 0; i < 32; i++) reader.memory[i * PAGE + 2048] = (uint8_t)round;
    pid_t child = fork();
    if (child == 0) {
      if (spares_children) {
        // The range is absent.
        unsigned char present;
        _exit(mincore(reader.memory, PAGE, &present) == -1 && errno == ENOMEM ? 0 : 1);
      }
      int status = 0;
      for (int i = 0; i < 32; i++)
        if (reader.memory[i * PAGE + 2048] != (uint8_t)round) status = 1;
      for (int i = 0; i < 32; i++) reader.memory[i * PAGE + 2048] = 0xee;
      _exit(status);
    }
    // The write after the fork is where copying would part the page from the device.
    for (int i = 0; i < 32; i++) reader.memory[i * PAGE + 3000] = (uint8_t)~round;
    if (outcome(child) != 0) wrong_children++;
    for (int i = 0; i < 32; i++) {
      if (reader.memory[i * PAGE + 2048] != (uint8_t)round) lost++;
      if (reader.memory[i * PAGE + 3000] != (uint8_t)~round) lost++;
    }
  }
  reader.stop = 1;
  pthread_join(thread, NULL);
  EQUAL(reader.failures, 0);
  EQUAL(lost, 0);
  EQUAL(wrong_children, 0);
  if (spares_children) {
    OK(madvise(reader.memory, 32 * PAGE, MADV_DOFORK));
    EQUAL(outcome(CHILD(_exit(reader.memory[2048] == 99 ? 0 : 1))), 0);
  }
  close(reader.fd);
  munmap(reader.memory, 32 * PAGE);
}

// MARK: Block devices

// Bytes that the kernel has copied so far, besides this text; -1 elsewhere.
static long long copied_bytes(void) {
  static long long own;
  char text[4096];
  int fd = open("/proc/apus/counters", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  text[size > 0 ? size : 0] = 0;
  char *place = strstr(text, "bytes_copied");
  if (!place) return -1;
  long long value = atoll(place + strcspn(place, "0123456789"));
  long long result = value - own;
  own += size;
  return result;
}

static void copies_nothing(int fd, uint8_t *memory) {
  section("nothing is copied");
  for (size_t i = 0; i < 64 * PAGE; i++) memory[i] = pattern(i);
  copied_bytes();
  long long before = copied_bytes();
  for (int i = 0; i < 64; i++) {
    if (pwrite(fd, memory, 64 * PAGE, 0) != 64 * PAGE) line("NOT OK write");
    if (pread(fd, memory, 64 * PAGE, 0) != 64 * PAGE) line("NOT OK read");
  }
  EQUAL(copied_bytes() - before, 0);
  CHECK(is_pattern(memory, 0, 64 * PAGE));
}

// STATX_DIOALIGN
static void tells_alignment(int fd) {
  struct statx status;
  OK(statx(fd, "", AT_EMPTY_PATH, 0x2000, &status));
  CHECK(status.stx_mask & 0x2000);
  uint32_t alignment[2];  // stx_dio_mem_align, stx_dio_offset_align
  memcpy(alignment, (uint8_t *)&status + 0x98, sizeof alignment);
  CHECK(alignment[0] == 512 && alignment[1] == 512);
}

static void file_alignment(void) {
  section("alignment");
  int fd = MUST(open(path, O_RDWR | O_DIRECT | O_CLOEXEC));
  uint8_t *memory = pages(64 * PAGE);
  FAILS(pread(fd, memory, 511, 0), EINVAL);
  FAILS(pread(fd, memory, 512, 1), EINVAL);
  FAILS(pwrite(fd, memory, 511, 0), EINVAL);
  FAILS(pwrite(fd, memory, 512, 1), EINVAL);
  EQUAL(pread(fd, memory, 512, 512), 512);
  tells_alignment(fd);
  copies_nothing(fd, memory);
  close(fd);
  munmap(memory, 64 * PAGE);
}

static void device(void) {
  section("a block device");
  int fd = MUST(open(path, O_RDWR | O_DIRECT | O_CLOEXEC));
  struct stat status;
  OK(fstat(fd, &status));
  CHECK(S_ISBLK(status.st_mode) && status.st_size == 0 && status.st_rdev != 0);
  uint64_t size = 0;
  OK(ioctl(fd, BLKGETSIZE64, &size));
  CHECK(size >= SIZE);
  unsigned long sectors = 0;
  OK(ioctl(fd, BLKGETSIZE, &sectors));
  CHECK(sectors == size / 512);
  int block = 0, read_only = 1;
  OK(ioctl(fd, BLKSSZGET, &block));
  EQUAL(block, 512);
  OK(ioctl(fd, BLKROGET, &read_only));
  EQUAL(read_only, 0);
  FAILS(ioctl(fd, TCGETS, &size), ENOTTY);
  EQUAL(lseek(fd, 0, SEEK_END), (off_t)size);
  EQUAL(lseek(fd, -512, SEEK_CUR), (off_t)size - 512);
  FAILS(lseek(fd, size + 1, SEEK_SET), EINVAL);
  uint8_t *memory = pages(64 * PAGE);
  section("alignment");
  FAILS(pread(fd, memory + 1, 512, 0), EINVAL);
  FAILS(pread(fd, memory, 511, 0), EINVAL);
  FAILS(pread(fd, memory, 512, 1), EINVAL);
  FAILS(pwrite(fd, memory + 8, 512, 0), EINVAL);
  EQUAL(pread(fd, memory + 512, 512, 512), 512);
  tells_alignment(fd);
  section("the end");
  EQUAL(pread(fd, memory, PAGE, size), 0);
  EQUAL(pread(fd, memory, PAGE, size - 512), 512);
  FAILS(pwrite(fd, memory, PAGE, size), ENOSPC);
  EQUAL(pwrite(fd, memory, PAGE, size - 512), 512);
  copies_nothing(fd, memory);
  section("through the cache");
  int cached = MUST(open(path, O_RDWR | O_CLOEXEC));
  FAILS(pwrite(cached, memory, 1, size), ENOSPC);
  EQUAL(pwrite(cached, memory, 100, size - 10), 10);
  EQUAL(pwrite(cached, "abc", 3, 1000), 3);
  OK(fsync(cached));
  EQUAL(pread(fd, memory, PAGE, 0), PAGE);
  CHECK(memcmp(memory + 1000, "abc", 3) == 0);
  uint8_t *view = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, cached, 0);
  CHECK(view != MAP_FAILED && memcmp(view + 1000, "abc", 3) == 0);
  memcpy(view + 2000, "xyz", 3);
  OK(msync(view, PAGE, MS_SYNC));
  EQUAL(pread(fd, memory, PAGE, 0), PAGE);
  CHECK(memcmp(memory + 2000, "xyz", 3) == 0);
  uint64_t range[2] = {PAGE, PAGE};
  OK(ioctl(fd, BLKZEROOUT, range));
  EQUAL(pread(cached, memory, 3 * PAGE, 0), 3 * PAGE);
  CHECK(memory[PAGE] == 0 && memory[2 * PAGE - 1] == 0 && memory[2 * PAGE] == pattern(2 * PAGE));
  range[0] = 1;
  FAILS(ioctl(fd, BLKDISCARD, range), EINVAL);
  munmap(view, PAGE);
  close(cached);
  close(fd);
}

int main(int argc, char **argv) {
  enter_work_directory();
  if (argc > 1) path = argv[1];
  struct stat status;
  is_device = stat(path, &status) == 0 && S_ISBLK(status.st_mode);
  if (!is_device) MUST(close(MUST(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600))));
  transfers();
  if (!is_device) file_ends();
  fork_under_io(false);
  fork_under_io(true);
  if (is_device) device();
  else if (argc > 1) file_alignment();
  return conformance_end();
}
