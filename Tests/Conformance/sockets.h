// What the programs about sockets share.
#ifndef SOCKETS_H
#define SOCKETS_H
#include "conformance.h"
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

// An address of AF_UNIX; a name that begins with '@' is abstract. Returns its length.
static inline socklen_t local_name(struct sockaddr_un *a, const char *name) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  size_t n = strlen(name);
  memcpy(a->sun_path, name, n);
  if (name[0] == '@') {
    a->sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + n;
  }
  return offsetof(struct sockaddr_un, sun_path) + n + 1;
}
// Abstract names are shared by all that runs beside this program: they hold its number.
static inline const char *own(const char *name) {
  static char text[8][60];
  static int next;
  char *t = text[next++ % 8];
  snprintf(t, 60, "@apus-%d-%s", getpid(), name);
  return t;
}
static inline int bind_to(int fd, const char *name) {
  struct sockaddr_un a;
  socklen_t n = local_name(&a, name);
  return bind(fd, (void *)&a, n);
}
static inline int connect_to(int fd, const char *name) {
  struct sockaddr_un a;
  socklen_t n = local_name(&a, name);
  return connect(fd, (void *)&a, n);
}
static inline ssize_t send_to(int fd, const void *b, size_t n, int flags, const char *name) {
  struct sockaddr_un a;
  socklen_t l = local_name(&a, name);
  return sendto(fd, b, n, flags, (void *)&a, l);
}
static inline int listener(int type, const char *name, int backlog) {
  int fd = MUST(socket(AF_UNIX, type, 0));
  MUST(bind_to(fd, name));
  MUST(listen(fd, backlog));
  return fd;
}
static inline int option(int fd, int name) {
  int value = -1;
  socklen_t n = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &n) < 0 ? -errno : value;
}
static inline int set_option(int fd, int name, int value) { return setsockopt(fd, SOL_SOCKET, name, &value, sizeof value); }
static inline int events(int fd, int wanted) {
  struct pollfd p = {fd, wanted, 0};
  poll(&p, 1, 0);
  return p.revents;
}
// Sends bytes with descriptors.
static inline ssize_t send_fds(int fd, const void *b, size_t n, const int *fds, int count, int flags) {
  char space[CMSG_SPACE(4 * 300)] = {0};
  struct iovec v = {(void *)b, n};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(4 * count)};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(4 * count);
  memcpy(CMSG_DATA(c), fds, 4 * count);
  return sendmsg(fd, &m, flags);
}
// Receives bytes with descriptors; `count` is the room for them and then how many came. `result` gets msg_flags.
static inline ssize_t receive_fds(int fd, void *b, size_t n, int *fds, int *count, int flags, int *result) {
  char space[CMSG_SPACE(4 * 300)] = {0};
  struct iovec v = {b, n};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space};
  m.msg_controllen = *count ? CMSG_LEN(4 * *count) : 0;
  *count = 0;
  ssize_t r = recvmsg(fd, &m, flags);
  if (r < 0) return r;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
      *count = (c->cmsg_len - CMSG_LEN(0)) / 4;
      memcpy(fds, CMSG_DATA(c), 4 * *count);
    }
  if (result) *result = m.msg_flags;
  return r;
}
#endif
