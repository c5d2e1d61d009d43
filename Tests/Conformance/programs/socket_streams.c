// Streams of local sockets: bytes, ends, peeking, waiting, limits, readiness, splice and sendfile.
#include "../sockets.h"

static char big[400000];
static int pair[2];
static volatile int broken;
static void on_pipe(int number) { broken++; }
static void on_alarm(int number) {}
static void *late_write(void *fd) {
  sleep_ms(40);
  return (void *)(long)write(*(int *)fd, "late", 4);
}
static void *late_close(void *fd) {
  sleep_ms(40);
  close(*(int *)fd);
  return NULL;
}
static void *drain(void *fd) {
  static char b[70000];
  long sum = 0, n;
  while ((n = read(*(int *)fd, b, sizeof b)) > 0) sum += n;
  return (void *)sum;
}
static void fresh(int type) {
  close(pair[0]), close(pair[1]);
  MUST(socketpair(AF_UNIX, type, 0, pair));
}

int main(void) {
  enter_work_directory();
  char b[1000] = {0};
  struct stat s;
  int n;
  pair[0] = pair[1] = -1;
  for (size_t i = 0; i < sizeof big; i++) big[i] = i * 7 + i / 251;
  signal(SIGPIPE, on_pipe);

  section("bytes");
  fresh(SOCK_STREAM);
  EQUAL(write(pair[0], "hello ", 6), 6);
  EQUAL(send(pair[0], "world", 5, 0), 5);
  OK(ioctl(pair[1], FIONREAD, &n));
  EQUAL(n, 11);
  EQUAL(recv(pair[1], b, 3, MSG_PEEK), 3);
  EQUAL(recv(pair[1], b, 100, MSG_PEEK), 11);
  EQUAL(read(pair[1], b, 8), 8);
  CHECK(!memcmp(b, "hello wo", 8));
  EQUAL(recv(pair[1], b, 100, MSG_TRUNC), 3);
  FAILS(recv(pair[1], b, 1, MSG_DONTWAIT), EAGAIN);
  EQUAL(write(pair[0], b, 0), 0);
  EQUAL(read(pair[1], b, 0), 0);
  FAILS(write(pair[0], (void *)8, 5), EFAULT);
  EQUAL(write(pair[0], "abc", 3), 3);
  FAILS(read(pair[1], (void *)8, 5), EFAULT);
  EQUAL(read(pair[1], b, 5), 3);
  struct iovec v[3] = {{"one", 3}, {NULL, 0}, {"two", 3}};
  EQUAL(writev(pair[0], v, 3), 6);
  struct iovec w[2] = {{b, 4}, {b + 10, 10}};
  EQUAL(readv(pair[1], w, 2), 6);
  CHECK(!memcmp(b, "onet", 4) && !memcmp(b + 10, "wo", 2));
  FAILS(send_to(pair[0], "x", 1, 0, "a"), EISCONN);
  int lone = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  FAILS(send_to(lone, "x", 1, 0, "a"), EOPNOTSUPP);
  FAILS(write(lone, "x", 1), ENOTCONN);
  FAILS(read(lone, b, 1), EINVAL);
  close(lone);

  section("waiting");
  pthread_t thread;
  void *result;
  pthread_create(&thread, NULL, late_write, &pair[0]);
  EQUAL(read(pair[1], b, 100), 4);
  pthread_join(thread, NULL);
  EQUAL(write(pair[0], "12", 2), 2);
  pthread_create(&thread, NULL, late_write, &pair[0]);
  EQUAL(recv(pair[1], b, 6, MSG_WAITALL), 6);
  pthread_join(thread, NULL);
  OK(set_option(pair[1], SO_RCVLOWAT, 3));
  EQUAL(write(pair[0], "x", 1), 1);
  pthread_create(&thread, NULL, late_write, &pair[0]);
  EQUAL(read(pair[1], b, 100), 5);
  pthread_join(thread, NULL);
  OK(set_option(pair[1], SO_RCVLOWAT, 1));
  struct timeval t = {0, 20000};
  OK(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  FAILS(read(pair[1], b, 1), EAGAIN);
  EQUAL(write(pair[0], "x", 1), 1);
  EQUAL(recv(pair[1], b, 2, MSG_WAITALL), 1);
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  t = (struct timeval){10, 0};
  OK(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  alarm_every_ms(20);
  FAILS(read(pair[1], b, 1), EINTR);
  t = (struct timeval){0, 0};
  OK(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  pthread_create(&thread, NULL, late_write, &pair[0]);
  EQUAL(read(pair[1], b, 100), 4);
  pthread_join(thread, NULL);
  alarm_every_ms(0);

  section("much at once");
  fresh(SOCK_STREAM);
  pthread_create(&thread, NULL, drain, &pair[1]);
  EQUAL(write(pair[0], big, sizeof big), sizeof big);
  shutdown(pair[0], SHUT_WR);
  pthread_join(thread, &result);
  EQUAL((long)result, sizeof big);
  fresh(SOCK_STREAM);
  if (fork() == 0) {
    for (size_t at = 0; at < sizeof big; at += 40000) write(pair[0], big + at, 40000);
    _exit(0);
  }
  static char copy[sizeof big];
  EQUAL(recv(pair[1], copy, sizeof copy, MSG_WAITALL), sizeof big);
  CHECK(!memcmp(big, copy, sizeof big));
  wait(NULL);
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  for (n = 0; write(pair[0], "x", 1) == 1; n++) {}
  EQUAL(errno, EAGAIN);
  EQUAL(n, 278);
  OK(ioctl(pair[0], TIOCOUTQ, &n));
  CHECK(n >= 212992);
  EQUAL(events(pair[0], POLLOUT | POLLIN), 0);
  EQUAL(read(pair[1], copy, 1000), 278);
  EQUAL(events(pair[0], POLLOUT | POLLIN), POLLOUT);
  long partial = write(pair[0], big, sizeof big);
  CHECK(partial > 150000 && partial < (long)sizeof big);
  FAILS(write(pair[0], big, 1), EAGAIN);
  fcntl(pair[0], F_SETFL, 0);
  t = (struct timeval){0, 20000};
  OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
  FAILS(write(pair[0], big, 1), EAGAIN);
  EQUAL(read(pair[1], copy, sizeof copy), partial);
  CHECK(!memcmp(big, copy, partial));

  section("ends");
  fresh(SOCK_STREAM);
  EQUAL(write(pair[0], "rest", 4), 4);
  OK(shutdown(pair[0], SHUT_WR));
  broken = 0;
  FAILS(write(pair[0], "x", 1), EPIPE);
  EQUAL(broken, 1);
  FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  EQUAL(broken, 1);
  EQUAL(events(pair[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
  EQUAL(read(pair[1], b, 10), 4);
  EQUAL(read(pair[1], b, 10), 0);
  EQUAL(write(pair[1], "back", 4), 4);
  EQUAL(read(pair[0], b, 10), 4);
  OK(shutdown(pair[0], SHUT_RD));
  FAILS(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
  EQUAL(events(pair[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  FAILS(shutdown(pair[0], 3), EINVAL);
  FAILS(shutdown(pair[0], -1), EINVAL);
  fresh(SOCK_STREAM);
  EQUAL(write(pair[0], "unread", 6), 6);
  EQUAL(write(pair[1], "last", 4), 4);
  close(pair[1]);
  EQUAL(events(pair[0], POLLIN | POLLERR), POLLIN | POLLERR | POLLHUP);
  EQUAL(read(pair[0], b, 10), 4);
  FAILS(read(pair[0], b, 10), ECONNRESET);
  EQUAL(read(pair[0], b, 10), 0);
  pair[1] = -1;
  fresh(SOCK_STREAM);
  pthread_create(&thread, NULL, late_close, &pair[0]);
  EQUAL(read(pair[1], b, 10), 0);
  pthread_join(thread, NULL);
  pair[0] = -1;

  section("peeking from an offset");
  fresh(SOCK_STREAM);
  EQUAL(option(pair[1], SO_PEEK_OFF), -1);
  OK(set_option(pair[1], SO_PEEK_OFF, 2));
  EQUAL(write(pair[0], "abcd", 4), 4);
  EQUAL(write(pair[0], "efgh", 4), 4);
  EQUAL(recv(pair[1], b, 1, MSG_PEEK), 1);
  EQUAL(b[0], 'c');
  EQUAL(recv(pair[1], b, 1, MSG_PEEK), 1);
  EQUAL(b[0], 'd');
  EQUAL(recv(pair[1], b, 2, 0), 2);
  EQUAL(option(pair[1], SO_PEEK_OFF), 2);
  EQUAL(recv(pair[1], b, 9, MSG_PEEK), 4);
  EQUAL(b[0], 'e');
  FAILS(recv(pair[1], b, 9, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
  OK(set_option(pair[1], SO_PEEK_OFF, -1));
  EQUAL(recv(pair[1], b, 9, MSG_PEEK), 6);
  OK(set_option(pair[1], SO_PEEK_OFF, -2));
  EQUAL(option(pair[1], SO_PEEK_OFF), -2);

  section("epoll");
  fresh(SOCK_STREAM);
  struct epoll_event e = {EPOLLIN | EPOLLET, {.u32 = 1}}, got[4];
  int ep = MUST(epoll_create1(0));
  OK(epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &e));
  EQUAL(epoll_wait(ep, got, 4, 0), 0);
  EQUAL(write(pair[0], "a", 1), 1);
  EQUAL(epoll_wait(ep, got, 4, 1000), 1);
  EQUAL(epoll_wait(ep, got, 4, 0), 0);
  EQUAL(write(pair[0], "b", 1), 1);
  EQUAL(epoll_wait(ep, got, 4, 1000), 1);
  EQUAL(got[0].events, EPOLLIN);
  e.events = EPOLLIN | EPOLLRDHUP;
  OK(epoll_ctl(ep, EPOLL_CTL_MOD, pair[1], &e));
  EQUAL(epoll_wait(ep, got, 4, 0), 1);
  EQUAL(epoll_wait(ep, got, 4, 0), 1);
  EQUAL(read(pair[1], b, 10), 2);
  EQUAL(epoll_wait(ep, got, 4, 0), 0);
  e.events = EPOLLIN | EPOLLONESHOT;
  OK(epoll_ctl(ep, EPOLL_CTL_MOD, pair[1], &e));
  EQUAL(write(pair[0], "b", 1), 1);
  EQUAL(epoll_wait(ep, got, 4, 1000), 1);
  EQUAL(epoll_wait(ep, got, 4, 0), 0);
  close(pair[0]);
  EQUAL(epoll_wait(ep, got, 4, 0), 0);
  e.events = EPOLLIN | EPOLLRDHUP;
  OK(epoll_ctl(ep, EPOLL_CTL_MOD, pair[1], &e));
  EQUAL(epoll_wait(ep, got, 4, 0), 1);
  EQUAL(got[0].events, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
  close(ep);
  pair[0] = -1;

  section("splice and sendfile");
  fresh(SOCK_STREAM);
  int f = MUST(open("file", O_RDWR | O_CREAT, 0600)), p[2];
  MUST(pipe(p));
  EQUAL(write(f, big, 100000), 100000);
  off_t at = 10;
  EQUAL(sendfile(pair[0], f, &at, 90000), 90000);
  EQUAL(at, 90010);
  EQUAL(recv(pair[1], copy, 90000, MSG_WAITALL), 90000);
  CHECK(!memcmp(copy, big + 10, 90000));
  EQUAL(write(p[1], "through a pipe", 14), 14);
  EQUAL(splice(p[0], NULL, pair[0], NULL, 100, 0), 14);
  EQUAL(splice(pair[1], NULL, p[1], NULL, 7, 0), 7);
  EQUAL(splice(pair[1], NULL, p[1], NULL, 100, 0), 7);
  EQUAL(read(p[0], b, 100), 14);
  CHECK(!memcmp(b, "through a pipe", 14));
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  while (write(pair[0], big, 30000) > 0) {}
  EQUAL(write(p[1], "kept", 4), 4);
  FAILS(splice(p[0], NULL, pair[0], NULL, 100, 0), EAGAIN);
  OK(ioctl(p[0], FIONREAD, &n));
  EQUAL(n, 4);
  close(p[0]), close(p[1]);
  OK(fstat(pair[0], &s));
  EQUAL(s.st_size, 0);
  return conformance_end();
}
