// Descriptors and identities in messages (unix(7), "Ancillary messages"): SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD, their limits, and
// cycles of descriptors in flight, which are collected.
#include "../sockets.h"
#include <sys/resource.h>
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

static int pair[2];
static void fresh(int type) {
  if (pair[0] >= 0) close(pair[0]);
  if (pair[1] >= 0) close(pair[1]);
  MUST(socketpair(AF_UNIX, type, 0, pair));
}
// How many descriptors are open.
static int open_count(void) {
  int n = 0;
  for (int i = 0; i < 1024; i++) n += fcntl(i, F_GETFD) >= 0;
  return n;
}
static ssize_t send_identity(int fd, pid_t pid, uid_t uid, gid_t gid) {
  char space[CMSG_SPACE(sizeof(struct ucred))] = {0};
  struct iovec v = {"i", 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_CREDENTIALS, c->cmsg_len = CMSG_LEN(sizeof(struct ucred));
  struct ucred u = {pid, uid, gid};
  memcpy(CMSG_DATA(c), &u, sizeof u);
  return sendmsg(fd, &m, 0);
}
// Receives bytes and the sender's identity.
static ssize_t receive_identity(int fd, void *b, size_t n, struct ucred *u, int *process) {
  char space[400] = {0};
  struct iovec v = {b, n};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  memset(u, 0x55, sizeof *u);
  if (process) *process = -1;
  ssize_t r = recvmsg(fd, &m, MSG_DONTWAIT);
  if (r < 0) return r;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_type == SCM_CREDENTIALS) memcpy(u, CMSG_DATA(c), sizeof *u);
    if (c->cmsg_type == SCM_PIDFD && process) memcpy(process, CMSG_DATA(c), 4);
  }
  return r;
}
// Whether all writers of a pipe are gone; the collector may take a moment.
static int ended(int reader) {
  struct pollfd p = {reader, POLLIN, 0};
  for (int i = 0; i < 200; i++) {
    int pump[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pump);
    close(pump[0]), close(pump[1]);
    if (poll(&p, 1, 20) == 1) return (p.revents & POLLHUP) != 0;
  }
  return 0;
}

int main(void) {
  enter_work_directory();
  pair[0] = pair[1] = -1;
  char b[100];
  int fds[300], count, flags, p[2];
  for (int i = 0; i < 300; i++) fds[i] = 0;

  section("descriptors");
  fresh(SOCK_STREAM);
  MUST(pipe(p));
  int before = open_count();
  EQUAL(send_fds(pair[0], "ab", 2, p, 2, 0), 2);
  close(p[0]), close(p[1]);
  count = 10;
  EQUAL(receive_fds(pair[1], b, 10, fds, &count, MSG_CMSG_CLOEXEC, &flags), 2);
  EQUAL(count, 2);
  EQUAL(flags, MSG_CMSG_CLOEXEC);
  EQUAL(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  EQUAL(write(fds[1], "pipe", 4), 4);
  EQUAL(read(fds[0], b, 10), 4);
  EQUAL(open_count(), before);
  EQUAL(send_fds(pair[0], "c", 1, fds, 2, 0), 1);
  count = 1;
  int one[2];
  EQUAL(receive_fds(pair[1], b, 10, one, &count, 0, &flags), 1);
  EQUAL(count, 1);
  EQUAL(flags, MSG_CTRUNC);
  close(one[0]);
  EQUAL(send_fds(pair[0], "d", 1, fds, 2, 0), 1);
  count = 0;
  EQUAL(receive_fds(pair[1], b, 10, one, &count, 0, &flags), 1);
  EQUAL(flags, MSG_CTRUNC);
  EQUAL(send_fds(pair[0], "e", 1, fds, 2, 0), 1);
  EQUAL(read(pair[1], b, 10), 1);
  EQUAL(open_count(), before);

  section("which bytes they come with");
  EQUAL(write(pair[0], "12", 2), 2);
  EQUAL(send_fds(pair[0], "34", 2, fds, 1, 0), 2);
  EQUAL(write(pair[0], "56", 2), 2);
  count = 5;
  EQUAL(receive_fds(pair[1], b, 10, one, &count, MSG_PEEK, NULL), 4);
  EQUAL(count, 1);
  close(one[0]);
  count = 5;
  EQUAL(receive_fds(pair[1], b, 3, one, &count, 0, NULL), 3);
  EQUAL(count, 1);
  close(one[0]);
  count = 5;
  EQUAL(receive_fds(pair[1], b, 10, one, &count, 0, NULL), 3);
  EQUAL(count, 0);
  EQUAL(send_fds(pair[0], "", 0, fds, 1, 0), 0);
  count = 5;
  FAILS(receive_fds(pair[1], b, 10, one, &count, MSG_DONTWAIT, NULL), EAGAIN);
  fresh(SOCK_DGRAM);
  EQUAL(send_fds(pair[0], "", 0, fds, 1, 0), 0);
  count = 5;
  EQUAL(receive_fds(pair[1], b, 10, one, &count, 0, NULL), 0);
  EQUAL(count, 1);
  close(one[0]);

  section("errors and limits");
  fresh(SOCK_STREAM);
  one[0] = 999;
  FAILS(send_fds(pair[0], "x", 1, one, 1, 0), EBADF);
  int all[300];
  for (int i = 0; i < 300; i++) all[i] = fds[0];
  FAILS(send_fds(pair[0], "x", 1, all, 254, 0), EINVAL);
  EQUAL(send_fds(pair[0], "x", 1, all, 253, 0), 1);
  count = 253;
  EQUAL(receive_fds(pair[1], b, 1, all, &count, 0, &flags), 1);
  EQUAL(count, 253);
  for (int i = 0; i < count; i++) close(all[i]);
  int path = MUST(open(".", O_PATH));
  EQUAL(send_fds(pair[0], "x", 1, &path, 1, 0), 1);
  count = 1;
  EQUAL(receive_fds(pair[1], b, 1, one, &count, 0, &flags), 1);
  EQUAL(fcntl(one[0], F_GETFL) & O_PATH, O_PATH);
  close(one[0]), close(path);
  struct iovec v = {"x", 1};
  struct cmsghdr header = {.cmsg_len = 15, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &header, .msg_controllen = 16};
  FAILS(sendmsg(pair[0], &m, 0), EINVAL);
  header.cmsg_len = 17;
  FAILS(sendmsg(pair[0], &m, 0), EINVAL);
  header.cmsg_len = 16;
  EQUAL(sendmsg(pair[0], &m, 0), 1);
  header.cmsg_type = 77;
  FAILS(sendmsg(pair[0], &m, 0), EINVAL);
  header.cmsg_level = 55;
  EQUAL(sendmsg(pair[0], &m, 0), 1);
  m.msg_controllen = 15;
  EQUAL(sendmsg(pair[0], &m, 0), 1);
  m.msg_controllen = 1 << 20;
  FAILS(sendmsg(pair[0], &m, 0), ENOBUFS);
  m.msg_control = (void *)8, m.msg_controllen = 16;
  FAILS(sendmsg(pair[0], &m, 0), EFAULT);
  EQUAL(read(pair[1], b, 10), 3);
  struct rlimit old, few;
  getrlimit(RLIMIT_NOFILE, &old);
  few = old;
  int lowest = dup(0);
  close(lowest);
  few.rlim_cur = lowest + 1;
  for (int i = 0; i < 3; i++) all[i] = fds[0];
  EQUAL(send_fds(pair[0], "x", 1, all, 3, 0), 1);
  setrlimit(RLIMIT_NOFILE, &few);
  count = 3;
  EQUAL(receive_fds(pair[1], b, 1, all, &count, 0, &flags), 1);
  EQUAL(count, 1);
  EQUAL(flags, MSG_CTRUNC);
  for (int i = 0; i < count; i++) close(all[i]);
  setrlimit(RLIMIT_NOFILE, &old);
  if (geteuid() == 0) {
    EQUAL(outcome(CHILD({
            int held[2], file = open("/dev/null", O_RDONLY), many[250];
            struct rlimit limit = {300, 300};
            if (setrlimit(RLIMIT_NOFILE, &limit) || setresuid(4321, 4321, 4321)) _exit(9);
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, held)) _exit(8);
            for (int i = 0; i < 250; i++) many[i] = file;
            if (send_fds(held[0], "x", 1, many, 250, 0) != 1) _exit(1);
            if (send_fds(held[0], "x", 1, many, 250, 0) != 1) _exit(2);
            if (send_fds(held[0], "x", 1, many, 1, 0) != -1 || errno != ETOOMANYREFS) _exit(3);
            if (read(held[1], many, 1) != 1) _exit(4);
            if (send_fds(held[0], "x", 1, &file, 1, 0) != 1) _exit(5);
          })), 0);
  } else {
    line("ok only the superuser can be somebody else");
  }

  section("identities");
  fresh(SOCK_STREAM);
  struct ucred u;
  socklen_t n = sizeof u;
  OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &u, &n));
  CHECK(u.pid == getpid() && u.uid == geteuid() && u.gid == getegid());
  int lone = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(getsockopt(lone, SOL_SOCKET, SO_PEERCRED, &u, &n));
  CHECK(u.pid == 0 && u.uid == (uid_t)-1 && u.gid == (gid_t)-1);
  close(lone);
  EQUAL(write(pair[0], "before", 6), 6);
  OK(set_option(pair[1], SO_PASSCRED, 1));
  EQUAL(option(pair[1], SO_PASSCRED), 1);
  EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 6);
  CHECK(u.pid == 0 && u.uid == 65534 && u.gid == 65534);
  EQUAL(write(pair[0], "mine", 4), 4);
  EQUAL(outcome(CHILD({ write(pair[0], "child", 5); })), 0);
  EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 4);
  CHECK(u.pid == getpid() && u.uid == getuid() && u.gid == getgid());
  EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 5);
  CHECK(u.pid != getpid() && u.uid == getuid());
  EQUAL(send_identity(pair[0], getpid(), getuid(), getgid()), 1);
  EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 1);
  CHECK(u.pid == getpid());
  FAILS(send_identity(pair[0], getpid(), -1, getgid()), EINVAL);
  if (geteuid() == 0) {
    EQUAL(send_identity(pair[0], getppid(), 5, 6), 1);
    EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 1);
    CHECK(u.pid == getppid() && u.uid == 5 && u.gid == 6);
    FAILS(send_identity(pair[0], 0x3fffffff, 5, 6), ESRCH);
    EQUAL(outcome(CHILD({
            if (setresgid(7, 7, 7) || setresuid(7, 7, 7)) _exit(9);
            if (send_identity(pair[0], getpid(), 0, 7) != -1 || errno != EPERM) _exit(1);
            if (send_identity(pair[0], getpid(), 7, 0) != -1 || errno != EPERM) _exit(2);
            if (send_identity(pair[0], 1, 7, 7) != -1 || errno != EPERM) _exit(3);
            if (send_identity(pair[0], getpid(), 7, 7) != 1) _exit(4);
          })), 0);
    EQUAL(receive_identity(pair[1], b, 100, &u, NULL), 1);
    CHECK(u.uid == 7 && u.gid == 7);
  } else {
    for (int i = 0; i < 7; i++) line("ok only the superuser can be somebody else");
  }
  OK(set_option(pair[1], SO_PASSCRED, 0));
  OK(set_option(pair[1], SO_PASSPIDFD, 1));
  EQUAL(write(pair[0], "pidfd", 5), 5);
  int process;
  EQUAL(receive_identity(pair[1], b, 100, &u, &process), 5);
  CHECK(process >= 0);
  EQUAL(events(process, POLLIN), 0);
  close(process);
  n = sizeof process;
  OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &process, &n));
  CHECK(process >= 0);
  EQUAL(fcntl(process, F_GETFD), FD_CLOEXEC);
  close(process);

  section("descriptors nobody receives");
  fresh(SOCK_STREAM);
  MUST(pipe(p));
  EQUAL(send_fds(pair[0], "x", 1, &p[1], 1, 0), 1);
  close(p[1]);
  EQUAL(events(p[0], POLLIN), 0);
  close(pair[1]);
  pair[1] = -1;
  EQUAL(events(p[0], POLLIN), POLLHUP);
  close(p[0]);
  fresh(SOCK_DGRAM);
  MUST(pipe(p));
  OK(shutdown(pair[1], SHUT_RD));
  FAILS(send_fds(pair[0], "x", 1, &p[1], 1, MSG_NOSIGNAL), EPIPE);
  close(p[1]);
  EQUAL(events(p[0], POLLIN), POLLHUP);
  close(p[0]);

  section("cycles");
  // Each of the two is in its own queue.
  for (int kind = 0; kind < 4; kind++) {
    int s[2], t[2];
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, kind & 1 ? SOCK_DGRAM : SOCK_STREAM, 0, s));
    MUST(socketpair(AF_UNIX, kind & 1 ? SOCK_SEQPACKET : SOCK_STREAM, 0, t));
    if (kind < 2) {
      EQUAL(send_fds(s[0], "x", 1, (int[]){s[1], p[1]}, 2, 0), 1);
    } else {
      EQUAL(send_fds(s[0], "x", 1, (int[]){t[1], p[1]}, 2, 0), 1);
      EQUAL(send_fds(t[0], "x", 1, (int[]){s[1]}, 1, 0), 1);
    }
    close(p[1]);
    close(s[0]), close(s[1]), close(t[0]), close(t[1]);
    CHECK(ended(p[0]));
    close(p[0]);
  }
  // A connection that nobody accepted holds its listening socket.
  MUST(pipe(p));
  int l = listener(SOCK_STREAM, own("cycle"), 4), c = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(connect_to(c, own("cycle")));
  EQUAL(send_fds(c, "x", 1, (int[]){l, p[1]}, 2, 0), 1);
  close(p[1]), close(l), close(c);
  CHECK(ended(p[0]));
  close(p[0]);
  // A chain that somebody can still read is no garbage.
  int s[2], t[2];
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, t));
  EQUAL(send_fds(t[0], "x", 1, &p[1], 1, 0), 1);
  EQUAL(send_fds(t[0], "y", 1, &t[1], 1, 0), 1);
  EQUAL(send_fds(s[0], "z", 1, &t[1], 1, 0), 1);
  close(p[1]), close(t[0]), close(t[1]);
  struct pollfd look = {p[0], POLLIN, 0};
  EQUAL(poll(&look, 1, 100), 0);
  count = 1;
  EQUAL(receive_fds(s[1], b, 1, one, &count, 0, NULL), 1);
  EQUAL(count, 1);
  count = 1;
  EQUAL(receive_fds(one[0], b, 1, one + 1, &count, 0, NULL), 1);
  EQUAL(count, 1);
  close(one[1]);
  EQUAL(poll(&look, 1, 1000), 1);
  close(one[0]), close(s[0]), close(s[1]), close(p[0]);

  section("a long chain");
  MUST(pipe(p));
  int last = p[1];
  for (int i = 0; i < 3000; i++) {
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    if (send_fds(s[0], "x", 1, &last, 1, 0) != 1) {
      line("the chain breaks at %d: %s", i, strerrorname_np(errno));
      break;
    }
    close(last), close(s[0]);
    last = s[1];
  }
  EQUAL(events(p[0], POLLIN), 0);
  close(last);
  CHECK(ended(p[0]));
  return conformance_end();
}
