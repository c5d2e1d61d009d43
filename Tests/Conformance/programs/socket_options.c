// Options of SOL_SOCKET (socket(7)): values, minima, lengths, rights and errors.
#include "../sockets.h"
#include <grp.h>
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

static int fd;
static int raw_set(int level, int name, const void *value, socklen_t n) { return setsockopt(fd, level, name, value, n); }

int main(void) {
  enter_work_directory();
  fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  int value;
  socklen_t n;
  section("what the socket is");
  EQUAL(option(fd, SO_TYPE), SOCK_STREAM);
  EQUAL(option(fd, SO_DOMAIN), AF_UNIX);
  EQUAL(option(fd, SO_PROTOCOL), 0);
  EQUAL(option(fd, SO_ERROR), 0);
  EQUAL(option(fd, SO_SNDBUF), 212992);
  EQUAL(option(fd, SO_RCVBUF), 212992);
  EQUAL(option(fd, SO_RCVLOWAT), 1);
  EQUAL(option(fd, SO_SNDLOWAT), 1);
  int raw = MUST(socket(AF_UNIX, SOCK_RAW, 0));
  EQUAL(option(raw, SO_TYPE), SOCK_DGRAM);
  close(raw);
  section("on and off");
  int names[] = {SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_PASSCRED, SO_RXQ_OVFL, SO_TIMESTAMP, SO_TIMESTAMPNS};
  for (int i = 0; i < 10; i++) {
    EQUAL(option(fd, names[i]), 0);
    if (names[i] == SO_DEBUG && geteuid()) continue;
    OK(set_option(fd, names[i], 77));
    EQUAL(option(fd, names[i]), 1);
    OK(set_option(fd, names[i], 0));
    EQUAL(option(fd, names[i]), 0);
  }
  section("buffers");
  OK(set_option(fd, SO_SNDBUF, 0));
  EQUAL(option(fd, SO_SNDBUF), 4608);
  OK(set_option(fd, SO_RCVBUF, 0));
  EQUAL(option(fd, SO_RCVBUF), 2304);
  OK(set_option(fd, SO_SNDBUF, 10000));
  EQUAL(option(fd, SO_SNDBUF), 20000);
  int most = 0;
  FILE *file = fopen("/proc/sys/net/core/wmem_max", "r");
  CHECK(file && fscanf(file, "%d", &most) == 1);
  OK(set_option(fd, SO_SNDBUF, -1));
  EQUAL(option(fd, SO_SNDBUF), 2 * most);
  section("lengths");
  FAILS(raw_set(SOL_SOCKET, SO_KEEPALIVE, &value, 3), EINVAL);
  FAILS(raw_set(SOL_SOCKET, SO_KEEPALIVE, &value, -1), EINVAL);
  FAILS(raw_set(SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
  FAILS(raw_set(SOL_SOCKET, SO_LINGER, &value, 4), EINVAL);
  value = 0x55555555;
  n = 2;
  OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &n));
  EQUAL(n, 2);
  EQUAL(value, 0x55550001);
  n = 100;
  OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &n));
  EQUAL(n, 4);
  n = -1;
  FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &n), EINVAL);
  FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, (void *)8), EFAULT);
  n = 4;
  FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, (void *)8, &n), EFAULT);
  section("linger and time-outs");
  struct linger l = {7, 9};
  OK(raw_set(SOL_SOCKET, SO_LINGER, &l, sizeof l));
  memset(&l, 0, sizeof l);
  n = sizeof l;
  OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n));
  CHECK(l.l_onoff == 1 && l.l_linger == 9);
  struct timeval t = {2, 500000};
  OK(raw_set(SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  n = sizeof t;
  OK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &n));
  CHECK(n == 16 && t.tv_sec == 2 && t.tv_usec == 500000);
  t = (struct timeval){1, 1000000};
  FAILS(raw_set(SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t), EDOM);
  FAILS(raw_set(SOL_SOCKET, SO_SNDTIMEO, &t, 8), EINVAL);
  section("errors");
  FAILS(set_option(fd, SO_TYPE, 1), ENOPROTOOPT);
  FAILS(set_option(fd, SO_ERROR, 1), ENOPROTOOPT);
  FAILS(set_option(fd, SO_ACCEPTCONN, 1), ENOPROTOOPT);
  FAILS(set_option(fd, SO_PEERCRED, 1), ENOPROTOOPT);
  FAILS(set_option(fd, 999, 1), ENOPROTOOPT);
  EQUAL(option(fd, 999), -ENOPROTOOPT);
  n = 4;
  FAILS(getsockopt(fd, 6, 1, &value, &n), EOPNOTSUPP);
  section("rights");
  OK(set_option(fd, SO_PRIORITY, 6));
  EQUAL(option(fd, SO_PRIORITY), 6);
  if (geteuid() == 0) {
    OK(set_option(fd, SO_MARK, 5));
    EQUAL(option(fd, SO_MARK), 5);
    OK(set_option(fd, SO_PRIORITY, 100));
    OK(set_option(fd, SO_SNDBUFFORCE, 3000));
    EQUAL(option(fd, SO_SNDBUF), 6000);
    EQUAL(outcome(CHILD({
            gid_t groups[3] = {11, 22, 33};
            if (setgroups(3, groups) || setresgid(7, 7, 7) || setresuid(7, 7, 7)) _exit(9);
            if (set_option(fd, SO_MARK, 6) != -1 || errno != EPERM) _exit(1);
            if (set_option(fd, SO_PRIORITY, 7) != -1 || errno != EPERM) _exit(2);
            if (set_option(fd, SO_SNDBUFFORCE, 7) != -1 || errno != EPERM) _exit(3);
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) _exit(4);
            gid_t got[5];
            socklen_t n = 4;
            if (getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, got, &n) != -1 || errno != ERANGE || n != 12) _exit(5);
            n = sizeof got;
            if (getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, got, &n) || n != 12 || memcmp(got, groups, 12)) _exit(6);
          })), 0);
  } else {
    for (int i = 0; i < 6; i++) line("ok only the superuser can be somebody else");
  }
  n = sizeof value;
  FAILS(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &value, &n), ENODATA);
  section("times of arrival");
  int pair[2];
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  OK(set_option(pair[1], SO_TIMESTAMP, 1));
  EQUAL(write(pair[0], "x", 1), 1);
  char b[10], space[200];
  struct iovec v = {b, 10};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  EQUAL(recvmsg(pair[1], &m, 0), 1);
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  CHECK(c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP && c->cmsg_len == CMSG_LEN(16));
  struct timeval then = {0};
  if (c) memcpy(&then, CMSG_DATA(c), sizeof then);
  CHECK(then.tv_sec > 1000000000 && labs(then.tv_sec - time(NULL)) < 100);
  section("in /proc");
  struct sockaddr_un a;
  int s = listener(SOCK_STREAM, own("shown"), 1), found = 0;
  file = fopen("/proc/net/unix", "r");
  char text[300], wanted[60];
  CHECK(file && fgets(text, sizeof text, file) && !strcmp(text, "Num       RefCount Protocol Flags    Type St Inode Path\n"));
  snprintf(wanted, sizeof wanted, " 00010000 0001 01 ");
  while (file && fgets(text, sizeof text, file))
    if (strstr(text, own("shown")) && strstr(text, wanted)) found++;
  EQUAL(found, 1);
  char link[100] = {0}, expected[100];
  struct stat status;
  OK(fstat(s, &status));
  snprintf(expected, sizeof expected, "/proc/self/fd/%d", s);
  CHECK(readlink(expected, link, 99) > 0);
  snprintf(expected, sizeof expected, "socket:[%ld]", (long)status.st_ino);
  CHECK(!strcmp(link, expected));
  return conformance_end();
}
