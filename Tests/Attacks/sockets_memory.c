// Memory behind sockets. An ordinary user fills queues, floods listening sockets and receivers, and sends descriptors in circles
// so that no descriptor leads to them any more. Each is bounded, and what ended is free again: the rounds below would fill the
// memory many times.
//
// run: --cpus 2 --memory 64M --user 0:0 -- @ all
// expect: ok control: circles that somebody can read keep their bytes
// expect: ok 6000 circles leave nothing
// expect: ok a chain of 4000 sockets ends
// expect: ok descriptors in flight are bounded
// expect: ok queues of one user are bounded, and others go on
// expect: ok a backlog is bounded
// expect: ok a receiver's queue is bounded, whoever fills it
// expect: ok no socket is left
#include "attack.h"
#include <dirent.h>
#include <poll.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static char big[60000];

static ssize_t send_fds(int fd, const void *b, size_t n, const int *fds, int count) {
  char space[CMSG_SPACE(4 * 253)] = {0};
  struct iovec v = {(void *)b, n};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(4 * count)};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(4 * count);
  memcpy(CMSG_DATA(c), fds, 4 * count);
  return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static socklen_t named(struct sockaddr_un *a, const char *name) {
  *a = (struct sockaddr_un){AF_UNIX};
  strcpy(a->sun_path + 1, name);
  return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

// Sockets that exist.
static int sockets(void) {
  int count = -1, c;
  FILE *file = fopen("/proc/net/unix", "r");
  while (file && (c = fgetc(file)) != EOF) count += c == '\n';
  if (file) fclose(file);
  return count;
}

static long free_frames(void) {
  char text[100];
  long value = -1, got;
  FILE *file = fopen("/proc/apus/counters", "r");
  while (file && fgets(text, sizeof text, file))
    if (sscanf(text, "frames_free %ld", &got) == 1 || sscanf(text, "frames_free: %ld", &got) == 1) value = got;
  if (file) fclose(file);
  return value;
}

// Two sockets in each other's queues, with bytes. Returns whether all of it was made.
static bool circle(int *keep) {
  int s[2], t[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) || socketpair(AF_UNIX, SOCK_DGRAM, 0, t)) return false;
  bool ok = write(s[0], big, sizeof big) == sizeof big && send_fds(s[0], "x", 1, &t[1], 1) == 1 && send_fds(t[0], "x", 1, &s[1], 1) == 1;
  if (keep) *keep = s[1]; else close(s[1]);
  close(s[0]), close(t[0]), close(t[1]);
  return ok;
}

static int as_user(uid_t user, int (*body)(void)) {
  pid_t child = MUST(fork());
  if (child == 0) {
    if (setresgid(user, user, user) || setresuid(user, user, user)) _exit(99);
    _exit(body());
  }
  return outcome(child);
}

static int flights(void) {
  struct rlimit limit = {400, 400};
  setrlimit(RLIMIT_NOFILE, &limit);
  int file = open("/dev/null", O_RDONLY), many[253], held = 0;
  for (int i = 0; i < 253; i++) many[i] = file;
  for (int i = 0; i < 100; i++) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
    if (send_fds(s[0], "x", 1, many, 253) != 1) return errno == ETOOMANYREFS && held < 1000 ? 0 : 2;
    held += 253;
  }
  return 3;
}

// Fills queues until something refuses; then others must still get sockets and memory.
static int hoard(void) {
  int made = 0;
  for (; made < 20000; made++) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s)) break;
    while (write(s[0], big, sizeof big) > 0) {}
    if (errno != EAGAIN) break;
  }
  return made < 20000 ? 0 : 1;
}

static int flood_backlog(void) {
  int connected = 0;
  for (int i = 0; i < 300; i++) {
    struct sockaddr_un a;
    int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(c, (void *)&a, named(&a, "backlog"))) return errno == EAGAIN ? connected : 200;
    connected++;
  }
  return 201;
}

static int flood_receiver(void) {
  int sent = 0;
  for (int i = 0; i < 300; i++) {
    struct sockaddr_un a;
    int c = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (sendto(c, big, 1000, 0, (void *)&a, named(&a, "receiver")) != 1000) return errno == EAGAIN ? sent : 200;
    sent++;
    close(c);
  }
  return 201;
}

int main(void) {
  int before = sockets(), kept[200], count = 0;
  struct sockaddr_un a;
  // Control: while a descriptor leads to each, the memory is taken.
  long start = free_frames();
  while (count < 100 && circle(&kept[count])) count++;
  check(count > 50 && start - free_frames() > count * (long)sizeof big / 4096 / 2, "control: circles that somebody can read keep their bytes");
  for (int i = 0; i < count; i++) close(kept[i]);
  int made = 0;
  while (made < 6000 && circle(NULL)) made++;
  check(made == 6000, "6000 circles leave nothing");

  int pair[2], last = MUST(open("/dev/null", O_RDONLY));
  for (made = 0; made < 4000; made++) {
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    if (send_fds(pair[0], "x", 1, &last, 1) != 1) break;
    close(last), close(pair[0]);
    last = pair[1];
  }
  close(last);
  check(made == 4000, "a chain of 4000 sockets ends");
  check(as_user(1234, flights) == 0, "descriptors in flight are bounded");

  int hoarded = as_user(1235, hoard);
  int s[2];
  check((hoarded == 0 || hoarded == SIGNALLED(SIGKILL)) && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(s[0], big, 1000) == 1000,
        "queues of one user are bounded, and others go on");
  close(s[0]), close(s[1]);

  int l = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  MUST(bind(l, (void *)&a, named(&a, "backlog")));
  MUST(listen(l, 20));
  check(as_user(1236, flood_backlog) == 21, "a backlog is bounded");
  close(l);
  int r = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  MUST(bind(r, (void *)&a, named(&a, "receiver")));
  check(as_user(1237, flood_receiver) == 11 && as_user(1238, flood_receiver) == 0, "a receiver's queue is bounded, whoever fills it");
  close(r);
  // The last circles go when a socket is closed.
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  close(s[0]), close(s[1]);
  if (!check(sockets() == before, "no socket is left")) say("%d sockets, %d before", sockets(), before);
  return attack_end();
}
