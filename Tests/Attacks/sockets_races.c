// Races of sockets: threads that share their descriptors connect, accept, send descriptors, receive and peek, shut down and close the
// same sockets at once, with names that they take from each other. Afterwards all sockets are gone, and the kernel is well.
//
// run: --cpus 4 --memory 128M --user 1000 -- @
// expect: ok control: messages arrived
// expect: ok control: descriptors arrived
// expect: ok control: connections were made
// expect: ok no socket is left
// run: --cpus 1 --memory 64M --user 1000 -- @
// expect: ok no socket is left
// run: --cpus 2 --memory 64M --user 0:0 -- @
// expect: ok no socket is left
#include "attack.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { SLOTS = 24, THREADS = 6, STEPS = 20000, FIRST = 50 };
static long messages, descriptors, connections;

static socklen_t named(struct sockaddr_un *a, unsigned n) {
  *a = (struct sockaddr_un){AF_UNIX};
  a->sun_path[1] = 'a' + n % 4;
  return offsetof(struct sockaddr_un, sun_path) + 2;
}

// A new descriptor takes a slot; what was there is closed while others may use it.
static void place(unsigned random, int fd) {
  if (fd < 0) return;
  dup2(fd, FIRST + random % SLOTS);
  close(fd);
}

static void *work(void *seed) {
  unsigned long x = (unsigned long)seed * 2654435761u + 1;
  static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  for (int i = 0; i < STEPS; i++) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    unsigned r = x >> 20, fd = FIRST + r % SLOTS, other = FIRST + (r >> 8) % SLOTS;
    struct sockaddr_un a;
    char b[4000], space[CMSG_SPACE(40)] = {0};
    struct iovec v = {b, 1 + (r >> 5) % 3999};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(8)};
    switch (x % 16) {
      case 0: case 1: {
        int s[2];
        if (socketpair(AF_UNIX, types[r % 3] | SOCK_NONBLOCK, 0, s)) break;
        place(r >> 3, s[0]), place(r >> 11, s[1]);
        break;
      }
      case 2: {
        int l = socket(AF_UNIX, (r & 32 ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_NONBLOCK, 0);
        bind(l, (void *)&a, named(&a, r));
        listen(l, 2);
        place(r >> 7, l);
        break;
      }
      case 3: case 4: {
        int c = socket(AF_UNIX, types[r % 3] | SOCK_NONBLOCK, 0);
        if (connect(c, (void *)&a, named(&a, r >> 4)) == 0) __atomic_add_fetch(&connections, 1, __ATOMIC_RELAXED);
        place(r >> 9, c);
        break;
      }
      case 5: case 6: place(r >> 6, accept4(fd, NULL, NULL, SOCK_NONBLOCK)); break;
      case 7: case 8: case 9: {
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(8);
        memcpy(CMSG_DATA(c), (int[]){other, fd}, 8);
        sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
      }
      case 10: case 11: case 12: {
        m.msg_controllen = CMSG_SPACE(40);
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | (r & 64 ? MSG_PEEK : 0));
        if (n < 0) break;
        __atomic_add_fetch(&messages, 1, __ATOMIC_RELAXED);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        if (!c || c->cmsg_type != SCM_RIGHTS) break;
        for (unsigned k = 0; k < (c->cmsg_len - CMSG_LEN(0)) / 4; k++) {
          int got;
          memcpy(&got, CMSG_DATA(c) + 4 * k, 4);
          place(r >> k, got);
          __atomic_add_fetch(&descriptors, 1, __ATOMIC_RELAXED);
        }
        break;
      }
      case 13: shutdown(fd, r % 3); break;
      case 14: {
        struct pollfd p = {fd, POLLIN | POLLOUT, 0};
        poll(&p, 1, 0);
        connect(fd, (void *)&(struct sockaddr){AF_UNSPEC}, sizeof(struct sockaddr));
        break;
      }
      default: close(fd); break;
    }
  }
  return NULL;
}

static int sockets(void) {
  int count = -1, c;
  FILE *file = fopen("/proc/net/unix", "r");
  while (file && (c = fgetc(file)) != EOF) count += c == '\n';
  if (file) fclose(file);
  return count;
}

int main(void) {
  int before = sockets(), s[2];
  pthread_t threads[THREADS];
  for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  check(messages > 100, "control: messages arrived");
  check(descriptors > 100, "control: descriptors arrived");
  check(connections > 100, "control: connections were made");
  for (int i = 3; i < 1024; i++) close(i);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  close(s[0]), close(s[1]);
  if (!check(sockets() == before, "no socket is left")) say("%d sockets, %d before", sockets(), before);
  return attack_end();
}
