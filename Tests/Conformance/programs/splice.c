// Pages in pipes: vmsplice(2), tee(2), splice(2), packets, and how many buffers a pipe has.
#include "../conformance.h"
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

struct ends {
  int in, out;
};

static struct ends make(int flags) {
  int p[2];
  MUST(pipe2(p, O_CLOEXEC | flags));
  return (struct ends){p[0], p[1]};
}

static void drop(struct ends p) { close(p.in), close(p.out); }

static uint8_t *pages(size_t count, int fill) {
  uint8_t *memory = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) _exit(97);
  if (fill >= 0) memset(memory, fill, count * PAGE);
  return memory;
}

static ssize_t lend(int fd, void *memory, size_t size, unsigned flags) {
  struct iovec vector = {memory, size};
  return vmsplice(fd, &vector, 1, flags);
}

static int waiting(int fd) {
  int count = -1;
  OK(ioctl(fd, FIONREAD, &count));
  return count;
}

static bool all(const uint8_t *memory, int value, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (memory[i] != value) return false;
  return true;
}

static void lending(void) {
  section("vmsplice");
  struct ends p = make(0);
  uint8_t *memory = pages(32, 1), *copy = pages(32, 0);
  EQUAL(lend(p.out, memory, 0, 0), 0);
  EQUAL(lend(p.out, memory + 100, 3 * PAGE, 0), 3 * PAGE);
  EQUAL(waiting(p.in), 3 * PAGE);
  // What is written now is read later.
  memset(memory, 2, 2 * PAGE);
  EQUAL(read(p.in, copy, 32 * PAGE), 3 * PAGE);
  CHECK(all(copy, 2, 2 * PAGE - 100) && all(copy + 2 * PAGE - 100, 1, PAGE + 100));
  // A pipe has sixteen buffers: it takes no more pages, and does not wait for room when it took some.
  EQUAL(lend(p.out, memory, 32 * PAGE, 0), 16 * PAGE);
  FAILS(lend(p.out, memory, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  struct pollfd item = {p.out, POLLOUT, 0};
  EQUAL(poll(&item, 1, 0), 0);
  EQUAL(read(p.in, copy, PAGE - 1), PAGE - 1);
  EQUAL(poll(&item, 1, 0), 0);
  EQUAL(read(p.in, copy, 1), 1);
  EQUAL(poll(&item, 1, 0), 1);
  EQUAL(read(p.in, copy, 32 * PAGE), 15 * PAGE);
  // However short they are.
  struct iovec vectors[20];
  for (int i = 0; i < 20; i++) vectors[i] = (struct iovec){memory + i * PAGE, 10};
  EQUAL(vmsplice(p.out, vectors, 20, 0), 160);
  EQUAL(read(p.in, copy, PAGE), 160);
  // What was given is as good as what was lent.
  EQUAL(lend(p.out, memory, PAGE, SPLICE_F_GIFT), PAGE);
  EQUAL(read(p.in, copy, PAGE), PAGE);
  CHECK(all(copy, 2, PAGE));
  // Memory that was never touched, or may not be written.
  uint8_t *fresh = pages(1, -1);
  EQUAL(lend(p.out, fresh, PAGE, 0), PAGE);
  EQUAL(read(p.in, copy, PAGE), PAGE);
  CHECK(all(copy, 0, PAGE));
  memset(fresh, 3, PAGE);
  OK(mprotect(fresh, PAGE, PROT_READ));
  EQUAL(lend(p.out, fresh, PAGE, 0), PAGE);
  EQUAL(read(p.in, copy, PAGE), PAGE);
  CHECK(all(copy, 3, PAGE));
  section("vmsplice of what is not there");
  FAILS(lend(p.out, (void *)0x1000, PAGE, 0), EFAULT);
  struct iovec half[2] = {{memory, 100}, {(void *)0x1000, 100}};
  EQUAL(vmsplice(p.out, half, 2, 0), 100);
  EQUAL(read(p.in, copy, PAGE), 100);
  FAILS(lend(p.out, memory, PAGE, 0x100), EINVAL);
  FAILS(lend(MUST(open("/dev/null", O_RDWR | O_CLOEXEC)), memory, PAGE, 0), EBADF);
  section("vmsplice from a pipe");
  EQUAL(write(p.out, "abc", 3), 3);
  struct iovec parts[2] = {{copy, 2}, {copy + PAGE, 2}};
  EQUAL(vmsplice(p.in, parts, 2, 0), 3);
  CHECK(copy[0] == 'a' && copy[1] == 'b' && copy[PAGE] == 'c');
  FAILS(lend(p.in, copy, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  section("vmsplice without a reader");
  close(p.in);
  signal(SIGPIPE, SIG_IGN);
  FAILS(lend(p.out, memory, PAGE, 0), EPIPE);
  signal(SIGPIPE, SIG_DFL);
  EQUAL(outcome(CHILD(lend(p.out, memory, PAGE, 0))), 1000 + SIGPIPE);
  close(p.out);
  munmap(memory, 32 * PAGE);
  munmap(copy, 32 * PAGE);
}

// The pages stay what they are for the reader, whatever becomes of the lender.
static void lenders(void) {
  section("lenders that end");
  struct ends p = make(0);
  uint8_t *copy = pages(4, 0);
  EQUAL(outcome(CHILD({
          uint8_t *memory = pages(4, 7);
          lend(p.out, memory, 4 * PAGE, 0);
          munmap(memory, 2 * PAGE);
        })),
        0);
  uint8_t *other = pages(64, 8);
  EQUAL(read(p.in, copy, 4 * PAGE), 4 * PAGE);
  CHECK(all(copy, 7, 4 * PAGE));
  section("lenders that fork");
  uint8_t *memory = pages(4, 1);
  EQUAL(lend(p.out, memory, 4 * PAGE, 0), 4 * PAGE);
  pid_t child = fork();
  if (child == 0) {
    memset(memory, 9, 4 * PAGE);
    _exit(0);
  }
  EQUAL(outcome(child), 0);
  CHECK(all(memory, 1, 4 * PAGE));
  EQUAL(read(p.in, copy, 4 * PAGE), 4 * PAGE);
  CHECK(all(copy, 1, 4 * PAGE));
  section("pages of a file");
  int fd = MUST(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EQUAL(write(fd, memory, 2 * PAGE), 2 * PAGE);
  uint8_t *view = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(view != MAP_FAILED);
  EQUAL(lend(p.out, view, 2 * PAGE, 0), 2 * PAGE);
  EQUAL(pwrite(fd, "x", 1, PAGE), 1);
  munmap(view, 2 * PAGE);
  OK(ftruncate(fd, 0));
  EQUAL(read(p.in, copy, 2 * PAGE), 2 * PAGE);
  CHECK(all(copy, 1, PAGE));
  close(fd);
  munmap(other, 64 * PAGE);
  drop(p);
}

static void between_pipes(void) {
  section("tee and splice between pipes");
  struct ends p = make(0), q = make(0);
  uint8_t *memory = pages(16, 5), *copy = pages(32, 0);
  EQUAL(lend(p.out, memory, 4 * PAGE, 0), 4 * PAGE);
  EQUAL(tee(p.in, q.out, 3 * PAGE + 1, 0), 3 * PAGE + 1);
  EQUAL(waiting(p.in), 4 * PAGE);
  memset(memory, 6, PAGE);
  EQUAL(read(q.in, copy, 32 * PAGE), 3 * PAGE + 1);
  CHECK(all(copy, 6, PAGE) && all(copy + PAGE, 5, 2 * PAGE + 1));
  EQUAL(splice(p.in, NULL, q.out, NULL, PAGE + 100, 0), PAGE + 100);
  EQUAL(waiting(p.in), 3 * PAGE - 100);
  EQUAL(waiting(q.in), PAGE + 100);
  EQUAL(splice(p.in, NULL, q.out, NULL, 1 << 20, 0), 3 * PAGE - 100);
  EQUAL(read(q.in, copy, 32 * PAGE), 4 * PAGE);
  CHECK(all(copy, 6, PAGE) && all(copy + PAGE, 5, 3 * PAGE));
  // Neither waits for bytes or room that are not there.
  FAILS(splice(p.in, NULL, q.out, NULL, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  FAILS(tee(p.in, q.out, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  EQUAL(lend(q.out, memory, 16 * PAGE, 0), 16 * PAGE);
  EQUAL(write(p.out, "abc", 3), 3);
  FAILS(splice(p.in, NULL, q.out, NULL, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  FAILS(tee(p.in, q.out, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  EQUAL(read(q.in, copy, 32 * PAGE), 16 * PAGE);
  // Bytes that were shown elsewhere go on growing here only.
  EQUAL(tee(p.in, q.out, PAGE, 0), 3);
  EQUAL(write(p.out, "def", 3), 3);
  EQUAL(read(p.in, copy, PAGE), 6);
  EQUAL(read(q.in, copy, PAGE), 3);
  section("from a pipe to a file");
  int fd = MUST(open("target", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EQUAL(lend(p.out, memory, 3 * PAGE, 0), 3 * PAGE);
  off_t place = 10;
  EQUAL(splice(p.in, NULL, fd, &place, 2 * PAGE, 0), 2 * PAGE);
  EQUAL(place, 2 * PAGE + 10);
  EQUAL(splice(p.in, NULL, fd, NULL, 2 * PAGE, 0), PAGE);
  EQUAL(lseek(fd, 0, SEEK_CUR), PAGE);
  EQUAL(pread(fd, copy, 32 * PAGE, 0), 2 * PAGE + 10);
  CHECK(all(copy, 5, PAGE) && all(copy + PAGE, 6, 10) && all(copy + PAGE + 10, 5, PAGE));
  close(p.out);
  EQUAL(splice(p.in, NULL, fd, NULL, PAGE, 0), 0);
  EQUAL(splice(p.in, NULL, q.out, NULL, PAGE, 0), 0);
  EQUAL(tee(p.in, q.out, PAGE, 0), 0);
  close(p.in);
  section("from a file to a pipe");
  place = 0;
  EQUAL(splice(fd, &place, q.out, NULL, PAGE, 0), PAGE);
  EQUAL(splice(fd, &place, q.out, NULL, 100, 0), 100);
  EQUAL(read(q.in, copy, 32 * PAGE), PAGE + 100);
  EQUAL(lend(q.out, memory, 16 * PAGE, 0), 16 * PAGE);
  FAILS(splice(fd, &place, q.out, NULL, PAGE, SPLICE_F_NONBLOCK), EAGAIN);
  EQUAL(place, PAGE + 100);
  close(fd);
  drop(q);
}

static void room(void) {
  section("room");
  struct ends p = make(O_NONBLOCK);
  uint8_t *memory = pages(32, 1);
  // Writes share a page as long as the last one's page has room for the odd bytes.
  EQUAL(write(p.out, memory, 100), 100);
  EQUAL(write(p.out, memory, PAGE), PAGE);
  EQUAL(write(p.out, memory, 2 * PAGE + 1), 2 * PAGE + 1);
  FAILS(fcntl(p.in, F_SETPIPE_SZ, 2 * PAGE), EBUSY);
  EQUAL(fcntl(p.in, F_SETPIPE_SZ, 8 * PAGE), 8 * PAGE);
  EQUAL(write(p.out, memory, 32 * PAGE), 3 * PAGE);
  FAILS(write(p.out, memory, 1), EAGAIN);
  EQUAL(read(p.in, memory, 99), 99);
  FAILS(write(p.out, memory, 1), EAGAIN);
  EQUAL(read(p.in, memory, 1), 1);
  EQUAL(write(p.out, memory, PAGE + 1), PAGE);
  FAILS(write(p.out, memory, 2), EAGAIN);
  EQUAL(waiting(p.in), 7 * PAGE + 1);
  drop(p);
  section("packets");
  p = make(O_DIRECT | O_NONBLOCK);
  EQUAL(write(p.out, "abc", 3), 3);
  EQUAL(write(p.out, "defg", 4), 4);
  EQUAL(write(p.out, memory, PAGE + 5), PAGE + 5);
  EQUAL(read(p.in, memory, 2), 2);
  EQUAL(read(p.in, memory, 100), 4);
  CHECK(memcmp(memory, "defg", 4) == 0);
  EQUAL(read(p.in, memory, 2 * PAGE), PAGE);
  EQUAL(read(p.in, memory, 2 * PAGE), 5);
  EQUAL(fcntl(p.out, F_SETFL, O_NONBLOCK), 0);
  EQUAL(write(p.out, "abc", 3), 3);
  EQUAL(write(p.out, "defg", 4), 4);
  EQUAL(read(p.in, memory, 100), 7);
  FAILS(open("/proc/version", O_RDONLY | O_DIRECT), EINVAL);
  FAILS(open("/dev/zero", O_RDONLY | O_DIRECT), EINVAL);
  drop(p);
}

int main(void) {
  enter_work_directory();
  lending();
  lenders();
  between_pipes();
  room();
  return conformance_end();
}
