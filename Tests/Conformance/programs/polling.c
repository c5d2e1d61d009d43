// poll, select, epoll, eventfd, timerfd, signalfd.
#include "../conformance.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>

static void nothing(int number) {}

static void *write_later(void *fd) {
  sleep_ms(30);
  write((long)fd, "x", 1);
  return NULL;
}

static void polls(void) {
  section("poll");
  int p[2];
  MUST(pipe(p));
  struct pollfd f[3] = {{p[0], POLLIN}, {p[1], POLLOUT}, {-1, POLLIN}};
  EQUAL(poll(f, 3, 0), 1);
  CHECK(f[0].revents == 0 && f[1].revents == POLLOUT && f[2].revents == 0);
  write(p[1], "x", 1);
  EQUAL(poll(f, 3, -1), 2);
  EQUAL(f[0].revents, POLLIN);
  char c;
  read(p[0], &c, 1);
  int64_t start = now_ns(CLOCK_MONOTONIC);
  EQUAL(poll(f, 1, 30), 0);
  CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
  pthread_t t;
  pthread_create(&t, NULL, write_later, (void *)(long)p[1]);
  EQUAL(poll(f, 1, 60000), 1);
  pthread_join(t, NULL);
  read(p[0], &c, 1);
  struct pollfd bad = {999, POLLIN};
  EQUAL(poll(&bad, 1, 0), 1);
  EQUAL(bad.revents, POLLNVAL);
  close(p[1]);
  EQUAL(poll(f, 1, 0), 1);
  EQUAL(f[0].revents, POLLHUP);
  close(p[0]);
  MUST(pipe(p));
  close(p[0]);
  f[0] = (struct pollfd){p[1], POLLOUT};
  EQUAL(poll(f, 1, 0), 1);
  EQUAL(f[0].revents, POLLOUT | POLLERR);
  close(p[1]);
  EQUAL(poll(NULL, 0, 10), 0);
  FAILS(poll((void *)8, 1, 0), EFAULT);
  struct rlimit r;
  getrlimit(RLIMIT_NOFILE, &r);
  FAILS(poll(f, r.rlim_cur + 1, 0), EINVAL);
  int fd = open("/dev/null", O_RDWR);
  f[0] = (struct pollfd){fd, POLLIN | POLLOUT};
  EQUAL(poll(f, 1, -1), 1);
  EQUAL(f[0].revents, POLLIN | POLLOUT);
  close(fd);

  MUST(pipe(p));
  f[0] = (struct pollfd){p[0], POLLIN};
  struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &a, NULL);
  alarm_every_ms(100);
  FAILS(poll(f, 1, 60000), EINTR);
  alarm_every_ms(0);
  // ppoll opens the mask only while it waits.
  sigset_t blocked, empty;
  sigemptyset(&empty);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGALRM);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  raise(SIGALRM);
  struct timespec second = {60, 0};
  FAILS(ppoll(f, 1, &second, &empty), EINTR);
  struct timespec zero = {0, 0}, wrong = {0, -1};
  EQUAL(ppoll(f, 1, &zero, NULL), 0);
  FAILS(ppoll(f, 1, &wrong, NULL), EINVAL);
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);

  section("select");
  fd_set in, out;
  FD_ZERO(&in); FD_ZERO(&out);
  FD_SET(p[0], &in), FD_SET(p[1], &out);
  struct timeval now = {0, 0}, later = {0, 20000};
  EQUAL(select(p[1] + 1, &in, &out, NULL, &now), 1);
  CHECK(!FD_ISSET(p[0], &in) && FD_ISSET(p[1], &out));
  write(p[1], "x", 1);
  FD_ZERO(&in); FD_SET(p[0], &in);
  EQUAL(select(p[0] + 1, &in, NULL, NULL, NULL), 1);
  read(p[0], &c, 1);
  FD_ZERO(&in); FD_SET(p[0], &in);
  EQUAL(select(p[0] + 1, &in, NULL, NULL, &later), 0);
  CHECK(later.tv_sec == 0 && later.tv_usec == 0);
  FD_ZERO(&in); FD_SET(60, &in);
  FAILS(select(61, &in, NULL, NULL, &now), EBADF);
  FAILS(select(-1, NULL, NULL, NULL, &now), EINVAL);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  raise(SIGALRM);
  FD_ZERO(&in); FD_SET(p[0], &in);
  FAILS(pselect(p[0] + 1, &in, NULL, NULL, &second, &empty), EINTR);
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);
  close(p[0]), close(p[1]);
}

static void epolls(void) {
  section("epoll");
  int e = MUST(epoll_create1(EPOLL_CLOEXEC)), p[2];
  FAILS(epoll_create1(1), EINVAL);
  FAILS(epoll_create(0), EINVAL);
  int old = epoll_create(1);
  CHECK(old >= 0);
  close(old);
  MUST(pipe(p));
  struct epoll_event event = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[4];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event));
  FAILS(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event), EEXIST);
  FAILS(epoll_ctl(e, EPOLL_CTL_MOD, p[1], &event), ENOENT);
  FAILS(epoll_ctl(e, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
  FAILS(epoll_ctl(e, EPOLL_CTL_ADD, 999, &event), EBADF);
  FAILS(epoll_ctl(e, EPOLL_CTL_ADD, e, &event), EINVAL);
  FAILS(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &event), EINVAL);
  FAILS(epoll_ctl(e, 9, p[0], &event), EINVAL);
  int file = open("/proc/self/exe", O_RDONLY);
  FAILS(epoll_ctl(e, EPOLL_CTL_ADD, file, &event), EPERM);
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  FAILS(epoll_wait(e, got, 0, 0), EINVAL);
  FAILS(epoll_wait(p[0], got, 1, 0), EINVAL);
  write(p[1], "ab", 2);
  EQUAL(epoll_wait(e, got, 4, -1), 1);
  CHECK(got[0].events == EPOLLIN && got[0].data.u64 == 0x1122334455667788);
  EQUAL(epoll_wait(e, got, 4, 0), 1);
  char c;
  read(p[0], &c, 1);
  EQUAL(epoll_wait(e, got, 4, 0), 1);

  section("edge-triggered and one-shot");
  event.events = EPOLLIN | EPOLLET;
  OK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event));
  EQUAL(epoll_wait(e, got, 4, 0), 1);
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  write(p[1], "c", 1);
  EQUAL(epoll_wait(e, got, 4, 0), 1);
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  event.events = EPOLLIN | EPOLLONESHOT;
  OK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event));
  EQUAL(epoll_wait(e, got, 4, 0), 1);
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  write(p[1], "d", 1);
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  OK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event));
  EQUAL(epoll_wait(e, got, 4, 0), 1);

  section("many descriptors, duplicates, closing");
  OK(epoll_ctl(e, EPOLL_CTL_DEL, p[0], NULL));
  int v[50];
  for (int i = 0; i < 50; i++) {
    v[i] = MUST(eventfd(0, 0));
    event = (struct epoll_event){EPOLLIN, {.u32 = i}};
    MUST(epoll_ctl(e, EPOLL_CTL_ADD, v[i], &event));
  }
  EQUAL(epoll_wait(e, got, 4, 0), 0);
  uint64_t one = 1;
  for (int i = 0; i < 10; i++) write(v[i * 5], &one, 8);
  struct epoll_event all[64];
  EQUAL(epoll_wait(e, all, 64, 0), 10);
  // A small array sees every ready descriptor in turn.
  unsigned seen = 0;
  for (int k = 0; k < 5; k++) {
    int n = epoll_wait(e, got, 2, 0);
    for (int i = 0; i < n; i++) seen |= 1u << got[i].data.u32 / 5;
  }
  EQUAL(seen, 0x3ff);
  close(v[0]);
  EQUAL(epoll_wait(e, all, 64, 0), 9);
  int copy = dup(v[5]);
  close(v[5]);
  EQUAL(epoll_wait(e, all, 64, 0), 9);
  close(copy);
  EQUAL(epoll_wait(e, all, 64, 0), 8);
  int outer = MUST(epoll_create1(0));
  event = (struct epoll_event){EPOLLIN, {.u32 = 7}};
  OK(epoll_ctl(outer, EPOLL_CTL_ADD, e, &event));
  FAILS(epoll_ctl(e, EPOLL_CTL_ADD, outer, &event), ELOOP);
  EQUAL(epoll_wait(outer, got, 4, 0), 1);
  EQUAL(got[0].data.u32, 7);
  struct pollfd f = {e, POLLIN};
  EQUAL(poll(&f, 1, 0), 1);
  close(outer), close(e);

  section("waiting");
  e = MUST(epoll_create1(0));
  int q[2];
  MUST(pipe(q));
  event = (struct epoll_event){EPOLLIN, {.fd = q[0]}};
  MUST(epoll_ctl(e, EPOLL_CTL_ADD, q[0], &event));
  int64_t start = now_ns(CLOCK_MONOTONIC);
  EQUAL(epoll_wait(e, got, 4, 20), 0);
  CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  pthread_t t;
  pthread_create(&t, NULL, write_later, (void *)(long)q[1]);
  EQUAL(epoll_wait(e, got, 4, 60000), 1);
  pthread_join(t, NULL);
  read(q[0], &c, 1);
  sigset_t empty, blocked;
  sigemptyset(&empty), sigemptyset(&blocked), sigaddset(&blocked, SIGALRM);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  raise(SIGALRM);
  FAILS(epoll_pwait(e, got, 4, 60000, &empty), EINTR);
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);
  struct timespec ten = {0, 10000000};
  EQUAL(syscall(SYS_epoll_pwait2, e, got, 4, &ten, NULL, 0), 0);
  close(q[1]);
  EQUAL(epoll_wait(e, got, 4, -1), 1);
  EQUAL(got[0].events, EPOLLHUP);
  close(q[0]), close(e), close(p[0]), close(p[1]), close(file);
}

// Instances in instances: events come through, however deep; circles and too deep ones are refused; waits can be interrupted.
static void nested_epolls(void) {
  section("epoll in epoll");
  enum { DEEPEST = 8 };
  int level[DEEPEST], p[2], made = 1;
  char c = 0;
  struct epoll_event event = {EPOLLIN, {.u32 = 1}}, got[4];
  MUST(pipe(p));
  for (int i = 0; i < DEEPEST; i++) level[i] = MUST(epoll_create1(0));
  MUST(epoll_ctl(level[0], EPOLL_CTL_ADD, p[0], &event));
  while (made < DEEPEST && epoll_ctl(level[made], EPOLL_CTL_ADD, level[made - 1], &event) == 0) made++;
  EQUAL(made, 5);
  EQUAL(errno, ELOOP);
  // The same from the outside in.
  int inward[DEEPEST], inner = 1;
  for (int i = 0; i < DEEPEST; i++) inward[i] = MUST(epoll_create1(0));
  while (inner < DEEPEST && epoll_ctl(inward[inner - 1], EPOLL_CTL_ADD, inward[inner], &event) == 0) inner++;
  EQUAL(inner, 5);
  EQUAL(errno, ELOOP);
  OK(epoll_ctl(inward[4], EPOLL_CTL_ADD, p[0], &event));
  FAILS(epoll_ctl(inward[4], EPOLL_CTL_ADD, level[0], &event), ELOOP);
  for (int i = 0; i < DEEPEST; i++) close(inward[i]);
  // Circles of every length.
  for (int i = 1; i < made; i++) FAILS(epoll_ctl(level[0], EPOLL_CTL_ADD, level[i], &event), ELOOP);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < made; i++) EQUAL(poll(&(struct pollfd){level[i], POLLIN}, 1, 0), 0);
    write(p[1], "x", 1);
    for (int i = made - 1; i >= 0; i--) {
      EQUAL(poll(&(struct pollfd){level[i], POLLIN}, 1, 0), 1);
      EQUAL(epoll_wait(level[i], got, 4, 0), 1);
    }
    read(p[0], &c, 1);
    // The event is over before anybody looks.
    for (int i = made - 1; i >= 0; i--) EQUAL(epoll_wait(level[i], got, 4, 0), 0);
    write(p[1], "x", 1);
    read(p[0], &c, 1);
    EQUAL(poll(&(struct pollfd){level[made - 1], POLLIN}, 1, 0), 0);
    write(p[1], "x", 1);
    EQUAL(poll(&(struct pollfd){level[made - 1], POLLIN}, 1, 0), 1);
    read(p[0], &c, 1);
  }
  // A signal ends a wait at any depth.
  sigset_t empty, blocked;
  sigemptyset(&empty), sigemptyset(&blocked), sigaddset(&blocked, SIGALRM);
  signal(SIGALRM, nothing);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  for (int i = 0; i < made; i++) {
    raise(SIGALRM);
    FAILS(epoll_pwait(level[i], got, 4, -1, &empty), EINTR);
    raise(SIGALRM);
    FAILS(ppoll(&(struct pollfd){level[i], POLLIN}, 1, NULL, &empty), EINTR);
  }
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);
  // So does an event, and the end of one in the middle leaves the others.
  pthread_t t;
  pthread_create(&t, NULL, write_later, (void *)(long)p[1]);
  EQUAL(poll(&(struct pollfd){level[made - 1], POLLIN}, 1, -1), 1);
  pthread_join(t, NULL);
  close(level[2]);
  EQUAL(poll(&(struct pollfd){level[made - 1], POLLIN}, 1, 0), 0);
  EQUAL(poll(&(struct pollfd){level[1], POLLIN}, 1, 0), 1);
  close(p[0]), close(p[1]);
  for (int i = 0; i < DEEPEST; i++) if (i != 2) close(level[i]);
}

static void *add_later(void *fd) {
  sleep_ms(30);
  uint64_t v = 5;
  write((long)fd, &v, 8);
  return NULL;
}

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static void set_clock(time_t by) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  now.tv_sec += by;
  OK(clock_settime(CLOCK_REALTIME, &now));
}

// Programs that wait for a time of day learn that the clock was set (timerfd_create(2)).
static void clock_set(void) {
  uint64_t v;
  struct itimerspec set = {{0, 0}, {time(NULL) + 1000, 0}};
  int fd = MUST(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK)), other = MUST(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  struct pollfd f = {fd, POLLIN};
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, NULL));
  OK(timerfd_settime(other, TFD_TIMER_ABSTIME, &set, NULL));
  EQUAL(poll(&f, 1, 0), 0);
  set_clock(0);
  EQUAL(poll(&f, 1, 60000), 1);
  FAILS(read(fd, &v, 8), ECANCELED);
  FAILS(read(fd, &v, 8), EAGAIN);
  FAILS(read(other, &v, 8), EAGAIN);
  // The new setting holds, but the program learns that it may have reckoned with the old clock.
  set_clock(0);
  FAILS(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, NULL), ECANCELED);
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, NULL));
  set_clock(0);
  v = 7;
  FAILS(ioctl(fd, TFD_IOC_SET_TICKS, &v), ECANCELED);
  // A relative timer does not care.
  OK(timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET, &set, NULL));
  set_clock(0);
  EQUAL(poll(&f, 1, 0), 0);
  // The time of day comes at once.
  f.fd = other;
  set_clock(2000);
  EQUAL(poll(&f, 1, 60000), 1);
  EQUAL(read(other, &v, 8), 8);
  EQUAL(v, 1);
  // One that waits in read(2).
  fcntl(fd, F_SETFL, 0);
  set.it_value.tv_sec += 10000;
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, NULL));
  pid_t child = CHILD(_exit(read(fd, &v, 8) < 0 ? errno : 0));
  sleep_ms(20);
  set_clock(-2000);
  EQUAL(outcome(child), ECANCELED);
  close(fd), close(other);
}

static void counters(void) {
  section("eventfd");
  uint64_t v;
  int fd = MUST(eventfd(3, EFD_NONBLOCK));
  EQUAL(read(fd, &v, 8), 8);
  EQUAL(v, 3);
  FAILS(read(fd, &v, 8), EAGAIN);
  FAILS(read(fd, &v, 4), EINVAL);
  v = UINT64_MAX;
  FAILS(write(fd, &v, 8), EINVAL);
  v = UINT64_MAX - 1;
  EQUAL(write(fd, &v, 8), 8);
  v = 1;
  FAILS(write(fd, &v, 8), EAGAIN);
  struct pollfd f = {fd, POLLIN | POLLOUT};
  poll(&f, 1, 0);
  EQUAL(f.revents, POLLIN);
  EQUAL(read(fd, &v, 8), 8);
  close(fd);
  fd = MUST(eventfd(2, EFD_SEMAPHORE));
  read(fd, &v, 8);
  EQUAL(v, 1);
  read(fd, &v, 8);
  pthread_t t;
  pthread_create(&t, NULL, add_later, (void *)(long)fd);
  EQUAL(read(fd, &v, 8), 8);
  pthread_join(t, NULL);
  close(fd);
  FAILS(eventfd(0, 0x10), EINVAL);
  // Each vector is a write of its own, and must be a number.
  fd = MUST(eventfd(0, EFD_NONBLOCK));
  uint64_t w[2] = {1, 2};
  struct iovec halves[2] = {{w, 4}, {(char *)w + 4, 4}}, wholes[2] = {{w, 8}, {w + 1, 8}}, mixed[2] = {{w, 8}, {w + 1, 4}};
  FAILS(writev(fd, halves, 2), EINVAL);
  FAILS(write(fd, w, 16), EINVAL);
  EQUAL(writev(fd, wholes, 2), 16);
  EQUAL(writev(fd, mixed, 2), 8);
  EQUAL(readv(fd, halves, 2), 8);
  EQUAL(w[0], 4);
  w[1] = UINT64_MAX;
  EQUAL(writev(fd, wholes, 2), 8);
  EQUAL(readv(fd, wholes, 2), 8);
  EQUAL(w[0], 4);
  close(fd);

  section("timerfd");
  fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  FAILS(timerfd_create(99, 0), EINVAL);
  FAILS(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
  FAILS(read(fd, &v, 8), EAGAIN);
  struct itimerspec set = {{0, 0}, {1000, 0}}, old;
  OK(timerfd_settime(fd, 0, &set, NULL));
  OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_sec >= 900 && old.it_value.tv_sec <= 1000);
  set.it_value = (struct timespec){0, 10000000};
  OK(timerfd_settime(fd, 0, &set, NULL));
  f = (struct pollfd){fd, POLLIN};
  EQUAL(poll(&f, 1, 60000), 1);
  EQUAL(read(fd, &v, 8), 8);
  EQUAL(v, 1);
  OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_sec == 0 && old.it_value.tv_nsec == 0);
  set = (struct itimerspec){{0, 5000000}, {0, 1}};
  int64_t start = now_ns(CLOCK_MONOTONIC);
  OK(timerfd_settime(fd, 0, &set, NULL));
  sleep_ms(42);
  EQUAL(read(fd, &v, 8), 8);
  CHECK(v >= 8 && (int64_t)v <= (now_ns(CLOCK_MONOTONIC) - start) / 5000000 + 1);
  // However short the interval, the kernel has time for others.
  set = (struct itimerspec){{0, 100}, {0, 1}};
  start = now_ns(CLOCK_MONOTONIC);
  OK(timerfd_settime(fd, 0, &set, NULL));
  sleep_ms(5);
  OK(timerfd_gettime(fd, &old));
  CHECK(old.it_interval.tv_nsec == 100 && old.it_value.tv_sec == 0 && old.it_value.tv_nsec <= 100);
  EQUAL(read(fd, &v, 8), 8);
  CHECK(v >= 50000 && (int64_t)v <= (now_ns(CLOCK_MONOTONIC) - start) / 100 + 1);
  set = (struct itimerspec){{0, 5000000}, {1000, 0}};
  OK(timerfd_settime(fd, 0, &set, NULL));
  set = (struct itimerspec){{0, 0}, {1, 0}};
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &set, &old));
  CHECK(old.it_interval.tv_nsec == 5000000);
  EQUAL(poll(&f, 1, 60000), 1);
  memset(&set, 0, sizeof set);
  OK(timerfd_settime(fd, 0, &set, NULL));
  EQUAL(poll(&f, 1, 0), 0);
  set.it_value.tv_nsec = -1;
  FAILS(timerfd_settime(fd, 0, &set, NULL), EINVAL);
  FAILS(timerfd_settime(0, 0, &old, NULL), EINVAL);
  FAILS(timerfd_settime(fd, 4, &old, NULL), EINVAL);
  // What the next read gets can be set; the timer goes on.
  set = (struct itimerspec){{0, 0}, {1000, 0}};
  OK(timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET | TFD_TIMER_ABSTIME, &set, NULL));
  OK(timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET, &set, NULL));
  uint64_t ticks = 0;
  FAILS(ioctl(fd, TFD_IOC_SET_TICKS, &ticks), EINVAL);
  FAILS(ioctl(fd, TFD_IOC_SET_TICKS, NULL), EFAULT);
  FAILS(ioctl(fd, TCGETS, &ticks), ENOTTY);
  ticks = 100;
  OK(ioctl(fd, TFD_IOC_SET_TICKS, &ticks));
  EQUAL(poll(&f, 1, 0), 1);
  char text[400], place[40];
  sprintf(place, "/proc/self/fdinfo/%d", fd);
  int information = MUST(open(place, O_RDONLY));
  CHECK(read(information, text, sizeof text) > 0 && strstr(text, "\nclockid: 1\nticks: 100\nsettime flags: 02\nit_value: (9"));
  close(information);
  EQUAL(read(fd, &v, 8), 8);
  EQUAL(v, 100);
  FAILS(read(fd, &v, 8), EAGAIN);
  OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_sec > 900);
  set = (struct itimerspec){{1000, 0}, {0, 1}};
  OK(timerfd_settime(fd, 0, &set, NULL));
  EQUAL(poll(&f, 1, 60000), 1);
  OK(ioctl(fd, TFD_IOC_SET_TICKS, &ticks));
  EQUAL(read(fd, &v, 8), 8);
  EQUAL(v, 100);
  OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_sec > 900);
  close(fd);
  EQUAL(close(MUST(timerfd_create(CLOCK_BOOTTIME, 0))), 0);

  section("setting the clock");
  APUS_ONLY("timers and a clock that is set", clock_set());

  section("signalfd");
  sigset_t set2;
  sigemptyset(&set2), sigaddset(&set2, SIGUSR1), sigaddset(&set2, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set2, NULL);
  fd = MUST(signalfd(-1, &set2, SFD_NONBLOCK));
  struct signalfd_siginfo info[3];
  FAILS(read(fd, info, sizeof info), EAGAIN);
  FAILS(read(fd, info, 10), EINVAL);
  kill(getpid(), SIGUSR1);
  sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42});
  f = (struct pollfd){fd, POLLIN};
  EQUAL(poll(&f, 1, 0), 1);
  EQUAL(read(fd, info, sizeof info), 2 * sizeof info[0]);
  CHECK(info[0].ssi_signo == SIGUSR1 && info[0].ssi_code == SI_USER && info[0].ssi_pid == (unsigned)getpid());
  CHECK((int)info[1].ssi_signo == SIGRTMIN && info[1].ssi_int == 42);
  FAILS(signalfd(0, &set2, 0), EINVAL);
  close(fd);
  sigprocmask(SIG_UNBLOCK, &set2, NULL);
}

int main(void) {
  polls();
  epolls();
  nested_epolls();
  counters();
  return conformance_end();
}
