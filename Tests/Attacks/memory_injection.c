// Failing allocations: each allocation of each system call fails in turn (/proc/thread-self/fail-nth, kernel option
// `fault-injection`), until the call runs without a failure. The call then ends with an error that it may have, or gets through
// in another way; the kernel goes on; and nothing is lost: after many rounds of one failure the kernel has as many objects as
// before.
// The controls: each call of the list reaches at least one allocation; a program that keeps a descriptor in each round is found.
//
// run: --cpus 1 --append fault-injection -- @
// expect: ok no failure .*
// expect: ok every call .*
// expect: ok what is kept .*
// run: --cpus 2 --append fault-injection -- @
// expect: ok what is kept .*
// run: --cpus 1 --append fault-injection --append slob -- @
#include "attack.h"
#include "sandbox_only.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static int control = -1;    // fail-nth
static char *scratch;       // 1 MiB
static int file, pair[2], ends[2], poll_instance, watch_instance, counter;

// Makes the Nth allocation of this thread fail; 0 ends it. Writing is a call that may itself be the one that fails.
static void arm(int n) {
  char text[16];
  int length = snprintf(text, sizeof text, "%d", n);
  for (int i = 0; i < 3 && pwrite(control, text, length, 0) != length; i++) {}
}

static bool hasFailed(void) {
  char text[16] = "";
  pread(control, text, sizeof text - 1, 0);
  return atoi(text) == 0;
}

// The calls. Each one undoes what it has done, with the injection off (`done`); it returns whether it succeeded.
#define DONE(call) ({ arm(nth); long result_ = (call); int error_ = errno; injected = hasFailed(); arm(0); errno = error_; result_; })
static bool injected;
static int nth;

static bool closing(int descriptor) {
  if (descriptor >= 0) close(descriptor);
  return descriptor >= 0;
}
static bool c_open(void) { return closing(DONE(open("/dev/shm/injected", O_RDWR))); }
static bool c_create(void) { bool ok = closing(DONE(open("/dev/shm/new", O_RDWR | O_CREAT, 0600))); unlink("/dev/shm/new"); return ok; }
static bool c_overlay(void) { bool ok = closing(DONE(open("/tmp/injected.new", O_RDWR | O_CREAT, 0600))); unlink("/tmp/injected.new"); return ok; }
static bool c_temporary(void) { return closing(DONE(open("/dev/shm", O_RDWR | O_TMPFILE, 0600))); }
static bool c_lower(void) { return closing(DONE(open("/etc/passwd", O_RDONLY))); }
static bool c_proc(void) { return closing(DONE(open("/proc/self/maps", O_RDONLY))); }
static bool c_ptmx(void) { return closing(DONE(open("/dev/ptmx", O_RDWR | O_NOCTTY))); }
static bool c_dup(void) { return closing(DONE(dup(file))); }
static bool c_dup_high(void) { return closing(DONE(fcntl(file, F_DUPFD, 900))); }
static bool c_eventfd(void) { return closing(DONE(eventfd(0, 0))); }
static bool c_timerfd(void) { return closing(DONE(timerfd_create(CLOCK_MONOTONIC, 0))); }
static bool c_signalfd(void) { uint64_t set = 1 << 9; return closing(DONE(syscall(SYS_signalfd4, -1, &set, 8, 0))); }
static bool c_epoll(void) { return closing(DONE(epoll_create1(0))); }
static bool c_inotify(void) { return closing(DONE(inotify_init1(0))); }
static bool c_memfd(void) { return closing(DONE(memfd_create("injected", 0))); }
static bool c_pidfd(void) { return closing(DONE(syscall(SYS_pidfd_open, getpid(), 0))); }
static bool c_pipe(void) { int p[2]; bool ok = DONE(pipe(p)) == 0; if (ok) close(p[0]), close(p[1]); return ok; }
static bool c_socketpair(void) { int p[2]; bool ok = DONE(socketpair(AF_UNIX, SOCK_STREAM, 0, p)) == 0; if (ok) close(p[0]), close(p[1]); return ok; }
static bool c_epoll_add(void) {
  struct epoll_event event = {EPOLLIN};
  bool ok = DONE(epoll_ctl(poll_instance, EPOLL_CTL_ADD, counter, &event)) == 0;
  if (ok) epoll_ctl(poll_instance, EPOLL_CTL_DEL, counter, NULL);
  return ok;
}
static bool c_watch(void) {
  int watch = DONE(inotify_add_watch(watch_instance, "/dev/shm", IN_DELETE_SELF));
  if (watch >= 0) inotify_rm_watch(watch_instance, watch), read(watch_instance, scratch, 4096);
  return watch >= 0;
}
static bool c_timer(void) {
  struct sigevent none = {.sigev_notify = SIGEV_NONE};
  int made;
  bool ok = DONE(syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &made)) == 0;
  if (ok) syscall(SYS_timer_delete, made);
  return ok;
}
static bool c_mkdir(void) { bool ok = DONE(mkdir("/dev/shm/directory", 0700)) == 0; rmdir("/dev/shm/directory"); return ok; }
static bool c_link(void) { bool ok = DONE(link("/dev/shm/injected", "/dev/shm/link")) == 0; unlink("/dev/shm/link"); return ok; }
static bool c_symlink(void) { bool ok = DONE(symlink("a long target for a link", "/dev/shm/symlink")) == 0; unlink("/dev/shm/symlink"); return ok; }
static bool c_mknod(void) { bool ok = DONE(mknod("/dev/shm/fifo", S_IFIFO | 0600, 0)) == 0; unlink("/dev/shm/fifo"); return ok; }
static bool c_rename(void) {
  close(open("/dev/shm/before", O_CREAT, 0600));
  bool ok = DONE(rename("/dev/shm/before", "/dev/shm/after")) == 0;
  // One of both names is there, whatever failed.
  if ((unlink("/dev/shm/before") == 0) + (unlink("/dev/shm/after") == 0) != 1) say("rename lost a file");
  return ok;
}
static bool c_copy_up(void) {
  bool ok = closing(DONE(open("/etc/passwd", O_RDWR)));
  return ok;
}
static bool c_setxattr(void) { bool ok = DONE(fsetxattr(file, "user.injected", scratch, 4000, 0)) == 0; fremovexattr(file, "user.injected"); return ok; }
static bool c_write(void) { bool ok = DONE(pwrite(file, scratch, 20000, 1 << 20)) == 20000; ftruncate(file, 8192); return ok; }
static bool c_read(void) { return DONE(pread(file, scratch, 8192, 0)) == 8192; }
static bool c_fallocate(void) { bool ok = DONE(fallocate(file, 0, 1 << 20, 8192)) == 0; ftruncate(file, 8192); return ok; }
static bool c_pipe_write(void) { bool ok = DONE(write(ends[1], scratch, 8192)) == 8192; read(ends[0], scratch, 65536); return ok; }
static bool c_pipe_size(void) { bool ok = DONE(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20)) > 0; fcntl(ends[1], F_SETPIPE_SZ, 65536); return ok; }
static bool c_send(void) { bool ok = DONE(write(pair[0], scratch, 20000)) == 20000; while (recv(pair[1], scratch, 65536, MSG_DONTWAIT) > 0) {} return ok; }
static bool c_splice(void) { loff_t at = 0; bool ok = DONE(splice(file, &at, ends[1], NULL, 8192, SPLICE_F_NONBLOCK)) > 0; read(ends[0], scratch, 65536); return ok; }
static bool c_sendfile(void) { off_t at = 0; bool ok = DONE(sendfile(pair[0], file, &at, 4096)) > 0; while (recv(pair[1], scratch, 65536, MSG_DONTWAIT) > 0) {} return ok; }
static bool c_vmsplice(void) { struct iovec part = {scratch, 8192}; bool ok = DONE(vmsplice(ends[1], &part, 1, SPLICE_F_NONBLOCK)) > 0; read(ends[0], scratch, 65536); return ok; }
static bool c_mmap(void) { char *at = (char *)DONE((long)mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); bool ok = at != MAP_FAILED; if (ok) munmap(at, 1 << 20); return ok; }
static bool c_mmap_populate(void) { char *at = (char *)DONE((long)mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)); bool ok = at != MAP_FAILED; if (ok) munmap(at, 1 << 18); return ok; }
static bool c_mmap_shared(void) { char *at = (char *)DONE((long)mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)); bool ok = at != MAP_FAILED; if (ok) munmap(at, 1 << 20); return ok; }
static bool c_mmap_file(void) { char *at = (char *)DONE((long)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0)); bool ok = at != MAP_FAILED; if (ok) munmap(at, 8192); return ok; }
static char *region(void) { return MUST(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }
static bool c_mprotect(void) { char *at = region(); at[4096] = 1; bool ok = DONE(mprotect(at + 4096, 4096, PROT_READ)) == 0; munmap(at, 1 << 20); return ok; }
static bool c_mremap(void) { char *at = region(); at[0] = 1; char *to = (char *)DONE((long)mremap(at, 1 << 20, 1 << 22, MREMAP_MAYMOVE)); bool ok = to != MAP_FAILED; munmap(ok ? to : at, ok ? 1 << 22 : 1 << 20); return ok; }
static bool c_mlock(void) { char *at = region(); bool ok = DONE(mlock(at, 65536)) == 0; munmap(at, 1 << 20); return ok; }
static bool c_populate(void) { char *at = region(); bool ok = DONE(madvise(at, 65536, 23)) == 0; munmap(at, 1 << 20); return ok; }
static bool c_brk(void) { void *old = sbrk(0); bool ok = DONE((long)sbrk(1 << 20)) != -1; brk(old); return ok; }
static bool c_poll(void) { struct { int fd; short events, revents; } list[64]; for (int i = 0; i < 64; i++) list[i].fd = counter, list[i].events = 1; return DONE(syscall(SYS_poll, list, 64, 0)) >= 0; }
static bool c_select(void) { fd_set set; FD_ZERO(&set); FD_SET(counter, &set); struct timespec zero = {0}; return DONE(syscall(SYS_pselect6, counter + 1, &set, NULL, NULL, &zero, NULL)) >= 0; }
static bool c_lock(void) { struct flock lock = {.l_type = F_WRLCK, .l_len = 100}; bool ok = DONE(fcntl(file, F_SETLK, &lock)) == 0; lock.l_type = F_UNLCK; fcntl(file, F_SETLK, &lock); return ok; }
static bool c_groups(void) { gid_t list[100] = {1}; return DONE(syscall(SYS_setgroups, 100, list)) == 0; }
static bool c_mount(void) { bool ok = DONE(mount("none", "/mnt2", "tmpfs", 0, "")) == 0; if (ok) umount("/mnt2"); return ok; }
static bool c_stat(void) { struct stat s; return DONE(stat("/dev/shm/injected", &s)) == 0; }
static bool c_readlink(void) { return DONE(readlink("/proc/self/exe", scratch, 4096)) > 0; }
static bool c_getdents(void) { int d = open("/dev/shm", O_DIRECTORY); bool ok = DONE(syscall(SYS_getdents64, d, scratch, 65536)) > 0; close(d); return ok; }
static bool c_chdir(void) { return DONE(chdir("/dev/shm")) == 0; }
static bool c_fault(void) { char *at = region(); bool ok = DONE(({ syscall(SYS_getrandom, at + 65536, 20000, 0); })) == 20000; munmap(at, 1 << 20); return ok; }
static bool c_queue(void) { sigset_t set; sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, NULL); bool ok = DONE(sigqueue(getpid(), SIGRTMIN, (union sigval){0})) == 0; struct timespec zero = {0}; sigtimedwait(&set, NULL, &zero); return ok; }

// Processes and threads. The child of an armed thread is not armed itself.
static bool ended(pid_t child) { int status; return child > 0 && waitpid(child, &status, __WALL) == child; }
static bool c_fork(void) { pid_t child = DONE(syscall(SYS_fork)); if (child == 0) _exit(0); return ended(child); }
static bool c_vfork(void) { pid_t child = DONE(syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)); if (child == 0) _exit(0); return ended(child); }
static bool c_clone_files(void) { pid_t child = DONE(syscall(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0)); if (child == 0) _exit(0); return ended(child); }
static bool c_clone_pidfd(void) { int pidfd = -1; pid_t child = DONE(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0)); if (child == 0) _exit(0); if (child > 0) close(pidfd); return ended(child); }
static int thread_end(void *nothing) { return 0; }
static bool c_thread(void) {
  static char stack[16384] __attribute__((aligned(16)));
  static volatile int alive;
  alive = 1;
  int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
  bool ok = DONE(clone(thread_end, stack + sizeof stack, flags, NULL, NULL, NULL, &alive)) > 0;
  while (ok && alive) sched_yield();
  return ok;
}
// The program fails to run another one, or the other one ends with 42. What ends by a signal has come too far to fail.
static bool exec_of(const char *path) {
  pid_t child = fork();
  if (child < 0) return injected = true, false;
  if (child == 0) {
    control = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
    char *words[] = {"injected", "--end", NULL}, *none[] = {NULL};
    arm(nth);
    execve(path, words, none);
    bool failed = hasFailed();
    arm(0);
    _exit(failed ? 1 : 2);
  }
  int status;
  if (waitpid(child, &status, 0) != child) return false;
  bool ran = WIFEXITED(status) && WEXITSTATUS(status) == 42;
  injected = !ran && !(WIFEXITED(status) && WEXITSTATUS(status) == 2);
  return ran;
}
static bool c_exec(void) { return exec_of("/proc/self/exe"); }
static bool c_script(void) { return exec_of("/dev/shm/script"); }

// A control: what looks like a call that loses a descriptor each time.
static bool isLosing;
static bool c_losing(void) { bool ok = DONE(eventfd(0, 0)) >= 0; if (!ok && isLosing) { arm(0); eventfd(0, 0); } return ok; }

static const struct call { const char *name; bool (*run)(void); } calls[] = {
#define CALL(name) {#name, c_##name}
    CALL(open), CALL(create), CALL(overlay), CALL(temporary), CALL(lower), CALL(proc), CALL(ptmx), CALL(dup), CALL(dup_high), CALL(eventfd),
    CALL(timerfd), CALL(signalfd), CALL(epoll), CALL(inotify), CALL(memfd), CALL(pidfd), CALL(pipe), CALL(socketpair), CALL(epoll_add),
    CALL(watch), CALL(timer), CALL(mkdir), CALL(link), CALL(symlink), CALL(mknod), CALL(rename), CALL(copy_up), CALL(setxattr), CALL(write),
    CALL(fallocate), CALL(pipe_write), CALL(pipe_size), CALL(send), CALL(splice), CALL(sendfile), CALL(vmsplice), CALL(mmap), CALL(mmap_populate),
    CALL(mmap_shared), CALL(mmap_file), CALL(mprotect), CALL(mremap), CALL(mlock), CALL(brk),
    CALL(poll), CALL(select), CALL(lock), CALL(groups), CALL(mount), CALL(stat), CALL(readlink), CALL(getdents), CALL(chdir),
    CALL(fault), CALL(queue), CALL(fork), CALL(vfork), CALL(clone_files), CALL(clone_pidfd), CALL(thread), CALL(exec), CALL(script),
};
enum { CALLS = sizeof calls / sizeof calls[0], MOST_SITES = 400, ROUNDS = 40 };


// Objects of the kernel: the active objects of all slab caches, and pages. /proc/slabinfo has lines `name active total …`.
static long objects(void) {
  static char text[65536];
  int length = 0, part, list = MUST(open("/proc/slabinfo", O_RDONLY));
  while ((part = read(list, text + length, sizeof text - 1 - length)) > 0) length += part;
  close(list);
  text[length] = 0;
  long sum = 0;
  for (char *line = strchr(text, '\n'); line && *++line; line = strchr(line, '\n')) {
    long active;
    if (*line != '#' && sscanf(line, "%*s %ld", &active) == 1) sum += active;
  }
  return sum;
}

// One failure, several times; how many objects more there are afterwards.
static long rounds(const struct call *call, int n) {
  long before = 0;
  for (int round = -8; round < ROUNDS; round++) {
    // The first rounds fill caches.
    if (round == 0) before = objects();
    nth = n;
    call->run();
  }
  return objects() - before;
}

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "--end")) return 42;
  control = MUST(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC));
  scratch = MUST(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  memset(scratch, 1, 1 << 20);
  file = MUST(open("/dev/shm/injected", O_RDWR | O_CREAT, 0600));
  MUST(pwrite(file, scratch, 8192, 0));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  MUST(pipe2(ends, O_NONBLOCK));
  poll_instance = MUST(epoll_create1(0));
  watch_instance = MUST(inotify_init1(IN_NONBLOCK));
  counter = MUST(eventfd(0, 0));
  mkdir("/mnt2", 0700);
  int script = MUST(open("/dev/shm/script", O_WRONLY | O_CREAT, 0700));
  MUST(dprintf(script, "#!/mnt/memory_injection --end\n"));
  close(script);
  int sites = 0, reached = 0, lost = 0, endless = 0;
  for (int i = 0; i < CALLS; i++) {
    int n = 1;
    for (; n < MOST_SITES; n++) {
      nth = n;
      injected = false;
      bool ok = calls[i].run();
      int error = errno;
      if (!injected) {
        if (!ok) say("%s fails without a failure: %s", calls[i].name, strerrorname_np(error));
        break;
      }
      sites++;
      long more = rounds(&calls[i], n);
      if (more > ROUNDS / 2) {
        // What is freed after a grace period or by another thread may be on its way.
        for (int again = 0; again < 20 && more > ROUNDS / 2; again++) sleep_ms(10), more = rounds(&calls[i], n);
        if (more > ROUNDS / 2) say("%s loses something when its allocation %d fails (%ld objects in %d rounds)", calls[i].name, n, more, ROUNDS), lost++;
      }
    }
    reached += n > 1;
    if (n == 1) say("%s reaches no allocation", calls[i].name);
    if (n == MOST_SITES) say("%s does not come to an end", calls[i].name), endless++;
  }
  check(lost == 0 && endless == 0, "no failure of an allocation loses anything (%d calls, %d allocations)", CALLS, sites);
  check(reached == CALLS, "every call reaches an allocation (%d of %d)", reached, CALLS);
  struct call losing = {"losing", c_losing};
  isLosing = true;
  long kept = rounds(&losing, 1);
  // SLOB does not count objects: there it is shown that the kernel goes on.
  check(objects() == 0 || kept > ROUNDS / 2, "what is kept in each round is found (%ld objects)", kept);
  return attack_end();
}
