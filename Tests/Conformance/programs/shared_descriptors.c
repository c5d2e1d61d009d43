// The lifetime of open files whose descriptors several threads use: a call that waits keeps its file open when another
// thread closes the descriptor, the last use to end closes it, and a closed file never comes back.
#include "../conformance.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int waiting_in(pid_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  return rests(path);
}

// A thread that makes one call.
struct call {
  pthread_t thread;
  volatile pid_t tid;
  int fd;
  short events;
  volatile bool done;
  ssize_t result;
  int error;
  char byte;
};

static void start(struct call *call, void *(*body)(void *), int fd) {
  *call = (struct call){.fd = fd};
  MUST(pthread_create(&call->thread, NULL, body, call) == 0 ? 0 : -1);
  UNTIL(call->tid && waiting_in(call->tid) && (sleep_ms(5), waiting_in(call->tid)));
}
static void finish(struct call *call) { pthread_join(call->thread, NULL); }

static void *read_body(void *argument) {
  struct call *call = argument;
  call->tid = gettid();
  call->result = read(call->fd, &call->byte, 1);
  call->error = errno;
  call->done = true;
  return NULL;
}
static void *poll_body(void *argument) {
  struct call *call = argument;
  struct pollfd request = {.fd = call->fd, .events = POLLIN};
  call->tid = gettid();
  call->result = poll(&request, 1, -1);
  call->events = request.revents;
  call->done = true;
  return NULL;
}
static void *epoll_body(void *argument) {
  struct call *call = argument;
  struct epoll_event event = {0};
  call->tid = gettid();
  call->result = epoll_wait(call->fd, &event, 1, -1);
  call->events = event.events;
  call->done = true;
  return NULL;
}
static void *lock_body(void *argument) {
  struct call *call = argument;
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  call->tid = gettid();
  call->result = fcntl(call->fd, F_SETLKW, &lock);
  call->error = errno;
  call->done = true;
  return NULL;
}
static void *flock_body(void *argument) {
  struct call *call = argument;
  call->tid = gettid();
  call->result = syscall(SYS_flock, call->fd, 2);
  call->error = errno;
  call->done = true;
  return NULL;
}

static int hangs_up(int fd) {
  struct pollfd request = {.fd = fd, .events = POLLOUT};
  MUST(poll(&request, 1, 0));
  return request.revents & (POLLERR | POLLHUP);
}

static void blocked_calls(void) {
  struct call call;
  int ends[2];
  char byte;

  section("close during a read that waits");
  MUST(pipe2(ends, O_CLOEXEC));
  start(&call, read_body, ends[0]);
  OK(close(ends[0]));
  FAILS(fcntl(ends[0], F_GETFD), EBADF);
  // The reader still holds the end: the pipe has a reader, and what is written arrives.
  EQUAL(hangs_up(ends[1]), 0);
  EQUAL(write(ends[1], "a", 1), 1);
  finish(&call);
  EQUAL(call.result, 1);
  EQUAL(call.byte, 'a');
  // The read was the last use.
  EQUAL(hangs_up(ends[1]), POLLERR);
  signal(SIGPIPE, SIG_IGN);
  FAILS(write(ends[1], "b", 1), EPIPE);
  close(ends[1]);

  section("dup2 over a descriptor that is being read");
  MUST(pipe2(ends, O_CLOEXEC));
  int other[2];
  MUST(pipe2(other, O_CLOEXEC));
  start(&call, read_body, ends[0]);
  EQUAL(dup2(other[0], ends[0]), ends[0]);
  EQUAL(write(other[1], "n", 1), 1);
  EQUAL(call.done, false);
  EQUAL(write(ends[1], "o", 1), 1);
  finish(&call);
  EQUAL(call.byte, 'o');
  EQUAL(read(ends[0], &byte, 1), 1);
  EQUAL(byte, 'n');
  close(ends[0]), close(ends[1]), close(other[0]), close(other[1]);

  section("close during poll");
  MUST(pipe2(ends, O_CLOEXEC));
  start(&call, poll_body, ends[0]);
  OK(close(ends[0]));
  EQUAL(hangs_up(ends[1]), 0);
  EQUAL(write(ends[1], "a", 1), 1);
  finish(&call);
  EQUAL(call.result, 1);
  // poll(2) looks at its descriptors again when it wakes.
  EQUAL(call.events, POLLNVAL);
  EQUAL(hangs_up(ends[1]), POLLERR);
  close(ends[1]);

  section("close of an epoll instance that is waited for");
  MUST(pipe2(ends, O_CLOEXEC));
  int instance = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event event = {.events = EPOLLIN};
  OK(epoll_ctl(instance, EPOLL_CTL_ADD, ends[0], &event));
  start(&call, epoll_body, instance);
  OK(close(instance));
  EQUAL(write(ends[1], "a", 1), 1);
  finish(&call);
  EQUAL(call.result, 1);
  EQUAL(call.events, EPOLLIN);
  close(ends[0]), close(ends[1]);

  section("close of a watched file");
  MUST(pipe2(ends, O_CLOEXEC));
  instance = MUST(epoll_create1(EPOLL_CLOEXEC));
  OK(epoll_ctl(instance, EPOLL_CTL_ADD, ends[0], &event));
  EQUAL(write(ends[1], "a", 1), 1);
  int copy = MUST(dup(ends[0]));
  OK(close(ends[0]));
  // The file lives by its copy, and so does the watch.
  EQUAL(epoll_wait(instance, &event, 1, 0), 1);
  OK(close(copy));
  EQUAL(epoll_wait(instance, &event, 1, 0), 0);
  close(instance), close(ends[1]);

  section("close during the wait for a record lock");
  MUST(make_file("locked", "content"));
  int file = MUST(open("locked", O_RDWR | O_CLOEXEC)), go[2], ready[2];
  MUST(pipe2(go, O_CLOEXEC));
  MUST(pipe2(ready, O_CLOEXEC));
  pid_t owner = CHILD({
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    MUST(fcntl(MUST(open("locked", O_RDWR)), F_SETLK, &lock));
    MUST(write(ready[1], "x", 1));
    MUST(read(go[0], &byte, 1));
  });
  MUST(read(ready[0], &byte, 1));
  start(&call, lock_body, file);
  OK(close(file));
  MUST(write(go[1], "x", 1));
  EQUAL(outcome(owner), 0);
  finish(&call);
  EQUAL(call.result, -1);
  EQUAL(call.error, EBADF);
  // No lock has stayed behind.
  file = MUST(open("locked", O_RDWR | O_CLOEXEC));
  EQUAL(outcome(CHILD({
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    OK(fcntl(file, F_SETLK, &lock));
    _exit(checks_failed);
  })), 0);

  section("close during the wait for a lock of the whole file");
  MUST(syscall(SYS_flock, file, 2));
  int second = MUST(open("locked", O_RDWR | O_CLOEXEC));
  start(&call, flock_body, second);
  OK(close(second));
  OK(syscall(SYS_flock, file, 8));
  finish(&call);
  EQUAL(call.result, 0);
  // The end of the call was the end of the file, and of its lock.
  OK(syscall(SYS_flock, file, 2 | 4));
  close(file), close(go[0]), close(go[1]), close(ready[0]), close(ready[1]);
}

// The stress: threads of one table open, duplicate, watch, pass on and close the same few numbers.
enum { NUMBERS = 6, BASE = 200, ROUNDS = 4000 };
static volatile bool stop;
static volatile long unexpected;
static int epoll_instance;

static void expect(long result, const char *what) {
  if (result >= 0) return;
  switch (errno) {
  case EBADF: case EEXIST: case ENOENT: case EPERM: case EAGAIN: case EBUSY: case ENXIO: return;
  default:
    if (__sync_add_and_fetch(&unexpected, 1) == 1) fprintf(stderr, "%s: %s\n", what, strerror(errno));
  }
}

static void *stress_body(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  int self = MUST(syscall(SYS_pidfd_open, getpid(), 0));
  for (int round = 0; round < ROUNDS; round++) {
    int number = BASE + rand_r(&seed) % NUMBERS, to = BASE + rand_r(&seed) % NUMBERS;
    struct epoll_event event = {.events = EPOLLIN | (rand_r(&seed) & 1 ? EPOLLET : 0), .data.fd = number}, got[4];
    char path[64], bytes[8] = {1};
    int made;
    switch (rand_r(&seed) % 10) {
    case 0:
      made = MUST(eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
      expect(dup3(made, number, O_CLOEXEC), "dup3");
      close(made);
      break;
    case 1: expect(dup3(number, to == number ? BASE + NUMBERS : to, O_CLOEXEC), "dup3"); break;
    case 2: expect(close(number), "close"); break;
    case 3: expect(epoll_ctl(epoll_instance, EPOLL_CTL_ADD, number, &event), "add"); break;
    case 4: expect(epoll_ctl(epoll_instance, EPOLL_CTL_DEL, number, &event), "delete"); break;
    case 5: expect(epoll_wait(epoll_instance, got, 4, 0), "epoll_wait"); break;
    case 6: expect(read(number, bytes, 8), "read"); break;
    case 7: expect(write(number, bytes, 8), "write"); break;
    case 8:
      made = syscall(SYS_pidfd_getfd, self, number, 0);
      expect(made, "pidfd_getfd");
      if (made >= 0) {
        expect(write(made, bytes, 8), "write to the copy");
        close(made);
      }
      break;
    case 9:
      snprintf(path, sizeof path, "/proc/self/fd/%d", number);
      expect(readlink(path, path, sizeof path), "readlink");
      snprintf(path, sizeof path, "/proc/self/fdinfo/%d", number);
      made = open(path, O_RDONLY | O_CLOEXEC);
      expect(made, "fdinfo");
      if (made >= 0) expect(read(made, path, sizeof path), "fdinfo"), close(made);
      break;
    }
  }
  close(self);
  return NULL;
}

// One thread closes while others use a pipe: its other end sees the end exactly when all uses are over.
static void *reader_body(void *argument) {
  char byte;
  while (!stop) expect(read(BASE, &byte, 1), "read");
  return NULL;
}

static void stress(void) {
  section("four threads on the same descriptors");
  epoll_instance = MUST(epoll_create1(EPOLL_CLOEXEC));
  pthread_t threads[4];
  for (long i = 0; i < 4; i++) MUST(pthread_create(&threads[i], NULL, stress_body, (void *)(i + 1)) == 0 ? 0 : -1);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  EQUAL(unexpected, 0);
  for (int i = 0; i <= NUMBERS; i++) close(BASE + i);
  struct epoll_event event;
  // All files are closed: nothing is watched.
  EQUAL(epoll_wait(epoll_instance, &event, 1, 0), 0);
  close(epoll_instance);

  section("a pipe that is closed while threads read it");
  for (int i = 0; i < 2; i++) MUST(pthread_create(&threads[i], NULL, reader_body, NULL) == 0 ? 0 : -1);
  long lost = 0;
  for (int round = 0; round < 300; round++) {
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC));
    MUST(dup3(ends[0], BASE, O_CLOEXEC));
    close(ends[0]);
    if (write(ends[1], "ab", 2) != 2) lost++;
    close(BASE);
    // A reader that waits has the end open until something comes.
    UNTIL(write(ends[1], "c", 1) < 0);
    if (errno != EPIPE) lost++;
    close(ends[1]);
  }
  stop = true;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  EQUAL(lost, 0);
  EQUAL(unexpected, 0);
}

int main(void) {
  enter_work_directory();
  blocked_calls();
  stress();
  return conformance_end();
}
