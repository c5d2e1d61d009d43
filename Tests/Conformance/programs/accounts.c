// directory: overlay bind
// What a process is said to have read and written (proc_pid_io(5)), major faults, and the flags of preadv2 and pwritev2.
#include "../conformance.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

struct account { long read, written, reads, writes, fetched, dirtied, cancelled; };

static struct account of(const char *place) {
  struct account a = {-1, -1, -1, -1, -1, -1, -1};
  char text[600] = {0};
  int fd = MUST(open(place, O_RDONLY));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  if (sscanf(text, "rchar: %ld\nwchar: %ld\nsyscr: %ld\nsyscw: %ld\nread_bytes: %ld\nwrite_bytes: %ld\ncancelled_write_bytes: %ld\n",
             &a.read, &a.written, &a.reads, &a.writes, &a.fetched, &a.dirtied, &a.cancelled) != 7)
    line("odd text: %s", text);
  return a;
}

static struct account before;
static void begin(void) { before = of("/proc/self/io"); }
// What has been counted since `begin`. The reading of its text counts as a call, and a few hundred bytes.
static struct account since(void) {
  struct account a = of("/proc/self/io");
  a.read -= before.read, a.written -= before.written, a.reads -= before.reads + 1, a.writes -= before.writes;
  a.fetched -= before.fetched, a.dirtied -= before.dirtied, a.cancelled -= before.cancelled;
  return a;
}

static void *reader(void *fd) {
  char b[1000];
  for (int i = 0; i < 10; i++) pread(*(int *)fd, b, sizeof b, 0);
  return NULL;
}

static void transfers(int f) {
  section("bytes and calls");
  char b[1000] = {0};
  struct iovec v[2] = {{b, 300}, {b, 200}};
  int p[2], z = MUST(open("/dev/zero", O_RDONLY));
  MUST(pipe2(p, O_NONBLOCK));
  struct account a;
  begin();
  for (int i = 0; i < 5; i++) write(f, b, 1000);
  writev(f, v, 2), pwrite(f, b, 10, 0), pwritev(f, v, 1, 0);
  a = since();
  EQUAL(a.written, 5810);
  EQUAL(a.writes, 8);
  EQUAL(a.reads, 0);
  begin();
  lseek(f, 0, SEEK_SET);
  read(f, b, 1000), readv(f, v, 2), pread(f, b, 10, 0), read(z, b, 100), read(f, b, 0);
  read(p[0], b, 1);
  read(-1, b, 1);
  a = since();
  EQUAL(a.reads, 6);
  CHECK(a.read >= 1610 && a.read < 1610 + 200);
  begin();
  lseek(f, 0, SEEK_SET);
  EQUAL(sendfile(p[1], f, NULL, 3000), 3000);
  a = since();
  CHECK(a.reads == 1 && a.read >= 3000 && a.read < 3200);
  begin();
  off_t none = 0;
  sendfile(p[1], f, &none, 1000);
  a = since();
  EQUAL(a.writes, 1);
  EQUAL(a.written, 1000);
  begin();
  pthread_t t;
  pthread_create(&t, NULL, reader, &f);
  pthread_join(t, NULL);
  UNTIL(since().reads >= 10);
  CHECK(since().read >= 10000);
  CHECK(of("/proc/thread-self/io").read < of("/proc/self/io").read);
  // Children count when they have been waited for.
  begin();
  pid_t child = CHILD(reader(&f));
  EQUAL(outcome(child), 0);
  CHECK(since().reads >= 10);
  close(z), close(p[0]), close(p[1]);
}

static void storage(void) {
  section("storage");
  // A file of the system, which the host may have in its cache: natively nothing may have to be fetched.
  APUS_ONLY("bytes from storage, and major faults", {
    int self = MUST(open("/usr/bin/python3", O_RDONLY));
    struct rusage one, two;
    begin();
    getrusage(RUSAGE_SELF, &one);
    volatile char *map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, self, 0);
    int sum = 0;
    for (int i = 0; i < 1 << 20; i += 4096) sum += map[i];
    getrusage(RUSAGE_SELF, &two);
    long fetched = since().fetched;
    CHECK(fetched > 0 && fetched < 4 << 20);
    CHECK(two.ru_majflt > one.ru_majflt && two.ru_majflt - one.ru_majflt <= 256);
    CHECK(two.ru_inblock - one.ru_inblock == fetched / 512);
    // The second time they are there.
    begin();
    one = two;
    munmap((void *)map, 1 << 20);
    map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, self, 0);
    for (int i = 0; i < 1 << 20; i += 4096) sum += map[i];
    getrusage(RUSAGE_SELF, &two);
    EQUAL(since().fetched, 0);
    EQUAL(two.ru_majflt, one.ru_majflt);
    CHECK(two.ru_minflt > one.ru_minflt);
    close(self);
  });
}

static void flags(int f) {
  section("flags of one transfer");
  char b[10] = "abcdefghi";
  struct iovec v = {b, 3};
  MUST(ftruncate(f, 0));
  lseek(f, 0, SEEK_SET);
  EQUAL(pwritev2(f, &v, 1, 0, RWF_APPEND), 3);
  EQUAL(pwritev2(f, &v, 1, 0, RWF_APPEND), 3);
  EQUAL(lseek(f, 0, SEEK_END), 6);
  lseek(f, 1, SEEK_SET);
  EQUAL(pwritev2(f, &v, 1, -1, RWF_APPEND | RWF_DSYNC), 3);
  EQUAL(lseek(f, 0, SEEK_CUR), 9);
  EQUAL(pwritev2(f, &v, 1, 1, RWF_SYNC | RWF_HIPRI), 3);
  EQUAL(lseek(f, 0, SEEK_END), 9);
  EQUAL(preadv2(f, &v, 1, 0, RWF_NOWAIT), 3);
  EQUAL(preadv2(f, &v, 1, 8, RWF_NOWAIT), 1);
  EQUAL(preadv2(f, &v, 1, 9, RWF_NOWAIT), 0);
  EQUAL(preadv2(f, &v, 1, 0, RWF_HIPRI | RWF_DSYNC | RWF_APPEND), 3);
  FAILS(preadv2(f, &v, 1, 0, 0x1000), EOPNOTSUPP);
  FAILS(pwritev2(f, &v, 1, 0, 0x1000), EOPNOTSUPP);
  FAILS(pwritev2(f, &v, 1, 0, RWF_APPEND | 0x20), EINVAL);
  char place[40];
  sprintf(place, "/proc/self/fd/%d", f);
  int end = MUST(open(place, O_RDWR | O_APPEND));
  EQUAL(pwritev2(end, &v, 1, 0, 0x20), 3);
  EQUAL(lseek(end, 0, SEEK_END), 9);
  EQUAL(pwritev2(end, &v, 1, 0, 0), 3);
  EQUAL(lseek(end, 0, SEEK_END), 12);
  close(end);
  int p[2];
  MUST(pipe(p));
  EQUAL(pwritev2(p[1], &v, 1, -1, RWF_DSYNC | RWF_APPEND), 3);
  EQUAL(preadv2(p[0], &v, 1, -1, RWF_HIPRI), 3);
  FAILS(pwritev2(p[1], &v, 1, 0, 0), ESPIPE);
  close(p[0]), close(p[1]);
  // Writers that append do not overwrite each other.
  MUST(ftruncate(f, 0));
  for (int i = 0; i < 4; i++)
    CHILD(for (int k = 0; k < 500; k++) pwritev2(f, &v, 1, 0, RWF_APPEND));
  while (wait(NULL) > 0) {}
  EQUAL(lseek(f, 0, SEEK_END), 6000);
  // Nor do those that have the file open for that, while others ask for its attributes.
  MUST(ftruncate(f, 0));
  for (int i = 0; i < 4; i++)
    CHILD({
      struct stat status;
      end = open("f", O_WRONLY | O_APPEND);
      for (int k = 0; k < 500; k++) write(end, b, 3), fstat(end, &status), stat("f", &status);
    });
  while (wait(NULL) > 0) {}
  EQUAL(lseek(f, 0, SEEK_END), 6000);
}

int main(void) {
  enter_work_directory();
  int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600));
  transfers(f);
  storage();
  flags(f);
  return conformance_end();
}
