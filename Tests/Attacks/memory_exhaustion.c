// Kernel objects that a program makes without end, in a machine with little memory: each kind ends in an error for the program that
// makes them, or in the end of that program by the out-of-memory policy. The kernel goes on, and so do other programs: one that
// holds memory of its own and makes files all the time is there at the end of each kind, and memory comes back.
// The control: each kind makes many objects before it fails; a kind that fails at once would test nothing.
//
// run: --cpus 2 --memory 64M --user 0 -- @ 1000
// expect: ok 23 kinds .*
// run: --cpus 2 --memory 24M --user 0 -- @ 1000
// expect: ok 23 kinds .*
// run: --cpus 2 --memory 16M --user 0 -- @ 1000
// expect: ok 23 kinds .*
#include "attack.h"
#include "sandbox_only.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static char data[65536];
static long *made;  // how many objects the kind has made, for its parent

// A kind's processes: the first one and `count` children of it do the same.
static void multiply(int count) {
  for (int i = 0; i < count; i++)
    if (fork() == 0) break;
}

static void fillFile(int file) {
  while (write(file, data, sizeof data) > 0) ++*made;
}

static void openFiles(void) { multiply(20); while (open("/dev/null", O_RDONLY) >= 0) ++*made; }
static void eventCounters(void) { multiply(40); while (eventfd(0, 0) >= 0) ++*made; }
static void timerFiles(void) { multiply(40); while (timerfd_create(CLOCK_MONOTONIC, 0) >= 0) ++*made; }
static void pipes(void) {
  int ends[2];
  multiply(20);
  while (pipe2(ends, O_NONBLOCK) == 0) {
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    fillFile(ends[1]);
  }
}
static void sockets(int type, size_t size) {
  int ends[2];
  multiply(20);
  while (socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends) == 0)
    while (write(ends[0], data, size) > 0) ++*made;
}
static void datagrams(void) { sockets(SOCK_DGRAM, 1); }
static void posixTimers(void) {
  struct sigevent none = {.sigev_notify = SIGEV_NONE};
  int timer;
  multiply(20);
  while (syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &timer) == 0) ++*made;
}
static void signals(void) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  multiply(20);
  while (sigqueue(getpid(), SIGRTMIN + 3, (union sigval){0}) == 0) ++*made;
}
static void areas(void) {
  multiply(20);
  while (mmap(NULL, 4096, *made & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) ++*made;
}
static void forkedAreas(void) {
  for (int i = 0; i < 20000; i++) mmap(NULL, 4096, i & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  while (fork() >= 0) ++*made;
}
static void pageTables(void) {
  for (uint64_t at = 1ull << 32; at < 0x7f0000000000; at += 1ull << 30, ++*made) {
    char *page = mmap((void *)at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (page == MAP_FAILED) continue;
    *(volatile char *)page = 1;
  }
}
static void memory(void) {
  multiply(3);
  for (;;) {
    char *place = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) break;
    for (int i = 0; i < 1 << 20; i += 4096, ++*made) place[i] = 1;
  }
}
static void names(int kind) {
  char name[300];
  mkdir("/dev/shm/names", 0777);
  close(open("/dev/shm/names/first", O_CREAT | O_RDWR, 0600));
  for (;; ++*made) {
    snprintf(name, sizeof name, "/dev/shm/names/%ld", *made);
    if (kind == 0 && link("/dev/shm/names/first", name)) break;
    if (kind == 1) {
      int file = open(name, O_CREAT | O_RDWR, 0600);
      if (file < 0) break;
      close(file);
    }
    if (kind == 2 && symlink(data, name)) break;
    if (kind == 3 && mkdir(name, 0700)) break;
  }
}
static void links(void) { names(0); }
static void files(void) { names(1); }
static void symbolicLinks(void) { names(2); }
static void directories(void) { names(3); }
static void attributes(void) {
  char name[64];
  for (int file = 0; file < 2000; file++) {
    snprintf(name, sizeof name, "/dev/shm/attributes.%d", file);
    int descriptor = open(name, O_CREAT | O_RDWR, 0600);
    if (descriptor < 0) break;
    for (int i = 0; i < 120; i++, ++*made) {
      snprintf(name, sizeof name, "user.%d", i);
      if (fsetxattr(descriptor, name, data, 60000, 0)) return;
    }
    close(descriptor);
  }
}
static void content(void) { fillFile(open("/dev/shm/content", O_CREAT | O_RDWR, 0600)); }
static void namelessContent(void) { multiply(3); fillFile(memfd_create("content", 0)); }
static void mappedContent(void) {
  int file = open("/dev/shm/mapped", O_CREAT | O_RDWR, 0600);
  if (ftruncate(file, 1ull << 40)) return;
  char *place = mmap(NULL, 1ull << 40, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (place != MAP_FAILED)
    for (;; ++*made) place[*made * 4096] = 1;
}
static void locks(void) {
  int file = open("/dev/shm/locks", O_CREAT | O_RDWR, 0600);
  for (;; ++*made) {
    struct flock lock = {.l_type = *made & 1 ? F_WRLCK : F_RDLCK, .l_start = *made * 2, .l_len = 1};
    if (fcntl(file, F_SETLK, &lock)) break;
  }
}
static void watches(void) {
  int instance = inotify_init1(IN_NONBLOCK);
  char name[64];
  for (;; ++*made) {
    snprintf(name, sizeof name, "/dev/shm/watched.%ld", *made);
    close(open(name, O_CREAT | O_RDWR, 0600));
    if (inotify_add_watch(instance, name, IN_ALL_EVENTS) < 0) break;
  }
}
static void pollItems(void) {
  struct epoll_event event = {EPOLLIN};
  int files[1000], count = 0;
  multiply(10);
  while (count < 1000 && (files[count] = eventfd(0, 0)) >= 0) count++;
  for (;;) {
    int instance = epoll_create1(0);
    if (instance < 0) break;
    for (int i = 0; i < count; i++)
      if (epoll_ctl(instance, EPOLL_CTL_ADD, files[i], &event) == 0) ++*made;
      else return;
  }
}
static void processes(void) { while (fork() >= 0) { ++*made; if (*made > 3000) break; } pause(); }

static const struct kind {
  const char *name;
  void (*run)(void);
  long least;
} kinds[] = {
    {"open files", openFiles, 1000}, {"event counters", eventCounters, 1000}, {"timer files", timerFiles, 1000}, {"pipes", pipes, 50},
    {"datagrams", datagrams, 1000}, {"timers", posixTimers, 1000},
    {"signals", signals, 500}, {"areas", areas, 1000}, {"forked areas", forkedAreas, 0}, {"page tables", pageTables, 100},
    {"memory", memory, 500}, {"links", links, 500}, {"files", files, 500}, {"symbolic links", symbolicLinks, 200},
    {"directories", directories, 500}, {"attributes", attributes, 20}, {"content", content, 20}, {"nameless content", namelessContent, 20},
    {"mapped content", mappedContent, 500}, {"locks", locks, 1000}, {"watches", watches, 500}, {"poll items", pollItems, 100},
    {"processes", processes, 10},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

// Another program, of another user: its memory keeps its contents, and it can make files. One that fails for want of memory
// tries again: it must get through in the end.
static volatile long *beats;
static void heart(void) {
  become_user(2000);
  int *pages = MUST(mmap(NULL, 1 << 19, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int i = 0; i < 1 << 17; i++) pages[i] = i;
  for (;;) {
    for (int i = 0; i < 1 << 17; i += 1024)
      if (pages[i] != i) _exit(1);
    int file = open("/dev/null", O_RDONLY);
    if (file >= 0) close(file), ++*beats;
    sleep_ms(5);
  }
}

static void removeAll(void) {
  pid_t child = MUST(fork());
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "rm -rf /dev/shm/*", NULL);
    execlp("busybox", "sh", "-c", "rm -rf /dev/shm/*", NULL);
    _exit(1);
  }
  outcome(child);
}

int main(int argc, char **argv) {
  uid_t user = argc > 1 ? atoi(argv[1]) : 1000;
  memset(data, 'a', sizeof data - 1);
  long *shared = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  beats = shared;
  made = shared + 1;
  struct rlimit limit = {4096, 4096};
  MUST(setrlimit(RLIMIT_NOFILE, &limit));
  pid_t heartbeat = in_child(heart);
  UNTIL(*beats > 3);
  int survived = 0;
  for (int i = 0; i < KINDS; i++) {
    *made = 0;
    pid_t group = MUST(fork());
    if (group == 0) {
      setpgid(0, 0);
      if (user) become_user(user);
      data[4000] = 0;
      if (kinds[i].run != symbolicLinks) data[4000] = 'a';
      kinds[i].run();
      // The objects stay until all processes of the kind have come to their end.
      sleep_ms(300);
      _exit(0);
    }
    setpgid(group, group);
    // The first process of a kind may be the one that is killed; the others are ended here.
    long before = *beats;
    outcome(group);
    UNTIL(*beats > before + 3);
    kill(-group, SIGKILL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    removeAll();
    before = *beats;
    UNTIL(*beats > before + 3);
    bool isWell = *beats > before + 3 && *made >= kinds[i].least;
    if (!isWell || argc > 2) say("%s: %ld made (at least %ld), the other program %s", kinds[i].name, *made, kinds[i].least, *beats > before + 3 ? "goes on" : "does not go on");
    survived += isWell;
  }
  int status;
  bool isAlive = waitpid(heartbeat, &status, WNOHANG) == 0;
  check(survived == KINDS && isAlive, "%d kinds of objects end in an error, and others go on (%d, %s)", KINDS, survived, isAlive ? "alive" : "dead");
  kill(heartbeat, SIGKILL);
  return attack_end();
}
