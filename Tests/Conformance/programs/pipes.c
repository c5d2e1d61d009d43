// Pipes and FIFOs: order, blocking, ends of file, broken pipes, capacity.
#include "../conformance.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static volatile int broken;
static void on_pipe(int number) { broken++; }

static void *open_writer(void *path) {
  sleep_ms(30);
  return (void *)(long)open(path, O_WRONLY);
}

int main(void) {
  enter_work_directory();
  int p[2];
  char b[70000] = {0};
  section("order and end of file");
  MUST(pipe(p));
  EQUAL(write(p[1], "hello ", 6), 6);
  EQUAL(write(p[1], "world", 5), 5);
  int n = 0;
  OK(ioctl(p[0], FIONREAD, &n));
  EQUAL(n, 11);
  EQUAL(read(p[0], b, 3), 3);
  EQUAL(read(p[0], b, 100), 8);
  CHECK(!memcmp(b, "lo world", 8));
  FAILS(read(p[1], b, 1), EBADF);
  FAILS(write(p[0], b, 1), EBADF);
  FAILS(lseek(p[0], 0, SEEK_SET), ESPIPE);
  FAILS(pread(p[0], b, 1, 0), ESPIPE);
  FAILS(pwrite(p[1], b, 1, 0), ESPIPE);
  FAILS(ftruncate(p[1], 0), EINVAL);
  struct stat s;
  OK(fstat(p[0], &s));
  CHECK(S_ISFIFO(s.st_mode));
  close(p[1]);
  EQUAL(read(p[0], b, 1), 0);
  close(p[0]);

  section("broken pipe");
  MUST(pipe(p));
  close(p[0]);
  signal(SIGPIPE, on_pipe);
  FAILS(write(p[1], "x", 1), EPIPE);
  EQUAL(broken, 1);
  signal(SIGPIPE, SIG_IGN);
  FAILS(write(p[1], "x", 1), EPIPE);
  signal(SIGPIPE, SIG_DFL);
  pid_t child = CHILD(write(p[1], "x", 1));
  EQUAL(outcome(child), SIGNALLED(SIGPIPE));
  close(p[1]);

  section("not blocking");
  MUST(pipe2(p, O_NONBLOCK));
  FAILS(read(p[0], b, 1), EAGAIN);
  EQUAL(fcntl(p[1], F_GETPIPE_SZ), 65536);
  long total = 0, w;
  while ((w = write(p[1], b, 4096)) > 0) total += w;
  EQUAL(errno, EAGAIN);
  EQUAL(total, 65536);
  EQUAL(read(p[0], b, 100), 100);
  // No page of the ring is free yet: a write of at most PIPE_BUF is all or nothing.
  FAILS(write(p[1], b, 4096), EAGAIN);
  EQUAL(read(p[0], b, 3996), 3996);
  EQUAL(write(p[1], b, 4096), 4096);
  EQUAL(read(p[0], b, 65536), 65536);
  EQUAL(write(p[1], b, 70000), 65536);
  EQUAL(read(p[0], b, 70000), 65536);
  CHECK(fcntl(p[1], F_SETPIPE_SZ, 8192) == 8192);
  EQUAL(fcntl(p[0], F_GETPIPE_SZ), 8192);
  EQUAL(write(p[1], b, 70000), 8192);
  FAILS(fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
  close(p[0]), close(p[1]);

  section("blocking");
  MUST(pipe(p));
  child = CHILD({
    close(p[0]);
    for (int i = 0; i < 1000; i++) {
      memset(b, i, 1000);
      if (write(p[1], b, 1000) != 1000) _exit(1);
    }
  });
  close(p[1]);
  long sum = 0, bytes = 0, got;
  while ((got = read(p[0], b, 777)) > 0) {
    bytes += got;
    for (int i = 0; i < got; i++) sum += (unsigned char)b[i];
  }
  EQUAL(bytes, 1000000);
  long expected = 0;
  for (int i = 0; i < 1000; i++) expected += (i & 255) * 1000L;
  EQUAL(sum, expected);
  EQUAL(outcome(child), 0);
  close(p[0]);
  // Writes of at most PIPE_BUF bytes by several writers do not mix.
  MUST(pipe(p));
  for (int k = 0; k < 4; k++)
    CHILD({
      memset(b, 'a' + k, 512);
      for (int i = 0; i < 100; i++) write(p[1], b, 512);
    });
  close(p[1]);
  FILE *in = fdopen(p[0], "r");
  int mixed = 0, blocks = 0;
  while (fread(b, 1, 512, in) == 512) {
    blocks++;
    for (int i = 1; i < 512; i++) mixed += b[i] != b[0];
  }
  EQUAL(blocks, 400);
  EQUAL(mixed, 0);
  fclose(in);
  for (int k = 0; k < 4; k++) EQUAL(waitpid(-1, NULL, 0) > 0, 1);

  section("interrupted");
  MUST(pipe(p));
  struct sigaction a = {.sa_handler = on_pipe};
  sigaction(SIGALRM, &a, NULL);
  broken = 0;
  alarm_every_ms(100);
  FAILS(read(p[0], b, 1), EINTR);
  CHECK(broken >= 1);
  a.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &a, NULL);
  broken = 0;
  child = CHILD({ sleep_ms(400); write(p[1], "z", 1); });
  EQUAL(read(p[0], b, 1), 1);
  alarm_every_ms(0);
  CHECK(broken >= 1);
  outcome(child);
  close(p[0]), close(p[1]);

  section("fifo");
  OK(mkfifo("fifo", 0600));
  FAILS(mkfifo("fifo", 0600), EEXIST);
  FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
  int r = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
  EQUAL(read(r, b, 1), 0);
  int wr = MUST(open("fifo", O_WRONLY | O_NONBLOCK));
  FAILS(read(r, b, 1), EAGAIN);
  EQUAL(write(wr, "fifo", 4), 4);
  EQUAL(read(r, b, 9), 4);
  close(wr), close(r);
  pthread_t thread;
  pthread_create(&thread, NULL, open_writer, "fifo");
  r = open("fifo", O_RDONLY);
  CHECK(r >= 0);
  void *result;
  pthread_join(thread, &result);
  wr = (long)result;
  CHECK(wr >= 0);
  EQUAL(write(wr, "x", 1), 1);
  close(wr);
  EQUAL(read(r, b, 9), 1);
  EQUAL(read(r, b, 9), 0);
  close(r);
  int rw = open("fifo", O_RDWR);
  CHECK(rw >= 0);
  close(rw);

  section("splice, tee, vmsplice");
  int q[2];
  MUST(pipe(p)), MUST(pipe(q));
  struct iovec v = {"vector", 6};
  EQUAL(vmsplice(p[1], &v, 1, 0), 6);
  EQUAL(tee(p[0], q[1], 100, 0), 6);
  EQUAL(splice(p[0], NULL, q[1], NULL, 3, 0), 3);
  EQUAL(read(q[0], b, 100), 9);
  CHECK(!memcmp(b, "vectorvec", 9));
  FAILS(tee(p[0], p[1], 1, 0), EINVAL);
  return conformance_end();
}
